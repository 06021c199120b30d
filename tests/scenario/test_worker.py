"""One worker before a server that does everything a network and a database can do to it: what it records, and what it must not."""
import contextlib
import json
import os
import pathlib
import signal
import tempfile
import threading
import time

from perdure_test import DEADLINE, Program, main
from work_server import WorkServer


@contextlib.contextmanager
def working(*args, lease="3s", start=True):
    server = WorkServer()
    folder = tempfile.TemporaryDirectory()
    worker = None

    def begin(*more, env=None):
        return Program(["worker", "--url", f"http://127.0.0.1:{server.port}", "--name", "w", "--lease", lease, *args, *more], cwd=folder.name,
                       env=env)

    server.spawn = begin
    server.folder = pathlib.Path(folder.name)
    try:
        if start:
            server.worker = worker = begin()
        yield server
        if worker and worker.process.poll() is None:
            assert worker.stop() == 0, worker.stderr()
            worker = None
    finally:
        if worker and worker.process.poll() is None:
            print(worker.stderr()[-3000:])
            worker.kill()
        server.stop()


def done(server, task, n=1):
    return server.until(lambda: [b for t, b in server.finished if t == task][n - 1:])[0]


def test_a_program_that_passes_its_checks_is_done_and_gives_what_it_printed():
    with working() as server:
        server.add({"id": "t", "command": "echo made > made; echo ${a.output.n} and ${run}/${task}/${attempt}", "checks": [{"file": "made"}]},
                   inputs={"a": {"n": 7}})
        end = done(server, "t")
        assert end["outcome"] == "done" and end["output"] == "7 and r-test/t/1", end
        assert end["evidence"][0]["passed"] is True and "error" not in end, end


def test_what_a_model_wrote_is_no_shell():
    hostile = """it's $(touch broken) `touch broken` "; touch broken; ' ; touch broken; '\n$HOME * \\\\ ${x}"""
    commands = {"double": 'printf %s "${a.output}"', "single": "printf %s '${a.output}'", "both": """printf %s "a ""${a.output}"' b'""",
                "nested": """printf %s "$(printf %s '${a.output}')\"""", "here": "cat <<E\n${a.output}\nE", "quoted": "cat <<'E'\n${a.output}\nE",
                "comment": """# it's\nprintf %s "${a.output}\"""", "member": "printf %s '${b.output.deep.text}'"}
    want = {"both": f"a {hostile} b"}
    with working() as server:
        for name, command in commands.items():
            server.add({"id": name, "command": command, "checks": [{"command": "test '${a.output}' = \"${a.output}\""}]},
                       inputs={"a": hostile, "b": {"deep": {"text": hostile}}})
        server.add({"id": "word", "command": "printf %s ${a.output}; ${a.output}; true", "checks": []}, inputs={"a": hostile})
        server.add({"id": "list", "command": ["printf", "%s", "${a.output}"], "checks": []}, inputs={"a": hostile})
        server.add({"id": "meant", "command": ["sh", "-c", "${a.output}"], "checks": []}, inputs={"a": "echo done | tr d D"})
        server.add({"id": "ends", "command": "cat <<'E'\n${a.output}\nE", "checks": []}, inputs={"a": "x\nE\ntouch broken"})
        server.add({"id": "agent", "agent": "printf %s '${a.output}'", "checks": []}, kind="agent", inputs={"a": hostile})
        for name in [*commands, "list", "agent"]:
            end = done(server, name)
            assert end["outcome"] == "done" and end["output"] == want.get(name, hostile), (name, end)
        assert done(server, "meant")["output"] == "Done"
        assert done(server, "word")["outcome"] == "done"
        assert "here-document" in done(server, "ends")["error"]["message"]
        assert not (server.folder / "broken").exists()


def test_no_program_of_a_task_has_the_admin_key():
    see = "env | grep -c the-admin-key; env | grep -c yes-this-one"
    with working("--key-env", "ADMIN_KEY", start=False) as server:
        server.worker = server.spawn(env={"ADMIN_KEY": "the-admin-key", "OTHER": "yes-this-one"})
        server.add({"id": "command", "command": see + "; true", "checks": []})
        server.add({"id": "check", "command": "true", "checks": [{"command": "env | grep the-admin-key >&2; ! env | grep -q the-admin-key"}]})
        server.add({"id": "agent", "agent": ["sh", "-c", see + "; true"], "checks": []}, kind="agent")
        assert done(server, "command")["output"] == "0\n1", done(server, "command")
        assert done(server, "check")["outcome"] == "done", done(server, "check")
        assert done(server, "agent")["output"] == "0\n1", done(server, "agent")
        assert server.worker.stop() == 0, server.worker.stderr()


def test_a_long_program_has_a_checkpoint_every_interval_that_the_environment_names():
    with working(start=False) as server:
        server.worker = server.spawn(env={"CHECKPOINT_INTERVAL": "1"})
        server.add({"id": "t", "command": "until test -e seen; do sleep 0.05; done", "checks": []})
        server.until(lambda: [c for c in server.checkpoints if c["reason"] == "interval"])
        (server.folder / "seen").touch()
        assert done(server, "t")["outcome"] == "done"
        assert server.worker.stop() == 0, server.worker.stderr()


def until_checkpoints(server, n):
    return server.until(lambda: [c for c in server.checkpoints if c["reason"] == "interval"][n - 1:])


def test_a_long_program_has_a_checkpoint_every_interval_that_its_claim_tells():
    with working() as server:
        server.add({"id": "t", "command": "until test -e seen; do sleep 0.05; done", "checks": []}, checkpoint_ms=1000)
        until_checkpoints(server, 2)
        (server.folder / "seen").touch()
        assert done(server, "t")["outcome"] == "done"


def test_an_agent_is_supervised_at_the_interval_that_its_claim_tells():
    with working() as server:
        server.add({"id": "t", "agent": ["sh", "-c", "until test -e seen; do sleep 0.05; done"], "checks": []}, kind="agent", checkpoint_ms=1000)
        assert until_checkpoints(server, 1)[0]["agent_id"] == "r-test:t"
        (server.folder / "seen").touch()
        assert done(server, "t")["outcome"] == "done"


def test_an_agent_of_no_worker_is_supervised_at_the_interval_of_the_configuration():
    with working(start=False) as server:
        (server.folder / "perdure.yaml").write_text('{"state": "off", "checkpoint_interval": "1s"}')
        agent = Program(["supervise", "--url", f"http://127.0.0.1:{server.port}", "--no-terminal", "--agent", "a", "--", "sh", "-c",
                         "until test -e seen; do sleep 0.05; done"], cwd=server.folder)
        assert until_checkpoints(server, 1)[0]["agent_id"] == "a"
        (server.folder / "seen").touch()
        assert agent.process.wait(DEADLINE) == 0, agent.stderr()


def test_what_the_environment_of_a_worker_says_goes_before_what_its_claim_tells():
    with working(start=False) as server:
        server.worker = server.spawn(env={"CHECKPOINT_INTERVAL": "1"})
        server.add({"id": "t", "command": "until test -e seen; do sleep 0.05; done", "checks": []}, checkpoint_ms=3600 * 1000)
        until_checkpoints(server, 1)
        (server.folder / "seen").touch()
        assert done(server, "t")["outcome"] == "done"
        assert server.worker.stop() == 0, server.worker.stderr()


def test_an_end_with_status_0_is_no_evidence():
    with working() as server:
        server.add({"id": "bare", "command": "true"})
        server.add({"id": "waived", "command": "true", "checks": []})
        server.add({"id": "schema", "command": "echo '{\"n\": 1}'", "schema": {"type": "object", "required": ["n"]}})
        server.add({"id": "misfit", "command": "echo '{}'", "schema": {"type": "object", "required": ["n"]}})
        server.add({"id": "unmade", "command": "true", "checks": [{"command": ["no-such-program"]}]})
        server.add({"id": "failed", "command": "true", "checks": [{"file": "nothing"}]})
        found = {t: done(server, t)["outcome"] for t in ("bare", "waived", "schema", "misfit", "unmade", "failed")}
        assert found == {"bare": "inconclusive", "waived": "done", "schema": "done", "misfit": "failed", "unmade": "inconclusive", "failed": "failed"}, found
        assert done(server, "schema")["output"] == {"n": 1}


def test_how_a_program_failed_is_told():
    with working() as server:
        server.add({"id": "exit", "command": "echo out; echo why >&2; exit 3", "checks": []})
        server.add({"id": "signal", "command": "kill -9 $$", "checks": []})
        server.add({"id": "none", "command": ["no-such-program"], "checks": []})
        server.add({"id": "slow", "command": "sleep 1000", "timeout_ms": 100, "checks": []})
        server.add({"id": "folder", "command": "true", "cwd": "nowhere", "checks": []})
        server.add({"id": "unfilled", "command": "echo ${b.output}", "checks": []})
        for task, kind, word in (("exit", "exit", "status 3: why"), ("signal", "signal", "signal 9"), ("none", "not_started", "no-such-program"),
                                 ("slow", "timeout", "timeout"), ("folder", "not_started", "nowhere"), ("unfilled", "not_filled", "b.output")):
            end = done(server, task)
            assert end["outcome"] == "failed" and end["error"]["class"] == kind and word in end["error"]["message"], end


def test_every_lost_answer_is_asked_for_again():
    for what in ("claim", "begin", "end", "finish"):
        with working(start=False) as server:
            server.lose[what] = 2
            server.refuse[what] = 1
            server.add({"id": "t", "command": "echo once >> times; cat times", "checks": []})
            worker = server.spawn("--idle", "300ms")
            end = done(server, "t")
            assert end["outcome"] == "done" and end["output"] == "once" and end["epoch"] == 1, (what, end)
            assert worker.process.wait(DEADLINE) == 0
            assert not server.lose[what] and not server.refuse[what], (what, "no fault happened")


def test_a_fenced_worker_stops_its_program_and_writes_nothing():
    with working(lease="9s") as server:
        server.add({"id": "t", "command": "echo $$ > pid; sleep 1000; echo late > late", "checks": []})
        server.until(lambda: (server.folder / "pid").exists() and (server.folder / "pid").read_text().strip())
        pid = int((server.folder / "pid").read_text())
        with server.lock:
            server.held["t"]["epoch"] += 1
        server.until(lambda: server.fenced)
        end = time.monotonic() + 3      # at once: its lease is not what it waits for
        while pathlib.Path(f"/proc/{pid}").exists():
            assert time.monotonic() < end, "the program still runs"
            threading.Event().wait(0.01)
        server.add({"id": "next", "command": "true", "checks": []})
        done(server, "next")
        assert not (server.folder / "late").exists() and not [t for t, _ in server.finished if t == "t"]


def test_a_worker_that_nobody_hears_for_a_lease_stops():
    with working(lease="1s") as server:
        server.add({"id": "t", "command": "echo $$ > pid; sleep 1000", "checks": []})
        server.until(lambda: (server.folder / "pid").exists() and (server.folder / "pid").read_text().strip())
        pid = int((server.folder / "pid").read_text())
        server.refuse["beat"] = 10 ** 6
        end = time.monotonic() + DEADLINE
        while pathlib.Path(f"/proc/{pid}").exists():
            assert time.monotonic() < end, "the program still runs"
            threading.Event().wait(0.01)
        server.refuse["beat"] = 0
        server.add({"id": "next", "command": "true", "checks": []})
        done(server, "next")
        assert not [t for t, _ in server.finished if t == "t"]


def test_a_perdure_that_does_not_answer_is_said_once_and_so_is_its_return():
    with working(start=False) as server:
        server.refuse["claim"] = 10 ** 6
        worker = server.spawn()
        server.until(lambda: "worker.unreached" in worker.stderr())
        assert 'why="it answers with status 503: later"' in worker.stderr() and "--url" in worker.stderr(), worker.stderr()
        server.refuse["claim"] = 0
        server.until(lambda: "worker.reached" in worker.stderr())
        assert worker.stop() == 0 and worker.stderr().count("worker.unreached") == 1, worker.stderr()


def test_a_cancelled_task_is_ended_and_given_back():
    with working(lease="1s") as server:
        server.add({"id": "t", "command": "sleep 1000", "checks": []})
        server.until(lambda: "t" in server.held)
        server.cancelled.add("t")
        assert done(server, "t")["outcome"] == "released"


def test_the_end_of_a_worker_waits_for_its_task_and_a_second_signal_does_not():
    with working(start=False) as server:
        worker = server.spawn()
        server.add({"id": "t", "command": "echo > began; while [ ! -e go ]; do sleep 0.02; done; echo fine", "checks": []})
        server.until(lambda: (server.folder / "began").exists())
        worker.process.send_signal(signal.SIGTERM)
        (server.folder / "go").write_text("")
        assert worker.process.wait(DEADLINE) == 0
        assert done(server, "t")["outcome"] == "done"
        worker = server.spawn("--drain", "1h")
        server.add({"id": "u", "command": "echo > again; sleep 1000", "checks": []})
        server.until(lambda: (server.folder / "again").exists())
        worker.process.send_signal(signal.SIGTERM)
        server.until(lambda: "signal=15" in worker.stderr())
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(DEADLINE) == 0
        assert done(server, "u")["outcome"] == "released"


def test_a_killed_worker_leaves_nothing_running():
    with working(start=False) as server:
        worker = server.spawn()
        server.add({"id": "t", "command": "setsid sleep 1000 & echo $! > pid; sleep 1000", "checks": []})
        server.until(lambda: (server.folder / "pid").exists() and (server.folder / "pid").read_text().strip())
        pid = int((server.folder / "pid").read_text())
        worker.kill()
        end = time.monotonic() + DEADLINE
        while pathlib.Path(f"/proc/{pid}").exists():
            assert time.monotonic() < end, "what the program started still runs"
            threading.Event().wait(0.01)


def test_an_effect_that_was_begun_is_asked_for_by_its_key():
    for status, outcome, runs in ((0, "done", 1), (1, "done", 2), (2, "ambiguous", 1), (None, "done", 2)):
        with working(start=False) as server:
            worker = server.spawn()
            spec = {"id": "t", "command": "echo $PERDURE_IDEMPOTENCY_KEY >> effects; [ -e go ] || sleep 1000", "checks": [], "idempotency_key": "key-${run}"}
            if status is not None:
                spec["resolve"] = f"echo asked $PERDURE_IDEMPOTENCY_KEY >> asked; exit {status}"
            server.add(spec)
            server.until(lambda: (server.folder / "effects").exists())
            worker.kill()
            server.lost("t")
            (server.folder / "go").write_text("")
            worker = server.spawn("--idle", "300ms")
            end = done(server, "t")
            effects = (server.folder / "effects").read_text().split()
            assert end["outcome"] == outcome and effects == ["key-r-test"] * runs, (status, end, effects)
            if status is not None:
                assert (server.folder / "asked").read_text() == "asked key-r-test\n"
            worker.stop(0)


def test_files_that_were_made_are_found_by_their_checks():
    with working(start=False) as server:
        worker = server.spawn()
        server.add({"id": "t", "command": "echo line >> log; echo > began; [ -e go ] || sleep 1000", "checks": [{"file": "log", "contains": "line"}]})
        server.until(lambda: (server.folder / "began").exists())
        worker.kill()
        server.lost("t")
        (server.folder / "go").write_text("")
        worker = server.spawn("--idle", "300ms")
        assert done(server, "t")["outcome"] == "done"
        assert (server.folder / "log").read_text() == "line\n"
        worker.stop(0)


def test_a_program_whose_output_counts_is_run_again_though_its_files_are_there():
    """By its `write`, and for another task; else the next would have null, and null would be written."""
    for name, more in (("write", {"write": {"path": "out.txt"}}), ("used", {"output_used": True}), ("neither", {})):
        with working(start=False) as server:
            worker = server.spawn()
            server.add({"id": "t", "command": "echo line >> log; echo > began; [ -e go ] || sleep 1000; echo said", "checks": [{"file": "log", "contains": "line"}], **more})
            server.until(lambda: (server.folder / "began").exists())
            worker.kill()
            server.lost("t")
            (server.folder / "go").write_text("")
            worker = server.spawn("--idle", "300ms")
            end = done(server, "t")
            assert end["outcome"] == "done" and end.get("output") == ("said" if more else None), (name, end)
            assert (server.folder / "log").read_text() == "line\n" * (2 if more else 1), name
            if name == "write":
                assert (server.folder / "out.txt").read_text() == "said"
            worker.stop(0)


# ---- models

def test_a_model_is_asked_and_its_answer_written():
    with working() as server:
        server.answers = ['```json\n{"code": "int main;\\n", "n": 1}\n```']
        server.add({"id": "t", "prompt": "Write for ${goal}.", "system": "You write.", "schema": {"type": "object", "required": ["code"]},
                    "write": {"path": "deep/wc.c", "from": "code"}, "max_tokens": 50, "temperature": 0.5})
        end = done(server, "t")
        assert end["outcome"] == "done" and end["output"]["n"] == 1 and end["tokens"] == 13, end
        assert (server.folder / "deep/wc.c").read_text() == "int main;\n"
        assert [p.name for p in (server.folder / "deep").iterdir()] == ["wc.c"]
        chat = server.chats[0]
        assert chat["model"] == "main" and chat["max_tokens"] == 50 and chat["temperature"] == 0.5
        assert [(m["role"], m["content"]) for m in chat["messages"]] == [("system", "You write."), ("user", "Write for a goal.")]
        assert chat["response_format"]["json_schema"]["schema"] == {"type": "object", "required": ["code"]}
        head = next(h for w, b, h in server.requests if w == "/v1/chat/completions")
        assert head["x-perdure-session"] == "r-test/t" and head["Idempotency-Key"] == "r-test/t/1/ask-1", head


def test_a_model_is_told_what_does_not_fit():
    with working() as server:
        server.answers = ["no JSON", '{"n": "x"}', '{"n": 1}', '{"n": 5}']
        server.add({"id": "t", "prompt": "A number.", "schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
                    "checks": [{"output": {"member": "n", "equals": 5}}]})
        end = done(server, "t")
        assert end["outcome"] == "done" and end["output"] == {"n": 5} and end["tokens"] == 52, end
        told = [c["messages"][-1]["content"] for c in server.chats]
        assert "is not JSON" in told[1] and "n" in told[2] and "should be 5" in told[3], told
        assert [len(c["messages"]) for c in server.chats] == [1, 3, 5, 7]
        keys = [h["Idempotency-Key"] for w, b, h in server.requests if w == "/v1/chat/completions"]
        assert len(set(keys)) == 4, keys


def test_a_model_that_never_fits_fails_the_attempt():
    with working() as server:
        server.answers = ["no"] * 9
        server.add({"id": "t", "prompt": "A number.", "schema": {"type": "integer"}})
        end = done(server, "t")
        assert end["outcome"] == "failed" and end["error"]["class"] == "schema" and len(server.chats) == 4, end
        server.chats.clear()
        server.answers = ["7"]
        server.add({"id": "u", "prompt": "A number.", "schema": {"type": "integer"}}, last_error=end["error"])
        assert done(server, "u")["output"] == 7 and "not JSON" in server.chats[0]["messages"][0]["content"]


def test_what_the_gateway_refuses_fails_the_attempt_for_good_or_not():
    with working() as server:
        server.answers = [(400, {"error": {"code": "bad_request", "message": "no"}}), (503, {"error": {"code": "overloaded", "message": "full"}})]
        server.add({"id": "bad", "prompt": "x", "checks": []})
        end = done(server, "bad")
        assert end["outcome"] == "failed" and end["final"] is True and end["error"]["class"] == "bad_request", end
        server.add({"id": "full", "prompt": "x", "checks": []})
        end = done(server, "full")
        assert end["outcome"] == "failed" and end["final"] is False and end["error"]["class"] == "overloaded", end


def test_a_worker_that_died_while_a_model_answered_leaves_the_same_question_to_the_next():
    with working(start=False) as server:
        server.chat_hold.clear()
        worker = server.spawn()
        server.add({"id": "t", "prompt": "x", "checks": []})
        server.until(lambda: server.chats)
        worker.kill()
        server.lost("t")
        server.chat_hold.set()
        worker = server.spawn("--idle", "300ms")
        end = done(server, "t")
        assert end["outcome"] == "done" and end["epoch"] == 2
        keys = {h["Idempotency-Key"] for w, b, h in server.requests if w == "/v1/chat/completions"}
        assert keys == {"r-test/t/1/ask-1"} and server.chats[0] == server.chats[1], keys
        worker.stop(0)


def test_a_long_answer_has_checkpoints_in_its_middle_that_say_how_far_it_is():
    with working() as server:
        first, second = threading.Event(), threading.Event()
        server.answers = [["Once \u00e9 \"", "upon\n", first, "a time", second]]
        server.add({"id": "t", "prompt": "x", "checks": []}, checkpoint_ms=1000)
        one = until_checkpoints(server, 1)[0]
        assert one["state"] == {"step": "ask-1", "key": "r-test/t/1/ask-1", "text": 'Once \u00e9 "upon\n'}, one
        assert one["task"] == "r-test/t" and one["step_index"] == 0 and one["progress"]["epoch"] == 1 and one["progress"]["at"] == "asks main", one
        first.set()
        until_checkpoints(server, 1)
        server.until(lambda: server.checkpoints[-1]["state"]["text"].endswith("a time"))
        assert not server.held["t"]["steps"]["ask-1"].get("result"), "a part was recorded"
        server.until(lambda: [b for w, b, h in server.requests if w == "beat" and b["progress"]["bytes"] > 10])
        second.set()
        end = done(server, "t")
        assert end["outcome"] == "done" and end["output"] == 'Once \u00e9 "upon\na time' and end["tokens"] == 13, end
        reasons = [c["reason"] for c in server.checkpoints]
        assert reasons[-1] == "step" and set(reasons[:-1]) == {"interval"} and len(reasons) >= 3, reasons


def test_a_short_answer_has_none_in_its_middle():
    with working() as server:
        server.add({"id": "t", "prompt": "x", "checks": []}, checkpoint_ms=60 * 1000)
        assert done(server, "t")["outcome"] == "done"
        assert [c["reason"] for c in server.checkpoints] == ["step"], server.checkpoints


def test_a_checkpoint_that_nobody_takes_stops_no_answer():
    with working() as server:
        server.refuse["/api/checkpoints"] = 10 ** 6
        go = threading.Event()
        server.answers = [["half", go, " whole"]]
        server.add({"id": "t", "prompt": "x", "checks": []}, checkpoint_ms=1000)
        server.until(lambda: [b for w, b, h in server.requests if w == "/api/checkpoints"][1:])
        go.set()
        assert done(server, "t")["output"] == "half whole"


def test_an_answer_that_breaks_off_is_asked_for_again_and_no_part_of_it_is_taken():
    broke = {"error": {"message": "nobody can go on", "type": "api_error", "code": "cut"}}
    for name, broken in (("cut", ["half ", None]), ("error", ["half ", broke, None]), ("no end", ["half ", 0])):
        with working() as server:
            server.answers = [broken, broken, "whole"]
            server.add({"id": "t", "prompt": "x", "checks": []})
            end = done(server, "t")
            assert end["outcome"] == "done" and end["output"] == "whole", (name, end)
            keys = [h["Idempotency-Key"] for w, b, h in server.requests if w == "/v1/chat/completions"]
            assert keys == ["r-test/t/1/ask-1"] * 3 and server.chats[0] == server.chats[2], (name, keys)


def test_what_the_gateway_gives_up_in_a_stream_fails_the_attempt():
    def broke(kind):
        return {"error": {"message": "nobody can go on", "type": kind, "code": "cut"}}
    for name, answers, asked, final in (("after some of it", [["half ", broke("api_error"), None]] * 4, 3, False),
                                        ("before any of it", [[broke("api_error"), None]] * 4, 1, False),
                                        ("for good", [[broke("invalid_request_error"), None]] * 4, 1, True)):
        with working() as server:
            server.answers = answers
            server.add({"id": "t", "prompt": "x", "checks": []})
            end = done(server, "t")
            assert end["outcome"] == "failed" and end["error"]["class"] == "cut" and end["final"] is final, (name, end)
            assert "nobody can go on" in end["error"]["message"] and len(server.chats) == asked, (name, end, len(server.chats))


def test_a_cancelled_task_ends_in_the_middle_of_an_answer():
    with working(lease="1s") as server:
        go = threading.Event()
        server.answers = [["half ", go]]
        server.add({"id": "t", "prompt": "x", "checks": []})
        server.until(lambda: [b for w, b, h in server.requests if w == "beat" and b["progress"]["bytes"]])
        server.cancelled.add("t")
        assert done(server, "t")["outcome"] == "released"
        go.set()


def test_a_recorded_answer_is_not_asked_for_again():
    with working(start=False) as server:
        worker = server.spawn()
        server.answers = ["first", "second"]
        server.add({"id": "t", "prompt": "x", "checks": [{"command": "[ -e go ] || { echo > checking; sleep 1000; }"}]})
        server.until(lambda: (server.folder / "checking").exists())
        worker.kill()
        server.lost("t")
        (server.folder / "go").write_text("")
        worker = server.spawn("--idle", "300ms")
        end = done(server, "t")
        assert end["output"] == "first" and len(server.chats) == 1 and end["tokens"] == 13, (end, len(server.chats))
        worker.stop(0)


if __name__ == "__main__":
    main(globals())
