"""What a resume promises, one story for each property, with the whole program: perdure run, its workers, its gateway, and providers whose words follow from a seed and the question alone.

  prefix continuation    what was recorded before a kill is the beginning of what there is after it, word for word, and none of it is made again
  effect once            an effect in the outside world is made once, wherever its worker died
  fork determinism       two copies of one half-done run come to the same end, and ask the same
  checkpoint validity    what a checkpoint says is what the run had recorded, before and after a kill, from either side
  consume once           a task, a result, a decision and a plan are each taken once, however many take them at once
  recovery determinism   however often and wherever it is killed, also while it recovers, it ends as one that nobody killed

Each is told twice: on SQLite, in the state folder, and on a PostgreSQL server, with a database of its own for each place.
"""
import collections
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading

from test_checkpoints import server
from perdure_test import PERDURE, Program, Providers, config, main, request
from test_run import Run, lines, serving, until

ONCE = "flock lock sh -c 'grep -qx $PERDURE_IDEMPOTENCY_KEY effects || echo $PERDURE_IDEMPOTENCY_KEY >> effects'"
GATE = "echo $PERDURE_TASK >> begun; [ ! -e gate-$PERDURE_TASK ] || { echo > at-$PERDURE_TASK; sleep 1000; }"


def story():
    """A question, a file of the answer, an effect, another question that has the first answer in it, and an end that has everything in it."""
    return {"goal": "a night", "model": "main", "defaults": {"backoff": "1ms"}, "tasks": [
        {"id": "ask", "prompt": "Begin the story.", "write": "ask.txt", "checks": "none"},
        {"id": "copy", "needs": ["ask"], "command": f"{GATE}; cat ask.txt > copy.tmp; mv copy.tmp copy.txt; cat copy.txt", "checks": [{"file": "copy.txt"}]},
        {"id": "pay", "needs": ["copy"], "command": f"{GATE}; {ONCE}; [ ! -e gate-paid ] || {{ echo > at-paid; sleep 1000; }}; echo paid",
         "idempotency_key": "key-${task}", "resolve": "grep -qx $PERDURE_IDEMPOTENCY_KEY effects && echo paid", "checks": "none"},
        {"id": "more", "needs": ["ask", "pay"], "prompt": "Go on behind this: ${ask.output}", "write": "more.txt", "checks": "none"},
        {"id": "sum", "needs": ["more", "copy"], "command": f"{GATE}; cat copy.txt more.txt > all.txt; sha256sum < all.txt", "checks": [{"file": "all.txt"}]},
        {"id": "last", "needs": ["sum"], "command": f"{GATE}; echo ${{sum.output}} > end.txt; cat end.txt", "checks": [{"file": "end.txt"}]},
    ]}


GATES = ("copy", "pay", "paid", "sum", "last")       # where it can be held, in order
FILES = ("ask.txt", "copy.txt", "more.txt", "all.txt", "end.txt", "effects")


class Sqlite:
    """The file in the state folder goes where that goes."""
    def setting(self, where):
        return {}

    def address(self, where):
        return str(where / "state/perdure.db")

    def fork(self, where, other):
        shutil.copytree(where, other)


class Postgres:
    def __init__(self, process, url):
        self.process, self.url, self.count = process, url, 0

    def sql(self, statement):
        self.process.stdin.write(f"sql {statement}\n")
        self.process.stdin.flush()
        while (line := self.process.stdout.readline().strip()) not in ("done", "failed", ""):
            pass
        assert line == "done", statement

    def address(self, where):
        return json.loads((where / "perdure.yaml").read_text())["database"]

    def new(self, more=""):
        self.count += 1
        self.sql(f"CREATE DATABASE place{self.count}{more}")
        return {"database": f"{self.url.rsplit('/', 1)[0]}/place{self.count}"}

    def setting(self, where):
        return self.new()

    def fork(self, where, other):
        shutil.copytree(where, other)
        conf, name = other / "perdure.yaml", self.address(where).rsplit("/", 1)[1]
        self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")     # those of the killed may be leaving still
        conf.write_text(json.dumps({**json.loads(conf.read_text()), **self.new(f" TEMPLATE {name}")}))


store = Sqlite()


@contextlib.contextmanager
def place(plan=None):
    """A folder with a plan, and its provider."""
    sim = Providers("alpha:0,tokens=30", args=["--seed", "11"])
    with tempfile.TemporaryDirectory() as name:
        path = pathlib.Path(name) / "one"
        path.mkdir()
        table = {"alpha": {"preset": "openai-compatible", "base_url": sim.url("alpha"), "key": "k", "models": ["m"]}}
        (path / "perdure.yaml").write_text(config(table, {"main": {"targets": [{"model": "alpha/m"}]}}, extra={"state": "state", **store.setting(path)}))
        (path / "plan.yaml").write_text(json.dumps(plan or story()))
        (path / "effects").touch()
        try:
            yield path, sim
        finally:
            sim.program.kill()


def kill_all(run):
    """As when a machine stops: nobody sees the others die."""
    helpers = [pid for pids in run.children().values() for pid in pids]
    os.kill(run.process.pid, signal.SIGSTOP)
    for pid in helpers:
        os.kill(pid, signal.SIGKILL)
    run.kill()
    assert len(helpers) >= 2, "nobody was there to be killed"


def until_held(where, gate, *args):
    """Run up to this gate, then everything is killed."""
    (where / f"gate-{gate}").touch()
    run = Run(where, *args)
    until(f"it is held at {gate}", lambda: (where / f"at-{gate}").exists())
    kill_all(run)
    (where / f"gate-{gate}").unlink()
    (where / f"at-{gate}").unlink()


@contextlib.contextmanager
def served(where):
    """(port of a perdure there, the id of its only run)"""
    serve = Program(["serve", "--config", "perdure.yaml"], cwd=where)
    try:
        port = int(serve.line(r"listens on http://.*:(\d+)/v1").group(1))
        runs = until("its runs", lambda: (a := request(port, "GET", "/api/runs")).status == 200 and a.json["runs"])
        assert len(runs) == 1, runs
        yield port, runs[0]["id"]
    finally:
        serve.stop()


def recorded(port, run):
    """(events, {task: what it gave})"""
    events = [json.loads(line) for line in request(port, "GET", f"/api/runs/{run}/events").body.decode().splitlines()]
    tasks = request(port, "GET", f"/api/runs/{run}").json["tasks"]
    return events, {t["id"]: request(port, "GET", f"/api/runs/{run}/tasks/{t['id']}").json["output"] for t in tasks if t["state"] == "done"}


def looked_at(where):
    with served(where) as (port, run):
        return recorded(port, run)


def outcome(where):
    """All that came of it. The sum has the file's own hash, so that a file and a record that are not of one mind are seen."""
    events, outputs = looked_at(where)
    files = {f: (where / f).read_text() for f in FILES}
    done = collections.Counter(e["task"] for e in events if e["what"] == "done")
    assert set(done.values()) == {1} and len(done) == len(story()["tasks"]), done
    assert hashlib.sha256((files["copy.txt"] + files["more.txt"]).encode()).hexdigest() in outputs["sum"], (files, outputs)
    return {"outputs": outputs, "files": files}


def undisturbed():
    with place() as (where, sim):
        Run(where).end(0)
        assert sim.state("alpha")["requests"] == 2
        return outcome(where)


def test_prefix_continuation():
    for gate in GATES:
        with place() as (where, sim):
            until_held(where, gate)
            before, outputs = looked_at(where)
            asked, begun = sim.state("alpha")["requests"], collections.Counter(lines(where / "begun"))
            Run(where).end(0)
            after, all_outputs = looked_at(where)
            assert after[:len(before)] == before, "the beginning is another one"
            assert {t: all_outputs[t] for t in outputs} == outputs, "a result changed"
            for task in outputs:
                assert not [e for e in after[len(before):] if e.get("task") == task], f"{task} was touched again"
                assert collections.Counter(lines(where / "begun"))[task] == begun[task], f"{task} was run again"
            assert "ask" in outputs and sim.state("alpha")["requests"] == 2 and asked == (1 if gate in GATES[:3] else 2), (gate, asked, sim.state("alpha"))


def test_effect_once():
    """Before the effect, between it and its record, and behind its record."""
    for gate, again in (("pay", 1), ("paid", 0), ("sum", 0)):
        with place() as (where, sim):
            until_held(where, gate)
            made = len(lines(where / "effects"))
            assert made == (0 if gate == "pay" else 1), (gate, made)
            Run(where).end(0)
            assert lines(where / "effects") == ["key-pay"], lines(where / "effects")
            assert lines(where / "begun").count("pay") == 1 + again, (gate, lines(where / "begun"))


def test_fork_determinism():
    with place() as (where, sim):
        until_held(where, "paid")
        others = [where.parent / name for name in ("two", "three")]
        for other in others:
            store.fork(where, other)
        results = []
        for other in (*others, where):
            Run(other).end(0)
            results.append(outcome(other))
        assert results[0] == results[1] == results[2]
        asked = sim.state("alpha")["requests"]
        assert asked == 1 + len(results), (asked, "the first question was asked before the fork, the second by each")
    assert results[0] == undisturbed()


def risky():
    plan = story()
    for task in plan["tasks"]:
        task["risky"] = task["id"] in ("ask", "copy", "pay", "sum")
    return plan


def test_checkpoint_validity():
    with place(risky()) as (where, sim):
        until_held(where, "paid")

        def checkpoints(port):
            found = request(port, "GET", "/api/checkpoints?limit=100").json["checkpoints"]
            return {c["checkpoint_id"]: request(port, "GET", f"/api/checkpoints/{c['checkpoint_id']}").json["checkpoint"] for c in found}

        def agree(port, run):
            """Each says what the run has recorded of its task."""
            _, outputs = recorded(port, run)
            mine = {i: c for i, c in checkpoints(port).items() if c["agent_id"] == run}
            for c in mine.values():
                task = c["task"].split("/")[1]
                if c["reason"] != "before_risky":
                    text = json.dumps(outputs[task], ensure_ascii=False, separators=(",", ":"))
                    assert c["state"]["output"] == outputs[task] and c["output_hash"] == hashlib.sha256(text.encode()).hexdigest(), (c, outputs[task])
            return mine, outputs

        with served(where) as (port, run):
            before, outputs = agree(port, run)
            reasons = collections.Counter((c["task"].split("/")[1], c["reason"]) for c in before.values())
            assert reasons == {("ask", "before_risky"): 1, ("ask", "after_risky"): 1, ("copy", "before_risky"): 1, ("copy", "after_risky"): 1, ("pay", "before_risky"): 1}, reasons
            text = request(port, "GET", f"/api/checkpoints/latest/resume?agent={run}").body.decode()
            assert "pay" in text and "risky operation" in text, text
        Run(where).end(0)
        with served(where) as (port, run):
            after, outputs = agree(port, run)
            assert {i: after.get(i) for i in before} == before, "an acknowledged one changed"
            last = max((c for c in after.values()), key=lambda c: c["timestamp"])
            assert last["task"].endswith("/last") and last["milestone"] == "last", last
            until("the snapshots have them all", lambda: {p.name.split(".")[0] for p in (where / "state/snapshots").rglob("*.json.zst")} >= set(after))
        sides = [["--database", store.address(where)], ["--snapshots", str(where / "state/snapshots")]]
        for side in sides:
            got = subprocess.run([PERDURE, "checkpoints", "restore", "--agent", run, *side], capture_output=True, text=True, timeout=60)
            assert got.returncode == 0 and json.loads(got.stdout) == {"output": outputs["last"]}, (side, got)


def at_once(count, what):
    """what(i) by so many threads at the same moment."""
    gate = threading.Barrier(count)

    def one(i):
        gate.wait()
        return what(i)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_consume_once():
    plan = {"goal": "x", "tasks": [{"id": "a", "command": "true", "checks": "none", "review": True}, {"id": "b", "needs": ["a"], "command": "true", "checks": "none"}]}
    with place() as (where, sim):
        serve = Program(["serve", "--config", "perdure.yaml"], cwd=where)
        try:
            port = int(serve.line(r"listens on http://.*:(\d+)/v1").group(1))
            until("the database", lambda: request(port, "GET", "/api/runs").status == 200)

            def post(path, body, **headers):
                return request(port, "POST", path, body, headers)

            made = at_once(8, lambda i: post("/api/runs", plan, **{"Idempotency-Key": "night"}))
            assert sorted(a.status for a in made) == [200] * 7 + [201] and len({a.json["id"] for a in made}) == 1, [a.body for a in made]
            run = made[0].json["id"]

            claims = at_once(8, lambda i: post("/api/work/claim", {"worker": f"w{i}", "claim": f"c{i}"}))
            assert sorted(a.status for a in claims) == [200] + [204] * 7, [a.status for a in claims]
            held = {k: v for k, v in next(a.json for a in claims if a.status == 200).items() if k in ("run", "task", "epoch")}

            ends = at_once(8, lambda i: post("/api/work/step", {**held, "step": "s", "phase": "begin", "kind": "pure"}))
            assert {a.status for a in ends} == {200}
            at_once(8, lambda i: post("/api/work/step", {**held, "step": "s", "phase": "end", "result": i}))
            results = {json.dumps(post("/api/work/step", {**held, "step": "s", "phase": "begin", "kind": "pure"}).json) for _ in range(3)}
            assert len(results) == 1 and '"done"' in next(iter(results)), results

            finished = at_once(8, lambda i: post("/api/work/finish", {**held, "outcome": "done", "output": i}))
            assert {a.json["state"] for a in finished} == {"review"}, [a.body for a in finished]
            output = request(port, "GET", f"/api/runs/{run}/tasks/a").json["output"]

            decided = at_once(8, lambda i: post("/api/reviews", {"run": run, "task": "a", "decision": "edit" if i % 2 else "accept", "who": f"p{i}", **({"value": 100 + i} if i % 2 else {})}))
            assert sorted(a.status for a in decided) == [200] + [409] * 7, [a.body for a in decided]
            winner = next(i for i, a in enumerate(decided) if a.status == 200)
            claims = at_once(8, lambda i: post("/api/work/claim", {"worker": f"w{i}", "claim": f"d{i}"}))
            b = [a.json for a in claims if a.status == 200]
            assert len(b) == 1 and b[0]["inputs"] == {"a": 100 + winner if winner % 2 else output}, (b, winner, output)

            events, _ = recorded(port, run)
            counts = collections.Counter((e.get("task"), e["what"]) for e in events)
            assert counts == {(None, "created"): 1, ("a", "claimed"): 1, ("a", "step"): 1, ("a", "review"): 1, ("a", "decided"): 1, ("b", "claimed"): 1}, counts
        finally:
            serve.stop()


def test_recovery_determinism():
    """One that nobody killed; killed once at each place; at all of them one after the other; and twice at the same, so that the recovery is killed, too."""
    want = undisturbed()
    for gates in (*((g,) for g in GATES), GATES, ("paid", "paid", "sum", "sum")):
        with place() as (where, sim):
            for gate in gates:
                if gate == "paid" and lines(where / "effects"):
                    continue        # it is not made again, so it cannot be held there
                until_held(where, gate)
            Run(where).end(0)
            got = outcome(where)
            assert got == want, (gates, got, want)
            assert sim.state("alpha")["requests"] == 2, gates


WAIT = "echo $PERDURE_TASK >> begun; while [ -e gate-$PERDURE_TASK ]; do echo > at-$PERDURE_TASK; sleep 0.02; done"


def crowd(width=4, rows=6, gate=GATE, effect="echo $PERDURE_IDEMPOTENCY_KEY >> effects"):
    tasks = []
    for i in range(width * rows):
        tasks.append({"id": f"t{i}", "idempotency_key": f"key-{i}", "checks": "none",
                      "command": f"{gate}; {effect}; echo $PERDURE_TASK >> ended",
                      **({"needs": [f"t{(i // width - 1) * width + k}" for k in range(width)]} if i >= width else {})})
    return {"goal": "crowd", "tasks": tasks}


def half_done(where):
    """The id of a run of which all of the third row is done but one task, which died with its worker."""
    (where / "gate-t9").touch()
    run = Run(where, "--workers", "2")
    until("it is held", lambda: (where / "at-t9").exists())
    port = int(serving(where)[0].rsplit(":", 1)[1])
    name = request(port, "GET", "/api/runs").json["runs"][0]["id"]
    until("the rest of its row is recorded", lambda: [t["state"] for t in request(port, "GET", f"/api/runs/{name}").json["tasks"]].count("done") == 11)
    kill_all(run)
    (where / "gate-t9").unlink()


def each_once(where, events):
    begun = collections.Counter(lines(where / "begun"))
    assert begun.pop("t9") == 2, "it was held once, and done by the one that resumed it"
    assert set(begun.values()) == {1} and len(begun) == 23, begun
    assert collections.Counter(lines(where / "effects")) == {f"key-{i}": 1 for i in range(24)}
    assert collections.Counter(e["what"] for e in events if e["what"] in ("done", "step", "run_done")) == {"done": 24, "step": 24, "run_done": 1}


def all_end_well(runs):
    statuses = [r.process.wait(120) for r in runs]
    assert statuses == [0] * 8, (statuses, [r.stderr()[-600:] for r in runs if r.process.returncode])
    for r in runs:
        r.process.stdout.close()


def test_eight_processes_that_resume_one_run_at_once_do_each_task_once():
    with place(crowd()) as (where, sim):
        half_done(where)
        with served(where) as (port, run):
            all_end_well(at_once(8, lambda i: Run(where, "--resume", run, "--url", f"127.0.0.1:{port}", plan=False)))
            events, _ = recorded(port, run)
        each_once(where, events)
        by = {e["data"]["worker"] for e in events if e["what"] == "claimed"}
        assert len(by) >= 4, by


def starters(runs):
    """Those that have a perdure of their own."""
    return [r for r in runs if r.children()["serve"]]


def test_eight_that_begin_at_once_without_a_perdure_have_one_between_them_and_go_on_when_its_owner_is_killed():
    """The one that started it is killed, and so is what it had started: one of the others starts the next, at the same address."""
    for resume in (True, False):
        with place(crowd(gate=WAIT, effect=ONCE)) as (where, sim):
            (where / "gate-t20").touch()
            if resume:
                half_done(where)
                with served(where) as (port, run):
                    pass
                runs = at_once(8, lambda i: Run(where, "--resume", run, plan=False))
            else:
                runs = at_once(8, lambda i: Run(where))
            until("it is held", lambda: (where / "at-t20").exists())
            owners = starters(runs)
            assert len(owners) == 1, [r.children() for r in runs]
            address = (where / "state/serving").read_text().split()
            assert address[2] == "run" and int(address[1]) == owners[0].children()["serve"][0], address
            kill_all(owners[0])
            others = [r for r in runs if r is not owners[0]]
            until("another takes its place", lambda: len(starters(others)) == 1)
            until("it says where it serves", lambda: (where / "state/serving").read_text().split()[1] not in address)
            assert (where / "state/serving").read_text().split()[0] == address[0], "it is at another address"
            (where / "gate-t20").unlink()
            for r in others:
                assert r.process.wait(120) == 0, (r.process.returncode, r.stderr()[-2000:])
                r.process.stdout.close()
            with served(where) as (port, run):
                events, _ = recorded(port, run)
            assert collections.Counter(lines(where / "effects")) == {f"key-{i}": 1 for i in range(24)}, lines(where / "effects")
            assert collections.Counter(e["what"] for e in events)["run_done"] == 1


def on_postgres(story, its):
    def told():
        global store
        before, store = store, its
        try:
            story()
        finally:
            store = before
    return told


if __name__ == "__main__":
    with server("postgres_server") as pg:
        stories = dict(globals())
        if pg:
            its = Postgres(*pg)
            stories |= {f"{name}_on_postgres": on_postgres(story, its) for name, story in list(stories.items()) if name.startswith("test_")}
        else:
            assert not os.environ.get("PERDURE_SERVERS_REQUIRED"), "no PostgreSQL"
            print("    no PostgreSQL here: told on SQLite alone")
        main(stories)
