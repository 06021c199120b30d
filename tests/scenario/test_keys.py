"""Who is served: client keys, the admin key, this machine, and no page of another site. And what never stands in a log."""
import socket

from perdure_test import Gateway, Program, config, main, request, running

RULES = {"ttft": 0, "backoff": "10ms", "affinity": 0, "attempts": 1}
TEAM, OPS, CI = "team-key-7f1c99", "ops-key-0b2d41", "ci-key-c5e8a3"
KEYS = [{"name": "team", "key": TEAM}, {"name": "ops", "key": OPS, "admin": True}, {"name": "ci", "key": CI}]


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def test_without_a_key_nobody_is_served():
    with running("alpha:0", resilience=RULES, extra={"keys": KEYS}) as (sim, gateway):
        for headers in ({}, bearer("wrong"), bearer(""), bearer(TEAM + "x"), bearer(TEAM[:-1]), {"authorization": TEAM}, {"authorization": f"Basic {TEAM}"},
                        bearer("test-key")):
            for method, path in (("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings"), ("POST", "/api/llm"), ("GET", "/v1/models")):
                answer = request(gateway.port, method, path, {"model": "main", "messages": []} if method == "POST" else None, headers)
                assert answer.status == 401 and answer.json["error"]["code"] == "invalid_api_key", (headers, path, answer.status, answer.body)
        assert sim.state("alpha")["requests"] == 0


def test_a_key_is_understood_in_every_form_that_clients_send():
    with running("alpha:0", resilience=RULES, extra={"keys": KEYS}) as (_, gateway):
        for headers in (bearer(TEAM), {"authorization": f"bearer {TEAM}"}, {"authorization": f"Bearer   {TEAM}  "}, {"x-api-key": TEAM}, {"api-key": TEAM}):
            assert gateway.chat(headers=headers).status == 200, headers


def test_a_hash_in_place_of_the_key():
    import hashlib
    hashed = "sha256:" + hashlib.sha256(TEAM.encode()).hexdigest()
    with running("alpha:0", resilience=RULES, extra={"keys": [{"name": "team", "key": hashed}]}) as (_, gateway):
        assert gateway.chat(headers=bearer(TEAM)).status == 200
        assert gateway.chat(headers=bearer(hashed)).status == 401


def test_a_key_may_be_for_some_routes_only():
    routes = {name: {"strategy": "priority", "targets": ["alpha/m"]} for name in ("main", "cheap")}
    keys = [*KEYS[:2], {**KEYS[2], "routes": ["cheap"]}]
    with running("alpha:0", routes=routes, resilience=RULES, extra={"keys": keys}) as (_, gateway):
        assert gateway.chat(model="cheap", headers=bearer(CI)).status == 200
        for model in ("main", "alpha/m"):
            refused = gateway.chat(model=model, headers=bearer(CI))
            assert refused.status == 403 and refused.json["error"]["code"] == "route_not_allowed", refused.body
        for headers in ({"x-perdure-route": "main"},):
            assert gateway.chat(model="cheap", headers={**bearer(CI), **headers}).status == 403
        assert gateway.chat(model="main", headers=bearer(TEAM)).status == 200


def test_the_clients_key_never_reaches_the_provider():
    with running("alpha:0,key=test-key", resilience=RULES, extra={"keys": KEYS}) as (sim, gateway):
        for headers in (bearer(TEAM), {"x-api-key": TEAM}, {"api-key": TEAM}):
            assert gateway.chat(headers={**headers, "cookie": f"session={TEAM}", "x-forwarded-for": "192.0.2.7"}).status == 200
        recent = str(sim.state("alpha")["recent"])
        assert TEAM not in recent and "192.0.2.7" not in recent, recent


def test_figures_and_state_are_for_this_machine_or_a_key():
    with running("alpha:0", resilience=RULES, extra={"keys": KEYS}) as (_, gateway):
        for path in ("/metrics", "/api/providers", "/api/calls", "/healthz", "/readyz"):
            assert gateway.get(path).status == 200, path    # the test is on this machine


def outside_address():
    """An address of this machine that is not loopback; the packets stay inside all the same."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))     # no packet is sent
            address = s.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") or address == "0.0.0.0" else address


def test_from_another_machine_state_needs_the_admin_key():
    address = outside_address()
    if not address:
        return
    with running("alpha:0", resilience=RULES, extra={"keys": KEYS, "listen": "0.0.0.0:0"}) as (_, gateway):
        import http.client

        def ask(path, headers=None):
            c = http.client.HTTPConnection(address, gateway.port, timeout=30)
            c.request("GET", path, headers=headers or {})
            a = c.getresponse()
            a.read()
            c.close()
            return a.status
        assert ask("/healthz") == ask("/readyz") == 200
        assert ask("/v1/models") == 401 and ask("/v1/models", bearer(TEAM)) == 200
        assert ask("/metrics") == 401 and ask("/metrics", bearer(TEAM)) == 200
        for path in ("/api/providers", "/api/calls"):
            assert ask(path) == 401, path
            assert ask(path, bearer(TEAM)) == 403, path
            assert ask(path, bearer(OPS)) == 200, path


def test_without_keys_no_address_but_loopback_is_listened_on():
    for address in ("0.0.0.0:0", "[::]:0"):
        program = Program(["serve", "--listen", address], env={"VLLM_BASE_URL": "http://127.0.0.1:9/v1"})
        assert program.process.wait(30) == 1, address
        assert "keys" in program.stderr() and "127.0.0.1" in program.stderr(), program.stderr()
        program.kill()


def test_without_keys_a_web_page_is_not_served():
    with running("alpha:0", resilience=RULES) as (sim, gateway):
        for headers, status in (({"host": "evil.example"}, 403), ({"host": "evil.example:8080"}, 403), ({"host": "127.0.0.1.evil.example"}, 403), ({"host": "127.evil.io"}, 403),
                                ({"host": "localhost.evil.example"}, 403), ({"origin": "https://evil.example"}, 403), ({"origin": "null"}, 403),
                                ({"origin": "http://localhost.evil.example"}, 403), ({"host": "10.0.0.1"}, 403),
                                ({"host": f"localhost:{gateway.port}"}, 200), ({"host": "LOCALHOST"}, 200), ({"host": "[::1]"}, 200),
                                ({"host": "app.localhost"}, 200), ({"origin": "http://localhost:3000"}, 200), ({"origin": "http://127.0.0.1"}, 200)):
            before = sim.state("alpha")["requests"]
            answer = gateway.chat(headers=headers)
            assert answer.status == status, (headers, answer.status, answer.body)
            assert sim.state("alpha")["requests"] - before == (status == 200)
            assert gateway.get("/api/providers", headers=headers).status == status, headers
            assert gateway.get("/metrics", headers=headers).status == status, headers


def test_with_keys_another_name_may_be_used():
    with running("alpha:0", resilience=RULES, extra={"keys": KEYS}) as (_, gateway):
        assert gateway.chat(headers={**bearer(TEAM), "host": "llm.example"}).status == 200
        # and a page cannot read the state of the machine it runs on through a name of its own
        for path in ("/api/providers", "/api/calls"):
            for host in ("evil.example", "127.evil.example", "127.x.io"):
                assert gateway.get(path, headers={"host": host}).status in (401, 403), (path, host)


def test_what_a_proxy_on_this_machine_forwards_is_not_of_this_machine():
    with running("alpha:0", resilience=RULES, extra={"keys": KEYS}) as (_, gateway):
        for name in ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"):
            for path in ("/api/providers", "/api/runs", "/metrics"):
                assert gateway.get(path, headers={name: "203.0.113.7"}).status == 401, (path, name)
            assert gateway.get("/api/providers", headers={name: "203.0.113.7", **bearer(OPS)}).status == 200, name


def test_no_prompt_no_answer_and_no_key_stands_in_a_log():
    for form in ("text", "json"):
        secret_prompt, secret_answer = "prompt-9c2a7e-of-the-client", "answer-51be03-of-the-model"
        with running(f"alpha:0,key=test-key,answer={secret_answer}", f"beta:0,answer={secret_answer}", resilience={**RULES, "stall": "100ms"},
                     extra={"keys": KEYS}, args=("--log-level", "debug", "--log-format", form)) as (sim, gateway):
            faults = [None, {"fault": "status", "status": 500}, {"fault": "reset"}, {"fault": "malformed", "after": 1}, {"fault": "cut", "after": 1},
                      {"fault": "empty"}, {"fault": "error_in_200"}, {"fault": "bad_chunk", "after": 1}]
            for fault in faults:
                if fault:
                    sim.faults("alpha", fault)
                for stream in (False, True):
                    answer = gateway.chat(text=secret_prompt, stream=stream, headers=bearer(TEAM)) if not stream else \
                        gateway.stream(text=secret_prompt, headers=bearer(TEAM)).rest()
                    del answer
            gateway.chat(text=secret_prompt, headers=bearer("a-wrong-key-44d0"))
            request(gateway.port, "POST", "/v1/chat/completions", '{"model": "main", "messages": "%s' % secret_prompt, bearer(TEAM))
            assert sim.state("alpha")["faulted"] >= 5
            calls = gateway.get("/api/calls").body.decode() + gateway.get("/api/providers").body.decode() + gateway.get("/metrics").body.decode()
            log = gateway.log()
            assert log.count("call.end") >= 16 or log.count('"call.end"') >= 16, log[-2000:]
            for secret in (secret_prompt, secret_answer, TEAM, OPS, "test-key", "a-wrong-key-44d0"):
                assert secret not in log, f"{secret} in the log:\n" + "\n".join(li for li in log.splitlines() if secret in li)
                assert secret not in calls, f"{secret} in /api or /metrics"


def test_a_provider_that_repeats_the_key_or_the_prompt_does_not_get_it_into_the_log():
    """Some name the key they refuse, and quote what they do not like."""
    with running("alpha:0", resilience={**RULES, "breaker_failures": 0}, args=("--log-level", "debug")) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 400, "message": "input: 'my-secret-prompt' is no dictionary"})
        answer = gateway.chat(text="my-secret-prompt")
        assert answer.status == 400 and "my-secret-prompt" in answer.body.decode(), answer.body     # the client may know
        sim.faults("alpha", {"fault": "error_in_200", "body": "my-secret-answer"})
        answer = gateway.chat()
        assert answer.status == 502, answer.body
        sim.faults("alpha", {"fault": "status", "status": 401, "message": "Incorrect API key provided: test-key. Keys are found at https://x."})
        answer = gateway.chat()
        assert answer.status == 502 and "Incorrect API key provided" in answer.body.decode(), answer.body
        for secret in ("test-key", "my-secret-prompt", "my-secret-answer"):
            assert secret not in gateway.log(), [li for li in gateway.log().splitlines() if secret in li]
        assert "test-key" not in answer.body.decode(), answer.body
        assert sim.state("alpha")["requests"] == 3


def test_check_prints_no_key():
    gateway = Gateway(config({"openai": {"key": "sk-secret-of-openai", "models": ["m"]}}, extra={"keys": KEYS}))
    try:
        program = Program(["check", str(gateway.path)])
        out = program.process.stdout.read().decode() + program.stderr()
        assert program.process.wait(30) == 0, out
        for secret in ("sk-secret-of-openai", TEAM, OPS, CI):
            assert secret not in out, out
        program.kill()
        assert gateway.stop() == 0
    finally:
        gateway.program.kill()


if __name__ == "__main__":
    main(globals())
