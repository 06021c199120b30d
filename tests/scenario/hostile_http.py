#!/usr/bin/env python3
"""Hostile HTTP: a table of shapes that a server must refuse, survive or take, each with its one right answer.

  hostile_http.py [COMMAND] [--write FILE] [--only TEXT] [--many N]

COMMAND is the program: a perdure binary (started as `perdure serve` with a configuration of its own; $PERDURE or build/perdure when
left out) or http_echo. After each row an ordinary request must still be answered. Ends with "N passed, N failed"; the exit status says the same.
"""
import argparse
import concurrent.futures
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 15.0     # for one answer; never waited out when all is well

# What the server says of itself; everything else is an answer of what is behind it.
READER_CODES = {
    "invalid_http", "head_too_large", "target_too_long", "expectation_failed", "not_implemented", "http_version_not_supported",
    "body_too_large", "head_timeout", "body_timeout", "body_too_slow", "too_many_connections", "out_of_descriptors", "out_of_memory",
}

LIMITS = {
    "head_bytes": 16384, "body_bytes": 1 << 20, "head_ms": 1500, "body_stall_ms": 1000, "body_rate": 1000, "idle_ms": 2500,
    "write_stall_ms": 1500, "connections": 12000,
}


# ---- the server --------------------------------------------------------------------------------------------------------------

def echo_command(program, limits, folder):
    return [program] + [f"--{name}={value}" for name, value in limits.items()]


def perdure_command(program, limits, folder):
    names = {"head_bytes": ("head_limit", "B"), "body_bytes": ("body_limit", "B"), "head_ms": ("head_timeout", "ms"),
             "body_stall_ms": ("body_timeout", "ms"), "body_rate": ("body_rate", "B"), "idle_ms": ("idle_timeout", "ms"),
             "write_stall_ms": ("write_timeout", "ms"), "connections": ("connections", "")}
    path = os.path.join(folder, "perdure.yaml")
    with open(path, "w") as f:
        f.write("listen: 127.0.0.1:0\n")
        f.write("providers:\n  none: {preset: openai-compatible, base_url: \"http://127.0.0.1:9/v1\", models: [none]}\n")
        for name, value in limits.items():
            setting, unit = names[name]
            f.write(f"{setting}: {value}{unit}\n")
    return [program, "serve", "--config", path, "--log-level", "error"]


class Server:
    def __init__(self, program, limits=None, descriptors=None):
        self.echo = "perdure" not in os.path.basename(program)
        self.get = b"/hello" if self.echo else b"/healthz"
        self.post = b"/x" if self.echo else b"/v1/chat/completions"
        self.folder = tempfile.TemporaryDirectory()
        command = (echo_command if self.echo else perdure_command)(program, {**LIMITS, **(limits or {})}, self.folder.name)

        def lower():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        clean = {k: v for k, v in os.environ.items() if not re.search(r"_API_KEY$|_BASE_URL$|_proxy$|^P(ROVIDER|ERDURE)_", k, re.I)}
        self.process = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, preexec_fn=lower,
                                        cwd=self.folder.name)
        self.port = 0
        for line in self.process.stdout:
            found = re.search(rb"port (\d+)|http://[^/]*:(\d+)", line)
            if found:
                self.port = int(found.group(1) or found.group(2))
                break
        if not self.port:
            sys.exit(f"{' '.join(command)}: did not start")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.descriptors = self.open_descriptors()

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        """A server outlives nothing: what went wrong was said by then."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """True when it ended well by itself."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.folder.cleanup()
        return status == 0


# ---- a client ------------------------------------------------------------------------------------------------------------------

class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = b""
        self.ended = ""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass     # it had enough; the answer says why

    def fill(self):
        if self.ended:
            return False
        try:
            more = self.socket.recv(65536)
        except ConnectionResetError:
            self.ended = "reset"
            return False
        except socket.timeout:
            self.ended = "silence"
            return False
        if not more:
            self.ended = "end"
            return False
        self.bytes += more
        return True

    def until(self, mark):
        while mark not in self.bytes:
            if not self.fill():
                return None
        head, self.bytes = self.bytes.split(mark, 1)
        return head + mark

    def exactly(self, n):
        while len(self.bytes) < n:
            if not self.fill():
                return None
        body, self.bytes = self.bytes[:n], self.bytes[n:]
        return body

    def chunks(self):
        body = b""
        while True:
            line = self.until(b"\r\n")
            if line is None:
                return None
            size = int(line.split(b";")[0], 16)
            piece = self.exactly(size + 2)
            if piece is None:
                return None
            if not size:
                return body
            body += piece[:-2]

    def answer(self, head_only=False):
        """The next answer as "200" or "400 invalid_http"; or how the connection ended."""
        head = self.until(b"\r\n\r\n")
        if head is None:
            if self.bytes:
                return f"half an answer, then {self.ended}: {self.bytes[:60]!r}"
            return "closed" if self.ended in ("end", "reset") else self.ended
        match = re.match(rb"HTTP/1\.[01] (\d\d\d) [^\r\n]*\r\n", head)
        if not match:
            return f"not HTTP: {head[:60]!r}"
        status = int(match.group(1))
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
        if status < 200 or status in (204, 304) or head_only:
            body = b""
        elif re.search(rb"(?i)\r\ntransfer-encoding: chunked\r\n", head):
            body = self.chunks()
        elif length:
            body = self.exactly(int(length.group(1)))
        else:
            while self.fill():
                pass
            body, self.bytes = self.bytes, b""
        if body is None:
            return "a body cut short"
        code = ""
        if status >= 400:
            try:
                code = json.loads(body)["error"]["code"]
            except (ValueError, KeyError, TypeError):
                pass
        if code in READER_CODES:
            closes = re.search(rb"(?i)\r\nconnection: close\r\n", head)
            return f"{status} {code}" + ("" if closes else " without Connection: close")
        return str(status) if status < 200 else "served"

    def rest(self):
        while self.fill():
            pass
        return self.ended

    def close(self, reset=False):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


# ---- the rows --------------------------------------------------------------------------------------------------------------------
# Steps: bytes are sent; ("drip", bytes, pause) one by one; "fin" closes our side; "rst" resets; ("pause", s); ("await", "100") reads an
# interim answer. %G and %P are a path for GET and one for POST. Wanted: answers in their order. A row that ends in "served" must leave
# a connection that answers one more request, and only that one; every other row must leave it closed.

H = b"Host: localhost\r\n"
GET = b"GET %G HTTP/1.1\r\n" + H + b"\r\n"
CHUNKED = b"POST %P HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
BAD, OK, GONE = "400 invalid_http", "served", "closed"


def post(fields, body=b""):
    return b"POST %P HTTP/1.1\r\n" + H + fields + b"\r\n" + body


def get(fields):
    return b"GET %G HTTP/1.1\r\n" + H + fields + b"\r\n"


def line(text):
    return text + b"\r\n" + H + b"\r\n"


ROWS = [
    # group, name, steps, wanted
    ("plain", "GET", [GET], OK),
    ("plain", "POST with a length", [post(b"Content-Length: 5\r\n", b"hello")], OK),
    ("plain", "POST chunked", [CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"], OK),
    ("plain", "HTTP/1.0 with keep-alive", [b"GET %G HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"], OK),
    ("plain", "HTTP/1.0, closes", [b"GET %G HTTP/1.0\r\n\r\n"], "served, closed"),
    ("plain", "Connection: close", [get(b"Connection: close\r\n")], "served, closed"),
    ("plain", "Connection: close in a list", [get(b"Connection: foo, Close\r\n")], "served, closed"),
    ("plain", "HEAD", [b"HEAD %G HTTP/1.1\r\n" + H + b"\r\n"], OK),
    ("plain", "one empty line before the request", [b"\r\n" + GET], OK),
    ("plain", "byte by byte", [("drip", GET, 0.001)], OK),
    ("plain", "body byte by byte", [post(b"Content-Length: 30\r\n"), ("drip", b"x" * 30, 0.001)], OK),
    ("plain", "GET with a body", [get(b"Content-Length: 3\r\n") + b"abc"], OK),
    ("plain", "unknown method", [b"BREW %G HTTP/1.1\r\n" + H + b"\r\n"], OK),
    ("plain", "100 fields", [get(b"".join(b"X-%d: y\r\n" % i for i in range(99)))], OK),
    ("plain", "value with high bytes and a tab", [get(b"X: \xff\x80\ta\r\n")], OK),

    ("length", "two lengths that differ", [post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!")], BAD),
    ("length", "two lengths that agree", [post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello")], BAD),
    ("length", "a list, 5, 5", [post(b"Content-Length: 5, 5\r\n", b"hello")], BAD),
    ("length", "+5", [post(b"Content-Length: +5\r\n", b"hello")], BAD),
    ("length", "-1", [post(b"Content-Length: -1\r\n", b"hello")], BAD),
    ("length", "0x5", [post(b"Content-Length: 0x5\r\n", b"hello")], BAD),
    ("length", "5.0", [post(b"Content-Length: 5.0\r\n", b"hello")], BAD),
    ("length", "5 5", [post(b"Content-Length: 5 5\r\n", b"hello")], BAD),
    ("length", "empty", [post(b"Content-Length:\r\n", b"hello")], BAD),
    ("length", "over 64 bits", [post(b"Content-Length: 18446744073709551621\r\n", b"hello")], BAD),
    ("length", "over the signed range", [post(b"Content-Length: 9223372036854775808\r\n", b"hello")], BAD),
    ("length", "over the limit", [post(b"Content-Length: 1048577\r\n")], "413 body_too_large"),
    ("length", "over the limit, body sent anyway", [post(b"Content-Length: 3000000\r\n"), b"x" * 3000000], "413 body_too_large"),
    ("length", "at the limit", [post(b"Content-Length: 1048576\r\n"), b"x" * 1048576], OK),
    ("length", "longer than the body, then half-closed", [post(b"Content-Length: 9\r\n", b"hello"), "fin"], GONE),

    ("smuggling", "length and chunked", [post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + GET)], BAD),
    ("smuggling", "chunked and length", [post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n" + GET)], BAD),
    ("smuggling", "short length hides a request", [post(b"Content-Length: 0\r\nContent-Length: 60\r\n", GET)], BAD),
    ("smuggling", "xchunked", [post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + GET)], "501 not_implemented"),
    ("smuggling", "identity, chunked", [post(b"Transfer-Encoding: identity, chunked\r\n", b"0\r\n\r\n")], "501 not_implemented"),
    ("smuggling", "chunked, identity", [post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n")], "501 not_implemented"),
    ("smuggling", "chunked twice in a list", [post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n")], "501 not_implemented"),
    ("smuggling", "chunked twice", [post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")], BAD),
    ("smuggling", "chunked and identity", [post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", b"0\r\n\r\n")], BAD),
    ("smuggling", "gzip", [post(b"Transfer-Encoding: gzip\r\n")], "501 not_implemented"),
    ("smuggling", "\"chunked\" in quotes", [post(b"Transfer-Encoding: \"chunked\"\r\n", b"0\r\n\r\n")], "501 not_implemented"),
    ("smuggling", "chunked with a parameter", [post(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n")], "501 not_implemented"),
    ("smuggling", "empty Transfer-Encoding", [post(b"Transfer-Encoding:\r\n", b"0\r\n\r\n")], BAD),
    ("smuggling", "vertical tab before chunked", [post(b"Transfer-Encoding: \vchunked\r\n", b"0\r\n\r\n")], BAD),
    ("smuggling", "blank before the colon", [post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n")], BAD),
    ("smuggling", "tab before the colon", [post(b"Content-Length\t: 5\r\n", b"hello")], BAD),
    ("smuggling", "folded Transfer-Encoding", [post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n")], BAD),
    ("smuggling", "bare LF hides a field", [post(b"X: y\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")], BAD),
    ("smuggling", "bare CR hides a field", [post(b"X: y\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")], BAD),
    ("smuggling", "NUL in a name", [post(b"Transfer-Encoding\0: chunked\r\n", b"0\r\n\r\n")], BAD),
    ("smuggling", "chunked in HTTP/1.0", [b"POST %P HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], BAD),
    ("smuggling", "data longer than its chunk", [CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n" + GET], BAD),
    ("smuggling", "request hidden behind a bare LF chunk end", [CHUNKED + b"5\r\nhello\n0\r\n\r\n" + GET], BAD),

    ("chunks", "extension", [CHUNKED + b"5;a=b;c=\"d\"\r\nhello\r\n0\r\n\r\n"], OK),
    ("chunks", "trailers", [CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"], OK),
    ("chunks", "one byte each", [CHUNKED + b"1\r\nx\r\n" * 500 + b"0\r\n\r\n"], OK),
    ("chunks", "no size", [CHUNKED + b"\r\nhello\r\n0\r\n\r\n"], BAD),
    ("chunks", "size 0x5", [CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"], BAD),
    ("chunks", "size -5", [CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"], BAD),
    ("chunks", "size +5", [CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n"], BAD),
    ("chunks", "blank behind the size", [CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n"], BAD),
    ("chunks", "size of 17 digits", [CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n"], "413 body_too_large"),
    ("chunks", "size of 64 bits", [CHUNKED + b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"], "413 body_too_large"),
    ("chunks", "bare LF behind the size", [CHUNKED + b"5\nhello\r\n0\r\n\r\n"], BAD),
    ("chunks", "bare LF in an extension", [CHUNKED + b"5;a\nhello\r\n0\r\n\r\n"], BAD),
    ("chunks", "bare CR in an extension", [CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n"], BAD),
    ("chunks", "endless extension", [CHUNKED + b"5;" + b"a" * 5000], "413 body_too_large"),
    ("chunks", "endless trailers", [CHUNKED + b"0\r\n" + b"X: y\r\n" * 5000], "413 body_too_large"),
    ("chunks", "folded trailer", [CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n"], BAD),
    ("chunks", "trailer without a colon", [CHUNKED + b"0\r\nX\r\n\r\n"], BAD),
    ("chunks", "over the limit in sum", [CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n", (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 16],
     "413 body_too_large"),
    ("chunks", "framing alone over the limit", [CHUNKED, (b"1;" + b"e" * 250 + b"\r\nx\r\n") * 6000], "413 body_too_large"),

    ("head", "folded line", [get(b"X: a\r\n b\r\n")], BAD),
    ("head", "fold before the first field", [b"GET %G HTTP/1.1\r\n Host: a\r\n\r\n"], BAD),
    ("head", "bare LF everywhere", [b"GET %G HTTP/1.1\nHost: a\n\n"], BAD),
    ("head", "bare LF behind the first line", [b"GET %G HTTP/1.1\n" + H + b"\r\n"], BAD),
    ("head", "bare LF as the empty line", [b"GET %G HTTP/1.1\r\n" + H + b"\n"], BAD),
    ("head", "bare CR in a value", [get(b"X: a\rb\r\n")], BAD),
    ("head", "NUL in a value", [get(b"X: a\0b\r\n")], BAD),
    ("head", "control byte in a value", [get(b"X: a\x01b\r\n")], BAD),
    ("head", "DEL in a value", [get(b"X: a\x7fb\r\n")], BAD),
    ("head", "high byte in a name", [get(b"X\xe4: a\r\n")], BAD),
    ("head", "field without a colon", [get(b"X-a\r\n")], BAD),
    ("head", "field without a name", [get(b": a\r\n")], BAD),
    ("head", "101 fields", [get(b"".join(b"X-%d: y\r\n" % i for i in range(100)))], "431 head_too_large"),
    ("head", "5000 fields", [get(b"X: y\r\n" * 5000)], "431 head_too_large"),
    ("head", "field of 80 KB", [get(b"X: " + b"y" * 80000 + b"\r\n")], "431 head_too_large"),
    ("head", "endless field", [b"GET %G HTTP/1.1\r\n" + H + b"X: ", b"y" * 400000], "431 head_too_large"),
    ("head", "target of 8193 bytes", [line(b"GET /" + b"a" * 8192 + b" HTTP/1.1")], "414 target_too_long"),
    ("head", "endless target", [b"GET /", b"a" * 400000], "414 target_too_long"),
    ("head", "endless method", [b"A" * 400000], BAD),
    ("head", "method of 33 bytes", [line(b"A" * 33 + b" %G HTTP/1.1")], BAD),
    ("head", "two empty lines first", [b"\r\n\r\n" + GET], BAD),
    ("head", "only line ends", [b"\r\n" * 1000], BAD),

    ("host", "missing", [b"GET %G HTTP/1.1\r\n\r\n"], BAD),
    ("host", "twice", [b"GET %G HTTP/1.1\r\n" + H + H + b"\r\n"], BAD),
    ("host", "empty", [b"GET %G HTTP/1.1\r\nHost:\r\n\r\n"], BAD),
    ("host", "list", [b"GET %G HTTP/1.1\r\nHost: a, b\r\n\r\n"], BAD),
    ("host", "with a path", [b"GET %G HTTP/1.1\r\nHost: a/b\r\n\r\n"], BAD),
    ("host", "with a user", [b"GET %G HTTP/1.1\r\nHost: u@a\r\n\r\n"], BAD),
    ("host", "bad port", [b"GET %G HTTP/1.1\r\nHost: a:b\r\n\r\n"], BAD),
    ("host", "folded", [b"GET %G HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n"], BAD),
    ("host", "IPv6 with a port", [b"GET %G HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"], OK),

    ("target", "absolute, same host", [b"GET http://localhost%G HTTP/1.1\r\n" + H + b"\r\n"], OK),
    ("target", "absolute, other host", [b"GET http://b%G HTTP/1.1\r\n" + H + b"\r\n"], BAD),
    ("target", "absolute, user", [b"GET http://u@a%G HTTP/1.1\r\n" + H + b"\r\n"], BAD),
    ("target", "absolute, ftp", [b"GET ftp://a%G HTTP/1.1\r\n" + H + b"\r\n"], BAD),
    ("target", "OPTIONS *", [b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n"], OK),
    ("target", "GET *", [b"GET * HTTP/1.1\r\n" + H + b"\r\n"], BAD),
    ("target", "CONNECT", [b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"], "501 not_implemented"),
    ("target", "without a slash", [line(b"GET x HTTP/1.1")], BAD),
    ("target", "fragment", [line(b"GET /#a HTTP/1.1")], BAD),
    ("target", "NUL", [line(b"GET /\0 HTTP/1.1")], BAD),
    ("target", "blank", [line(b"GET /a b HTTP/1.1")], BAD),
    ("target", "high bytes", [line(b"GET /\xc3\xa4 HTTP/1.1")], BAD),
    ("target", "dots and escapes", [line(b"GET /../..%2f%00/etc/passwd HTTP/1.1")], OK),

    ("version", "HTTP/0.9", [b"GET %G\r\n\r\n"], BAD),
    ("version", "HTTP/1.2", [line(b"GET %G HTTP/1.2")], "505 http_version_not_supported"),
    ("version", "HTTP/2.0", [line(b"GET %G HTTP/2.0")], "505 http_version_not_supported"),
    ("version", "HTTP/1.10", [line(b"GET %G HTTP/1.10")], BAD),
    ("version", "http/1.1", [line(b"GET %G http/1.1")], BAD),
    ("version", "blank behind it", [line(b"GET %G HTTP/1.1 ")], BAD),
    ("version", "two blanks before it", [line(b"GET %G  HTTP/1.1")], BAD),
    ("version", "HTTP/2 preface behind a request", [GET + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], "served, " + BAD),
    ("version", "HTTP/2 preface with a field", [b"PRI * HTTP/2.0\r\n" + H + b"\r\nSM\r\n\r\n"], BAD),
    ("version", "TLS hello", [bytes.fromhex("16030100c8010000c40303") + bytes(range(120))], BAD),
    ("version", "SSH", [b"SSH-2.0-OpenSSH_9.2\r\n"], BAD),
    ("version", "PROXY protocol", [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + GET], BAD),
    ("version", "random bytes", [bytes((i * 89 + 7) % 256 for i in range(600))], BAD),

    ("expect", "100-continue", [post(b"Expect: 100-continue\r\nContent-Length: 5\r\n"), ("await", "100"), b"hello"], OK),
    ("expect", "100-continue with the body", [post(b"Expect: 100-Continue\r\nContent-Length: 5\r\n", b"hello")], OK),
    ("expect", "100-continue over the limit", [post(b"Expect: 100-continue\r\nContent-Length: 2000000\r\n")], "413 body_too_large"),
    ("expect", "something else", [post(b"Expect: 200-maybe\r\nContent-Length: 5\r\n", b"hello")], "417 expectation_failed"),
    ("expect", "a list", [post(b"Expect: 100-continue, x\r\nContent-Length: 5\r\n", b"hello")], "417 expectation_failed"),
    ("expect", "in HTTP/1.0, ignored", [b"POST %P HTTP/1.0\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello"], "served, closed"),

    ("pipeline", "three requests at once", [GET * 3], "served, served, served"),
    ("pipeline", "a thousand requests at once", [GET * 1000], ", ".join(["served"] * 1000)),
    ("pipeline", "a good one, then a bad one", [GET + b"BAD\r\n\r\n"], "served, " + BAD),
    ("pipeline", "bodies of both kinds", [post(b"Content-Length: 5\r\n", b"hello") + CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + GET],
     "served, served, served"),
    ("pipeline", "nothing is read behind close", [get(b"Connection: close\r\n") + GET * 50], "served, closed"),
    ("pipeline", "split in every request", [("drip", GET * 3, 0.0005)], "served, served, served"),

    ("leaving", "half-closed at once", ["fin"], GONE),
    ("leaving", "half-closed in a head", [b"GET %G HT", "fin"], GONE),
    ("leaving", "half-closed in a body", [post(b"Content-Length: 50\r\n", b"hello"), "fin"], GONE),
    ("leaving", "half-closed in a chunk", [CHUNKED + b"5\r\nhe", "fin"], GONE),
    ("leaving", "reset at once", ["rst"], GONE),
    ("leaving", "reset in a head", [b"GET %G HTTP/1.1\r\nHo", "rst"], GONE),
    ("leaving", "reset in a body", [post(b"Content-Length: 500000\r\n"), b"x" * 100000, "rst"], GONE),
    ("leaving", "reset before the answer", [GET, "rst"], GONE),

    ("slow", "a head that stops", [b"GET %G HTTP/1.1\r\n" + H], "408 head_timeout"),
    ("slow", "a head of one byte", [b"G"], "408 head_timeout"),
    ("slow", "a head that drips", [b"GET %G HTTP/1.1\r\n" + H, ("drip", b"X: aaaaaaaaaaaaaaaaaaaaaaaaaa", 0.1)], "408 head_timeout"),
    ("slow", "a body that never starts", [post(b"Content-Length: 5\r\n")], "408 body_timeout"),
    ("slow", "a body that stops", [post(b"Content-Length: 50\r\n", b"hello")], "408 body_timeout"),
    ("slow", "a chunk that stops", [CHUNKED + b"5\r\nhe"], "408 body_timeout"),
    ("slow", "a chunk size that stops", [CHUNKED + b"5"], "408 body_timeout"),
    ("slow", "a body that drips", [post(b"Content-Length: 500\r\n"), ("drip", b"x" * 40, 0.1)], "408 body_too_slow"),
    ("slow", "chunks that drip", [CHUNKED, ("drip", b"1\r\nx\r\n" * 10, 0.1)], "408 body_too_slow"),
    ("slow", "no request at all", [], GONE),
    ("slow", "idle behind a request", [GET, ("pause", 0.1)], "served, closed"),
    ("slow", "100-continue, then nothing", [post(b"Expect: 100-continue\r\nContent-Length: 5\r\n"), ("await", "100")],
     "408 body_timeout"),
]


# ---- HTTP/2: frames made by hand ----------------------------------------------------------------------------------------------------
# A row's steps are a function of the server that gives the list of what to send: bytes, or ("drip", bytes, pause). The answer is that
# to stream 1: "served", the code of a refusal, "reset NAME" or, of the connection, "goaway NAME" or "closed". After the first three
# one more request must be served on the same connection.

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, MORE = range(10)
END_STREAM, END_HEADERS = 1, 4
ERRORS = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
          "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"]
MAGIC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field(name, value):
    """A literal, neither indexed nor compressed."""
    out = b"\0"
    for text in (name, value):
        n = len(text)
        if n < 127:
            out += bytes([n])
        else:
            out, n = out + b"\x7f", n - 127
            while n >= 128:
                out, n = out + bytes([n % 128 | 128]), n // 128
            out += bytes([n])
        out += text
    return out


def head(method, path, more=b"", host=b"localhost"):
    return field(b":method", method) + field(b":path", path) + b"\x86" + field(b":authority", host) + more


HELLO = MAGIC + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0)


def h2_get(server, stream=1, more=b""):
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, head(b"GET", server.get, more))


def h2_post(server, more=b"", stream=1):
    return frame(HEADERS, END_HEADERS, stream, head(b"POST", server.post, more))


def block(server, text):
    """A large header block in as many frames as it takes."""
    parts = [text[i:i + 16384] for i in range(0, len(text), 16384)]
    return frame(HEADERS, END_STREAM, 1, parts[0]) + b"".join(frame(MORE, 0, 1, x) for x in parts[1:-1]) + frame(MORE, END_HEADERS, 1, parts[-1])


def h2(*wants):
    return lambda server: [HELLO] + [w(server) if callable(w) else w for w in wants]


CALM = "goaway ENHANCE_YOUR_CALM"
PROTOCOL = "goaway PROTOCOL_ERROR"
H2_ROWS = [
    ("h2", "GET", h2(h2_get), OK),
    ("h2", "POST with a body", h2(h2_post, frame(DATA, END_STREAM, 1, b"hello")), OK),
    ("h2", "byte by byte", lambda s: [("drip", HELLO + h2_get(s), 0.001)], OK),
    ("h2", "trailers", h2(h2_post, frame(DATA, 0, 1, b"hello"), frame(HEADERS, END_STREAM | END_HEADERS, 1, field(b"x", b"y"))), OK),
    ("h2", "unknown frames", h2(frame(0x77, 0xff, 1, b"?" * 100), h2_get), OK),
    ("h2", "padding", h2(lambda s: frame(HEADERS, END_STREAM | END_HEADERS | 8, 1, b"\x05" + head(b"GET", s.get) + bytes(5))), OK),
    ("h2", "100-continue", h2(lambda s: h2_post(s, field(b"expect", b"100-continue")), frame(DATA, END_STREAM, 1, b"hello")), OK),

    ("h2 preface", "broken", lambda s: [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"], GONE),
    ("h2 preface", "broken at its last byte", lambda s: [MAGIC[:-1] + b"x"], GONE),
    ("h2 preface", "without SETTINGS", lambda s: [MAGIC + h2_get(s)], PROTOCOL),
    ("h2 preface", "HTTP/1.1 behind it", lambda s: [MAGIC + b"GET / HTTP/1.1\r\n" + H + b"\r\n"], PROTOCOL),

    ("h2 head", "field over the limit", h2(lambda s: block(s, head(b"GET", s.get, field(b"x", b"y" * 20000)))), "head_too_large"),
    ("h2 head", "fields over the limit in sum", h2(lambda s: block(s, head(b"GET", s.get, field(b"x", b"y" * 1000) * 20))), "head_too_large"),
    ("h2 head", "one field of the table again and again",
     h2(lambda s: frame(HEADERS, END_STREAM | END_HEADERS, 1, head(b"GET", s.get, b"\x40\x01x\x7f\xb1\x1e" + b"y" * 4016 + b"\xbe" * 10000))),
     "head_too_large"),
    ("h2 head", "101 fields", h2(lambda s: h2_get(s, 1, field(b"x", b"y") * 101)), "head_too_large"),
    ("h2 head", "CONNECT", h2(frame(HEADERS, END_STREAM | END_HEADERS, 1, field(b":method", b"CONNECT") + field(b":authority", b"a:1"))), "invalid_http"),
    ("h2 head", "host and :authority differ", h2(lambda s: h2_get(s, 1, field(b"host", b"elsewhere"))), "invalid_http"),
    ("h2 head", "no host", h2(lambda s: frame(HEADERS, END_STREAM | END_HEADERS, 1, field(b":method", b"GET") + field(b":path", s.get) + b"\x86")),
     "reset PROTOCOL_ERROR"),
    ("h2 head", "connection", h2(lambda s: h2_get(s, 1, field(b"connection", b"close"))), "reset PROTOCOL_ERROR"),
    ("h2 head", "transfer-encoding", h2(lambda s: h2_post(s, field(b"transfer-encoding", b"chunked"))), "reset PROTOCOL_ERROR"),
    ("h2 head", "name in capitals", h2(lambda s: h2_get(s, 1, field(b"X", b"y"))), "reset PROTOCOL_ERROR"),
    ("h2 head", "line end in a value", h2(lambda s: h2_get(s, 1, field(b"x", b"y\r\nhost: elsewhere"))), "invalid_http"),
    ("h2 head", "line end in the path", h2(lambda s: frame(HEADERS, END_STREAM | END_HEADERS, 1, head(b"GET", b"/ HTTP/1.1\r\nx: y"))),
     "reset PROTOCOL_ERROR"),
    ("h2 head", "line end in the method", h2(lambda s: frame(HEADERS, END_STREAM | END_HEADERS, 1, head(b"GET / HTTP/1.1\r\nx:", s.get))),
     "reset PROTOCOL_ERROR"),
    ("h2 head", "index that is not in the table", h2(frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\xff\x80\x01")), "goaway COMPRESSION_ERROR"),
    ("h2 head", "never ends", h2(lambda s: frame(HEADERS, END_STREAM, 1, head(b"GET", s.get))), CALM),
    ("h2 head", "endless CONTINUATION", h2(lambda s: frame(HEADERS, END_STREAM, 1, head(b"GET", s.get)) + frame(MORE, 0, 1, b"") * 1000), CALM),
    ("h2 head", "DATA in the middle of it", h2(lambda s: frame(HEADERS, 0, 1, head(b"POST", s.post)) + frame(DATA, END_STREAM, 1, b"x")), PROTOCOL),

    ("h2 body", "over the limit by its length", h2(lambda s: h2_post(s, field(b"content-length", b"1048577"))), "body_too_large"),
    ("h2 body", "over the limit", h2(h2_post, frame(DATA, 0, 1, b"x" * 16384) * 65), "body_too_large"),
    ("h2 body", "longer than its length", h2(lambda s: h2_post(s, field(b"content-length", b"3")), frame(DATA, END_STREAM, 1, b"hello")),
     "reset PROTOCOL_ERROR"),
    ("h2 body", "shorter than its length", h2(lambda s: h2_post(s, field(b"content-length", b"9")), frame(DATA, END_STREAM, 1, b"hello")),
     "reset PROTOCOL_ERROR"),
    ("h2 body", "stalls", h2(h2_post, frame(DATA, 0, 1, b"hello")), "body_timeout"),
    ("h2 body", "two lengths", h2(lambda s: h2_post(s, field(b"content-length", b"5") * 2)), "reset PROTOCOL_ERROR"),

    ("h2 frames", "larger than allowed", h2(h2_post, frame(DATA, 0, 1, b"x" * 16385)), "goaway FRAME_SIZE_ERROR"),
    ("h2 frames", "even stream", h2(lambda s: h2_get(s, 2)), PROTOCOL),
    ("h2 frames", "DATA for stream 0", h2(frame(DATA, 0, 0, b"x")), PROTOCOL),
    ("h2 frames", "DATA for a stream that is not", h2(frame(DATA, 0, 1, b"x")), PROTOCOL),
    ("h2 frames", "reset of a stream that is not", h2(frame(RESET, 0, 1, bytes(4))), PROTOCOL),
    ("h2 frames", "CONTINUATION of nothing", h2(frame(MORE, END_HEADERS, 1, b"\x82")), PROTOCOL),
    ("h2 frames", "a promise by a client", h2(frame(PUSH, END_HEADERS, 1, b"\0\0\0\x02\x82")), PROTOCOL),
    ("h2 frames", "PING of 7 bytes", h2(frame(PING, 0, 0, bytes(7))), "goaway FRAME_SIZE_ERROR"),
    ("h2 frames", "SETTINGS with a window of 2^31", h2(frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0")), "goaway FLOW_CONTROL_ERROR"),
    ("h2 frames", "padding longer than the frame", h2(frame(DATA, 8, 1, b"\xffx")), PROTOCOL),

    ("h2 window", "the connection's over 2^31", h2(frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff")), "goaway FLOW_CONTROL_ERROR"),
    ("h2 window", "a stream's over 2^31", h2(h2_post, frame(WINDOW, 0, 1, b"\x7f\xff\xff\xff")), "reset FLOW_CONTROL_ERROR"),
    ("h2 window", "opened by 0", h2(frame(WINDOW, 0, 0, bytes(4))), PROTOCOL),
    ("h2 window", "none for the answer, which stalls", h2(frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0"), h2_get), "reset CANCEL"),

    ("h2 flood", "rapid reset", h2(lambda s: b"".join(h2_get(s, i) + frame(RESET, 0, i, b"\0\0\0\x08") for i in range(1, 2001, 2))), CALM),
    ("h2 flood", "errors that make us reset",
     lambda s: [HELLO] + [x for i in range(3, 1001, 2)
                          for x in (h2_post(s, stream=i) + frame(WINDOW, 0, i, b"\x7f\xff\xff\xff"), ("pause", 0.001))], CALM),
    ("h2 flood", "PING", h2(frame(PING, 0, 0, bytes(8)) * 10000), CALM),
    ("h2 flood", "SETTINGS", h2(frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff") * 10000), CALM),
    ("h2 flood", "empty DATA", h2(h2_post, frame(DATA, 0, 1) * 10000), CALM),
    ("h2 flood", "PRIORITY", h2(b"".join(frame(PRIORITY, 0, 2 * i + 1, b"\0\0\0\0\1") for i in range(10000))), CALM),
]
ROWS += H2_ROWS


def h2_answer(client, stream):
    """Of this stream or of the connection."""
    body, served = b"", False
    while True:
        start = client.exactly(9)
        payload = start and client.exactly(int.from_bytes(start[:3], "big"))
        if payload is None:
            return GONE if client.ended in ("end", "reset") else client.ended
        kind, flags, where = start[3], start[4], int.from_bytes(start[5:9], "big")
        if kind == GOAWAY:
            return "goaway " + ERRORS[int.from_bytes(payload[4:8], "big")]
        if where != stream:
            continue
        if kind == RESET:
            return "reset " + ERRORS[int.from_bytes(payload, "big")]
        served |= kind == HEADERS
        body += payload if kind == DATA else b""
        if flags & END_STREAM and kind in (DATA, HEADERS):
            found = re.search(rb'"code":"(\w+)"', body)
            return found.group(1).decode() if found and found.group(1).decode() in READER_CODES else OK if served else "no head"


def play_h2(server, row):
    client = Client(server.port)
    for what in row[2](server):
        step(client, server, what)
    got = h2_answer(client, 1)
    if got != GONE and not got.startswith("goaway"):
        client.send(frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff") + h2_get(server, 5001))
        more = h2_answer(client, 5001)
        if more != OK:
            got += f", then {more}"
    elif client.rest() == "silence":
        got += ", then silence"
    client.close()
    return got


STAYS_IDLE = {("slow", "idle behind a request")}      # for these the end of the connection is what is waited for


def step(client, server, what):
    if isinstance(what, bytes):
        client.send(what.replace(b"%G", server.get).replace(b"%P", server.post))
    elif what == "fin":
        client.socket.shutdown(socket.SHUT_WR)
    elif what == "rst":
        client.close(reset=True)
    elif what[0] == "pause":
        time.sleep(what[1])
    elif what[0] == "await":
        got = client.answer()
        if got != what[1]:
            raise AssertionError(f"{got} instead of {what[1]}")
    else:
        for byte in what[1].replace(b"%G", server.get).replace(b"%P", server.post):
            client.send(bytes([byte]))
            time.sleep(what[2])     # part of the attack, not of the waiting


def check_alive(server, after):
    client = Client(server.port)
    client.send(b"GET " + server.get + b" HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
    got = client.answer()
    client.close()
    if got != OK:
        raise AssertionError(f"afterwards an ordinary request got: {got}")


def play(server, row):
    """What came of it, in the words of the row's last column."""
    group, name, steps, wanted = row
    if callable(steps):
        return play_h2(server, row)
    client = Client(server.port)
    head_only = name == "HEAD"
    for what in steps:
        step(client, server, what)
        if what == "rst":
            return GONE
    answers = wanted.split(", ")
    got = []
    for _ in answers:
        got.append(client.answer(head_only))
        if got[-1] == GONE:
            break
    if got[-1] == OK and (group, name) not in STAYS_IDLE:
        # In step: one more request has one answer, and nothing was hidden in between.
        client.send(b"GET " + server.get + b" HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        more = client.answer()
        if more != OK:
            got.append(f"then {more}")
    if got[-1] not in (GONE,):
        end = client.rest()
        if end == "silence" or client.bytes:
            got.append(f"then {end} after {client.bytes[:60]!r}")
    client.close()
    return ", ".join(got)


def run_row(server, row):
    try:
        got = play(server, row)
        check_alive(server, row[1])
    except (AssertionError, OSError, ValueError) as e:
        got = f"{type(e).__name__}: {e}"
    return row, got, got == row[3]


# ---- what takes a whole server -------------------------------------------------------------------------------------------------------

def many_idle(program, many):
    """Idle connections cost little, and others are served beside them."""
    with Server(program, {"idle_ms": 600000, "connections": many + 100}) as server:
        before = server.rss()
        clients = []
        for _ in range(many):
            clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
        check_alive(server, "idle")
        each = (server.rss() - before) / many
        for i in range(0, many, many // 20):      # the old ones work too
            clients[i].sendall(GET.replace(b"%G", server.get))
            if not clients[i].recv(1000).startswith(b"HTTP/1.1 200"):
                raise AssertionError("an idle connection was not served")
        for c in clients:
            c.close()
        check_alive(server, "idle")
        wait_for(lambda: server.open_descriptors() <= server.descriptors + 5, "descriptors to be closed")
        if not server.stop():
            raise AssertionError("the server did not end well")
        if each > 4096:
            raise AssertionError(f"{each:.0f} bytes each")
        return f"served; under {(int(each) // 1024 + 1)} KB each"


def wait_for(what, why):
    until = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > until:
            raise AssertionError(f"waited in vain for {why}")
        time.sleep(0.01)


def descriptors_out(program, many):
    """More clients than descriptors: told so, no spinning, and all is well when they have left."""
    with Server(program, {"idle_ms": 600000}, descriptors=128) as server:
        clients = [Client(server.port) for _ in range(200)]
        for c in clients:
            c.send(GET.replace(b"%G", server.get))
        got = [c.answer() for c in clients]
        served, refused = got.count(OK), got.count("503 out_of_descriptors")
        cpu = server.cpu()
        time.sleep(1.0)        # the time in which a spinning server would show
        cpu = server.cpu() - cpu
        for c in clients:
            c.close()
        wait_for(lambda: server.open_descriptors() <= server.descriptors + 5, "descriptors to be closed")
        check_alive(server, "descriptors")
        if not server.stop():
            raise AssertionError("the server did not end well")
        if served < 50 or refused + served < 195 or refused == 0 or cpu > 0.2:
            raise AssertionError(f"{served} served, {refused} refused, {200 - served - refused} neither, {cpu:.2f} s of CPU in 1 s of waiting")
        return "some served, the others 503 out_of_descriptors; no spinning; served again"


def connections_out(program, many):
    """Over the limit `connections`."""
    with Server(program, {"connections": 20, "idle_ms": 600000}) as server:
        clients = [Client(server.port) for _ in range(20)]
        for c in clients:
            c.send(GET.replace(b"%G", server.get))
            if c.answer() != OK:
                raise AssertionError("not served below the limit")
        late = Client(server.port)
        got = late.answer()
        for c in clients + [late]:
            c.close()
        wait_for(lambda: server.open_descriptors() <= server.descriptors + 5, "descriptors to be closed")
        check_alive(server, "connections")
        if not server.stop():
            raise AssertionError("the server did not end well")
        if got != "503 too_many_connections":
            raise AssertionError(got)
        return got


def pipelined_flood(program, many):
    """A client that sends for ever and reads nothing: bounded memory."""
    with Server(program) as server:
        before = server.rss()
        client = Client(server.port)
        client.socket.settimeout(1.0)
        block = GET.replace(b"%G", server.get) * 2000
        sent = 0
        try:
            while sent < 200 << 20:
                sent += client.socket.send(block)
        except (socket.timeout, ConnectionError):
            pass
        grown = server.rss() - before
        check_alive(server, "flood")
        client.close(reset=True)
        check_alive(server, "flood")
        if not server.stop():
            raise AssertionError("the server did not end well")
        if grown > 32 << 20:     # a sanitizer keeps freed memory for a while; without a bound it would be 200 MB
            raise AssertionError(f"memory grew by {grown >> 10} KB while {sent >> 20} MB were sent")
        return "the client is stopped; memory stays bounded"


def slow_heads(program, many):
    """A thousand heads that never end hold up nobody, and all get their 408."""
    with Server(program) as server:
        clients = [Client(server.port) for _ in range(1000)]
        for c in clients:
            c.send(b"GET / HTTP/1.1\r\nX: ")
        check_alive(server, "slow heads")
        got = {c.answer() for c in clients}
        for c in clients:
            c.close()
        check_alive(server, "slow heads")
        if not server.stop():
            raise AssertionError("the server did not end well")
        if got != {"408 head_timeout"}:
            raise AssertionError(str(got))
        return "408 head_timeout"


WHOLE = [
    ("machine", "idle connections", many_idle),
    ("machine", "more clients than descriptors", descriptors_out),
    ("machine", "more clients than `connections`", connections_out),
    ("machine", "endless pipelined requests, answers not read", pipelined_flood),
    ("machine", "1000 heads that never end", slow_heads),
]


# ---- the report ------------------------------------------------------------------------------------------------------------------------

def shown(steps):
    out = []
    for s in steps:
        data = s if isinstance(s, bytes) else s[1] if isinstance(s, tuple) and s[0] == "drip" else None
        text = repr(data)[2:-1] if data is not None else s if isinstance(s, str) else " ".join(str(x) for x in s)
        if data is not None and len(text) > 90:
            text = f"{text[:70]}... ({len(data)} bytes)"
        out.append(text + (" (byte by byte)" if isinstance(s, tuple) and s[0] == "drip" else ""))
    return " / ".join(out).replace("|", "\\|").replace("`", "'")


def brief(text):
    answers = text.split(", ")
    return f"{len(answers)} x {answers[0]}" if len(answers) > 3 and len(set(answers)) == 1 else text


def write_page(path, results):
    with open(path, "w") as f:
        f.write("# Hostile HTTP\n\nWritten by `tests/scenario/hostile_http.py --write`; do not edit. Each row is sent to a running server; the "
                "answer must be exactly\nthe one stated, and afterwards an ordinary request must be served. `served`: passed on to what is "
                "behind the HTTP reader, and the\nconnection is still in step: one further request has one answer. A refusal is a JSON body "
                "with that `code` and `Connection: close`.\n`%G` and `%P` are a path for GET and for POST.\n\nLimits in this run: "
                + ", ".join(f"{k} {v}" for k, v in LIMITS.items()) + ".\n\n| | shape | sent | answer | |\n|---|---|---|---|---|\n")
        for (group, name, steps, wanted), got, good in results:
            sent = f"`{shown(steps)}`" if isinstance(steps, list) and steps else ""
            f.write(f"| {group} | {name} | {sent} | {brief(wanted)} | {'as stated' if good else 'FAILED: ' + got[:200]} |\n")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("command", nargs="?", default=os.environ.get("PERDURE", os.path.join(ROOT, "build", "perdure")))
    options.add_argument("--write")
    options.add_argument("--only", default="", help="rows whose group or name holds this text")
    options.add_argument("--many", type=int, default=10000, help="how many idle connections")
    o = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    program = os.path.abspath(o.command)
    many = max(100, min(o.many, hard - 500))

    wanted = [r for r in ROWS if o.only in r[0] + " " + r[1]]
    results = {}
    slow_first = sorted(wanted, key=lambda r: r[0] != "slow")
    with Server(program) as server:
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            for row, got, good in pool.map(lambda r: run_row(server, r), slow_first):
                results[row[0], row[1]] = (row, got, good)
        ended = server.stop()
    ordered = [results[r[0], r[1]] for r in wanted]
    ordered.append((("machine", "SIGTERM after all of it", "", "ends with status 0"), "" if ended else "did not end", ended))

    for group, name, run in WHOLE:
        if o.only not in group + " " + name:
            continue
        title = f"{many} {name}" if run is many_idle else name
        try:
            got, good = run(program, many), True
        except (AssertionError, OSError) as e:
            got, good = str(e), False
        ordered.append(((group, title, run.__doc__, got), got, good))

    for (group, name, _, want), got, good in ordered:
        if not good:
            print(f"FAILED {group}: {name}\n  wanted {brief(want)}\n  got    {brief(got)[:400]}")
    if o.write:
        write_page(o.write, ordered)
    failed = sum(not good for _, _, good in ordered)
    print(f"{len(ordered) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
