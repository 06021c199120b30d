"""Runs over HTTP: made, worked on by workers that die and come back, followed, paused, decided by people, and over a kill -9."""
import http.client
import json
import select
import socket
import threading
import time

from perdure_test import Gateway, main, request, running

PLAN = """
goal: three
tasks:
  - {id: a, command: x, retries: 1, backoff: 10ms}
  - {id: b, command: x, needs: [a]}
  - {id: c, command: x, needs: [a, b]}
"""


class Work:
    """A worker of another language."""
    words = 0

    def __init__(self, port, worker="w"):
        self.port, self.worker = port, worker

    def post(self, path, body, **headers):
        return request(self.port, "POST", path, body, headers or None)

    def claim(self, **more):
        Work.words += 1
        return self.post("/api/work/claim", {"worker": self.worker, "claim": f"word-{Work.words}", **more})

    def held(self, claim):
        return {k: claim[k] for k in ("run", "task", "epoch")}

    def beat(self, claim, **more):
        return self.post("/api/work/beat", {**self.held(claim), **more})

    def begin(self, claim, step, kind="pure", **more):
        return self.post("/api/work/step", {**self.held(claim), "step": step, "kind": kind, "phase": "begin", **more})

    def end(self, claim, step, result):
        return self.post("/api/work/step", {**self.held(claim), "step": step, "phase": "end", "result": result})

    def finish(self, claim, outcome="done", **more):
        return self.post("/api/work/finish", {**self.held(claim), "outcome": outcome, **more})

    def must(self, task, **more):
        answer = self.claim(**more)
        assert answer.status == 200, (answer.status, answer.body)
        assert answer.json["task"] == task, answer.json
        return answer.json


def create(port, plan=PLAN, **headers):
    answer = request(port, "POST", "/api/runs?name=plan.yaml", plan, headers or None)
    assert answer.status in (200, 201), (answer.status, answer.body)
    return answer.json["id"]


def state(gateway, run, task=None):
    one = gateway.get(f"/api/runs/{run}").json
    return next(t["state"] for t in one["tasks"] if t["id"] == task) if task else one["state"]


def events(gateway, run):
    lines = gateway.get(f"/api/runs/{run}/events").body.decode().splitlines()
    return [json.loads(line) for line in lines]


def whats(gateway, run, task):
    return [e["what"] for e in events(gateway, run) if e.get("task") == task]


def test_a_run_is_worked_on_to_its_end():
    with running("alpha:0") as (_, gateway):
        w = Work(gateway.port)
        run = create(gateway.port)
        a = w.must("a")
        assert a["run"] == run and a["epoch"] == 1 and a["attempt"] == 1 and a["kind"] == "command", a
        assert a["spec"]["command"] == "x" and a["plan"]["goal"] == "three" and a["inputs"] == {} and a["last_error"] is None, a
        assert w.claim().status == 204, "b waits for a"
        assert w.beat(a, progress={"at": "half"}).json == {"cancel": False, "pause": False}
        shown = gateway.get(f"/api/runs/{run}").json
        assert shown["tasks"][0]["progress"] == {"at": "half"} and shown["counts"]["waiting"] == 2, shown
        assert shown["needs"] == {"b": ["a"], "c": ["a", "b"]}, shown
        assert w.begin(a, "s").json == {"found": "new"}
        assert w.end(a, "s", [1, {"x": "\u00e9"}]).json == {}
        assert w.begin(a, "s").json == {"found": "done", "result": [1, {"x": "\u00e9"}]}
        assert w.finish(a, "failed", error={"class": "exit", "message": "broke"}, tokens=7, cost=1e-05).json == {"state": "ready"}
        a = gateway.until("it is due", lambda: (x := w.claim(wait_ms=500)).status == 200 and x.json)
        assert a["attempt"] == 2 and a["last_error"]["message"] == "broke", a
        assert w.finish(a, output={"n": 1}).json == {"state": "done"}
        b = w.must("b")
        assert b["inputs"] == {"a": {"n": 1}}, b
        w.finish(b, output="two")
        c = w.must("c")
        assert c["inputs"] == {"a": {"n": 1}, "b": "two"}, c
        w.finish(c)
        one = gateway.get(f"/api/runs/{run}").json
        assert one["state"] == "done" and one["tokens"] == 7 and one["cost"] == 0.00001, one
        assert whats(gateway, run, "a") == ["claimed", "step", "failed", "claimed", "done"]
        assert [e["what"] for e in events(gateway, run) if "task" not in e] == ["created", "run_done"]
        listed = gateway.get("/api/runs").json["runs"]
        assert [r["id"] for r in listed] == [run] and "tasks" not in listed[0], listed
        full = gateway.get(f"/api/runs/{run}/tasks/a").json
        assert full["output"] == {"n": 1} and full["spec"]["id"] == "a" and full["steps"] == [], full


def test_the_same_key_makes_one_run_and_a_wrong_plan_none():
    with running("alpha:0") as (_, gateway):
        first = create(gateway.port, PLAN, **{"Idempotency-Key": "k"})
        assert request(gateway.port, "POST", "/api/runs", PLAN, {"Idempotency-Key": "k"}).status == 200
        assert create(gateway.port, PLAN, **{"Idempotency-Key": "k"}) == first != create(gateway.port)
        assert create(gateway.port, json.dumps({"tasks": [{"id": "a", "command": ["x"]}]})) != first
        answer = request(gateway.port, "POST", "/api/runs?name=plan.yaml", PLAN.replace("[a, b]", "[a, d]"))
        error = answer.json["error"]
        assert answer.status == 400 and error["code"] == "plan_invalid", answer.body
        assert error["message"].startswith('plan.yaml line 6: task "c" needs "d", which is no task'), error
        assert request(gateway.port, "POST", "/api/runs", b"\xff\xfe goal").json["error"]["code"] == "plan_invalid"
        assert len(gateway.get("/api/runs").json["runs"]) == 3
        for wish, now in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
            assert request(gateway.port, "POST", f"/api/runs/{first}/{wish}").json["state"] == now
            again = request(gateway.port, "POST", "/api/runs", PLAN, {"Idempotency-Key": "k"})
            assert again.status == 200 and again.json == {"id": first, "state": now}, (wish, again.body)


def test_plans_of_clients_that_leave_keep_no_memory():
    plan = json.dumps({"goal": "x" * 100000, "tasks": [{"id": f"t{i}", "command": "x" * 50} for i in range(300)]}).encode()
    head = f"POST /api/runs HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(plan)}\r\n\r\n".encode()
    with running("alpha:0") as (_, gateway):
        def blocks():
            return int(gateway.metric("perdure_memory_blocks"))

        def leave():
            """All but one leave while theirs waits for the database. How many runs were made all the same."""
            made = len(gateway.get("/api/runs?limit=1000").json["runs"])
            clients = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(20)]
            for s in clients:
                s.sendall(head + plan)
            assert select.select(clients, [], [], 30)[0], "nobody was answered"
            for s in clients:
                s.close()
            create(gateway.port, plan)      # behind all of them
            return len(gateway.get("/api/runs?limit=1000").json["runs"]) - made - 2

        leave()
        before = blocks()
        left = sum(leave() for _ in range(5))
        assert left > 10, "nobody left while it mattered"
        assert blocks() - before < 10 * left, (before, blocks(), left)     # a plan is 60; the database's cache grows too


def test_a_waiting_worker_is_woken_when_something_becomes_ready():
    with running("alpha:0") as (_, gateway):
        got = []
        threads = [threading.Thread(target=lambda i=i: got.append(Work(gateway.port, f"w{i}").claim(wait_ms=20000))) for i in range(8)]
        began = time.monotonic()
        for t in threads:
            t.start()
        gateway.until("all wait", lambda: gateway.metric("perdure_work_waiting") == 8)
        create(gateway.port, json.dumps({"tasks": [{"id": f"t{i}", "command": "x"} for i in range(8)]}))
        for t in threads:
            t.join()
        assert time.monotonic() - began < 10, "woken, not timed out"
        assert [a.status for a in got] == [200] * 8, got
        assert len({a.json["task"] for a in got}) == 8, got
        w = Work(gateway.port)
        began = time.monotonic()
        assert w.claim(wait_ms=300).status == 204 and time.monotonic() - began >= 0.3


def test_a_waiting_worker_that_leaves_takes_nothing():
    with running("alpha:0") as (_, gateway):
        body = json.dumps({"worker": "gone", "claim": "gone", "wait_ms": 30000}).encode()
        s = socket.create_connection(("127.0.0.1", gateway.port))
        s.sendall(b"POST /api/work/claim HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        gateway.until("it waits", lambda: gateway.metric("perdure_work_waiting") == 1)
        s.close()
        gateway.until("it is seen to be gone", lambda: gateway.metric("perdure_work_waiting") == 0)
        create(gateway.port, json.dumps({"tasks": [{"id": "a", "command": "x"}]}))
        a = Work(gateway.port).must("a", wait_ms=5000)
        assert a["epoch"] == 1, a


def test_a_dead_worker_loses_its_task_and_writes_nothing_any_more():
    with running("alpha:0") as (_, gateway):
        w = Work(gateway.port)
        run = create(gateway.port)
        old = w.must("a", lease_ms=1000)
        assert w.begin(old, "effect", "effect", key="k-1").json == {"found": "new"}
        new = w.claim(wait_ms=20000)
        assert new.status == 200, "the sweeper has ended the old claim, and the waiting worker was woken"
        new = new.json
        assert new["epoch"] > old["epoch"] and new["task"] == "a", new
        for answer in (w.beat(old), w.begin(old, "x"), w.end(old, "effect", 1), w.finish(old), w.finish(old, "failed")):
            assert answer.status == 409 and answer.json["error"]["code"] == "fenced", answer.body
        assert w.begin(new, "effect", "effect", key="k-1").json == {"found": "ambiguous", "key": "k-1"}
        assert w.end(new, "effect", "made").status == 200
        assert w.finish(new).json == {"state": "done"}
        assert whats(gateway, run, "a") == ["claimed", "lost", "ambiguous", "claimed", "step", "done"]
        assert gateway.metric("perdure_work_lost_total") == 1 and gateway.metric("perdure_work_fenced_total") == 5
        assert gateway.metric("perdure_work_finished_total", state="done") == 1


def test_everything_is_there_after_kill_9():
    with running("alpha:0") as (_, gateway):
        w = Work(gateway.port)
        run = create(gateway.port)
        a = w.must("a")
        assert w.begin(a, "s").json == {"found": "new"} and w.end(a, "s", "kept").status == 200
        gateway.program.kill()
        again = Gateway(gateway.path.read_text(), folder=gateway.folder)
        try:
            w = Work(again.port)
            assert w.beat(a).json == {"cancel": False, "pause": False}, "its claim outlives the gateway"
            assert w.begin(a, "s").json == {"found": "done", "result": "kept"}
            assert w.finish(a, output=1).json == {"state": "done"}
            assert w.finish(a, output=1).json == {"state": "done"}, "asked again, nothing changes"
            assert w.must("b")["inputs"] == {"a": 1}
            assert again.stop() == 0
        finally:
            gateway.program, gateway.port = again.program, again.port
        gateway.__init__(gateway.path.read_text(), folder=gateway.folder)  # for running(), which ends it


def test_a_lost_claim_ends_though_no_gateway_lives_for_a_lease_and_a_worker_that_lives_keeps_its_own():
    lease, life, stop, answers = 4.0, 2.2, threading.Event(), []

    def live(claim):
        """As docs/runs-api.md says: at a third of the lease, and soon again when nobody answered."""
        while not stop.is_set():
            try:
                answers.append(Work(place.port).beat(claim).status)
                stop.wait(lease / 3)
            except (OSError, http.client.HTTPException):
                answers.append(0)
                stop.wait(lease / 10)

    with running("alpha:0") as (_, gateway):
        place, seen, processes = gateway, None, 0
        run = create(gateway.port, "tasks: [{id: dead, command: x}, {id: alive, command: x}]")
        Work(gateway.port).must("dead", lease_ms=int(lease * 1000))
        thread = threading.Thread(target=live, args=(Work(gateway.port).must("alive", lease_ms=int(lease * 1000)),))
        thread.start()
        try:
            while processes < 8:        # and on when it has ended: the other one goes on
                processes += 1
                stop.wait(life)
                if state(gateway, run, "dead") == "ready" and not seen:
                    seen = processes
                gateway.program.kill()
                gateway.__init__(gateway.path.read_text(), folder=gateway.folder)
            assert seen and 2 <= seen <= 5, (seen, events(gateway, run))
            assert whats(gateway, run, "alive") == ["claimed"], events(gateway, run)
            assert set(answers) <= {0, 200, 503} and answers.count(200) > 5, answers
        finally:
            stop.set()
            thread.join()


def test_followers_are_told_until_the_run_is_over():
    with running("alpha:0") as (_, gateway):
        run = create(gateway.port, json.dumps({"tasks": [{"id": "a", "command": "x"}]}))
        lines, sse = [], []

        def follow(into, headers):
            c = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
            c.request("GET", f"/api/runs/{run}/events?follow=1", headers=headers)
            into.extend(c.getresponse().read().decode().splitlines())

        threads = [threading.Thread(target=follow, args=(lines, {})),
                   threading.Thread(target=follow, args=(sse, {"accept": "text/event-stream"}))]
        for t in threads:
            t.start()
        gateway.until("both follow", lambda: gateway.metric("perdure_work_waiting") == 2)
        w = Work(gateway.port)
        w.finish(w.must("a"))
        for t in threads:
            t.join()
        told = [json.loads(line) for line in lines]
        assert [e["what"] for e in told] == ["created", "claimed", "done", "run_done"], told
        ids = [line[4:] for line in sse if line.startswith("id: ")]
        data = [json.loads(line[6:]) for line in sse if line.startswith("data: ")]
        assert data == told and ids == [str(e["seq"]) for e in told], sse
        rest = gateway.get(f"/api/runs/{run}/events?follow=1", headers={"last-event-id": ids[1]}).body.decode().splitlines()
        assert [json.loads(line)["what"] for line in rest] == ["done", "run_done"]
        assert gateway.get("/api/runs/r-none/events?follow=1").status == 404


def test_people_decide_what_the_workers_cannot():
    with running("alpha:0") as (_, gateway):
        w = Work(gateway.port)
        run = create(gateway.port, json.dumps({"goal": "g", "tasks": [
            {"id": "a", "command": "x", "retries": 0}, {"id": "b", "command": "x", "needs": ["a"]}]}))
        assert w.finish(w.must("a"), "failed", error={"message": "no luck"}).json == {"state": "review"}
        review = gateway.get("/api/reviews").json["reviews"]
        assert len(review) == 1 and review[0]["reason"] == "dead_letter" and review[0]["message"] == "no luck", review
        assert review[0]["goal"] == "g" and review[0]["spec"]["command"] == "x", review
        where = {"run": run, "task": "a"}
        assert w.post("/api/reviews", {**where, "decision": "accept"}).json["error"]["code"] == "bad_request", "it has no output"
        assert w.post("/api/reviews", {**where, "decision": "maybe"}).status == 400
        assert w.post("/api/reviews", {**where, "decision": "retry", "value": {"command": "y"}, "who": "ann"}).json == {"state": "ready"}
        assert w.post("/api/reviews", {**where, "decision": "retry"}).json["error"]["code"] == "conflict", "a decision is taken once"
        a = w.must("a")
        assert a["spec"]["command"] == "y" and a["attempt"] == 2, a
        w.finish(a, "inconclusive", output=3)
        assert w.post("/api/reviews", {**where, "decision": "accept"}).json == {"state": "done"}
        assert w.finish(w.must("b"), "failed", final=True).json == {"state": "review"}
        assert w.post("/api/reviews", {"run": run, "task": "b", "decision": "drop"}).json == {"state": "dropped"}
        assert state(gateway, run) == "failed"
        decided = [e["data"] for e in events(gateway, run) if e["what"] == "decided"]
        assert decided[0] == {"decision": "retry", "who": "ann"}, decided


def test_a_run_is_paused_resumed_and_cancelled():
    with running("alpha:0") as (_, gateway):
        w = Work(gateway.port)
        run = create(gateway.port)
        wish = lambda what, body=None: request(gateway.port, "POST", f"/api/runs/{run}/{what}", body)  # noqa: E731
        assert wish("pause", {"why": "lunch"}).json == {"id": run, "state": "paused"}
        assert gateway.get(f"/api/runs/{run}").json["why"] == "lunch"
        assert w.claim().status == 204
        waiting = []
        t = threading.Thread(target=lambda: waiting.append(w.claim(wait_ms=20000)))
        t.start()
        gateway.until("it waits", lambda: gateway.metric("perdure_work_waiting") == 1)
        assert wish("resume").json["state"] == "running"
        t.join()
        a = waiting[0].json
        assert a["task"] == "a", a
        assert wish("cancel").json["state"] == "cancelled" and wish("cancel").status == 200
        assert w.beat(a).json["cancel"] and w.finish(a, "released").json == {"state": "cancelled"}
        assert wish("resume").json["error"]["code"] == "conflict"
        assert wish("explode").status == 404
        assert request(gateway.port, "POST", "/api/runs/r-none/pause").status == 404


def test_what_is_wrong_with_a_request_is_named():
    with running("alpha:0") as (_, gateway):
        run = create(gateway.port)
        w = Work(gateway.port)
        a = w.must("a")
        for path, body, word in (
                ("/api/work/claim", {"claim": "x"}, "worker is missing"),
                ("/api/work/claim", {"worker": "w", "claim": "x" * 41}, "claim is too long"),
                ("/api/work/claim", {"worker": "w", "claim": "x", "kinds": ["robot"]}, "kinds"),
                ("/api/work/claim", {"worker": "w", "claim": "x", "lease_ms": 5}, "lease_ms"),
                ("/api/work/beat", {"run": run, "task": "a"}, "epoch is missing"),
                ("/api/work/beat", {"run": 5, "task": "a", "epoch": 1}, "run is to be a text"),
                ("/api/work/step", {**w.held(a), "step": "s", "phase": "begin", "kind": "magic"}, "kind"),
                ("/api/work/finish", {**w.held(a), "outcome": "great"}, "outcome is to be"),
                ("/api/work/finish", {**w.held(a), "outcome": "done", "cost": "much"}, "cost"),
                ("/api/work/beat", "[1]", "one JSON object"),
                ("/api/work/beat", "{", "one JSON object")):
            answer = request(gateway.port, "POST", path, body)
            assert answer.status == 400 and word in answer.json["error"]["message"], (path, body, answer.body)
        assert w.end(a, "never begun", 1).status == 404
        assert w.finish(a, output="x" * (5 << 20)).status == 413
        assert gateway.get("/api/runs/r-none").status == 404 and gateway.get(f"/api/runs/{run}/tasks/none").status == 404
        assert w.finish(a).status == 200


def test_a_gateway_without_a_database_says_so():
    with running("alpha:0", extra={"database": "off"}) as (_, gateway):
        for answer in (gateway.get("/api/runs"), request(gateway.port, "POST", "/api/runs", PLAN), Work(gateway.port).claim()):
            assert answer.status == 503 and answer.json["error"]["code"] == "no_database" and answer.header("retry-after"), answer.body


def test_a_gateway_that_ends_lets_nobody_wait():
    with running("alpha:0") as (_, gateway):
        got = []
        t = threading.Thread(target=lambda: got.append(Work(gateway.port).claim(wait_ms=60000)))
        t.start()
        gateway.until("it waits", lambda: gateway.metric("perdure_work_waiting") == 1)
        began = time.monotonic()
        assert gateway.stop() == 0
        t.join()
        assert time.monotonic() - began < 15, "it did not wait for the minute to pass"
        gateway.__init__(gateway.path.read_text(), folder=gateway.folder)


if __name__ == "__main__":
    main(globals())
