"""SIGHUP: all of a new configuration or nothing of it, and never at the cost of a running call."""
import os
import pathlib
import signal

from perdure_test import Gateway, Providers, config, main, request

RULES = {"ttft": 0, "backoff": "10ms", "affinity": 0}


class Pair:
    def __init__(self):
        self.sim = Providers("alpha:0,tokens=40", "beta:0,tokens=40")
        self.gateway = Gateway(self.text(["alpha/m"]))

    def text(self, targets, **more):
        table = {n: {"preset": "openai-compatible", "base_url": self.sim.url(n), "models": ["m"]} for n in ("alpha", "beta")}
        return config(table, {"main": {"strategy": "priority", "targets": targets}, **more.get("routes", {})},
                      {**RULES, **more.get("resilience", {})}, more.get("extra"))

    def reload(self, text, result):
        before = self.gateway.metric("perdure_config_reloads_total", result=result)
        self.gateway.path.write_text(text)
        self.gateway.program.process.send_signal(signal.SIGHUP)
        self.gateway.until(f"a reload with result {result}",
                           lambda: self.gateway.metric("perdure_config_reloads_total", result=result) == before + 1)

    def __enter__(self):
        return self, self.sim, self.gateway

    def __exit__(self, *_):
        self.gateway.program.kill()
        self.sim.program.kill()


def provider(gateway, **kw):
    answer = gateway.chat(**kw)
    assert answer.status == 200, answer.body
    return answer.header("x-perdure-provider")


def test_a_good_configuration_takes_over_while_a_stream_runs_on():
    with Pair() as (pair, sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 5})
        s = gateway.stream()
        while len(s.text.split()) < 5:
            s.next()
        pair.reload(pair.text(["beta/m"], routes={"other": {"strategy": "priority", "targets": ["alpha/m"]}}), "ok")
        assert provider(gateway) == "beta"
        assert provider(gateway, model="other") == "alpha"
        sim.release("alpha")
        s.rest()
        assert s.done and not s.cut and len(s.text.split()) == 40 and s.headers["x-perdure-provider"] == "alpha"
        assert gateway.stop() == 0


def test_a_bad_configuration_keeps_the_last_good_one_and_says_why():
    with Pair() as (pair, _, gateway):
        good = pair.text(["alpha/m"])
        for bad, why in ((good[:-20], "line"), (good.replace('"strategy"', '"stratagy"'), "stratagy"),
                         (pair.text(["nobody/m"]), "nobody"), (pair.text(["alpha/m"], resilience={"ttft": "2"}), "unit"), ("", "")):
            pair.reload(bad, "kept_last_good")
            assert why in gateway.log(), (why, gateway.log())
            assert provider(gateway) == "alpha"
        pair.reload(pair.text(["beta/m"]), "ok")
        assert provider(gateway) == "beta"
        assert gateway.stop() == 0


def test_workers_are_told_the_interval_of_the_newest_configuration():
    with Pair() as (pair, _, gateway):
        plan = {"goal": "x", "tasks": [{"id": t, "command": "x"} for t in "ab"]}
        assert request(gateway.port, "POST", "/api/runs", plan).status == 201

        def told(word):
            return request(gateway.port, "POST", "/api/work/claim", {"worker": "w", "claim": word}).json["checkpoint_ms"]
        assert told("one") == 300 * 1000
        pair.reload(pair.text(["alpha/m"], extra={"checkpoint_interval": "90s"}), "ok")
        assert told("two") == 90 * 1000
        assert gateway.stop() == 0


def test_what_is_kept_of_checkpoints_is_taken_from_the_newest_configuration():
    with Pair() as (pair, _, gateway):
        gateway.until("the database", lambda: gateway.get("/api/checkpoints").status == 200)
        for n in range(5):
            assert request(gateway.port, "POST", "/api/checkpoints", {"agent_id": "a", "step_index": n}).status == 201

        def left():
            assert request(gateway.port, "POST", "/api/checkpoints/prune", {}).status == 200
            return [c["step_index"] for c in gateway.get("/api/checkpoints?agent=a").json["checkpoints"]]
        assert left() == [4, 3, 2, 1, 0]
        pair.reload(pair.text(["alpha/m"], extra={"checkpoint_keep": 2, "checkpoint_keep_for": "0s"}), "ok")
        assert left() == [4, 3]
        assert "config.place_unchanged" not in gateway.log()
        assert gateway.stop() == 0


def test_another_place_is_said_to_need_an_upgrade_which_takes_it():
    with Pair() as (pair, _, gateway):
        gateway.until("the database", lambda: gateway.get("/api/checkpoints").status == 200)
        assert request(gateway.port, "POST", "/api/checkpoints", {"agent_id": "old"}).status == 201
        pair.reload(pair.text(["alpha/m"], extra={"database": "other.db", "snapshots": "elsewhere"}), "ok")
        for what in ("database", "snapshots"):
            assert f"config.place_unchanged what={what} " in gateway.log(), gateway.log()
        assert len(gateway.get("/api/checkpoints?agent=old").json["checkpoints"]) == 1
        gateway.program.process.send_signal(signal.SIGUSR2)
        gateway.until("the old process has ended", lambda: gateway.program.process.poll() is not None)
        pid = int(gateway.log().split("upgrade.handed_over pid=")[1].split()[0])
        try:
            gateway.until("the other database", lambda: gateway.get("/api/checkpoints?agent=old").json.get("checkpoints") == [])
        finally:
            os.kill(pid, signal.SIGTERM)
            gateway.until("its end", lambda: not os.path.exists(f"/proc/{pid}") or ") Z " in pathlib.Path(f"/proc/{pid}/stat").read_text())


def test_a_file_that_is_gone_is_a_bad_configuration():
    with Pair() as (pair, _, gateway):
        gateway.path.unlink()
        gateway.program.process.send_signal(signal.SIGHUP)
        gateway.until("the reload", lambda: gateway.metric("perdure_config_reloads_total", result="kept_last_good") == 1)
        assert provider(gateway) == "alpha"
        assert gateway.stop() == 0


def test_what_a_route_no_longer_has_is_not_found():
    with Pair() as (pair, _, gateway):
        text = pair.text(["alpha/m"])
        pair.reload(text.replace('"main"', '"renamed"'), "ok")
        assert gateway.chat().status == 404
        assert provider(gateway, model="renamed") == "alpha"
        assert gateway.stop() == 0


def test_client_keys_change_with_it():
    with Pair() as (pair, _, gateway):
        assert provider(gateway) == "alpha"
        pair.reload(pair.text(["alpha/m"], extra={"keys": [{"name": "k", "key": "new-key-of-the-client"}]}), "ok")
        assert gateway.chat().status == 401
        assert provider(gateway, headers={"authorization": "Bearer new-key-of-the-client"}) == "alpha"
        pair.reload(pair.text(["alpha/m"]), "ok")
        assert provider(gateway) == "alpha"
        assert gateway.stop() == 0


def test_settings_change_with_it():
    with Pair() as (pair, sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 500, "times": 0})
        assert gateway.chat().status == 502
        before = sim.state("alpha")["requests"]
        pair.reload(pair.text(["alpha/m"], resilience={"attempts": 1}), "ok")
        assert gateway.chat().status == 502
        assert sim.state("alpha")["requests"] == before + 1
        assert gateway.stop() == 0


def test_what_was_learned_of_a_target_outlives_it():
    """An open breaker stays open: a reload is no way to hammer a provider that is down."""
    with Pair() as (pair, sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 500, "times": 0})
        pair.reload(pair.text(["alpha/m"], resilience={"attempts": 1, "retry_after_max": 0}), "ok")
        for _ in range(5):
            assert gateway.chat().status == 502
        assert gateway.metric("perdure_breaker_state", provider="alpha", state="open") == 1
        pair.reload(pair.text(["alpha/m", "beta/m"]), "ok")
        assert gateway.metric("perdure_breaker_state", provider="alpha", state="open") == 1
        asked = sim.state("alpha")["requests"]
        assert provider(gateway) == "beta"
        assert sim.state("alpha")["requests"] == asked
        assert gateway.stop() == 0


def test_twenty_in_a_row_under_traffic_lose_nothing():
    with Pair() as (pair, sim, gateway):
        for n in range(20):
            s = gateway.stream()
            s.next()
            gateway.path.write_text(pair.text(["beta/m" if n % 2 else "alpha/m", "alpha/m" if n % 2 else "beta/m"]))
            gateway.program.process.send_signal(signal.SIGHUP)
            s.rest()
            assert s.done and len(s.text.split()) == 40
        gateway.until("the last reload", lambda: "config.reload result=ok" in gateway.log())
        assert sim.state("alpha")["complete"] + sim.state("beta")["complete"] == 20
        assert gateway.stop() == 0


def words(stream, n):
    while len(stream.text.split()) < n:
        assert stream.next() is not None, "the stream ended early"


def test_a_provider_that_is_taken_out_does_not_take_a_call_that_goes_on_with_it():
    """The answer breaks at alpha and goes on at beta. Then one of both goes, and beta breaks: the call has the providers it began with."""
    sim = Providers("alpha:0,tokens=40,style=vllm", "beta:0,tokens=40,style=vllm")
    table = {n: {"preset": "vllm", "base_url": sim.url(n), "models": ["m"]} for n in ("alpha", "beta")}

    def text(*names):
        return config({n: table[n] for n in names}, {"main": {"strategy": "priority", "targets": [f"{n}/m" for n in names]}}, RULES)

    gateway = Gateway(text("alpha", "beta"))
    pair = Pair.__new__(Pair)
    pair.gateway = gateway
    try:
        want = gateway.stream().rest().text
        for stays in ("alpha", "beta"):
            sim.faults("alpha", {"fault": "cut", "after": 10}, {"fault": "status", "status": 503})
            sim.faults("beta", {"fault": "hold", "after": 10})
            s = gateway.stream()
            words(s, 20)
            sim.wait("beta", held=1)
            pair.reload(text(stays), "ok")
            assert provider(gateway, model="main") == stays
            sim.down("beta")
            s.rest()
            assert s.done and s.text == want and not s.error, (stays, s.raw[-500:])
            sim.up("beta")
            pair.reload(text("alpha", "beta"), "ok")
        assert gateway.metric("perdure_calls_total", outcome="continued") == 2
        assert gateway.stop() == 0
    finally:
        gateway.program.kill()
        sim.program.kill()


if __name__ == "__main__":
    main(globals())
