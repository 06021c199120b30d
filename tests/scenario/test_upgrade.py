"""SIGUSR2: a new process takes the listening sockets over, the old one ends its calls and goes; nobody at the other end notices."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from perdure_test import DEADLINE, PERDURE, Gateway, Providers, Stream, config, main, request

RULES = {"ttft": 0, "backoff": "10ms", "affinity": 0}
STREAM_TOKENS = 40
ROUNDS = 3


class Chain:
    """A gateway whose process is followed by others: who serves now, and the end of all of them."""

    def __init__(self, spec="alpha:0,tokens=40", extra=None, args=(), env=None):
        self.sim = Providers(spec)
        self.text = config({"alpha": {"preset": "openai-compatible", "base_url": self.sim.url("alpha"), "models": ["m"]}},
                           {"main": {"strategy": "priority", "targets": ["alpha/m"]}}, RULES, extra)
        self.gateway = Gateway(self.text, args=args, env=env)
        self.pids = [self.gateway.program.process.pid]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            sys.stderr.write(self.gateway.log()[-4000:])
        for pid in {*self.pids, *map(int, re.findall(r" upgrade\.started pid=(\d+)", self.gateway.log()))}:
            if self.alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.gateway.program.process.wait()
        self.sim.program.kill()

    @property
    def pid(self):
        return self.pids[-1]

    @property
    def port(self):
        return self.gateway.port

    def alive(self, pid):
        """A successor is nobody's child here when its parent has ended: init, or a zombie of it, is as good as gone."""
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state not in "ZX"

    def serving(self):
        """Who says in the state folder that it serves."""
        return int(next(self.gateway.path.parent.rglob("serving")).read_text().split()[1])

    def logged(self, event):
        return len(re.findall(rf" {re.escape(event)} ", self.gateway.log()))

    def until(self, what, test):
        return self.gateway.until(what, test)

    def ask(self):
        os.kill(self.pid, signal.SIGUSR2)

    def upgrade(self):
        """Returns when the new process serves."""
        before = self.logged("upgrade.handed_over")
        self.ask()
        self.until("handed over", lambda: self.logged("upgrade.handed_over") > before)
        self.pids.append(int(re.findall(r" upgrade\.handed_over pid=(\d+)", self.gateway.log())[-1]))

    def gone(self, pid):
        self.until(f"process {pid} ended", lambda: self.gateway.program.process.poll() is not None if pid == self.pids[0] else not self.alive(pid))


def held(sim, count=1):
    sim.faults("alpha", *[{"fault": "hold", "after": 5}] * count)


def begun(stream):
    while len(stream.text.split()) < 5:
        stream.next()
    return stream


def test_under_load_no_request_fails_and_no_stream_breaks():
    for workers in (1, 3):
        with Chain("alpha:0,tokens=40,token_delay=2ms", {"workers": workers}) as chain:
            ok, wrong, stop = [0, 0, 0], [], threading.Event()

            def fresh():
                while not stop.is_set():
                    a = chain.gateway.chat()
                    assert a.status == 200 and len(a.json["choices"][0]["message"]["content"].split()) == STREAM_TOKENS, a.body
                    ok[0] += 1

            def kept():
                c = http.client.HTTPConnection("127.0.0.1", chain.port, timeout=DEADLINE)
                while not stop.is_set():
                    c.request("GET", "/healthz")
                    a = c.getresponse()
                    assert a.status == 200 and a.read() == b"ok\n"
                    ok[1] += 1
                c.close()

            def streams():
                while not stop.is_set():
                    s = chain.gateway.stream().rest()
                    assert s.done and not s.cut and not s.error and len(s.text.split()) == STREAM_TOKENS, s.raw[-300:]
                    ok[2] += 1

            def guarded(fn):
                try:
                    fn()
                except BaseException as e:
                    wrong.append(f"{fn.__name__}: {e!r}")
                    stop.set()

            threads = [threading.Thread(target=guarded, args=(f,)) for f in (fresh, fresh, kept, kept, streams, streams, streams)]
            for t in threads:
                t.start()
            for _ in range(ROUNDS):
                seen = list(ok)
                chain.until("some calls", lambda: stop.is_set() or all(n > s + 20 for n, s in zip(ok, seen)))
                if stop.is_set():
                    break
                chain.upgrade()
            seen = list(ok)
            chain.until("some calls", lambda: stop.is_set() or all(n > s + 20 for n, s in zip(ok, seen)))
            stop.set()
            for t in threads:
                t.join()
            assert not wrong, wrong
            assert len(set(chain.pids)) == ROUNDS + 1
            for pid in chain.pids[:-1]:
                chain.gone(pid)
            assert chain.gateway.program.process.returncode == 0
            assert chain.sim.state("alpha")["requests"] == ok[0] + ok[2], "a call was paid twice"
            print(f"    {workers} worker(s): {sum(ok)} requests, {ok[2]} of them streams, through {ROUNDS} upgrades: 0 failed")


def test_a_stream_outlives_two_upgrades():
    with Chain() as chain:
        held(chain.sim)
        s = begun(chain.gateway.stream())
        chain.sim.wait("alpha", held=1)
        chain.upgrade()
        assert chain.gateway.chat().status == 200
        chain.upgrade()
        chain.gone(chain.pids[1])       # it had nothing to end
        assert chain.alive(chain.pids[0]), "it ended before its stream"
        os.kill(chain.pids[0], signal.SIGTERM)  # it drains already: a first signal changes nothing
        chain.until("the signal was seen", lambda: chain.logged("serve.draining") == 1)
        assert chain.gateway.chat().status == 200
        chain.sim.release("alpha")
        s.rest()
        assert s.done and not s.cut and not s.error and len(s.text.split()) == STREAM_TOKENS, s.raw[-300:]
        chain.gone(chain.pids[0])
        assert chain.gateway.program.process.returncode == 0
        assert chain.sim.state("alpha")["requests"] == 3


def test_an_idle_connection_may_ask_once_more():
    with Chain() as chain:
        c = http.client.HTTPConnection("127.0.0.1", chain.port, timeout=DEADLINE)
        c.request("GET", "/healthz")
        assert c.getresponse().read() == b"ok\n"
        chain.upgrade()
        c.request("GET", "/healthz")
        a = c.getresponse()
        assert a.status == 200 and a.getheader("connection", "").lower() == "close" and a.read() == b"ok\n"
        chain.gone(chain.pids[0])


def test_an_answer_that_said_keep_alive_keeps_its_word():
    with Chain() as chain:
        held(chain.sim)
        s = begun(chain.gateway.stream())
        chain.sim.wait("alpha", held=1)
        chain.upgrade()
        chain.sim.release("alpha")
        assert s.rest().done
        assert s.headers.get("connection", "keep-alive").lower() != "close"
        s.connection.request("GET", "/healthz")
        a = s.connection.getresponse()
        assert a.status == 200 and a.read() == b"ok\n"
        chain.gone(chain.pids[0])


def test_http2_streams_end_and_the_next_go_to_the_new_process():
    with Chain() as chain:
        held(chain.sim)
        body = json.dumps({"model": "main", "stream": True, "messages": [{"role": "user", "content": "hello"}]})
        curl = subprocess.Popen(["curl", "-sS", "-N", "--http2-prior-knowledge", "--max-time", str(int(DEADLINE)), "-H", "content-type: application/json",
                                 "--data-binary", body, f"http://127.0.0.1:{chain.port}/v1/chat/completions"], stdout=subprocess.PIPE)
        chain.sim.wait("alpha", held=1)
        chain.upgrade()
        chain.sim.release("alpha")
        out, _ = curl.communicate(timeout=DEADLINE)
        assert curl.returncode == 0 and out.rstrip().endswith(b"data: [DONE]"), (curl.returncode, out[-300:])
        chain.gone(chain.pids[0])


def test_a_new_process_that_cannot_start_changes_nothing():
    with Chain() as chain:
        path = chain.gateway.path
        held(chain.sim)
        s = begun(chain.gateway.stream())
        path.write_text("listen: [broken")
        chain.ask()
        chain.until("it failed", lambda: chain.logged("upgrade.failed") == 1)
        assert "it ended with status 1 before it was ready" in chain.gateway.log(), chain.gateway.log()
        assert chain.gateway.chat().status == 200
        chain.sim.release("alpha")
        assert s.rest().done and not s.cut
        path.write_text(chain.text)
        chain.upgrade()         # the next one works
        chain.gone(chain.pids[0])
        assert chain.gateway.chat().status == 200


def kill_successor(chain):
    """kill -9; returns when the old process accepts again."""
    before = chain.logged("upgrade.taken_back")
    os.kill(chain.pids.pop(), signal.SIGKILL)
    chain.until("taken back", lambda: chain.logged("upgrade.taken_back") > before)
    assert re.search(r' upgrade\.taken_back pid=\d+ why="signal 9 ended it while it served"', chain.gateway.log()), chain.gateway.log()[-2000:]


def at_once(chain):
    pass


def after_calls(chain):
    for _ in range(5):
        assert chain.gateway.chat().status == 200


def with_an_upgrade_of_its_own_that_failed(chain):
    good = chain.gateway.path.read_text()
    chain.gateway.path.write_text("listen: [broken")
    chain.ask()
    chain.until("it failed", lambda: chain.logged("upgrade.failed") == 1)
    chain.gateway.path.write_text(good)


def test_when_the_new_process_is_killed_the_old_one_accepts_again():
    """Right after it was ready, and in the middle of the old one's draining: calls go on, the next upgrade works, and the database is back."""
    for workers in (1, 3):
        for moment in (at_once, after_calls, with_an_upgrade_of_its_own_that_failed):
            with tempfile.TemporaryDirectory() as folder:
                pid_file = pathlib.Path(folder) / "perdure.pid"
                with Chain(extra={"workers": workers}, args=("--pid-file", str(pid_file))) as chain:
                    held(chain.sim)
                    s = begun(chain.gateway.stream())
                    chain.sim.wait("alpha", held=1)
                    chain.upgrade()
                    chain.until("it has the database", lambda: chain.logged("database.open") == 2)
                    moment(chain)
                    kill_successor(chain)
                    for _ in range(3 * workers):
                        assert chain.gateway.chat().status == 200
                    assert int(pid_file.read_text()) == chain.pids[0] == chain.serving()
                    chain.until("the database is open again", lambda: chain.logged("database.open") == 3)
                    assert chain.gateway.get("/api/checkpoints").status == 200
                    chain.upgrade()     # the next one works
                    assert chain.gateway.chat().status == 200
                    chain.sim.release("alpha")
                    s.rest()
                    assert s.done and not s.cut and not s.error and len(s.text.split()) == STREAM_TOKENS, s.raw[-300:]
                    s.connection.close()
                    chain.gone(chain.pids[0])
                    assert chain.gateway.program.process.returncode == 0
                    assert chain.gateway.chat().status == 200


def test_killed_again_and_again_it_is_taken_back_each_time():
    with Chain(extra={"workers": 2, "drain_timeout": "1s"}) as chain:
        held(chain.sim)
        s = begun(chain.gateway.stream())
        chain.sim.wait("alpha", held=1)
        for _ in range(4):
            chain.upgrade()
            kill_successor(chain)   # the database may still be on its way to the new one
        began = time.monotonic()
        while time.monotonic() < began + 1.5:   # drain_timeout counts no more
            assert chain.gateway.chat().status == 200
        assert chain.gateway.chat().status == 200
        chain.until("the database is back", lambda: chain.gateway.get("/api/checkpoints").status == 200)
        chain.sim.release("alpha")
        assert s.rest().done
        os.kill(chain.pid, signal.SIGTERM)
        chain.gone(chain.pid)


@contextlib.contextmanager
def successor_that_waits():
    """A perdure whose program is replaced by one that never gets ready. Yields the process, its port,
    what starts an upgrade and returns its process's number, the log, and what waits."""
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "perdure"
        shutil.copy(PERDURE, program)
        sim = Providers("alpha:0")
        text = config({"alpha": {"preset": "openai-compatible", "base_url": sim.url("alpha"), "models": ["m"]}}, {"main": {"targets": ["alpha/m"]}}, RULES)
        conf = pathlib.Path(folder) / "perdure.yaml"
        conf.write_text(text)
        path, started = pathlib.Path(folder) / "log", pathlib.Path(folder) / "started"
        with open(path, "w+b") as log:
            p = subprocess.Popen([str(program), "serve", "--config", str(conf)], stdout=subprocess.PIPE, stderr=log, cwd=folder)
        port = int(re.search(rb":(\d+)/v1", p.stdout.readline()).group(1))
        assert request(port, "GET", "/healthz").status == 200
        program.unlink()
        program.write_text(f"#!/bin/bash\necho $$ > {started}.new && mv {started}.new {started}\nexec cat <&$PERDURE_UPGRADE_FD\n")
        program.chmod(0o755)

        def until(what, test):
            end = time.monotonic() + DEADLINE
            while not test():
                assert time.monotonic() < end and p.poll() is None, f"{what}: {path.read_text()}"
                threading.Event().wait(0.01)

        def upgrade():
            p.send_signal(signal.SIGUSR2)
            until("started", started.exists)
            pid = int(started.read_text())
            until("it waits", lambda: pathlib.Path(f"/proc/{pid}/comm").read_text() == "cat\n")
            assert request(port, "GET", "/healthz").status == 200
            return pid
        yield p, port, upgrade, path, until
        p.send_signal(signal.SIGTERM)
        assert p.wait(DEADLINE) == 0
        sim.program.kill()


def test_a_new_process_that_is_killed_before_it_is_ready_changes_nothing():
    with successor_that_waits() as (_, port, upgrade, log, until):
        os.kill(upgrade(), signal.SIGKILL)
        until("it failed", lambda: "signal 9 ended it before it was ready" in log.read_text())
        assert request(port, "GET", "/healthz").status == 200


def test_a_new_process_that_is_told_to_end_takes_the_sockets_with_it():
    """The end was meant: the old one ends its stream, and nobody waits in a queue that is not looked at."""
    with Chain() as chain:
        held(chain.sim)
        s = begun(chain.gateway.stream())
        chain.sim.wait("alpha", held=1)
        chain.upgrade()
        os.kill(chain.pid, signal.SIGTERM)
        chain.gone(chain.pid)

        def refused():
            try:
                socket.create_connection(("127.0.0.1", chain.port), timeout=DEADLINE).close()
                return False
            except ConnectionRefusedError:
                return True
        chain.until("refused", refused)
        assert chain.gateway.log().count(" serve.ended") == 1, "the old one had to end for it"
        assert chain.logged("upgrade.taken_back") == 0
        chain.sim.release("alpha")
        assert s.rest().done and not s.cut
        chain.gone(chain.pids[0])
        assert chain.gateway.program.process.returncode == 0


def test_a_client_of_the_killed_process_gets_the_rest_of_its_answer_from_the_old_one():
    with Chain() as chain:
        held(chain.sim, 2)
        mine = begun(chain.gateway.stream())
        chain.sim.wait("alpha", held=1)
        chain.upgrade()
        ask = {"messages": [{"role": "user", "content": "of the new one"}]}
        other = begun(chain.gateway.stream(**ask))
        chain.sim.wait("alpha", held=2)
        journal = pathlib.Path(chain.gateway.folder.name) / "perdure-state"
        chain.until("it is in the journal", lambda: any(other.text.split()[-1].encode() in f.read_bytes() for f in journal.glob(f"journal-*-{chain.pid}-*.log")))
        kill_successor(chain)
        chain.until("its answers are here", lambda: chain.logged("state.answers") == 1)
        chain.sim.release("alpha")
        again = chain.gateway.stream(**ask).rest()
        assert again.done and not again.error and len(again.text.split()) == STREAM_TOKENS, again.raw[-300:]
        assert mine.rest().done
        assert " call.resumed " in chain.gateway.log()


def test_the_signal_to_end_ends_an_upgrade_that_is_not_ready():
    with successor_that_waits() as (p, _, upgrade, _, _):
        pid = upgrade()
        p.send_signal(signal.SIGTERM)
        assert p.wait(DEADLINE) == 0
        assert not pathlib.Path(f"/proc/{pid}").exists(), "what was being started is still there"


def test_the_program_that_is_there_now_is_started_and_the_pid_file_names_it():
    with tempfile.TemporaryDirectory() as folder:
        pid_file = pathlib.Path(folder) / "perdure.pid"
        with Chain(args=("--pid-file", str(pid_file), "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0")) as chain:
            _, other = [int(p) for p in re.findall(r":(\d+)/v1", "".join(chain.gateway.program.lines))]
            assert other != chain.port
            assert int(pid_file.read_text()) == chain.pids[0]
            chain.upgrade()
            assert int(pid_file.read_text()) == chain.pid
            chain.gone(chain.pids[0])
            for port in (chain.port, other):
                assert request(port, "GET", "/healthz").status == 200
            assert int(pid_file.read_text()) == chain.pid
            os.kill(chain.pid, signal.SIGTERM)
            chain.gone(chain.pid)
            assert not pid_file.exists()


def test_the_supervisor_is_told():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "notify")
        heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        heard.bind(path)
        heard.settimeout(DEADLINE)
        with Chain(env={"NOTIFY_SOCKET": path}) as chain:
            assert heard.recv(200) == b"READY=1\nMAINPID=%d" % chain.pid
            chain.upgrade()
            said = {heard.recv(200), heard.recv(200)}
            assert said == {b"READY=1\nMAINPID=%d" % chain.pid, b"MAINPID=%d" % chain.pid}, said
            os.kill(chain.pid, signal.SIGTERM)
            assert heard.recv(200) == b"STOPPING=1"
        heard.close()


def test_sockets_of_systemd_are_listened_on():
    with tempfile.TemporaryDirectory() as folder:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        conf = pathlib.Path(folder) / "perdure.yaml"
        conf.write_text(config({"alpha": {"preset": "openai-compatible", "base_url": "http://127.0.0.1:9/v1", "models": ["m"]}}))
        script = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve --config "$1"'
        p = subprocess.Popen(["bash", "-c", script, PERDURE, str(conf)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, pass_fds=[listener.fileno()])
        assert b":%d/v1" % port in p.stdout.readline()
        listener.close()
        assert request(port, "GET", "/healthz").status == 200
        p.send_signal(signal.SIGTERM)
        assert p.wait(DEADLINE) == 0


def test_who_waits_to_be_accepted_at_the_end_is_served():
    """Stopped, connected to, told to end, and let go: what waits in the queue is answered before the socket closes."""
    with Chain() as chain:
        process = chain.gateway.program.process
        assert chain.gateway.chat().status == 200
        process.send_signal(signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", chain.port), timeout=DEADLINE) for _ in range(20)]
        for c in clients:
            c.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        for c in clients:
            text = b""
            while part := c.recv(4096):
                text += part
            assert text.startswith(b"HTTP/1.1 200 "), text  # whether the signal or the connection was seen first is the kernel's to say
            c.close()
        assert process.wait(DEADLINE) == 0


def test_another_process_does_not_take_the_same_folder():
    with Chain() as chain:
        p = subprocess.Popen([PERDURE, "serve", "--config", str(chain.gateway.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=chain.gateway.folder.name)
        port = int(re.search(rb":(\d+)/v1", p.stdout.readline()).group(1))
        assert request(port, "GET", "/healthz").status == 200
        p.send_signal(signal.SIGTERM)
        assert p.wait(DEADLINE) == 0
        assert b"state.held" in p.stderr.read()


def test_an_open_breaker_is_open_after_a_crash_and_after_an_upgrade():
    def open_now(port):
        return [t["breaker"] for p in request(port, "GET", "/api/providers").json["providers"] for t in p["targets"]] == ["open"]
    with Chain(extra={"resilience": {**RULES, "breaker_hold": "10m", "probe": "off", "attempts": 1}}) as chain:
        chain.sim.faults("alpha", {"fault": "status", "status": 500, "times": 0})
        while not open_now(chain.port):
            assert chain.gateway.chat().status >= 500
        chain.upgrade()
        assert open_now(chain.port)
        folder = pathlib.Path(chain.gateway.folder.name)
        saved = folder / "perdure-state" / "fleet"
        chain.until("it is saved", lambda: b"breaker " in saved.read_bytes())
        chain.gone(chain.pids[0])
        os.kill(chain.pid, signal.SIGKILL)
        chain.gone(chain.pid)
        (torn := folder / "perdure-state" / "fleet.77777.new").write_text("half")     # as of one that was killed amid it
        again = subprocess.Popen([PERDURE, "serve", "--config", str(chain.gateway.path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder)
        try:
            assert open_now(int(re.search(rb":(\d+)/v1", again.stdout.readline()).group(1)))
            assert not torn.exists()
        finally:
            again.kill()
            again.wait()


if __name__ == "__main__":
    main(globals())
