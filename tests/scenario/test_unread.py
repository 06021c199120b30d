"""Whoever reads the output stops reading (`perdure ... | less`): nothing waits for it, what is lost is counted, and what can be kept is kept."""
import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time
import uuid

from perdure_test import DEADLINE, PERDURE, Providers, config, main, request
from test_supervise import Supervised, processes, supervised, until

PIPE_BYTES = 1 << 20
JUNK = b"j" * 4096


class Pipe:
    """The reader's side is ours. full: nothing more goes into it, and it cannot be made larger."""

    def __init__(self, full=False):
        self.reads, self.writes = os.pipe()
        self.heard = b""
        if full:
            fcntl.fcntl(self.writes, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            os.set_blocking(self.writes, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(self.writes, JUNK)
            os.set_blocking(self.writes, True)     # as a shell makes it

    def read_on(self, each=1 << 16, pause=0):
        """From now on, by a thread, to the end."""
        os.close(self.writes)

        def read():
            while piece := os.read(self.reads, each):
                self.heard += piece
                if pause:
                    time.sleep(pause)      # a reader that is slow: what the story is about
        self.thread = threading.Thread(target=read, daemon=True)
        self.thread.start()

    def text(self):
        """All of it, at its end."""
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive(), "it has no end"
        return self.heard.replace(JUNK, b"").decode()


class Unread(Supervised):
    """Its standard output is `out`, and with `both` the other one too."""
    both = False

    def start(self):
        self.log = tempfile.TemporaryFile("w+")
        self.out = Pipe(full=self.both)
        self.process = subprocess.Popen(self.command, cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=self.out.writes,
                                        stderr=self.out.writes if self.both else self.log)


class BothUnread(Unread):
    both = True


def test_an_agent_is_kept_going_though_nobody_reads():
    agent = """
for i in range(40000):
    print("out", i, "x" * 50)
    print("err", i, "x" * 50, file=sys.stderr)
note("said")
sys.exit(0 if start == 2 else 7)
"""
    with supervised(agent, "--hang", "3s", "--check", "for i in $(seq 5000); do echo check $i; done", kind=BothUnread) as s:
        s.ends(0, starts=2)     # a keeper that waits for its reader is ended, and that is a start more
        assert s.told("said") == ["", ""], s.told("said")
        s.out.read_on()
        assert "supervise." not in s.out.text()


def test_a_keeper_that_hangs_is_seen_though_nobody_reads():
    agent = """
note("up")
while start == 1:
    time.sleep(0.1)
"""
    with supervised(agent, "--hang", "2s", kind=BothUnread) as s:
        s.until("up")
        os.kill(s.keeper(), signal.SIGSTOP)
        s.ends(0, starts=2)


def test_who_reads_again_is_told_what_was_left_out():
    agent = """
n = total = 0
while not os.path.exists(os.environ["NOTES"] + "/enough"):
    text = f"{n:07}\\n" * 1000
    sys.stdout.write(text)
    n, total = n + 1, total + len(text)
note("total", total)
"""
    with supervised(agent, "--hang", "3s", "--stall", "8s", kind=Unread) as s:
        s.until_said("supervise.unread agent=.* output=stdout")
        s.out.read_on()
        s.until_said("supervise.read_again agent=.* output=stdout lost_bytes=[1-9]")
        (s.notes / "enough").touch()
        s.ends(0, starts=1)
        heard = s.out.text()
        gaps = re.findall(r"\n\[perdure supervise: (\d+) bytes left out here, which nobody read\]\n", heard)
        rest = re.sub(r"\n\[perdure supervise: \d+ bytes left out here, which nobody read\]\n", "", heard)
        assert gaps and len(rest) + sum(map(int, gaps)) == int(s.told("total")[0]), (gaps, len(rest), s.told("total"), s.said())
        assert heard.startswith("0000000\n" * 1000) and rest.endswith("\n")


def test_a_slow_reader_loses_nothing():
    agent = """
for i in range(400000):
    print(f"{i:07}")
note("said")
print("the end", file=sys.stderr)
"""
    with supervised(agent, "--hang", "3s", kind=Unread) as s:
        s.out.read_on(each=1 << 15, pause=0.01)
        s.ends(0, starts=1)
        assert s.out.text() == "".join(f"{i:07}\n" for i in range(400000)), "something is missing"
        assert "supervise.unread" not in s.said() and "the end" in s.said(), s.said()


def test_what_is_in_the_pipe_when_it_ends_is_there_for_its_reader():
    """Half a megabyte: more than a pipe holds that nobody made larger."""
    agent = """
print("x" * 500000)
print("the end")
"""
    with supervised(agent, kind=Unread) as s:
        s.ends(0, starts=1)
        s.out.read_on()
        assert s.out.text().endswith("x\nthe end\n")


# ---- perdure run --------------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def run_unread(script, both):
    """`perdure run` of one task, with its own perdure, before a pipe that is full."""
    mark = f"mark-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        (folder / "p.json").write_text(json.dumps({"goal": "one", "tasks": [{"id": "a", "command": script, "retries": 3, "checks": "none"}]}))
        (folder / "perdure.yaml").write_text(config({"p": {"preset": "openai-compatible", "base_url": "http://127.0.0.1:9/v1", "models": ["m"]}}))
        clean = {k: v for k, v in os.environ.items() if not re.search(r"_API_KEY$|_BASE_URL$|_proxy$|^PERDURE_", k, re.I)}
        out, log = Pipe(full=True), open(folder / "log", "w+b")
        p = subprocess.Popen([PERDURE, "run", "p.json", "--config", "perdure.yaml", "--json"], cwd=folder, env={**clean, "MARK": mark}, stdin=subprocess.DEVNULL,
                             stdout=out.writes, stderr=out.writes if both else log)
        try:
            yield folder, p, out, lambda: processes(mark)
        finally:
            p.kill()
            p.wait()
            until("an end of all", lambda: not processes(mark))


def workers(found):
    return [p for p, c in found.items() if " worker --url" in c]


def test_a_run_goes_on_though_nobody_reads_and_its_reader_misses_nothing():
    script = "echo $$ >> begun; test $(grep -c . begun) -gt 1 || sleep 600; touch made"
    for both in (False, True):
        with run_unread(script, both) as (folder, p, out, alive):
            until("the task", (folder / "begun").exists)
            os.kill(until("its worker", lambda: workers(alive()))[0], signal.SIGKILL)
            until("another worker, which does it again", (folder / "made").exists)
            assert p.poll() is None
            out.read_on()
            assert p.wait(DEADLINE) == 0
            lines = [json.loads(line) for line in out.text().splitlines() if line.startswith("{")]
            assert lines[-1]["state"] == "done" and lines[-1]["tasks"][0]["epoch"] == 2, lines
            assert [line["seq"] for line in lines[:-1]] == list(range(1, len(lines))) and lines[-2]["what"] == "run_done", lines


def test_a_run_whose_last_words_nobody_reads_is_ended_by_a_signal():
    with run_unread("touch made", False) as (folder, p, out, alive):
        until("the task", (folder / "made").exists)
        assert p.poll() is None
        until("its end", lambda: p.poll() is not None or p.terminate())
        assert p.returncode in (0, 4), p.returncode


# ---- perdure serve --------------------------------------------------------------------------------------------------------------------

def test_a_gateway_serves_though_nobody_reads_its_log():
    sim = Providers("a:0,tokens=5")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "perdure.yaml"
        path.write_text(config({"a": {"preset": "openai-compatible", "base_url": sim.url("a"), "models": ["m"]}}, {"main": {"targets": [{"model": "a/m"}]}}))
        log = Pipe(full=True)
        p = subprocess.Popen([PERDURE, "serve", "--config", str(path), "--log-level", "debug"], cwd=folder, stdout=subprocess.PIPE, stderr=log.writes)
        try:
            port = next(int(found.group(1)) for line in p.stdout if (found := re.search(rb"listens on http://.*:(\d+)/v1", line)))

            def ask(count):
                for _ in range(count):
                    answer = request(port, "POST", "/v1/chat/completions", {"model": "main", "messages": [{"role": "user", "content": "hello"}]})
                    assert answer.status == 200, answer.body

            def lost():
                return float(re.search(r"^perdure_log_lost_total (\S+)", request(port, "GET", "/metrics").body.decode(), re.M).group(1))
            ask(20)
            assert lost() > 20
            log.read_on()
            until("room for its log", lambda: len(log.heard) >= PIPE_BYTES)
            before = lost()
            ask(1)
            p.terminate()
            assert p.wait(DEADLINE) == 0
            text = log.text()
            told = sum(map(int, re.findall(r" warn log.lost lines=(\d+)\n", text)))
            assert told >= before and "call.begin" in text and "serve.ended" in text, (told, before, text)
        finally:
            p.kill()
            p.wait()
            sim.stop()


if __name__ == "__main__":
    main(globals())
