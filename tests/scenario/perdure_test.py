"""What every scenario needs: the real program, simulated providers, requests, and waiting for events (never for time).

A scenario is a file tests/scenario/test_*.py whose functions named test_* are its stories. `tests/scenario/run` runs them, each
file in a process of its own, with its own ports and folder. Only the standard library.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
PERDURE = os.environ.get("PERDURE", str(ROOT / "build" / "perdure"))
DEADLINE = float(os.environ.get("SCENARIO_DEADLINE", "60"))   # when an event that must come is given up


class Program:
    """A perdure process; its standard output is read for the lines that say where it listens."""

    def __init__(self, args, env=None, cwd=None, **popen):
        clean = {k: v for k, v in os.environ.items() if not re.search(r"_API_KEY$|_BASE_URL$|^PROVIDER_ORDER$|_proxy$|^PERDURE_", k, re.I)}
        clean.update(env or {})
        self.log = tempfile.TemporaryFile("w+b")
        self.process = subprocess.Popen([PERDURE, *args], stdout=subprocess.PIPE, stderr=self.log, env=clean, cwd=cwd, **popen)
        self.lines = []

    def line(self, pattern):
        """The first line of output that matches; fails when the program ends before."""
        for line in self.process.stdout:
            text = line.decode()
            self.lines.append(text)
            found = re.search(pattern, text)
            if found:
                return found
        raise AssertionError(f"{' '.join(self.process.args)} ended ({self.process.wait()}) before it said {pattern}:\n{''.join(self.lines)}{self.stderr()}")

    def stderr(self):
        """Read without moving the place where the process writes: the two share it."""
        fd = self.log.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")

    def stop(self, sig=signal.SIGTERM, timeout=DEADLINE):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"did not end after signal {sig}:\n{self.stderr()[-3000:]}")
        self.process.stdout.close()
        return status

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return self.headers.get(name.lower())


def request(port, method, path, body=None, headers=None, timeout=DEADLINE):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        connection.request(method, path, body, {"content-type": "application/json", **(headers or {})} if body is not None else headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


class Stream:
    """A streamed answer, read event by event; `cut` says that the connection ended without the end of the body."""

    def __init__(self, port, body, path="/v1/chat/completions", headers=None, timeout=DEADLINE):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self.connection.request("POST", path, json.dumps({"stream": True, **body}), {"content-type": "application/json", **(headers or {})})
        self.answer = self.connection.getresponse()
        self.status = self.answer.status
        self.headers = {k.lower(): v for k, v in self.answer.getheaders()}
        self.cut = False
        self.text = ""
        self.raw = b""
        self.events = []
        self.done = False
        self.error = None

    def next(self):
        """The next data event, parsed; None at the end."""
        data = []
        while True:
            try:
                line = self.answer.readline()
            except (http.client.HTTPException, OSError):
                self.cut = True
                return None
            self.raw += line
            if not line:
                # http.client swallows a missing last chunk in readline(); what is left in the chunk state tells
                self.cut = self.cut or (self.answer.chunked and self.answer.chunk_left is not None)
                return None
            line = line.rstrip(b"\r\n")
            if line.startswith(b"data:"):
                data.append(line[5:].strip())
            elif not line and data:
                break
        text = b"\n".join(data)
        if text == b"[DONE]":
            self.done = True
            return "[DONE]"
        event = json.loads(text)
        self.events.append(event)
        if "error" in event:
            self.error = event["error"]
        for choice in event.get("choices", []):
            if choice.get("index", 0) == 0:
                self.text += (choice.get("delta") or {}).get("content") or ""
        return event

    def rest(self):
        while self.next() is not None:
            pass
        return self

    def close(self):
        # shut the socket itself: that is what a client that dies does
        with contextlib.suppress(OSError):
            if self.connection.sock:
                self.connection.sock.shutdown(socket.SHUT_RDWR)
            elif self.answer.fp:
                self.answer.fp.raw._sock.shutdown(socket.SHUT_RDWR)
        self.answer.close()
        self.connection.close()


class Providers:
    """`perdure simulate`: by specs as on its command line, or by a script (the dict of --script)."""

    def __init__(self, *specs, script=None, args=()):
        given = ["--control", "0"]
        for spec in specs:
            given += ["--provider", spec]
        self.folder = tempfile.TemporaryDirectory()
        if script:
            path = pathlib.Path(self.folder.name) / "script.json"
            path.write_text(json.dumps(script))
            given += ["--script", str(path)]
        self.program = Program(["simulate", *given, *args])
        said = json.loads(self.program.line(r"^(\{.*\})").group(1))
        self.ports = {name: p["port"] for name, p in said["providers"].items()}
        self.control = said["control"]["port"]

    def url(self, name):
        return f"http://127.0.0.1:{self.ports[name]}/v1"

    def order(self, name, method, path, body=None):
        """By the control port, which answers also while the provider refuses connections."""
        answer = request(self.control, method, f"{path}{'&' if '?' in path else '?'}provider={name}", body)
        assert answer.status == 200, f"{method} {path} of {name}: {answer.status} {answer.body}"
        return answer.json

    def faults(self, name, *faults):
        self.order(name, "POST", "/sim/faults", {"faults": list(faults)})

    def state(self, name):
        return self.order(name, "GET", "/sim/state")

    def wait(self, name, **what):
        """Until these counts are reached (requests=3, cancelled=1, running=0, a fault's name)."""
        return self.order(name, "GET", "/sim/wait?" + "&".join(f"{k}={v}" for k, v in what.items()))

    def release(self, name):
        self.order(name, "POST", "/sim/release", {})

    def down(self, name):
        self.order(name, "POST", "/sim/down", {})

    def up(self, name):
        self.order(name, "POST", "/sim/up", {})

    def stop(self):
        self.program.stop()


def config(providers, routes=None, resilience=None, extra=None):
    """YAML is a superset of JSON."""
    return json.dumps({"listen": "127.0.0.1:0", "providers": providers, **({"routes": routes} if routes else {}),
                       **({"resilience": resilience} if resilience else {}), **(extra or {})}, indent=1)


class Gateway:
    """`perdure serve` with a config text (or with the environment alone)."""

    def __init__(self, text=None, env=None, args=(), folder=None):
        self.folder = folder or tempfile.TemporaryDirectory()  # given: an earlier one's, with its state
        given = []
        if text is not None:
            self.path = pathlib.Path(self.folder.name) / "perdure.yaml"
            self.path.write_text(text)
            given = ["--config", str(self.path)]
        else:
            given = ["--listen", "127.0.0.1:0"]
        self.program = Program(["serve", *given, *args], env=env, cwd=self.folder.name)
        self.port = int(self.program.line(r"listens on http://.*:(\d+)/v1").group(1))
        self.program.line(r"^providers:")

    def chat(self, model="main", text="hello", **more):
        headers = more.pop("headers", None)
        return request(self.port, "POST", "/v1/chat/completions",
                       {"model": model, "messages": [{"role": "user", "content": text}], **more}, headers)

    def stream(self, model="main", text="hello", **more):
        headers = more.pop("headers", None)
        return Stream(self.port, {"model": model, "messages": [{"role": "user", "content": text}], **more}, headers=headers)

    def get(self, path, **kw):
        return request(self.port, "GET", path, **kw)

    def metrics(self):
        """{(name, frozenset of labels): value}"""
        found = {}
        for line in self.get("/metrics").body.decode().splitlines():
            match = re.match(r'([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$', line)
            if match and not line.startswith("#"):
                labels = frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
                found[(match.group(1), labels)] = float(match.group(3))
        return found

    def metric(self, name, **labels):
        want = set(labels.items())
        return sum(v for (n, have), v in self.metrics().items() if n == name and want <= have)

    def until(self, what, test):
        """Polls until test() is true: for state that has no event to wait on. Not a wait for time: the test decides."""
        end = time.monotonic() + DEADLINE
        while not (seen := test()):
            if time.monotonic() > end:
                raise AssertionError(f"never came: {what}\n{self.program.stderr()[-3000:]}")
            threading.Event().wait(0.01)
        return seen

    def stop(self, sig=signal.SIGTERM):
        return self.program.stop(sig)

    def log(self):
        return self.program.stderr()


@contextlib.contextmanager
def running(*specs, providers=None, routes=None, resilience=None, extra=None, args=()):
    """Simulated providers, and a gateway with one route `main` over all of them in order."""
    sim = Providers(*specs)
    gateway = None
    try:
        names = list(sim.ports)
        table = {n: {"preset": "openai-compatible", "base_url": sim.url(n), "key": "test-key", "models": ["m"], **(providers or {}).get(n, {})} for n in names}
        gateway = Gateway(config(table, routes or {"main": {"strategy": "priority", "targets": [{"model": f"{n}/m"} for n in names]}},
                                 resilience, extra), args=args)
        yield sim, gateway
        assert gateway.program.process.poll() is None, f"perdure ended by itself:\n{gateway.log()[-4000:]}"
        status = gateway.stop()
        assert status == 0, f"exit status {status}:\n{gateway.log()[-4000:]}"
        gateway = None
    finally:
        if gateway:
            sys.stderr.write(gateway.log()[-3000:])
            gateway.program.kill()
        sim.program.kill()


def main(namespace):
    """Runs the stories of a file; prints a line each and a last line that counts."""
    only = sys.argv[1:]
    passed = failed = 0
    for name, story in list(namespace.items()):
        if not name.startswith("test_") or not callable(story) or (only and name not in only):
            continue
        started = time.monotonic()
        try:
            story()
            passed += 1
            print(f"ok    {name[5:].replace('_', ' ')} ({time.monotonic() - started:.1f} s)", flush=True)
        except BaseException:
            failed += 1
            print(f"FAIL  {name[5:].replace('_', ' ')}", flush=True)
            traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
