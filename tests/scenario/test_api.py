"""perdure's own endpoints: what they answer, and what they refuse."""
import json
import pathlib
import tempfile
import time

from test_checkpoints import server, tell
from perdure_test import Program, Stream, main, request, running

RULES = {"ttft": 0, "backoff": "10ms", "affinity": 0, "attempts": 1}


def test_providers_are_shown_with_their_state():
    with running("alpha:0", "beta:0", resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 500})
        gateway.chat()
        gateway.chat()
        shown = {p["name"]: p for p in gateway.get("/api/providers").json["providers"]}
        assert list(shown) == ["alpha", "beta"] and shown["alpha"]["preset"] == "openai-compatible"
        alpha, beta = (shown[n]["targets"][0] for n in ("alpha", "beta"))
        assert (alpha["ok"], alpha["failed"], alpha["last_failure"], alpha["breaker"]) == (1, 1, "server_error", "closed"), alpha
        assert (beta["ok"], beta["failed"], beta["running"]) == (1, 0, 0) and beta["ttft_ms"] is not None, beta


def test_calls_are_shown_while_they_run_and_after():
    with running("alpha:0,tokens=20", "beta:0,tokens=20", resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 503})
        sim.faults("beta", {"fault": "hold", "after": 5})
        s = gateway.stream()
        sim.wait("beta", held=1)
        running_now = gateway.get("/api/calls").json["running"]
        assert len(running_now) == 1 and [a["state"] for a in running_now[0]["attempts"]] == ["failed", "running"], running_now
        one = gateway.get(f"/api/calls/{running_now[0]['id']}").json
        assert running_now[0]["id"] in json.dumps(one)
        sim.release("beta")
        s.rest()
        gateway.until("the call's end", lambda: not gateway.get("/api/calls").json["running"])
        call = gateway.get("/api/calls").json["recent"][0]
        assert call["id"] == s.headers["x-request-id"] == running_now[0]["id"]
        assert call["outcome"] == "complete" and call["stream"] and call["tokens_out"] == 20 and call["route"] == "main", call
        assert [(a["target"], a["class"], a["status"]) for a in call["attempts"]] == [("alpha/m", "overloaded", 503), ("beta/m", "none", 200)], call
        assert gateway.get("/api/calls/nothing").status == 404


def test_a_session_shows_its_calls_and_what_they_come_to():
    with running("alpha:0,tokens=20", "beta:0,tokens=20", resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 503})
        ids = [gateway.chat().header("x-request-id") for _ in range(2)]
        listed = gateway.get("/api/sessions").json["sessions"]
        assert len(listed) == 1 and (listed[0]["calls"], listed[0]["attempts"], listed[0]["failed"], listed[0]["tokens_out"]) == (2, 3, 1, 40), listed
        one = gateway.get(f"/api/sessions/{listed[0]['session']}").json
        assert [c["id"] for c in one["list"]] == ids and [a["class"] for a in one["list"][0]["attempts"]] == ["overloaded", "none"], one
        missing = gateway.get("/api/sessions/s-0")
        assert missing.status == 404 and missing.header("x-request-id") and missing.header("x-should-retry") == "false", missing.headers


def test_many_calls_are_remembered_newest_first_and_bounded():
    with running("alpha:0,tokens=1", resilience=RULES) as (_, gateway):
        ids = [gateway.chat().header("x-request-id") for _ in range(300)]
        recent = [c["id"] for c in gateway.get("/api/calls").json["recent"]]
        assert recent == list(reversed(ids))[:len(recent)] and 50 <= len(recent) < 300, len(recent)


def test_the_wrapper_says_who_answered():
    """POST /api/llm: {provider, response}."""
    with running("alpha:0,tokens=12", resilience=RULES) as (_, gateway):
        body = {"model": "main", "messages": [{"role": "user", "content": "hello"}]}
        answer = request(gateway.port, "POST", "/api/llm", body)
        assert answer.status == 200 and answer.json["provider"] == "alpha" and answer.json["model"] == "m", answer.body
        assert len(answer.json["response"]["choices"][0]["message"]["content"].split()) == 12
        s = Stream(gateway.port, body, path="/api/llm").rest()
        assert s.done and len(s.text.split()) == 12 and s.headers["x-perdure-provider"] == "alpha"
        assert request(gateway.port, "POST", "/api/llm", {**body, "model": "nobody"}).status == 404
        # without a model: the default route
        assert request(gateway.port, "POST", "/api/llm", {"messages": body["messages"]}).status == 200


def test_a_model_is_found_by_route_provider_and_plain_name():
    with running("alpha:0", "beta:0", resilience=RULES, providers={"beta": {"models": ["m", "only-beta"]}}) as (_, gateway):
        for model, provider in (("main", "alpha"), ("beta/m", "beta"), ("m", "alpha"), ("only-beta", "beta")):
            answer = gateway.chat(model=model)
            assert answer.header("x-perdure-provider") == provider, (model, answer.body)
        assert gateway.chat(model="nobody", headers={"x-perdure-route": "beta/only-beta"}).header("x-perdure-provider") == "beta"
        ids = [m["id"] for m in gateway.get("/v1/models").json["data"]]
        assert ids == ["main", "m", "only-beta", "alpha/m", "beta/m", "beta/only-beta"], ids
        assert gateway.get("/v1/models/beta%2Fonly-beta").json["id"] == "beta/only-beta"
        assert gateway.get("/v1/models/beta/only-beta").json["owned_by"] == "beta"


def test_models_that_nobody_wrote_down_are_asked_for():
    with running("alpha:0,models=one+two", resilience=RULES, providers={"alpha": {"models": []}},
                 routes={"main": {"strategy": "priority", "targets": ["alpha/one"]}}) as (_, gateway):
        gateway.until("the list", lambda: "alpha/two" in str(gateway.get("/v1/models").json))
        assert gateway.chat(model="two").status == 200


def test_health_and_readiness():
    with running("alpha:0", resilience={**RULES, "breaker_failures": 2, "retry_after_max": 0, "breaker_hold": "10m", "probe": 0}) as (sim, gateway):
        assert gateway.get("/healthz").body == b"ok\n" and gateway.get("/readyz").body == b"ready\n"
        sim.faults("alpha", {"fault": "status", "status": 500, "times": 0})
        for _ in range(2):
            gateway.chat()
        ready = gateway.get("/readyz")
        assert ready.status == 503 and b"/api/providers" in ready.body, (ready.status, ready.body)
        assert gateway.get("/healthz").status == 200


def test_readiness_for_runs_is_that_of_the_database_and_calls_go_on_without_it():
    with tempfile.TemporaryDirectory() as folder, server("postgres_server") as pg:
        blocked = pathlib.Path(folder) / "perdure.db"
        with running("alpha:0") as (_, gateway):                                              # a database from its state folder
            gateway.until("it is open", lambda: gateway.get("/readyz?for=runs").body == b"ready\n")
            storage = gateway.get("/api/storage").json
            assert storage["database"]["state"] == storage["objects"]["state"] == "open" and storage["database"]["kind"] == "sqlite", storage
            assert storage["objects"]["kind"] == "folder" and gateway.metric("perdure_database_failing") == 0
        with running("alpha:0", extra={"database": "off"}) as (_, gateway):                     # it is to have none
            assert gateway.get("/readyz").body == b"ready\n" and gateway.get("/readyz?for=runs").status == 503
            assert gateway.get("/api/storage").json["database"]["state"] == gateway.get("/api/storage").json["objects"]["state"] == "off"
        blocked.mkdir()
        with running("alpha:0", extra={"database": str(blocked)}) as (_, gateway):              # it cannot be opened
            assert gateway.get("/readyz").status == 200 and b"runs and checkpoints are refused" in gateway.get("/readyz").body
            assert gateway.get("/readyz?for=runs").status == 503 and gateway.chat().status == 200
            assert gateway.get("/api/storage").json["database"]["state"] == "not_open"
        (pathlib.Path(folder) / "perdure.yaml").write_text(json.dumps({"listen": "127.0.0.1:0", "database": str(blocked)}))
        alone = Program(["serve", "--without-providers"], cwd=folder)                            # and it serves nothing else
        port = int(alone.line(r"listens on http://.*:(\d+)/v1").group(1))
        ready = request(port, "GET", "/readyz")
        assert ready.status == 503 and b"/api/storage" in ready.body, ready.body
        alone.stop()
        if not pg:
            print("    no PostgreSQL here: its part is not tried")
            return
        secret = pg[1].replace("perdure@", "perdure:not-to-be-shown@")
        with running("alpha:0", extra={"database": secret}) as (_, gateway):                    # its server goes, and comes back
            gateway.until("it is open", lambda: gateway.get("/readyz?for=runs").status == 200)
            assert gateway.get("/api/storage").json["database"]["kind"] == "postgres"
            tell(pg[0], "kill", "killed")
            killed = time.monotonic()
            gateway.until("it is seen", lambda: gateway.get("/readyz?for=runs").status == 503)
            assert time.monotonic() - killed < 30, "not before jobs lose their patience"
            assert gateway.get("/readyz").status == 200 and gateway.chat().status == 200
            storage = gateway.get("/api/storage")
            assert storage.json["database"]["state"] == "failing" and storage.json["database"]["why"], storage.json
            assert b"not-to-be-shown" not in storage.body and gateway.metric("perdure_database_failing") == 1
            tell(pg[0], "start", "started")
            gateway.until("it is well", lambda: gateway.get("/readyz?for=runs").status == 200)
            assert gateway.get("/api/storage").json["database"]["state"] == "open"


def test_what_is_not_there_and_what_is_asked_for_wrongly():
    with running("alpha:0", resilience=RULES) as (sim, gateway):
        for method, path, status in (("GET", "/v1/nothing", 404), ("POST", "/", 405), ("GET", "/v1/chat/completions", 405), ("DELETE", "/v1/models", 405),
                                     ("POST", "/metrics", 405), ("PUT", "/api/calls", 405), ("GET", "/v1", 404), ("GET", "/healthz/x", 404),
                                     ("GET", "/chat/completions", 404), ("GET", "/v1/models/", 404), ("GET", "//v1/models", 404)):
            answer = request(gateway.port, method, path, {} if method in ("POST", "PUT") else None)
            assert answer.status == status, (method, path, answer.status, answer.body)
            assert answer.json["error"]["message"], answer.body
            if status == 405:
                assert answer.header("allow"), (method, path)
        for path, allow in (("/api/calls", "GET, HEAD"), ("/v1/messages", "POST"), ("/api/runs", "GET, HEAD, POST")):
            answer = request(gateway.port, "DELETE", path)
            assert (answer.status, answer.header("allow")) == (405, allow), (path, answer.headers)
        for path in ("/", "/healthz", "/metrics", "/v1/models"):
            assert request(gateway.port, "HEAD", path).status == 200, path
        assert gateway.get("/?x=1").status == 200


def test_bodies_that_are_no_request():
    with running("alpha:0", resilience=RULES) as (sim, gateway):
        for body in ("", "no json", "[]", "{", '{"model": 7}', '"text"', '{"model": "main"', "null"):
            answer = request(gateway.port, "POST", "/v1/chat/completions", body)
            assert answer.status == 400, (body, answer.status, answer.body)
            assert answer.json["error"]["type"] == "invalid_request_error" and answer.json["error"]["message"], answer.body
        assert sim.state("alpha")["requests"] == 0


def test_a_wish_that_cannot_be_read_is_refused_and_not_ignored():
    with running("alpha:0", resilience=RULES) as (sim, gateway):
        for header, value in (("x-perdure-ttft", "2"), ("x-perdure-deadline", "soon"), ("x-perdure-validate", "json"), ("x-perdure-consensus", "2")):
            answer = gateway.chat(headers={header: value})
            assert answer.status == 400 and header in answer.json["error"]["message"], (header, answer.status, answer.body)
        assert gateway.chat(headers={"x-perdure-ttft": "2s", "x-perdure-deadline": "1m"}).status == 200
        assert sim.state("alpha")["requests"] == 1


def test_the_body_arrives_as_it_was_sent_but_for_the_changed_spans():
    """Odd spacing, numbers as written, unknown fields, duplicate keys: the provider sees what the client wrote."""
    import hashlib
    with running("alpha:0", resilience=RULES, providers={"alpha": {"stream": False}}) as (sim, gateway):
        sent = ('{ "messages" : [ {"role":"user","content":"h\\u00e9llo \\/ 😀"} ] ,\t"temperature":1.0,"top_p":1,"seed":12345678901234567890123,'
                '"x_unknown":{"a":[1e5, -0.0 ,null]},"metadata":{"k":"v","k":"w"} , "model":"%s"\n}')
        answer = request(gateway.port, "POST", "/v1/chat/completions", (sent % "main").encode())
        assert answer.status == 200, answer.body
        got = sim.state("alpha")["recent"][-1]
        assert got["sha256"] == hashlib.sha256((sent % "m").encode()).hexdigest(), got


def test_mistrals_clients_and_mistral_get_what_they_understand():
    """A client that says that it is Mistral's gets calls whole and usage; OpenAI's request is written anew for Mistral, its own client's is not."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"long_word": {"type": "string"}}, "required": ["long_word"]}}}]
    ask = {"model": "main", "stream": True, "safe_prompt": True, "tools": tools, "tool_choice": "required", "messages": [{"role": "user", "content": "go"}]}
    for agent in ("OpenAI/Python", "speakeasy-sdk/python 3.7.0 2.9 1.0.0 mistralai"):
        theirs = "mistral" in agent
        with running("alpha:0", resilience=RULES) as (sim, gateway):
            s = Stream(gateway.port, ask, headers={"user-agent": agent}).rest()
            called = [e for e in s.events if e["choices"] and e["choices"][0]["delta"].get("tool_calls")]
            assert (len(called) == 1) == theirs and bool(s.events[-1].get("usage")) == theirs, s.events
        with running("alpha:0,style=mistral", providers={"alpha": {"preset": "mistral"}}, resilience=RULES) as (sim, gateway):
            s = Stream(gateway.port, ask, headers={"user-agent": agent}).rest()
            got = sim.order("alpha", "GET", "/sim/requests?last=1")[0]["body"]
            got = json.loads(got) if isinstance(got, str) else got
            assert s.status == 200 and got["tool_choice"] == ("required" if theirs else "any") and got.get("safe_prompt") == (True if theirs else None), got
            assert s.headers.get("x-perdure-dropped") == (None if theirs else "safe_prompt"), s.headers


def test_it_works_with_two_workers():
    with running("alpha:0,tokens=5", resilience=RULES, extra={"workers": 2}) as (sim, gateway):
        for _ in range(40):
            assert gateway.chat().status == 200
        # whoever is asked knows all of it
        for _ in range(8):
            assert gateway.metric("perdure_calls_total", outcome="complete") == 40
            assert gateway.metric("perdure_breaker_state", provider="alpha", state="closed") == 1
            assert gateway.metric("perdure_build_info") == 1
            assert len(gateway.get("/api/calls").json["recent"]) == 40
        assert sim.state("alpha")["complete"] == 40


if __name__ == "__main__":
    main(globals())
