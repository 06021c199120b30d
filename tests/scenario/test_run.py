"""perdure run: a plan is done to its end whatever is killed on the way, each effect once; and what is said with which status."""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time

from perdure_test import DEADLINE, PERDURE, Gateway, Program, Providers, config, main, request

ALONE = '{"listen": "127.0.0.1:0"}'      # no provider, no fixed port: its perdure is its own


@contextlib.contextmanager
def folder(plan, conf=ALONE):
    with tempfile.TemporaryDirectory() as name:
        path = pathlib.Path(name)
        (path / "perdure.yaml").write_text(conf)
        (path / "plan.yaml").write_text(plan if isinstance(plan, str) else json.dumps(plan))
        yield path


class Run(Program):
    def __init__(self, where, *args, plan=True):
        super().__init__(["run", *(["plan.yaml"] if plan else []), "--lease", "2s", *args], cwd=where)
        self.where = where

    def children(self):
        """Its helpers by their word: {"serve": [pid], "worker": [pid, ...]}"""
        found = {"serve": [], "worker": []}
        with contextlib.suppress(OSError):
            for pid in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if len(words) > 1 and words[1].decode() in found:
                    found[words[1].decode()].append(int(pid))
        return found

    def end(self, status):
        out = self.process.stdout.read().decode()
        assert self.process.wait(DEADLINE) == status, (self.process.returncode, out, self.stderr()[-3000:])
        self.process.stdout.close()
        self.out = "".join(self.lines) + out
        return self.out


def until(what, test):
    end = time.monotonic() + DEADLINE
    while not (seen := test()):
        assert time.monotonic() < end, f"never came: {what}"
        threading.Event().wait(0.005)
    return seen


def gone(pid):
    """With all of its threads: until then its files, and locks, are open."""
    def test():
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1
        except OSError:
            return True
    return test


def twenty():
    """Five rows of four: each needs the row before. An effect is a line with its key in `effects`, which the other side knows again."""
    tasks = []
    for i in range(20):
        task = {"id": f"t{i}", "idempotency_key": f"key-{i}", "checks": [{"file": "effects", "matches": f"^key-{i}$"}],
                "command": "echo $PERDURE_TASK >> begun; sleep 0.1; "
                           "flock lock sh -c 'grep -qx $PERDURE_IDEMPOTENCY_KEY effects || echo $PERDURE_IDEMPOTENCY_KEY >> effects'; sleep 0.1"}
        if i >= 4:
            task["needs"] = [f"t{(i // 4 - 1) * 4 + k}" for k in range(4)]
        tasks.append(task)
    return {"goal": "twenty effects", "tasks": tasks}


def lines(path):
    return path.read_text().split() if path.exists() else []


def all_done(where):
    effects = lines(where / "effects")
    assert sorted(effects) == sorted(f"key-{i}" for i in range(20)), effects


def test_a_plan_is_done_and_done_again_is_not_begun_again():
    plan = {"goal": "two", "tasks": [{"id": "a", "command": "echo once >> times; echo 3", "checks": [{"file": "times"}]},
                                     {"id": "b", "needs": ["a"], "command": "echo ${a.output} and more", "checks": [{"output": {"equals": "3 and more"}}]}]}
    with folder(plan) as where:
        out = Run(where).end(0)
        assert " is done" in out and re.search(r"a +done", out) and re.search(r"b +done", out), out
        assert " is done" in Run(where).end(0) and lines(where / "times") == ["once"]
        Run(where, "--again").end(0)
        assert lines(where / "times") == ["once", "once"]
        Run(where, "--name", "another").end(0)
        assert lines(where / "times") == ["once"] * 3
        events = [json.loads(line) for line in Run(where, "--json").end(0).splitlines()]
        assert events[0]["what"] == "created" and events[-1]["state"] == "done" and events[-1]["counts"]["done"] == 2, events


def test_killed_workers_are_started_again_and_their_tasks_done():
    with folder(twenty()) as where:
        run = Run(where, "--workers", "2")
        killed = 0
        while killed < 3:
            begun = len(lines(where / "begun"))
            until("another task begins", lambda: len(lines(where / "begun")) > begun)
            workers = run.children()["worker"]
            if workers:
                os.kill(workers[killed % len(workers)], signal.SIGKILL)
                killed += 1
        run.end(0)
        all_done(where)
        assert len(lines(where / "begun")) > 20, "no task was hit"


def test_a_killed_gateway_is_started_again_and_the_workers_go_on():
    with folder(twenty()) as where:
        run = Run(where, "--workers", "2")
        for n in (3, 9, 15):
            until("tasks begin", lambda: len(lines(where / "begun")) >= n)
            pid = until("its perdure", lambda: run.children()["serve"])[0]
            os.kill(pid, signal.SIGKILL)
            until("a new one", lambda: run.children()["serve"] and run.children()["serve"] != [pid])
        run.end(0)
        all_done(where)


def test_killed_itself_it_leaves_nothing_and_goes_on_when_it_is_started_again():
    with folder(twenty()) as where:
        for n in (2, 8):
            run = Run(where, "--workers", "2")
            until("tasks begin", lambda: len(lines(where / "begun")) >= n)
            helpers = [pid for pids in run.children().values() for pid in pids]
            assert len(helpers) == 3, helpers
            run.kill()
            for pid in helpers:
                until(f"the end of {pid}", gone(pid))
        Run(where, "--workers", "2").end(0)
        all_done(where)


def test_all_of_it_killed_at_once_it_goes_on_when_it_is_started_again():
    with folder(twenty()) as where:
        for n in (2, 8, 14):
            run = Run(where, "--workers", "2")
            until("tasks begin", lambda: len(lines(where / "begun")) >= n)
            helpers = [pid for pids in run.children().values() for pid in pids]
            os.kill(run.process.pid, signal.SIGSTOP)      # it must not see the others die
            for pid in helpers:
                os.kill(pid, signal.SIGKILL)
            run.kill()
        assert len(lines(where / "effects")) < 20, "nothing was left to do"
        Run(where, "--workers", "2").end(0)
        all_done(where)


def test_stopped_it_says_how_to_go_on_and_does():
    with folder(twenty()) as where:
        run = Run(where)
        until("tasks begin", lambda: len(lines(where / "begun")) >= 3)
        run.process.send_signal(signal.SIGTERM)
        out = run.end(4)
        assert "goes on with it: perdure run plan.yaml" in out, out
        Run(where, "--workers", "4").end(0)
        all_done(where)
        assert len(lines(where / "begun")) == 20, lines(where / "begun")     # the task at hand was done, not cut off


def test_a_task_that_kills_its_workers_pauses_the_run():
    kill = "kill -9 $(awk '/^PPid/ {print $2}' /proc/$(awk '/^PPid/ {print $2}' /proc/$$/status)/status); sleep 100"
    plan = {"goal": "x", "tasks": [{"id": "deadly", "checks": "none", "command": f"test -e tame || {{ {kill}; }}"}]}
    with folder(plan) as where:
        out = Run(where).end(3)
        assert "paused" in out and "deadly" in out, out
        (where / "tame").touch()
        out = Run(where).end(0)     # who starts it again has seen to it
        assert "resumed" in out or "done" in out, out


def test_what_nobody_checked_waits_for_a_person():
    with folder({"goal": "x", "tasks": [{"id": "a", "command": "echo said"}, {"id": "b", "needs": ["a"], "command": "echo ${a.output} > b", "checks": [{"file": "b"}]}]}) as where:
        out = Run(where).end(3)
        assert "waits for a person" in out and "inconclusive" in out, out
        serve = Program(["serve", "--without-providers"], cwd=where)
        port = int(serve.line(r"listens on http://.*:(\d+)/v1").group(1))

        def perdure(*args):
            done = subprocess.run([PERDURE, *args, "--url", f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=60)
            return done.returncode, done.stdout, done.stderr

        try:
            run = re.search(r"run (r-\w+)", out).group(1)
            status, text, err = perdure("review")
            assert status == 0 and run in text and "inconclusive" in text and "said" in text, (text, err)
            assert perdure("runs")[1].count(run) == 1 and "review" in perdure("runs", "show", run)[1]
            assert json.loads(perdure("review", "show", run, "a")[1])["output"] == "said"
            assert perdure("review", "edit", run, "a", "--value", '"written"')[:2] == (0, "done\n")
            status, _, err = perdure("review", "accept", run, "a")
            assert status == 1 and "409" in err, err
            Run(where, "--url", f"127.0.0.1:{port}").end(0)
            assert lines(where / "b") == ["written"]
            assert perdure("runs", "events", run)[1].count("\n") > 5
        finally:
            serve.stop()


def test_what_is_wrong_with_a_plan_is_said_before_anything_is_started():
    for plan, words in (("goal: x\ntasks:\n  - {id: a, command: ls, timeuot: 3s}\n", ("line 3", "timeuot", "timeout")),
                        ("goal: x\ntasks:\n  - {id: a, command: ls, needs: [b]}\n", ("line 3", "b")),
                        ("goal: x\ntasks:\n  - {id: a, command: ls, checks: [{command: ls, pin: gone}]}\n", ("line 3", "gone")),
                        ("goal: x\ntasks:\n  - {id: a, command: ls, schema: gone.json}\n", ("line 3", "gone.json"))):
        with folder(plan) as where:
            run = Run(where)
            run.end(2)
            assert all(w in run.stderr() for w in words), run.stderr()
            assert not (where / "perdure-state").exists()


def test_files_that_decide_are_those_of_the_plan():
    plan = {"goal": "x", "tasks": [{"id": "cheat", "retries": 0, "command": "echo whatever > expected; echo wrong > out",
                                    "checks": [{"command": "diff out expected", "pin": ["expected"]}]}]}
    with folder(plan) as where:
        (where / "expected").write_text("right\n")
        out = Run(where).end(3)
        assert "the pinned file expected was changed" in out, out


def test_models_are_asked_through_the_gateway_and_a_lost_one_is_asked_again():
    sim = Providers("alpha:0,answer=forty words,ttft=10ms", "beta:0,answer=forty words")
    try:
        sim.faults("alpha", {"fault": "status", "status": 503, "times": 2})
        table = {n: {"preset": "openai-compatible", "base_url": sim.url(n), "key": "k", "models": ["m"]} for n in ("alpha", "beta")}
        conf = config(table, {"main": {"strategy": "priority", "targets": [{"model": "alpha/m"}, {"model": "beta/m"}]}})
        plan = {"goal": "x", "model": "main", "tasks": [{"id": "ask", "prompt": "Say forty words.", "write": "answer.txt", "checks": [{"output": {"contains": "forty"}}]},
                                                         {"id": "use", "needs": ["ask"], "command": "cat answer.txt; echo; echo '${ask.output}'", "checks": [{"output": {"matches": "^forty words$"}}]}]}
        with folder(plan, conf) as where:
            events = Run(where, "--json").end(0)
            last = json.loads(events.splitlines()[-1])
            assert last["state"] == "done" and last["tokens"] > 0, last
            assert (where / "answer.txt").read_text() == "forty words"
    finally:
        sim.program.kill()


def test_a_model_makes_the_tasks_and_is_told_what_was_wrong_with_them():
    bad = {"tasks": [{"id": "one", "prompt": "Say one", "needs": ["none"]}]}
    good = {"tasks": [{"id": "one", "prompt": "Say one", "write": {"path": "one.txt"}, "checks": [{"output": {"contains": "uno"}}]},
                      {"id": "two", "prompt": "Say two after ${one.output}", "needs": ["one"], "write": {"path": "two.txt"}, "checks": [{"file": "two.txt"}]}]}
    turns = [{"match": "is no task", "text": json.dumps(good)}, {"match": "Break a goal", "text": json.dumps(bad)},
             {"match": "Say two after uno", "text": "dos"}, {"match": "Say one", "text": "uno"}]
    sim = Providers(script={"providers": {"sim": {"port": 0, "turns": turns}}})
    try:
        conf = config({"sim": {"preset": "openai-compatible", "base_url": sim.url("sim"), "models": ["m"]}}, extra={"listen": "127.0.0.1:0"})
        plan = {"goal": "count in a ${shell} of words", "model": "sim/m", "planner": {"model": "sim/m", "most": 5}, "defaults": {"backoff": "10ms"}}
        with folder(plan, conf) as where:
            out = Run(where).end(0)
            assert "planned" in out, out
            assert (where / "one.txt").read_text() == "uno" and (where / "two.txt").read_text() == "dos"
            asked = json.dumps(sim.order("sim", "GET", "/sim/requests?last=16"))
            assert "The goal: count in a ${shell} of words" in asked, asked
    finally:
        sim.program.kill()


def test_what_needs_the_output_of_a_task_whose_worker_died_behind_its_files_gets_it():
    plan = {"goal": "x", "tasks": [{"id": "a", "command": "echo x >> made; [ -e go ] || { echo > at; sleep 1000; }; echo the word", "checks": [{"file": "made"}]},
                                   {"id": "b", "needs": ["a"], "command": "echo '${a.output}' > b", "checks": [{"file": "b"}]}]}
    with folder(plan) as where:
        run = Run(where)
        until("it has made its file", lambda: (where / "at").exists())
        os.kill(run.children()["worker"][0], signal.SIGKILL)
        (where / "go").touch()
        run.end(0)
        assert (where / "b").read_text() == "the word\n" and lines(where / "made") == ["x", "x"]


def serving(where):
    return (where / "state/serving").read_text().split()


def test_commands_find_the_perdure_that_holds_the_state_folder_also_after_an_upgrade_and_no_dead_one():
    """No --url, and a free port: the folder says where. After a kill its file is still there, and nobody believes it."""
    with folder({"goal": "x", "tasks": [{"id": "a", "command": "true", "checks": "none"}]}, '{"listen": "127.0.0.1:0", "state": "state"}') as where:
        def say(*words):
            clean = {k: v for k, v in os.environ.items() if not k.startswith("PERDURE_")}
            done = subprocess.run([PERDURE, *words], cwd=where, env=clean, capture_output=True, text=True, timeout=DEADLINE)
            return done.returncode, done.stdout + done.stderr

        def all_find(run):
            assert run in say("runs")[1]
            for words in (("runs", "show", run), ("review",), ("sessions",), ("checkpoints", "list"), ("worker", "--idle", "1s", "--run", run)):
                status, text = say(*words)
                assert status == 0, (words, text)
            status, text = say("run", "plan.yaml", "--again", "--lease", "2s")
            assert status == 0 and f" at {serving(where)[0]}" in text and "started" not in text, text

        serve = Program(["serve", "--without-providers"], cwd=where)
        serve.line("listens on")
        until("it says where", lambda: (where / "state/serving").exists())
        url, pid, kind = serving(where)
        assert (int(pid), kind) == (serve.process.pid, "serve")
        status, text = say("run", "plan.yaml")
        assert status == 0 and f" at {url}" in text, text
        run = re.search(r"run (r-\w+) at", text).group(1)
        all_find(run)
        serve.process.send_signal(signal.SIGUSR2)
        until("its successor says where", lambda: serving(where)[1] != pid)
        assert serving(where)[0] == url and serving(where)[2] == "serve"
        until("the old one has ended", lambda: serve.process.poll() is not None)
        new = int(serving(where)[1])
        until("it has the database", lambda: say("runs")[0] == 0)
        all_find(run)
        os.kill(new, signal.SIGKILL)
        until("its end", gone(new))
        assert serving(where)[1] == str(new)
        status, text = say("runs")
        assert status == 1 and url not in text, text
        assert f" at {url}" not in Run(where).end(0)
        serve = Program(["serve", "--without-providers"], cwd=where)
        serve.line("listens on")
        serve.stop()
        assert not (where / "state/serving").exists()


def test_a_run_whose_perdure_was_another_runs_goes_on_when_that_one_ends_in_good_order():
    with folder(twenty(), '{"listen": "127.0.0.1:0", "state": "state"}') as where:
        owner = Run(where)
        until("it has begun", lambda: len(lines(where / "begun")) >= 1 and owner.children()["serve"])
        other = Run(where, "--workers", "2")
        other.line(r"run r-")
        until("both are at work", lambda: len(lines(where / "begun")) >= 5)
        assert not other.children()["serve"]
        owner.process.send_signal(signal.SIGTERM)
        owner.end(4)
        assert len(lines(where / "effects")) < 20
        until("it has one of its own", lambda: other.children()["serve"])
        other.end(0)
        all_done(where)


def test_a_run_waits_for_a_perdure_that_others_have_started():
    with folder(twenty(), '{"listen": "127.0.0.1:0", "state": "state"}') as where:
        serve = Program(["serve", "--without-providers"], cwd=where)
        serve.line("listens on")
        run = Run(where, "--workers", "2")
        until("it has begun", lambda: len(lines(where / "begun")) >= 3)
        serve.kill()
        count = len(lines(where / "begun"))
        serve = Program(["serve", "--without-providers"], cwd=where)      # at another port
        serve.line("listens on")
        run.end(0)
        all_done(where)
        assert count < 20 and not run.children()["serve"]
        serve.stop()


if __name__ == "__main__":
    main(globals())
