"""perdure supervise in a terminal: the agent has it, and whoever dies, it is as it was before."""
import contextlib
import fcntl
import functools
import json
import os
import re
import signal
import struct
import sys
import tempfile
import termios
import threading

from perdure_test import DEADLINE, main
from test_supervise import Supervised, processes, supervised, until

# As a shell with jobs does it; then it does nothing more, so that what is seen is not its work.
SHELL = """
import json, os, signal, sys
command, env, status, front = json.loads(sys.argv[1])
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    if front:
        os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvpe(command[0], command, env)
try:
    os.setpgid(pid, pid)
except OSError:
    pass
open(status + ".pid", "w").write(str(pid))
got = os.waitpid(pid, 0)[1]
open(status + ".new", "w").write(str(os.waitstatus_to_exitcode(got)))
os.rename(status + ".new", status)
while True:
    signal.pause()
"""

# What every agent here begins with: how it found its terminal.
SEES = """
import termios, tty, fcntl, struct
def size():
    return struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, b"\\0" * 8))[:2]
def modes():
    return [m if isinstance(m, int) else [c.hex() if isinstance(c, bytes) else c for c in m] for m in termios.tcgetattr(0)]
if os.isatty(0):
    note("sees", json.dumps({"tty": [os.isatty(fd) for fd in (0, 1, 2)], "modes": modes(), "front": os.tcgetpgrp(0) == os.getpgrp(), "size": size()}))
def spoil():
    tty.setraw(0)
    sys.stdout.write("\\x1b[?1003h\\x1b[?1049h\\x1b[?25l")
    sys.stdout.flush()
    note("spoilt", os.getpid())
"""


class Terminal(Supervised):
    def __init__(self, agent, *options, front=True, **env):
        self.front = front
        super().__init__(SEES + agent, *options, **env)

    def start(self):
        self.log = tempfile.TemporaryFile("w+b")
        self.command.remove("--no-terminal")
        self.status = str(self.folder / "status")
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.master)
        self.shell = os.fork()
        if self.shell == 0:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in (0, 1, 2):
                os.dup2(slave, fd)
            os.closerange(3, 100)
            os.chdir(self.work)
            os.execv(sys.executable, [sys.executable, "-c", SHELL, json.dumps([self.command, self.env, self.status, self.front])])
        os.close(slave)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        with contextlib.suppress(OSError):
            while piece := os.read(self.master, 4096):
                os.pwrite(self.log.fileno(), piece, os.fstat(self.log.fileno()).st_size)

    def type(self, text):
        os.write(self.master, text.encode())

    def pid(self):
        return int(until("a pid", lambda: os.path.exists(self.status + ".pid") and open(self.status + ".pid").read()))

    def sees(self, count=1):
        return [json.loads(line) for line in self.until("sees", count)]

    def wait(self):
        until(f"an end; it said:\n{self.said()}", lambda: os.path.exists(self.status))
        return int(open(self.status).read())

    def as_before(self):
        assert termios.tcgetattr(self.master) == self.before, (termios.tcgetattr(self.master), self.before)

    def close(self):
        for pid in processes(self.mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        until("an end of all", lambda: not processes(self.mark))
        os.kill(self.shell, signal.SIGKILL)
        os.waitpid(self.shell, 0)
        self.reader.join(DEADLINE)
        os.close(self.master)
        self.own.cleanup()


in_terminal = functools.partial(supervised, kind=Terminal)


def found_in_order(s, count):
    """Each start found the terminal as the first did: its own, with lines and echo."""
    seen = s.sees(count)
    for one in seen:
        assert one["tty"] == [True] * 3 and one["front"], one
        assert one["modes"] == seen[0]["modes"], (one, s.said())
        assert one["modes"][3] & termios.ECHO and one["modes"][3] & termios.ICANON, one


def test_the_agent_has_the_terminal():
    agent = """
def resized(*_):
    note("resized", json.dumps(size()))
signal.signal(signal.SIGWINCH, resized)
note("waits")
note("read", input("name? "))
while not os.path.exists(os.environ["NOTES"] + "/resized"):
    time.sleep(0.01)
"""
    with in_terminal(agent) as s:
        s.until("waits")
        found_in_order(s, 1)
        assert s.sees()[0]["size"] == [24, 80]
        s.until_said(r"name\? ")
        s.type("it is me\n")
        assert s.until("read") == ["it is me"]
        fcntl.ioctl(s.master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
        assert json.loads(s.until("resized")[0]) == [50, 132]
        s.ends(0, starts=1)
        s.as_before()
        assert os.tcgetpgrp(s.master) == s.pid(), "its own group has the terminal again"


def test_ctrl_c_ends_the_agent_and_it_is_not_started_again():
    for agent in ("", "\ndef on_int(*_):\n    sys.exit(130)\nsignal.signal(signal.SIGINT, on_int)\n"):
        with in_terminal(agent + '\nnote("waits")\ntime.sleep(600)\n') as s:
            s.until("waits")
            s.type("\x03")
            s.ends(4, starts=1)
            s.as_before()


def test_ctrl_c_that_the_agent_takes_for_itself_is_its_own():
    agent = """
taken = []
signal.signal(signal.SIGINT, lambda *_: taken.append(1))
note("waits")
while not taken:
    time.sleep(0.01)
"""
    with in_terminal(agent) as s:
        s.until("waits")
        s.type("\x03")
        s.ends(0, starts=1)


def test_ctrl_c_before_it_is_started_again_ends_all():
    with in_terminal("sys.exit(1)\n", "--pause", "1h", "--log-level", "info") as s:
        s.until_said("supervise.ended")
        until("its own group has the terminal", lambda: os.tcgetpgrp(s.master) == s.pid())
        s.type("\x03")
        s.ends(4, starts=1)


SPOILS = """
if start == 1:
    spoil()
    time.sleep(600)
"""


def spoilt(s):
    pid = int(s.until("spoilt")[0])
    assert not termios.tcgetattr(s.master)[3] & termios.ECHO, "a fault that did not happen"
    return pid


def ends_in_order(s):
    s.ends(0, starts=2)
    found_in_order(s, 2)
    s.as_before()
    said = s.said()
    for spoils, mends in (("\x1b[?1003h", "\x1b[?1003l"), ("\x1b[?1049h", "\x1b[?1047l"), ("\x1b[?25l", "\x1b[?25h")):
        assert said.index(spoils) < said.index(mends), said


def test_an_agent_that_is_killed_leaves_the_terminal_in_order():
    with in_terminal(SPOILS) as s:
        os.kill(spoilt(s), signal.SIGKILL)
        ends_in_order(s)


def test_an_agent_that_is_killed_while_another_of_its_groups_has_the_terminal():
    """As one that runs a shell with jobs."""
    agent = """
if start == 1:
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    if os.fork() == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        spoil()
        time.sleep(600)
    time.sleep(600)
"""
    with in_terminal(agent) as s:
        job = spoilt(s)
        assert os.tcgetpgrp(s.master) == job
        os.kill(next(p for p, c in processes(s.mark).items() if "agent.py" in c and "supervise" not in c and p != job), signal.SIGKILL)
        ends_in_order(s)


def test_an_agent_that_hangs_leaves_the_terminal_in_order():
    agent = """
if start == 1:
    spoil()
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    with in_terminal(agent, "--stall", "3s", "--grace", "100ms") as s:
        spoilt(s)
        ends_in_order(s)


def test_an_agent_that_fails_leaves_the_terminal_in_order():
    with in_terminal("\nif start == 1:\n    spoil()\n    sys.exit(3)\n") as s:
        ends_in_order(s)


def test_a_killed_keeper_leaves_the_terminal_to_the_next():
    with in_terminal(SPOILS) as s:
        spoilt(s)
        os.kill(s.keeper(), signal.SIGKILL)
        ends_in_order(s)


def test_a_killed_guard_leaves_the_terminal_in_order():
    with in_terminal(SPOILS) as s:
        agent = spoilt(s)
        guard = int(open(f"/proc/{agent}/stat").read().rsplit(")", 1)[1].split()[1])
        assert guard in processes(s.mark) and guard != s.keeper()
        os.kill(guard, signal.SIGKILL)
        ends_in_order(s)


def test_a_killed_supervise_leaves_the_terminal_in_order():
    """The shell sees that it was killed; it need not put anything right."""
    with in_terminal(SPOILS) as s:
        spoilt(s)
        os.kill(s.pid(), signal.SIGKILL)
        s.ends(-signal.SIGKILL, starts=1, at_once=True)
        until(f"modes as before: {termios.tcgetattr(s.master)}", lambda: termios.tcgetattr(s.master) == s.before)
        until(f"what it told the terminal taken back: {s.said()!r}", lambda: "\x1b[?1003l" in s.said())


def test_in_the_background_it_does_not_take_the_terminal():
    agent = """
note("tty", os.isatty(0))
"""
    with in_terminal(agent, "--log-level", "info", front=False) as s:
        s.ends(0)
        assert os.tcgetpgrp(s.master) == s.shell, "the shell's own"
        assert s.told("tty") == ["False"]
        assert re.search("supervise.done", s.said()), s.said()


if __name__ == "__main__":
    main(globals())
