"""A provider in several regions, and providers that throttle by answering slowly. Each story has providers and a gateway of its own."""
from perdure_test import Gateway, Providers, config, main, running

QUICK = {"attempts": 1, "ttft": 0, "affinity": 0}
FOREVER = {"times": 0}


class Cloud:
    """`cloud` in two regions, which are ports of this machine, and another provider beside it."""

    def __enter__(self):
        self.sim = Providers("one:0,tokens=5", "two:0,tokens=5", "other:0,tokens=5")
        one, two = (str(self.sim.ports[n]) for n in ("one", "two"))
        self.names = [f"cloud@{one}", f"cloud@{two}"]
        table = {"cloud": {"preset": "openai-compatible", "base_url": "http://127.0.0.1:{region}/v1", "regions": [one, two],
                           "key": "test-key", "models": ["m"]},
                 "other": {"preset": "openai-compatible", "base_url": self.sim.url("other"), "key": "test-key", "models": ["m"]}}
        routes = {"main": {"strategy": "weighted", "targets": [{"model": "cloud/m", "weight": 3}, {"model": "other/m", "weight": 0}]}}
        self.gateway = Gateway(config(table, routes, QUICK))
        return self

    def __exit__(self, *failed):
        status = self.gateway.stop()
        self.sim.program.kill()
        assert failed[0] or status == 0, status

    def provider(self, **more):
        answer = self.gateway.chat(**more)
        assert answer.status == 200, (answer.status, answer.body, self.gateway.log())
        return answer.header("x-perdure-provider")


def test_a_limit_in_one_region_rests_that_region_and_the_next_serves():
    with Cloud() as c:
        assert c.provider() == c.names[0], "the first healthy region has the weight"
        c.sim.faults("one", {"fault": "status", "status": 429, "headers": {"retry-after": "30"}})
        assert c.provider() == c.names[1]
        assert c.provider() == c.names[1]
        assert c.sim.state("one")["requests"] == 2, "a resting region was asked"
        assert c.sim.state("other")["requests"] == 0, "another provider was asked before the next region"
        shown = {p["name"]: p for p in c.gateway.get("/api/providers").json["providers"]}
        assert shown[c.names[0]]["targets"][0]["resting_ms"] > 20000 and shown[c.names[1]]["targets"][0]["resting_ms"] == 0, shown
        assert shown[c.names[0]]["region"] == c.names[0].split("@")[1], shown


def test_when_no_region_answers_another_provider_does():
    with Cloud() as c:
        for name in ("one", "two"):
            c.sim.faults(name, {"fault": "status", "status": 503, **FOREVER})
        answer = c.gateway.chat()
        assert answer.status == 200 and answer.header("x-perdure-provider") == "other", (answer.status, answer.headers)
        assert answer.header("x-perdure-attempts") == "3", answer.headers
        assert c.sim.state("one")["requests"] == c.sim.state("two")["requests"] == 1


def test_the_providers_name_stands_for_all_its_regions_and_a_regions_for_itself():
    with Cloud() as c:
        c.sim.faults("one", {"fault": "status", "status": 500, **FOREVER})
        assert c.provider(model="cloud/m") == c.names[1]
        assert c.provider(model=f"{c.names[1]}/m") == c.names[1]
        assert c.gateway.chat(model=f"{c.names[0]}/m").status == 502
        listed = [m["id"] for m in c.gateway.get("/v1/models").json["data"]]
        assert listed == ["main", "m", "cloud/m", "other/m"], listed


def test_a_key_that_one_region_refuses_parks_that_region_alone():
    with Cloud() as c:
        c.sim.faults("one", {"fault": "status", "like": "auth", **FOREVER})
        assert c.provider() == c.names[1] and c.provider() == c.names[1]
        parked = [p["targets"][0]["parked_for"] for p in c.gateway.get("/api/providers").json["providers"][:2]]
        assert parked == ["auth", "none"], parked
        assert c.sim.state("one")["requests"] == 1


def test_a_provider_that_becomes_slow_is_spared_until_it_is_quick_again():
    rules = {**QUICK, "throttle_samples": 4, "breaker_hold": "300ms", "breaker_trials": 2}
    with running("alpha:0,tokens=5", "beta:0,tokens=5", providers={"alpha": {"throttles_by_latency": True}}, resilience=rules) as (sim, gateway):
        def provider():
            return gateway.chat().header("x-perdure-provider")

        def pace():
            return next(t["pace"] for p in gateway.get("/api/providers").json["providers"] if p["name"] == "alpha" for t in p["targets"])

        assert [provider() for _ in range(6)] == ["alpha"] * 6
        sim.faults("alpha", {"fault": "slow", "ttft": "600ms", **FOREVER})
        assert [provider() for _ in range(3)] == ["alpha"] * 3, "three of four have to be slow"
        assert pace() == "throttled" and provider() == "beta"
        assert gateway.metric("perdure_target_throttled", provider="alpha", model="m") == 1
        assert gateway.metric("perdure_target_throttled_total", provider="alpha", by="ttft") == 1
        assert "target.throttled target=alpha/m by=ttft ratio=" in gateway.log()
        gateway.until("a call that looks", lambda: provider() == "alpha")
        assert pace() == "throttled", "it was still slow"
        sim.faults("alpha")
        gateway.until("it is over", lambda: provider() and pace() == "usual")
        assert gateway.metric("perdure_target_throttled", provider="alpha", model="m") == 0
        assert "target.unthrottled target=alpha/m" in gateway.log()
        assert provider() == "alpha"


def test_the_only_provider_is_used_however_slow():
    with running("alpha:0,tokens=5", providers={"alpha": {"throttles_by_latency": True}}, resilience={**QUICK, "throttle_samples": 2}) as (sim, gateway):
        assert all(gateway.chat().status == 200 for _ in range(4))
        sim.faults("alpha", {"fault": "slow", "ttft": "400ms", **FOREVER})
        assert all(gateway.chat().status == 200 for _ in range(4))
        assert sim.state("alpha")["requests"] == 8


if __name__ == "__main__":
    main(globals())
