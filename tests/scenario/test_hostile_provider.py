"""A provider that means harm: what it sends costs one call at most, stalls nobody else, and gets into no header, log or other client's answer."""
import contextlib
import json
import os
import socket
import threading

from perdure_test import PERDURE, Gateway, config, main
from test_simulate_dialects import post

SECRET = "sk-provider-secret-0123456789"
TOKEN = "session-token-0123456789abcdefghijklmnop"


class Provider:
    """Answers each request with the bytes that `say` gives for it; keeps what it was sent."""

    def __init__(self, say):
        self.say, self.seen = say, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(peer,), daemon=True).start()

    def one(self, peer):
        with contextlib.suppress(OSError), peer:
            got = b""
            while b"\r\n\r\n" not in got:
                piece = peer.recv(65536)
                if not piece:
                    return
                got += piece
            head, _, body = got.partition(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
            while len(body) < length:
                body += peer.recv(65536)
            self.seen.append((head.decode(), body))
            for piece in self.say(head.decode(), body):
                peer.sendall(piece)

    def close(self):
        self.listener.close()


def answer(body, kind="application/json", status="200 OK", more=""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n".encode(), body]


def events(chunks):
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    for chunk in chunks:
        yield chunk if isinstance(chunk, bytes) else b"data: " + json.dumps(chunk).encode() + b"\n\n"


def delta(**d):
    return {"choices": [{"index": 0, "delta": d, "finish_reason": None}]}


FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
MESSAGES = {"model": "p/m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
CHAT = {"model": "p/m", "messages": [{"role": "user", "content": "hi"}]}


@contextlib.contextmanager
def behind(say, preset="openai-compatible", path="/v1", about=None, extra=None):
    provider = Provider(say)
    gateway = Gateway(config({"p": {"preset": preset, "base_url": f"http://127.0.0.1:{provider.port}{path}", "key": SECRET, "models": ["m"], **(about or {})}},
                             resilience={"attempts": 1, "hold": 0, "breaker_failures": 0, "breaker_timeouts": 0, "probe": "off", "backoff": "1ms", "retry_after_max": "1ms"}, extra=extra))
    try:
        yield provider, gateway
        assert gateway.program.process.poll() is None, gateway.log()[-6000:]
        assert gateway.stop() == 0, gateway.log()[-6000:]
    finally:
        provider.close()
        if gateway.program.process.poll() is None:
            gateway.program.kill()


def raw(port, path, body):
    """All bytes of an answer, head and framing included."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as s:
        data = json.dumps(body).encode()
        s.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
        pieces = []
        with contextlib.suppress(ConnectionError):
            while piece := s.recv(1 << 20):
                pieces.append(piece)
        return b"".join(pieces)


def cpu_seconds(gateway):
    fields = open(f"/proc/{gateway.program.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(gateway):
    for line in open(f"/proc/{gateway.program.process.pid}/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def test_a_hundred_thousand_blocks_end_at_a_limit_and_stall_nobody():
    """Texts and reasonings in turn, each a block for clients of other formats."""
    def say(head, body):
        return events([delta(content="a") if i % 2 else delta(reasoning_content="b") for i in range(100000)] + [FINISH, b"data: [DONE]\n\n"])
    with behind(say) as (_, gateway):
        for stream in (True, False):
            got = raw(gateway.port, "/v1/messages", {**MESSAGES, "stream": stream})
            assert got.startswith(b"HTTP/1.1 200 " if stream else b"HTTP/1.1 502 "), got[:300]
            assert b"event: message_stop" not in got and not got.endswith(b"0\r\n\r\n"), got[-300:]
            assert b"too large" in got or b"limit" in got, got[-500:]
        assert cpu_seconds(gateway) < 3, f"{cpu_seconds(gateway)} s of work"


def test_one_call_that_never_ends_and_thousands_behind_it_stall_nobody():
    """The arguments of the first call are megabytes of nothing: whether they are whole is not asked again and again."""
    def say(head, body):
        yield from events([delta(tool_calls=[{"index": 0, "id": "c0", "function": {"name": "f", "arguments": "{" + " " * 4_000_000}}])])
        for i in range(1, 4000):
            yield b"data: " + json.dumps(delta(tool_calls=[{"index": i, "id": f"c{i}", "function": {"name": "f", "arguments": "{}"}}])).encode() + b"\n\n"
        yield b"data: " + json.dumps(FINISH).encode() + b"\n\ndata: [DONE]\n\n"
    with behind(say) as (_, gateway):
        got = raw(gateway.port, "/v1/messages", {**MESSAGES, "stream": True})
        assert got.startswith(b"HTTP/1.1 502 ") and b"tool_use" not in got.split(b"\r\n\r\n", 1)[1].replace(b"tool_use_failed", b""), got[:300]
        assert cpu_seconds(gateway) < 5, f"{cpu_seconds(gateway)} s of work"


def test_names_of_megabytes_nul_bytes_and_deep_objects_are_one_failed_call_at_most():
    deep = b'data: {"choices":[{"delta":{"content":"x","y":' + b"[" * 100000 + b"]" * 100000 + b"}}]}\n\n"
    said = [
        [delta(tool_calls=[{"index": 0, "id": "i" * 3_000_000, "function": {"name": "n" * 3_000_000, "arguments": "{}"}}]), FINISH, b"data: [DONE]\n\n"],
        [deep, FINISH, b"data: [DONE]\n\n"],
        [b"data: {\"choices\":[{\"delta\":{\"content\":\"a\x00b\"}}]}\n\n", b"\x00" * 100000 + b"\n\n", FINISH, b"data: [DONE]\n\n"],
        [delta(content="\0\r\n\r\nevent: message_stop\ndata: {}\n\n\u2028"), FINISH, b"data: [DONE]\n\n"],
        [delta(tool_calls=[{"index": 2_000_000_000, "id": "\r\nX: y", "function": {"name": "a\r\nX-Injected: y", "arguments": "{}"}}]), FINISH, b"data: [DONE]\n\n"],
        [{"choices": [{"index": i, "delta": {"content": "x"}} for i in range(50000)]}, FINISH, b"data: [DONE]\n\n"],
        [b"data: " + b"x" * 20_000_000 + b"\n\n"],
    ]
    current = []
    with behind(lambda head, body: events(current)) as (_, gateway):
        for n, chunks in enumerate(said):
            current[:] = chunks
            for stream in (True, False):
                for path, body in (("/v1/messages", MESSAGES), ("/v1/responses", {"model": "p/m", "input": "hi"}), ("/model/p%2Fm/converse" + ("-stream" if stream else ""), {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
                                   ("/v1beta/models/p%2Fm:" + ("streamGenerateContent?alt=sse" if stream else "generateContent"), {"contents": [{"parts": [{"text": "hi"}]}]}),
                                   ("/api/chat", {"model": "p/m", "messages": [{"role": "user", "content": "hi"}]}), ("/v1/chat/completions", CHAT)):
                    if "model" in body:
                        body = {**body, "stream": stream}
                    got = post(gateway.port, path, body)
                    assert got.status in (200, 400, 502, 503), (n, path, got.status, got.body[:300])
                    assert "x-injected" not in got.headers and "x" not in got.headers, (n, path, got.headers)
                    if got.status == 200 and stream and "/messages" in path:
                        assert got.body.count(b"\nevent: message_stop\n") <= 1, (n, got.body[-500:])
        assert memory_mb(gateway) < 400 or "asan" in PERDURE, memory_mb(gateway)


def test_no_header_of_a_provider_gets_into_ours():
    """A request id with what ends a header line is refused by the parser; one with quotes and commas is quoted as it is."""
    heads = ["X-Request-Id: a\rX-Injected: y\r\n", "X-Request-Id: a\x01b\r\n", "X-Request-Id: a\r\n X-Injected: y\r\n", "X-Request-Id: \xe9\xff\r\n", "X-Request-Id: " + "z" * 5000 + "\r\n"]
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}]}
    current = [""]
    with behind(lambda head, body: [a.encode("latin-1") if isinstance(a, str) else a for a in answer(whole, more=current[0])]) as (_, gateway):
        for more in heads:
            current[0] = more
            got = post(gateway.port, "/v1/messages", MESSAGES)
            assert "x-injected" not in got.headers and got.status in (200, 502, 503), (more, got.status, got.headers)


def test_what_signs_a_request_is_in_no_answer_and_no_log():
    def refuse(head, body):
        sent = "; ".join(line.split(":", 1)[1].strip() for line in head.split("\r\n") if line.lower().startswith(("authorization", "x-amz-security-token", "x-api-key", "x-goog-api-key")))
        return answer({"message": f"you said {sent}", "error": {"message": f"you said {sent}", "type": "x", "code": sent[-30:]}}, status="400 Bad Request", more="x-amzn-errortype: ValidationException\r\n")
    converse = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    aws = {"region": "us-east-1", "access_key_id": "AKIDEXAMPLE1234", "secret_access_key": "very-secret-0123456789", "session_token": TOKEN, "wires": ["bedrock-converse"], "key": None}
    for preset, path, about, secret in (("openai-compatible", "/v1", {}, SECRET), ("anthropic", "", {}, SECRET), ("gemini", "", {}, SECRET), ("bedrock", "", aws, TOKEN)):
        about = {k: v for k, v in about.items() if v is not None}
        with signed_by(refuse, preset, path, about) as (provider, gateway):
            for where, body in (("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGES), ("/model/p%2Fm/converse", converse), ("/v1beta/models/p%2Fm:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]})):
                got = post(gateway.port, where, body)
                assert got.status == 400, (preset, where, got.status, got.body)
                assert b"you said" in got.body, (preset, where, got.body)
                assert secret.encode() not in got.body and secret[-30:].encode() not in got.body, (preset, where, got.body)
            assert any(secret in head for head, _ in provider.seen), "it was not signed with that: this shows nothing"
            assert secret not in gateway.log() and secret.encode() not in gateway.get("/api/calls").body


@contextlib.contextmanager
def signed_by(say, preset, path, about):
    provider = Provider(say)
    own = {"key": SECRET} if "access_key_id" not in about else {}
    gateway = Gateway(config({"p": {"preset": preset, "base_url": f"http://127.0.0.1:{provider.port}{path}", "models": ["m"], **own, **about}}, resilience={"attempts": 1, "hold": 0}), args=("--log-level", "debug"))
    try:
        yield provider, gateway
        assert gateway.stop() == 0, gateway.log()[-6000:]
    finally:
        provider.close()
        if gateway.program.process.poll() is None:
            gateway.program.kill()


def test_no_credential_of_a_client_reaches_a_provider_or_the_log():
    whole = {"candidates": [{"content": {"role": "model", "parts": [{"text": "fine"}]}, "finishReason": "STOP"}]}
    sent = ("client-key-0001", "client-key-0002", "client-key-0003", "client-key-0004", "client-key-0005", "client-key-0006", "client-key-0007")
    query = f"?key={sent[0]}&%6Bey={sent[1]}&access_token={sent[2]}&oauth_token={sent[3]}&$key={sent[4]}&KEY={sent[5]}&%24access_token={sent[6]}&prettyPrint=false"
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    with behind(lambda head, body: answer(whole), preset="gemini", path="") as (provider, gateway):
        got = post(gateway.port, f"/v1beta/models/p%2Fm:generateContent{query}", body, {"authorization": f"Bearer {sent[0]}", "x-goog-api-key": sent[0], "cookie": sent[0], "x-api-key": sent[0]})
        assert got.status == 200, got.body
        head, _ = provider.seen[-1]
        assert "prettyPrint=false" in head, head
        for key in sent:
            assert key not in head and key not in gateway.log(), (key, head)


def test_a_models_name_leads_to_no_other_path_of_its_provider():
    whole = {"candidates": [{"content": {"role": "model", "parts": [{"text": "fine"}]}, "finishReason": "STOP"}]}
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    with behind(lambda head, body: answer(whole), preset="gemini", path="") as (provider, gateway):
        for model in ("p/../../v1/files", "p/..", "p/.", "p/%2e%2e/x", "p/a/../b", "p%2F..%2F..%2Fx"):
            got = post(gateway.port, f"/v1beta/models/{model}:generateContent", body)
            assert got.status == 404 and not provider.seen, (model, got.status, provider.seen)
            got = post(gateway.port, "/v1/chat/completions", {**CHAT, "model": model.replace("%2e", ".").replace("%2F", "/")})
            assert got.status == 404 and not provider.seen, (model, got.status, provider.seen)
        got = post(gateway.port, "/v1beta/models/p%2Fa?b%23c%20d:generateContent", body)
        assert got.status in (404, 405) and not provider.seen
        got = post(gateway.port, "/v1beta/models/p%2Fa%3Fb%23c%20d..e:generateContent", body)
        assert got.status == 200 and "POST /v1beta/models/a%3Fb%23c%20d..e:" in provider.seen[-1][0], provider.seen


def test_names_of_a_model_list_that_cannot_stand_in_a_header_are_left_out():
    names = ["good", "bad\r\nX-Injected: y", "bad\u0000", "", "n" * 5000, "also/good"]
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}]}

    def say(head, body):
        return answer({"data": [{"id": n} for n in names]}) if head.startswith("GET") else answer(whole)
    provider = Provider(say)
    gateway = Gateway(config({"p": {"preset": "openai-compatible", "base_url": f"http://127.0.0.1:{provider.port}/v1", "key": SECRET}}))
    try:
        listed = gateway.until("the list", lambda: [m["id"] for m in gateway.get("/v1/models").json["data"]])
        assert sorted(n.removeprefix("p/") for n in listed if n.startswith("p/")) == ["also/good", "good"] or sorted(listed) == ["also/good", "good"], listed
        got = post(gateway.port, "/v1/chat/completions", {"messages": CHAT["messages"]})
        assert got.status == 200 and got.headers["x-perdure-model"] == "also/good" and "x-injected" not in got.headers, (got.status, got.headers, got.body)
        assert gateway.stop() == 0
    finally:
        provider.close()
        if gateway.program.process.poll() is None:
            gateway.program.kill()


if __name__ == "__main__":
    main(globals())
