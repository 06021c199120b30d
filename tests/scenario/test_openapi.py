#!/usr/bin/env python3
"""docs/openapi.yaml is a valid description, of every endpoint of perdure's own and of no other, and its schemas fit what perdure answers."""
import importlib.util
import json
import re

import jsonschema
import yaml

from perdure_test import ROOT, main, request, running
from test_runs import Work

SPEC = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
METHODS = {"get", "post", "put", "delete", "patch"}
OLLAMA = {"/api/chat", "/api/generate", "/api/embed", "/api/tags", "/api/version"}
PLAN = """
goal: three
budget: {tokens: 1000, cost: 1.5}
tasks:
  - {id: a, command: x, retries: 0, backoff: 10ms}
  - {id: b, command: x, needs: [a], idempotency_key: once}
  - {id: c, prompt: "say it", model: main, needs: [b], checks: none}
"""


def operations():
    return {(m.upper(), path): op for path, item in SPEC["paths"].items() for m, op in item.items() if m in METHODS}


def rows():
    """perdure's own: neither a provider's dialect nor a list of models."""
    all_rows = re.findall(r'^\s*\{"(GET|POST)", "([^"]+)"', (ROOT / "src/front/endpoints.c").read_text(), re.M)
    return [(m, p) for m, p in all_rows if p not in OLLAMA and not re.match(r"/v1|/model/", p)]


def fits(row, method, path):
    return row[0] == method and (path == row[1] or (len(row[1]) > 1 and row[1].endswith("/") and path.startswith(row[1])))


def resolve(node):
    while "$ref" in node:
        at = SPEC
        for word in node["$ref"].removeprefix("#/").split("/"):
            at = at[word]
        node = at
    return node


def every_ref(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node
        for value in node.values():
            yield from every_ref(value)
    elif isinstance(node, list):
        for value in node:
            yield from every_ref(value)


def test_every_endpoint_is_described_and_nothing_else():
    own = rows()
    assert len(own) > 20, own
    undescribed = [r for r in own if not any(fits(r, m, p) for m, p in operations())]
    assert not undescribed, f"docs/openapi.yaml does not have {undescribed}"
    invented = [(m, p) for m, p in operations() if not any(fits(r, m, p) for r in own)]
    assert not invented, f"there are no such endpoints: {invented}"


def test_the_version_is_the_program_s():
    version = re.search(r"^ *version: '([^']+)'", (ROOT / "meson.build").read_text(), re.M).group(1)
    assert SPEC["info"]["version"] == version


def test_it_is_a_valid_description():
    for node in every_ref(SPEC):
        resolve(node)
    for name, schema in SPEC["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = [op["operationId"] for op in operations().values()]
    assert len(set(names)) == len(names)
    for (method, path), op in operations().items():
        given = [resolve(p) for p in SPEC["paths"][path].get("parameters", []) + op.get("parameters", [])]
        assert {p["name"] for p in given if p["in"] == "path"} == set(re.findall(r"\{(\w+)\}", path)), (method, path)
        assert op["responses"] and op["summary"], (method, path)
    if importlib.util.find_spec("openapi_spec_validator"):
        from openapi_spec_validator import validate
        validate(SPEC)


class Asked:
    """Asks a perdure, and holds question and answer to the page. `seen`: (method, path of the page, status)."""

    def __init__(self, port):
        self.port, self.seen = port, set()

    def valid(self, value, schema, where):
        whole = {**schema, "components": SPEC["components"]}
        found = sorted(jsonschema.Draft202012Validator(whole).iter_errors(value), key=lambda e: list(e.path))
        assert not found, f"{where}: at {list(found[0].absolute_path)}: {found[0].message}\n{json.dumps(value)[:2000]}"

    def __call__(self, method, page, path=None, body=None, status=200, headers=None):
        path = path or page
        op = operations()[(method, page)]
        if isinstance(body, dict) and status < 400:
            self.valid(body, resolve(op["requestBody"])["content"]["application/json"]["schema"], f"{method} {page}: the request")
        answer = request(self.port, method, path, body, headers)
        assert answer.status == status, (method, path, answer.status, answer.body)
        said = resolve(op["responses"].get(str(status), op["responses"]["default"]) if "default" in op["responses"]
                       else op["responses"][str(status)])
        self.seen.add((method, page, status))
        if "content" not in said:
            assert not answer.body, (method, path, answer.body)
            return None
        kind = answer.header("content-type").split(";")[0]
        assert kind in said["content"], f"{method} {path} answers with {kind}, not with one of {list(said['content'])}"
        schema = said["content"][kind]["schema"]
        if kind == "application/json":
            self.valid(answer.json, schema, f"{method} {path}")
            return answer.json
        if kind == "application/jsonl":
            for line in answer.body.decode().splitlines():
                self.valid(json.loads(line), schema, f"{method} {path}")
        return answer.body.decode()


def ask_for_calls(ask, gateway):
    """One that went well, one that failed at its first target, one that nobody answered, one streamed."""
    ask("POST", "/api/llm", body={"model": "main", "messages": [{"role": "user", "content": "hello"}]})
    assert gateway.stream(headers={"x-perdure-session": "night", "Idempotency-Key": "once"}).rest().done
    ask("POST", "/api/llm", body={"model": "nowhere", "messages": []}, status=404)
    calls = ask("GET", "/api/calls")["recent"]
    assert len(calls) >= 2
    streamed = next(c["id"] for c in calls if c["stream"])
    ask("GET", "/api/calls/{call}", f"/api/calls/{streamed}")
    ask("GET", "/api/calls/{call}", "/api/calls/none", status=404)
    assert "[DONE]" in ask("GET", "/api/calls/{call}/stream", f"/api/calls/{streamed}/stream")
    targets = [t for p in ask("GET", "/api/providers")["providers"] for t in p["targets"]]
    assert any(t["ok"] for t in targets) and any(t["failed"] for t in targets), targets
    sessions = ask("GET", "/api/sessions")["sessions"]
    assert any(s["failures"] for s in sessions), sessions
    for s in sessions:
        assert ask("GET", "/api/sessions/{session}", f"/api/sessions/{s['session']}")["list"]
    ask("GET", "/api/sessions/{session}", "/api/sessions/none", status=404)
    ask("GET", "/api/sessions", "/api/sessions?limit=x", status=400)


def claim(ask, task):
    Work.words += 1
    answer = ask("POST", "/api/work/claim", body={"worker": "w", "claim": f"page-{Work.words}", "lease_ms": 60000, "kinds": ["llm", "command"]})
    assert answer["task"] == task, answer
    return {k: answer[k] for k in ("run", "task", "epoch")}


def ask_for_runs(ask):
    made = ask("POST", "/api/runs", "/api/runs?name=plan.yaml", PLAN, 201, {"Idempotency-Key": "k"})
    ask("POST", "/api/runs", "/api/runs?name=plan.yaml", PLAN, 200, {"Idempotency-Key": "k"})
    ask("POST", "/api/runs", body="tasks: 7", status=400)
    run = made["id"]
    one, events = f"/api/runs/{run}", f"/api/runs/{run}/events"
    held = claim(ask, "a")
    ask("POST", "/api/work/claim", body={"worker": "w2", "claim": "other"}, status=204)
    ask("POST", "/api/work/claim", body={"worker": "w2"}, status=400)
    ask("POST", "/api/work/beat", body={**held, "progress": {"at": "half"}})
    assert ask("GET", "/api/runs/{run}", one)["tasks"][0]["progress"] == {"at": "half"}
    step = {**held, "step": "s", "kind": "effect", "key": "once"}
    assert ask("POST", "/api/work/step", body={**step, "phase": "begin"}) == {"found": "new"}
    ask("POST", "/api/work/step", body={**held, "step": "s", "phase": "end", "result": {"n": 1}})
    assert ask("POST", "/api/work/step", body={**step, "phase": "begin"}) == {"found": "done", "result": {"n": 1}}
    ask("POST", "/api/work/finish", body={**held, "epoch": held["epoch"] + 1, "outcome": "done"}, status=409)
    gone = ask("POST", "/api/work/finish", body={**held, "outcome": "failed", "error": {"class": "exit", "message": "no"}, "tokens": 3, "cost": 0.01})
    assert gone["state"] == "review"
    assert ask("GET", "/api/reviews")["reviews"]
    ask("GET", "/api/runs/{run}/tasks/{task}", f"{one}/tasks/a")
    ask("POST", "/api/reviews", body={"run": run, "task": "a", "decision": "edit", "value": "it", "who": "me"})
    ask("POST", "/api/reviews", body={"run": run, "task": "a", "decision": "drop"}, status=409)
    ask("POST", "/api/work/finish", body={**claim(ask, "b"), "outcome": "done", "output": [1], "evidence": []})
    ask("POST", "/api/runs/{run}/pause", f"{one}/pause", {"why": "tea"})
    ask("GET", "/api/runs")
    ask("POST", "/api/runs/{run}/resume", f"{one}/resume")
    assert claim(ask, "c")
    ask("POST", "/api/runs/{run}/cancel", f"{one}/cancel", {"why": "enough"})
    ask("POST", "/api/runs/{run}/resume", f"{one}/resume", status=409)
    ask("GET", "/api/runs/{run}", f"{one}?tasks=0")
    ask("GET", "/api/runs/{run}", "/api/runs/r-none", status=404)
    ask("GET", "/api/runs/{run}/tasks/{task}", f"{one}/tasks/zz", status=404)
    assert '"run_cancelled"' in ask("GET", "/api/runs/{run}/events", events)
    ask("GET", "/api/runs/{run}/events", events, headers={"Accept": "text/event-stream"})


def ask_for_checkpoints(ask, gateway):
    page = "/api/checkpoints/{checkpoint}"
    whole = {"agent_id": "a", "task": "t", "step_index": 3, "output_hash": "0" * 64, "memory": ["m-1"], "open_files": [{"path": "x.c"}], "provider": "p",
             "milestone": "half", "token_usage": {"input": 1}, "progress": {"at": 1}, "state": {"n": 1}, "reason": "milestone",
             "messages": [{"role": "user", "content": "hello"}]}
    first = ask("POST", "/api/checkpoints", body=whole, status=201)["checkpoint_id"]
    ask("POST", "/api/checkpoints", body={"parent": first}, status=201)
    ask("POST", "/api/checkpoints", body={"agnt": "a"}, status=400)
    assert ask("GET", page, f"/api/checkpoints/{first}")["checkpoint"]["state"] == {"n": 1}
    ask("GET", page, "/api/checkpoints/latest?agent=a")
    ask("GET", page, "/api/checkpoints/none", status=404)
    assert "Milestone" in ask("GET", page + "/resume", "/api/checkpoints/latest/resume?agent=a")
    agents = gateway.until("the session's turn is there", lambda: [c["agent_id"] for c in ask("GET", "/api/checkpoints")["checkpoints"]
                                                                   if c["agent_id"].startswith("session:")])
    ask("GET", page, f"/api/checkpoints/latest?agent={agents[0]}")
    ask("GET", "/api/checkpoints", "/api/checkpoints?limit=0", status=400)
    ask("POST", "/api/checkpoints/prune", "/api/checkpoints/prune?dry=true")


def test_what_perdure_answers_fits_the_schemas():
    with running("one:0,fault=status,status=429,times=1", "two:0") as (_, gateway):
        gateway.until("the database is open", lambda: gateway.metric("perdure_database_open") == 1)
        ask = Asked(gateway.port)
        for page in ("/", "/healthz", "/readyz", "/metrics"):
            ask("GET", page)
        ask("GET", "/api/storage")
        ask_for_calls(ask, gateway)
        ask_for_runs(ask)
        ask_for_checkpoints(ask, gateway)
        answered = {(m, p) for m, p, status in ask.seen if status < 300}
        assert not set(operations()) - answered, f"never answered: {set(operations()) - answered}"


if __name__ == "__main__":
    main(globals())
