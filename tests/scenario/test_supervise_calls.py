"""Several agents on one gateway: each is known by its own calls, so that one that hangs is seen beside one that works."""
import contextlib
import json
import re

from perdure_test import Gateway, Providers, config, main, request
from test_supervise import run_of, supervised, until

ASK = """
base = os.environ.get("FIXED") or os.environ["OPENAI_BASE_URL"]
headers = {"Content-Type": "application/json"}
if os.environ.get("SAYS") == "key":
    headers["Authorization"] = "Bearer " + os.environ["OPENAI_API_KEY"]
if os.environ.get("SAYS") == "header":
    headers["x-perdure-agent"] = os.environ["AGENT_ID"]
def ask(text):
    body = json.dumps({"model": "main", "stream": True, "messages": [{"role": "user", "content": text}]}).encode()
    return urllib.request.urlopen(urllib.request.Request(base + "/chat/completions", body, headers), timeout=60).read().decode()
"""
HANGS = ASK + """
ask("one thing")
note("asked")
if start == 1:
    time.sleep(600)
"""
WORKS = ASK + """
n = 0
while not os.path.exists(os.environ["NOTES"] + "/enough"):
    ask(f"another thing {n}")
    note("asked")
    n += 1
    time.sleep(0.02)    # the gateway shows the last 256 calls
"""
STALLED = "supervise.end agent=%s .*why=stalled"


@contextlib.contextmanager
def gateway_of(**extra):
    sim = Providers("a:0,tokens=5")
    gateway = Gateway(config({"a": {"preset": "openai-compatible", "base_url": sim.url("a"), "models": ["m"]}}, {"main": {"targets": [{"model": "a/m"}]}}, extra=extra))
    try:
        yield gateway
    finally:
        gateway.stop()
        sim.stop()


def agents_of(gateway):
    seen = gateway.get("/api/calls").json
    return {c["agent"] for c in seen["running"] + seen["recent"]}


def the_hung_one_alone_is_restarted(gateway, hung, busy):
    hung.ends(0, starts=2)
    assert re.search(STALLED % "hung", hung.said()), hung.said()
    at = len(busy.told("asked"))
    busy.until("asked", at + 3)
    assert busy.told("starts") == ["1"], busy.said()
    (busy.notes / "enough").touch()
    busy.ends(0, starts=1)


def test_an_agent_that_hangs_is_seen_beside_one_that_works():
    with gateway_of() as gateway, supervised(WORKS, "--stall", "4s", "--agent", "busy", gateway=gateway) as busy, \
            supervised(HANGS, "--stall", "4s", "--agent", "hung", gateway=gateway) as hung:
        the_hung_one_alone_is_restarted(gateway, hung, busy)
        assert agents_of(gateway) == {"busy", "hung"}, agents_of(gateway)
        assert {s["agent"] for s in gateway.get("/api/sessions").json["sessions"]} == {"busy", "hung"}
        for s in (hung, busy):
            assert s.said().count("supervise.calls_known") == 1 and "calls_unknown" not in s.said(), s.said()


def test_it_is_known_by_its_key_or_a_header_where_its_address_is_its_own():
    for says in ("key", "header"):
        with gateway_of() as gateway:
            fixed = {"FIXED": f"http://127.0.0.1:{gateway.port}/v1", "SAYS": says}
            with supervised(WORKS, "--stall", "4s", "--agent", "busy", gateway=gateway, **fixed) as busy, \
                    supervised(HANGS, "--stall", "4s", "--agent", "hung", gateway=gateway, **fixed) as hung:
                the_hung_one_alone_is_restarted(gateway, hung, busy)
                assert agents_of(gateway) == {"busy", "hung"}, (says, agents_of(gateway))


def test_an_address_that_is_set_already_is_the_same_gateways():
    """As docs/clients.md has it: the variable is exported before supervise is started."""
    agent = """
note("env", json.dumps({k: os.environ.get(k) for k in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")}))
"""
    with gateway_of() as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        mine = {"OPENAI_BASE_URL": f"http://localhost:{gateway.port}/agent/other/v1", "ANTHROPIC_BASE_URL": "https://api.anthropic.com", "OPENAI_API_KEY": "any", "ANTHROPIC_API_KEY": "sk-mine"}
        with supervised(agent, "--agent", "night", gateway=gateway, **mine) as s:
            s.ends(0, starts=1)
            assert json.loads(s.told("env")[0]) == {"OPENAI_BASE_URL": url + "/agent/night/v1", "ANTHROPIC_BASE_URL": "https://api.anthropic.com",
                                                    "OPENAI_API_KEY": "perdure-agent-night", "ANTHROPIC_API_KEY": "sk-mine"}


def test_calls_of_nobody_are_taken_for_its_own_and_that_is_said_once():
    """Its own calls do not tell; those of another agent that does are not its own all the same."""
    with gateway_of() as gateway:
        silent = {"FIXED": f"http://127.0.0.1:{gateway.port}/v1"}
        with supervised(WORKS, "--stall", "4s", "--agent", "silent", gateway=gateway, **silent) as works:
            works.until_said("supervise.calls_unknown")
            works.until("asked", len(works.told("asked")) + 50)
            (works.notes / "enough").touch()
            works.ends(0, starts=1)
            assert works.said().count("supervise.calls_unknown") == 1 and "calls_known" not in works.said(), works.said()
        with supervised(WORKS, "--stall", "4s", "--agent", "busy", gateway=gateway) as busy:
            busy.until("asked", 5)
            with supervised(HANGS, "--stall", "4s", "--agent", "hung", gateway=gateway, **silent) as hung:
                the_hung_one_alone_is_restarted(gateway, hung, busy)


def test_a_named_client_key_is_what_counts():
    keys = {"keys": [{"name": "one", "key": "key-one-0123456789"}, {"name": "two", "key": "key-two-0123456789"}]}
    with gateway_of(**keys) as gateway:
        with supervised(WORKS, "--stall", "4s", "--client", "two", "--agent", "busy", gateway=gateway, SAYS="key", OPENAI_API_KEY="key-two-0123456789") as busy, \
                supervised(HANGS, "--stall", "4s", "--client", "one", "--agent", "hung", gateway=gateway, SAYS="key", OPENAI_API_KEY="key-one-0123456789") as hung:
            the_hung_one_alone_is_restarted(gateway, hung, busy)


def ask(gateway, path, key=None, body='{"model":"main","messages":[{"role":"user","content":"hello"}]}', **headers):
    return request(gateway.port, "POST", path, body, {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {}), **headers})


def test_a_name_opens_nothing():
    keys = {"keys": [{"name": "one", "key": "key-one-0123456789"}]}
    with gateway_of(**keys) as gateway:
        assert ask(gateway, "/agent/night/v1/chat/completions", "key-one-0123456789").status == 200
        assert agents_of(gateway) == {"night"}
        for path, key in (("/agent/night/v1/chat/completions", None), ("/agent/night/v1/chat/completions", "perdure-agent-night"), ("/v1/chat/completions", "perdure-agent-night")):
            assert ask(gateway, path, key).status == 401, (path, key)
        for path in ("/agent/night/api/calls", "/agent/night/metrics", "/agent/night/api/runs", "/agent/night/agent/night/v1/models", "/agent//v1/models", "/agent/.night/v1/models",
                     "/agent/a%2Fb/v1/models", "/agent/night", "/agent/" + "n" * 129 + "/v1/models"):
            assert gateway.get(path).status == 404, path
        assert gateway.get("/agent/night/healthz").status == 200


def test_every_way_to_say_a_name():
    with gateway_of() as gateway:
        rows = [("/agent/run%3Atask/v1/chat/completions", {}, 200, "run:task"), ("/agent/a.b-c_d/v1/chat/completions", {}, 200, "a.b-c_d"),
                ("/v1/chat/completions", {"x-perdure-agent": "by-header"}, 200, "by-header"), ("/v1/chat/completions", {"x-api-key": "perdure-agent-by-key"}, 200, "by-key"),
                ("/v1/chat/completions?key=perdure-agent-by-query", {}, 200, "by-query"), ("/agent/" + "n" * 128 + "/v1/chat/completions", {}, 200, "n" * 128),
                ("/agent/by-path/v1/chat/completions", {"x-perdure-agent": "by-header", "x-api-key": "perdure-agent-by-key"}, 200, "by-path"),
                ("/v1/chat/completions", {"x-api-key": "perdure-agent-"}, 200, ""), ("/v1/chat/completions", {"x-api-key": "any"}, 200, ""),
                ("/v1/chat/completions", {"x-perdure-agent": "two words"}, 400, None), ("/agent/by-path/api/llm", {}, 200, "by-path")]
        for n, (path, headers, status, agent) in enumerate(rows):
            answer = ask(gateway, path, body='{"model":"main","messages":[{"role":"user","content":"hello %d"}]}' % n, **headers)
            assert answer.status == status, (path, answer.status, answer.body)
            if agent is not None:
                assert gateway.get("/api/calls").json["recent"][0]["agent"] == agent, (path, headers)
        assert gateway.get("/agent/night/v1/models").json == gateway.get("/v1/models").json
        assert gateway.get("/agent/night/v1/models/main").json["id"] == "main"


def test_an_answer_is_its_agents_alone():
    """The same key of two agents is two calls; of one it is one."""
    with gateway_of() as gateway:
        once = {"Idempotency-Key": "one-and-the-same"}
        for agent, calls in (("one", 1), ("one", 1), ("two", 2), ("two", 2)):
            assert ask(gateway, f"/agent/{agent}/v1/chat/completions", body='{"model":"main","stream":true,"messages":[{"role":"user","content":"hello"}]}', **once).status == 200
            assert len(gateway.get("/api/calls").json["recent"]) == calls, agent


def test_agents_that_ask_the_same_are_not_taken_for_one():
    """A request asked twice at once is one call, but not of two agents: else one's progress would be the other's."""
    agent = ASK + """
note("answer", len(ask("the same")))
"""
    with gateway_of() as gateway:
        with supervised(agent, "--agent", "one", gateway=gateway) as one, supervised(agent, "--agent", "two", gateway=gateway) as two:
            one.ends(0, starts=1)
            two.ends(0, starts=1)
        assert agents_of(gateway) == {"one", "two"}
        assert len(gateway.get("/api/sessions").json["sessions"]) == 2


def test_a_task_of_an_agent_is_known_by_its_name():
    agent = """
note("env", json.dumps({k: os.environ.get(k) for k in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "AGENT_ID")}))
"""
    with run_of(agent) as r:
        r.worker()
        r.until("env")
        env = json.loads(r.told("env")[0])
        own = f"http://127.0.0.1:{r.gateway.port}/agent/{r.id}:a"
        assert env == {"OPENAI_BASE_URL": own + "/v1", "ANTHROPIC_BASE_URL": own, "AGENT_ID": f"{r.id}:a"}, env


if __name__ == "__main__":
    main(globals())
