"""perdure supervise: agents that die, hang, lie, wait, fork away and will not end; and what is around them killed and stopped. Nothing of an agent is left behind."""
import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import uuid

from perdure_test import DEADLINE, PERDURE, Gateway, Program, Providers, config, main, request

PRELUDE = """
import os, signal, sys, time, json, urllib.request, subprocess
start = int(os.environ["PERDURE_START"])
def note(name, text=""):
    with open(os.path.join(os.environ["NOTES"], name), "a") as f:
        f.write(str(text) + "\\n")
note("starts", start)
"""


def processes(mark):
    """Who carries this mark in its environment and lives: {pid: command}."""
    found = {}
    for p in pathlib.Path("/proc").iterdir():
        if p.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (p / "environ").read_bytes() and (p / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                    found[int(p.name)] = (p / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def parent(pid):
    """0: it is gone."""
    with contextlib.suppress(OSError):
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


def keepers(mark):
    """Its guard is a fork of it and has the same words; which of the two has the smaller number says nothing."""
    all_of_it = processes(mark)
    alike = [p for p, c in all_of_it.items() if "--keeper=" in c]
    return [p for p in alike if parent(p) in all_of_it and parent(p) not in alike]


def until(what, test, limit=DEADLINE):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come")


class Supervised:
    """`perdure supervise` around a fake agent, which is a Python text; its notes are outside the watched folder."""

    def __init__(self, agent, *options, gateway=None, folder=None, args=(), **env):
        self.mark = f"mark-{uuid.uuid4().hex}"
        self.own = None if folder else tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(folder or self.own.name)
        self.work, self.notes = self.folder / "work", self.folder / "notes"
        self.work.mkdir(exist_ok=True)
        self.notes.mkdir(exist_ok=True)
        (self.folder / "agent.py").write_text(PRELUDE + agent)
        where = ["--url", f"http://127.0.0.1:{gateway.port}"] if gateway else ["--no-gateway"]
        clean = {k: v for k, v in os.environ.items() if not re.search(r"_API_KEY$|_BASE_URL$|_API_BASE$|_proxy$|^PERDURE_|^AGENT_ID$", k, re.I)}
        self.command = [PERDURE, "supervise", *where, "--pause", "50ms", "--no-terminal", *options, "--", "python3", str(self.folder / "agent.py"), *args]
        self.env = {**clean, "MARK": self.mark, "NOTES": str(self.notes), **env}
        self.start()

    def start(self):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def said(self):
        fd = self.log.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")

    def told(self, name):
        path = self.notes / name
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def until(self, name, count=1):
        return until(f"{count} notes {name}; supervise said:\n{self.said()}", lambda: len(self.told(name)) >= count and self.told(name))

    def until_said(self, pattern):
        return until(f"{pattern} in:\n{self.said()}", lambda: re.search(pattern, self.said()))

    def wait(self):
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.said()}")

    def ends(self, status, starts=None, at_once=False):
        """Nothing is left then; at once: it does not wait for that, and its guard sees to it."""
        got = self.wait()
        assert "--hang" in self.command or "keeper_hangs" not in self.said(), f"a keeper that works was ended:\n{self.said()}"
        assert got == status, (got, self.said())
        if starts is not None:
            assert len(self.told("starts")) == starts, (self.told("starts"), self.said())
        if at_once:
            until(f"nothing is left; supervise said:\n{self.said()}", lambda: not processes(self.mark))
        assert not processes(self.mark), (processes(self.mark), self.said())

    def keeper(self):
        return until("a keeper", lambda: keepers(self.mark))[0]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        until("an end of all", lambda: not processes(self.mark))
        if self.own:
            self.own.cleanup()


@contextlib.contextmanager
def supervised(agent, *options, kind=Supervised, **more):
    one = kind(agent, *options, **more)
    try:
        yield one
    finally:
        one.close()


def test_an_agent_that_is_killed_is_started_again_with_a_text_to_go_on_from():
    agent = """
if start == 1:
    open("a.txt", "w").write("half\\n")
    note("pid", os.getpid())
    time.sleep(600)
note("resume", open(os.environ["PERDURE_RESUME_FILE"]).read())
note("words", sys.argv[1:])
"""
    with supervised(agent, "--resume-args", "--continue", args=["go on: {resume}"]) as s:
        os.kill(int(s.until("pid")[0]), signal.SIGKILL)
        s.ends(0, starts=2)
        text = "\n".join(s.told("resume"))
        assert "a.txt" in text and "sha256" in text and "ended by signal 9" in text, text
        words = "\n".join(s.told("words"))
        assert "to be gone on with" in words and words.rstrip("]").endswith("'--continue'"), words
        assert "not verified" in s.said()


def test_all_words_of_a_command_are_handed_on_or_it_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        for words, status, says in ((1900, 0, "1900"), (2100, 2, "more words than it can hand on")):
            done = subprocess.run([PERDURE, "supervise", "--no-gateway", "--no-terminal", "--", "sh", "-c", "echo $#", "sh", *["x"] * words],
                                  cwd=folder, capture_output=True, text=True, timeout=60)
            assert done.returncode == status and says in done.stdout + done.stderr, (words, done)


def test_its_checkpoints_are_the_gateways_too():
    agent = """
if start == 1:
    open("a.txt", "w").write("half\\n")
    sys.exit(1)
note("resume", open(os.environ["PERDURE_RESUME_FILE"]).read())
note("env", json.dumps({k: os.environ.get(k) for k in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_BASE", "AGENT_ID", "PERDURE_URL")}))
"""
    gateway = Gateway(config({"p": {"preset": "openai-compatible", "base_url": "http://127.0.0.1:9/v1", "models": ["m"]}}))
    try:
        gateway.until("an open database", lambda: gateway.get("/api/checkpoints").status == 200)
        with supervised(agent, "--agent", "night", gateway=gateway) as s:
            s.ends(0, starts=2)
            assert "Checkpoint: night_" in "\n".join(s.told("resume")), s.told("resume")   # only the gateway gives one an id
            env = json.loads(s.told("env")[0])
            url = f"http://127.0.0.1:{gateway.port}"
            own = url + "/agent/night"
            assert env == {"OPENAI_BASE_URL": own + "/v1", "ANTHROPIC_BASE_URL": own, "OPENAI_API_BASE": own + "/v1", "AGENT_ID": "night", "PERDURE_URL": url}, env
        made = gateway.get("/api/checkpoints?agent=night").json["checkpoints"]
        assert [c["milestone"] for c in made][0] == "done, not verified" and len(made) == 2, made
    finally:
        gateway.stop()


def test_a_stopped_agent_is_seen_and_started_again():
    agent = """
if start == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    with supervised(agent, "--stall", "3s") as s:
        s.ends(0, starts=2)
        assert "supervise.end agent" in s.said() and "why=stalled" in s.said(), s.said()


def test_a_crash_loop_pauses_tells_a_person_and_goes_on_when_the_command_is_given_again():
    agent = """
sys.exit(0 if os.path.exists(os.environ["NOTES"] + "/mended") else 7)
"""
    with supervised(agent, "--alert-command", 'echo "$PERDURE_ALERT" > "$NOTES/alert"') as s:
        s.ends(3, starts=4)
        assert "restarted 3 times within 600 s" in s.told("alert")[0] and "status 7" in s.told("alert")[0], s.told("alert")
        assert "give the same command again" in s.said()
        (s.notes / "mended").touch()
        s.start()
        s.ends(0, starts=5)
        assert "why=resumed" in s.said(), s.said()


def test_who_waits_for_a_provider_is_not_stuck():
    agent = """
body = json.dumps({"model": "main", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
ask = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, {"Content-Type": "application/json", "x-perdure-session": "night"})
note("answer", urllib.request.urlopen(ask, timeout=300).read().decode()[-20:])
"""
    sim = Providers("a:0,tokens=20")
    gateway = Gateway(config({"a": {"preset": "openai-compatible", "base_url": sim.url("a"), "models": ["m"]}}, {"main": {"targets": [{"model": "a/m"}]}},
                             {"backoff": "10ms", "hold": "10m", "hold_single": "10m", "probe": "200ms", "breaker_hold": "200ms"}))
    try:
        sim.down("a")
        with supervised(agent, "--stall", "3s", gateway=gateway) as s:
            def held():
                running = gateway.get("/api/calls").json["running"]
                return running and running[0]["state"] == "holding" and running[0]["held_ms"] > 9500
            until("a call on hold for three stalls", held)
            assert s.told("starts") == ["1"], s.said()
            sim.up("a")
            s.ends(0, starts=1)
            assert "data: [DONE]" in s.told("answer"), s.told("answer")
    finally:
        gateway.stop()
        sim.stop()


def test_an_answer_that_comes_slowly_is_progress():
    agent = """
body = json.dumps({"model": "main", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
ask = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, {"Content-Type": "application/json"})
if start == 1:
    note("answer", urllib.request.urlopen(ask, timeout=300).read().decode()[-20:])
"""
    sim = Providers("a:0,tokens=160,token_delay=50ms")
    gateway = Gateway(config({"a": {"preset": "openai-compatible", "base_url": sim.url("a"), "models": ["m"]}}, {"main": {"targets": [{"model": "a/m"}]}}))
    try:
        with supervised(agent, "--stall", "3s", gateway=gateway) as s:
            seen = set()

            def grows():
                seen.update(c["output_bytes"] for c in gateway.get("/api/calls").json["running"] if c["state"] == "relaying")
                return len(seen) > 10
            until("an answer whose bytes grow", grows)
            s.ends(0, starts=1)
            assert "data: [DONE]" in s.told("answer"), s.told("answer")
    finally:
        gateway.stop()
        sim.stop()


def test_an_answer_that_nobody_reads_is_no_progress():
    agent = """
body = json.dumps({"model": "main", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
ask = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, {"Content-Type": "application/json"})
if start == 1:
    answer = urllib.request.urlopen(ask, timeout=300)
    answer.read(100)
    note("reads")
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    sim = Providers("a:0,tokens=40,token_delay=50ms")
    gateway = Gateway(config({"a": {"preset": "openai-compatible", "base_url": sim.url("a"), "models": ["m"]}}, {"main": {"targets": [{"model": "a/m"}]}}))
    try:
        with supervised(agent, "--stall", "3s", gateway=gateway) as s:
            s.until("reads")
            s.ends(0, starts=2)
            assert "why=stalled" in s.said(), s.said()
    finally:
        gateway.stop()
        sim.stop()


def test_slow_work_is_work():
    agent = """
for i in range(10):
    open("out.txt", "a").write(".")
    time.sleep(0.6)
"""
    with supervised(agent, "--stall", "3s") as s:
        s.ends(0, starts=1)


def test_a_spinner_is_no_work_for_ever():
    agent = """
while start == 1:
    print(".", end="", flush=True)
    time.sleep(0.05)
"""
    with supervised(agent, "--stall", "3s") as s:
        began = time.monotonic()
        s.ends(0, starts=2)
        assert 9 <= time.monotonic() - began, "output was no sign at all"


def test_what_forks_away_and_what_will_not_end_is_ended():
    agent = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        note("away", os.getpid())
        time.sleep(600)
    os._exit(0)
while start == 1:
    time.sleep(600)
while not os.path.exists(os.environ["NOTES"] + "/away"):
    time.sleep(0.01)
"""
    with supervised(agent, "--stall", "3s", "--grace", "200ms") as s:
        s.ends(0, starts=2)
        assert len(s.told("away")) >= 1
        assert re.search("how=signal status=9", s.said()), s.said()


def test_kill_9_of_supervise_leaves_nothing_and_the_same_command_goes_on():
    agent = """
subprocess.Popen(["sleep", "600"], start_new_session=True)
note("up")
if start < 3:
    time.sleep(600)
note("resume", open(os.environ["PERDURE_RESUME_FILE"]).read())
"""
    with supervised(agent) as s:
        for n in (1, 2):
            s.until("up", n)
            assert len(processes(s.mark)) >= 4, processes(s.mark)    # watchdog, keeper, guard, agent and what it started
            s.process.kill()
            s.process.wait()
            until("an end of all", lambda: not processes(s.mark), 10)
            s.start()
        s.ends(0, starts=3)
        assert s.told("starts") == ["1", "2", "3"]
        assert "stopped, or died with the machine" in "\n".join(s.told("resume"))


def test_a_killed_keeper_is_replaced_and_the_agent_with_it():
    agent = """
note("up")
if start == 1:
    time.sleep(600)
"""
    with supervised(agent) as s:
        s.until("up")
        os.kill(s.keeper(), signal.SIGKILL)
        s.ends(0, starts=2)
        assert "supervise.keeper_died" in s.said() and "why=fell" in s.said(), s.said()


def lock_of(s):
    """What a guard holds until nothing is left of its agent."""
    return s.work / ".perdure" / "supervise-one.agent"


def test_the_guard_holds_a_lock_until_nothing_is_left():
    with supervised('note("pid", os.getpid()); time.sleep(600)', "--agent", "one") as s:
        pid = int(s.until("pid")[0])
        guard = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]
        held = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{guard}/fd").iterdir()]
        assert str(lock_of(s).resolve()) in held, held
        assert str(lock_of(s).resolve()) not in [os.readlink(fd) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
        with open(lock_of(s)) as other, contextlib.suppress(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise AssertionError("nobody holds it")
        s.process.kill()
        s.process.wait()
        with open(lock_of(s)) as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            assert pid not in processes(s.mark)


def test_two_of_an_agent_never_live_at_once():
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "work" / ".perdure").mkdir(parents=True)
        with open(f"{folder}/work/.perdure/supervise-one.agent", "w") as earlier:   # as a guard whose agent waits for a disk
            fcntl.flock(earlier, fcntl.LOCK_EX)
            with supervised("", "--agent", "one", "--hang", "2s", folder=folder) as s:
                s.until_said(r"supervise.still_ending")
                assert not s.told("starts"), s.said()
                s.process.send_signal(signal.SIGTERM)
                assert s.wait() == 4, s.said()
                s.start()
                s.until_said(r"supervise.still_ending")
                assert not s.told("starts"), s.said()
                fcntl.flock(earlier, fcntl.LOCK_UN)
                s.ends(0, starts=1)


def test_a_stopped_keeper_is_seen_by_the_watchdog():
    agent = """
note("up")
while start == 1:
    note("works")
    time.sleep(0.1)
"""
    with supervised(agent, "--hang", "2s") as s:
        s.until("up")
        os.kill(s.keeper(), signal.SIGSTOP)
        s.ends(0, starts=2)
        assert "supervise.keeper_hangs" in s.said(), s.said()


def test_keepers_that_are_killed_again_and_again_pause_it():
    agent = """
note("up")
time.sleep(600)
"""
    with supervised(agent) as s:
        for n in range(1, 5):
            s.until("up", n)
            os.kill(s.keeper(), signal.SIGKILL)
        s.ends(3, starts=4)


def test_signals_end_it_in_good_order():
    agent = """
def bye(*_):
    note("bye")
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
note("up")
while start == 1:
    time.sleep(0.1)
"""
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with supervised(agent) as s:
            s.until("up")
            s.process.send_signal(sig)
            s.ends(4, starts=1)
            assert s.told("bye") == [""], s.said()
            s.start()
            s.ends(0, starts=2)


def test_a_second_signal_ends_it_at_once():
    agent = """
signal.signal(signal.SIGTERM, lambda *_: note("asked"))
note("up")
while True:
    time.sleep(1)
"""
    with supervised(agent, "--grace", "10m") as s:
        s.until("up")
        s.process.terminate()
        s.until("asked")
        s.process.terminate()
        s.ends(4, starts=1, at_once=True)


def test_done_is_what_was_verified():
    agent = """
if start == 2:
    note("resume", open(os.environ["PERDURE_RESUME_FILE"]).read())
    open("result", "w").write("made")
"""
    with supervised(agent, "--check", "test -f result || { echo there is no result; exit 1; }") as s:
        s.ends(0, starts=2)
        assert "verified=yes" in s.said() and "not verified" not in s.said(), s.said()
        assert "there is no result" in "\n".join(s.told("resume")), s.told("resume")


def test_a_check_that_is_ended_at_its_limit_has_not_passed():
    agent = """
if start == 2:
    note("resume", open(os.environ["PERDURE_RESUME_FILE"]).read())
"""
    for when_asked in ("exit 0", ""):    # it says that all is well; it does not hear, and is killed
        check = f"[ -e $NOTES/checked ] && exit 0; trap '{when_asked}' TERM; echo $$ > $NOTES/checked; echo it looks >&2; while :; do sleep 0.05; done"
        with supervised(agent, "--check-limit", "1s", "--grace", "200ms", "--check", check) as s:
            s.ends(0, starts=2)
            assert "why=unproven" in s.said() and "verified=yes" in s.said(), s.said()
            resume = "\n".join(s.told("resume"))
            assert "the check was not over after 1 s and was ended. Its last words:\nit looks" in resume, resume
            how = re.search(r"how=(\w+) status=(\d+) strays=\d+ check=1", s.said()).groups()
            assert how == (("exit", "0") if when_asked else ("signal", "9")), s.said()


def test_what_a_killed_keeper_left_half_written_is_removed():
    with tempfile.TemporaryDirectory() as folder:
        state = pathlib.Path(folder) / "work" / ".perdure"
        state.mkdir(parents=True)
        left = ["supervise-one.77777.new", "supervise-one.checkpoint.77777.new"]
        others = ["supervise-two.77777.new", "supervise-one.two.77777.new", "notes.new"]
        for name in left + others:
            (state / name).write_text("half")
        with open(state / "supervise-one.agent", "w") as earlier:     # whose guard still holds it: another keeper may be writing
            fcntl.flock(earlier, fcntl.LOCK_EX)
            with supervised("", "--agent", "one", folder=folder) as s:
                s.until_said("supervise.still_ending")
                assert all((state / name).exists() for name in left + others)
                fcntl.flock(earlier, fcntl.LOCK_UN)
                s.ends(0, starts=1)
                assert not any((state / name).exists() for name in left) and all((state / name).exists() for name in others), list(state.iterdir())


def test_one_agent_is_supervised_once():
    agent = """
note("up")
time.sleep(600)
"""
    with supervised(agent) as s:
        s.until("up")
        again = subprocess.run(s.command, cwd=s.work, env=s.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
        assert again.returncode == 1 and "supervised already" in again.stderr and "another name with --agent" in again.stderr, again
        s.process.terminate()
        s.ends(4, starts=1)


def test_what_cannot_be_run_is_said_at_once():
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([PERDURE, "supervise", "--no-gateway", "--", "no-such-agent"], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
        assert done.returncode == 1 and '"no-such-agent" cannot be run' in done.stderr, done
        go = ["--no-gateway", "--", "true"]
        pathlib.Path(folder, "file").touch()
        pathlib.Path(folder, "taken").mkdir()
        pathlib.Path(folder, "taken/.perdure").touch()
        rows = [([], 2, "no COMMAND"), (["--"], 2, "no COMMAND"), (["true"], 2, 'not understood: "true"; COMMAND stands behind --'), (["--what", *go], 2, '"--what"'),
                (["--stall", "x", *go], 2, 'write a time, as in 10m'), (["--check-limit", "0s", *go], 2, '--check-limit is "0s": write a time'), (["--agent", "a b", *go], 2, "up to 99 letters"), (["--restarts", "1000", *go], 2, "a number from 0 to 99"),
                (["--check", "", *go], 2, "a value is missing"), (["--keeper=0,1", *go], 2, "--keeper"), (["--resume-args", "a " * 33, *go], 2, "more than 32 words"),
                (["--dir", "/no/such", *go], 2, '"/no/such" cannot be read: No such file or directory; --dir says'), (["--dir", "file", *go], 2, "Not a directory; --dir says"),
                (["--dir", "taken", *go], 1, "taken/.perdure: Not a directory; make the folder writable"), (["--key-env", "NO_SUCH", "--", "true"], 2, '"NO_SUCH", which is not set')]
        for words, status, why in rows:
            done = subprocess.run([PERDURE, "supervise", *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert done.returncode == status and why in done.stderr and not done.stdout and done.stderr.count("\n") <= 2, (words, done)


def test_a_gateway_that_is_not_there_is_said_once_and_the_agent_is_begun():
    agent = """
note("up")
while not os.path.exists(os.environ["NOTES"] + "/enough"):
    time.sleep(0.01)
"""
    class Nowhere:
        port = 1
    with supervised(agent, "--stall", "60s", gateway=Nowhere) as s:
        s.until("up")
        s.until_said("no perdure answers at http://127.0.0.1:1: start one with `perdure serve`, say with --url where it runs, or --no-gateway")
        (s.notes / "enough").touch()
        s.ends(0, starts=1)
        assert s.said().count("no perdure answers") == 1, s.said()


# ---- tasks of kind agent ----------------------------------------------------------------------------------------------------------

class Run:
    """A plan with one agent, on a perdure of its own, and workers."""

    def __init__(self, agent, **task):
        self.mark = f"mark-{uuid.uuid4().hex}"
        self.own = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.own.name)
        self.work, self.notes = self.folder / "work", self.folder / "notes"
        self.work.mkdir()
        self.notes.mkdir()
        (self.folder / "agent.py").write_text(PRELUDE + agent)
        self.gateway = Gateway(config({"p": {"preset": "openai-compatible", "base_url": "http://127.0.0.1:9/v1", "models": ["m"]}}))
        plan = {"goal": "one", "tasks": [{"id": "a", "agent": ["python3", str(self.folder / "agent.py")], "retries": 0, **task}]}
        answer = until("an open database", lambda: next((a for a in [request(self.gateway.port, "POST", "/api/runs?name=p", json.dumps(plan))] if a.status != 503), None))
        assert answer.status in (200, 201), (answer.status, answer.body)
        self.id = answer.json["id"]
        self.workers = []

    told, until = Supervised.told, Supervised.until

    def said(self):
        return "".join(w.stderr() for w in self.workers)

    def worker(self, *options):
        env = {"MARK": self.mark, "NOTES": str(self.notes)}
        self.workers.append(Program(["worker", "--url", f"http://127.0.0.1:{self.gateway.port}", "--dir", str(self.work), "--lease", "1s", *options], env=env))
        return self.workers[-1]

    def state(self):
        return self.gateway.get(f"/api/runs/{self.id}").json

    def reaches(self, state):
        until(f"{state}: {self.state()} {self.said()}", lambda: self.state()["state"] == state)
        return self.state()["tasks"][0]

    def close(self):
        for w in self.workers:
            if w.process.poll() is None:
                w.process.kill()
                w.process.wait()
        until("an end of all", lambda: not processes(self.mark))
        self.gateway.stop()
        self.own.cleanup()


@contextlib.contextmanager
def run_of(agent, **task):
    one = Run(agent, **task)
    try:
        yield one
    finally:
        one.close()


def test_a_task_of_an_agent_is_done_when_its_checks_pass():
    agent = """
if len(open(os.environ["NOTES"] + "/starts").readlines()) == 1:
    sys.exit(9)
if "PERDURE_RESUME_FILE" in os.environ:
    note("resume", open(os.environ["PERDURE_RESUME_FILE"]).read())
if any("check failed" in line for line in open(os.environ["NOTES"] + "/resume")):
    open("result", "w").write("made")
print("it is done", os.environ["PERDURE_TASK"], os.environ["OPENAI_MODEL"])
"""
    with run_of(agent, model="coder", checks=[{"file": "result"}]) as r:
        r.worker()
        task = r.reaches("done")
        assert len(r.told("starts")) == 3, (r.told("starts"), r.said())    # it died, it lied, it was done
        one = r.gateway.get(f"/api/runs/{r.id}/tasks/a").json
        assert one["attempt"] == 1 and one["output"] == "it is done a coder", (task, one)
        made = r.gateway.get(f"/api/checkpoints?agent={r.id}:a").json["checkpoints"]
        assert made and made[0]["task"] == f"{r.id}/a", made


def test_an_agent_that_is_restarted_too_often_pauses_its_run():
    agent = """
sys.exit(0 if os.path.exists(os.environ["NOTES"] + "/mended") else 7)
"""
    with run_of(agent, checks="none") as r:
        r.worker()
        task = r.reaches("paused")
        assert "restarted too often" in r.state()["why"], r.state()
        until(f"the task given back: {r.state()}", lambda: r.state()["tasks"][0]["state"] == "ready")
        assert len(r.told("starts")) == 4, r.told("starts")
        (r.notes / "mended").touch()
        assert request(r.gateway.port, "POST", f"/api/runs/{r.id}/resume").status == 200
        r.reaches("done")
        assert r.told("starts") == ["1", "2", "3", "4", "5"], (r.told("starts"), task)


def test_a_killed_worker_leaves_nothing_of_its_agent_and_the_next_goes_on():
    agent = """
subprocess.Popen(["sleep", "600"], start_new_session=True)
note("up")
while start == 1:
    time.sleep(0.1)
"""
    with run_of(agent, checks="none") as r:
        first = r.worker()
        r.until("up")
        first.kill()
        until("an end of all", lambda: not processes(r.mark), 10)
        r.worker()
        r.reaches("done")
        assert r.told("starts") == ["1", "2"], (r.told("starts"), r.said())


def test_a_cancelled_run_ends_its_agent_in_good_order():
    agent = """
def bye(*_):
    note("bye")
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
note("up")
while True:
    time.sleep(0.1)
"""
    with run_of(agent, checks="none") as r:
        r.worker()
        r.until("up")
        assert request(r.gateway.port, "POST", f"/api/runs/{r.id}/cancel").status == 200
        r.until("bye")
        until("an end of the agent", lambda: not any("agent.py" in c for c in processes(r.mark).values()))
        assert r.told("starts") == ["1"], r.told("starts")


if __name__ == "__main__":
    main(globals())
