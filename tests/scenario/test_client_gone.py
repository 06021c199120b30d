"""A client that leaves: its provider is told at once, whatever perdure was waiting for; one that has all it wanted is no loss."""
import json
import socket
import threading

from perdure_test import Gateway, config, main, running

RULES = {"ttft": 0, "backoff": "10ms", "first_token_timeout": "10m", "stall": "10m", "affinity": 0}
SPEC = "alpha:0,tokens=200"


def ask(gateway, stream):
    """A request whose answer is not waited for."""
    s = socket.create_connection(("127.0.0.1", gateway.port))
    body = json.dumps({"model": "main", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}).encode()
    s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return s


def gone(gateway, count=1):
    gateway.until("the call's end", lambda: gateway.metric("perdure_calls_total", outcome="client_gone") == count)
    assert gateway.metric("perdure_calls_running") == 0


def test_while_the_provider_is_silent():
    with running(SPEC, resilience=RULES) as (sim, gateway):
        for n, stream in enumerate((False, True), 1):
            sim.faults("alpha", "silent")
            s = ask(gateway, stream)
            sim.wait("alpha", requests=n)
            assert sim.state("alpha")["cancelled"] == n - 1
            s.close()
            sim.wait("alpha", cancelled=n, timeout="1s")
            gone(gateway, n)


def test_with_a_reset():
    with running(SPEC, resilience=RULES) as (sim, gateway):
        sim.faults("alpha", "silent")
        s = ask(gateway, True)
        sim.wait("alpha", requests=1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        s.close()
        sim.wait("alpha", cancelled=1, timeout="1s")
        gone(gateway)


def test_while_a_stream_flows():
    with running(f"{SPEC},token_delay=20ms", resilience=RULES) as (sim, gateway):
        s = gateway.stream()
        while len(s.text.split()) < 3:
            s.next()
        s.close()
        state = sim.wait("alpha", cancelled=1, timeout="1s")
        assert state["tokens"] < 200, "the provider went on to the end"
        gone(gateway)
        assert gateway.metric("perdure_streams_total", outcome="client_gone") == 1


def test_while_a_stream_stands_still_after_output():
    """Nothing is being written then: only the connection itself can tell."""
    with running(SPEC, resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "stall", "after": 5})
        s = gateway.stream()
        while len(s.text.split()) < 5:
            s.next()
        sim.wait("alpha", stalls=1)
        s.close()
        sim.wait("alpha", cancelled=1, timeout="1s")
        gone(gateway)


def test_while_a_whole_answer_is_being_collected():
    with running(SPEC, resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 5})
        s = ask(gateway, False)
        sim.wait("alpha", held=1)
        s.close()
        sim.wait("alpha", cancelled=1, timeout="1s")
        gone(gateway)


def test_while_it_waits_for_another_try():
    with running(SPEC, resilience={**RULES, "retry_after_max": "10m", "backoff_max": "10m"}) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 429, "headers": {"retry-after": "300"}, "times": 0})
        s = ask(gateway, True)
        sim.wait("alpha", status=1)
        gateway.until("the wait", lambda: gateway.get("/api/calls").json["running"])
        s.close()
        gone(gateway)
        assert sim.state("alpha")["requests"] == 1


def test_of_two_hedged_attempts_both_are_cancelled():
    with running(SPEC, "beta:0", resilience={**RULES, "ttft": "50ms", "ttft_adaptive": False, "hedge_budget": 1}) as (sim, gateway):
        for name in ("alpha", "beta"):
            sim.faults(name, "silent")
        s = ask(gateway, True)
        sim.wait("beta", requests=1)
        s.close()
        for name in ("alpha", "beta"):
            sim.wait(name, cancelled=1, timeout="1s")
        gone(gateway)


def test_a_client_that_does_not_read_stops_the_provider_and_then_loses_its_connection():
    """Backpressure reaches the provider; the write limit ends it."""
    with running("alpha:0,tokens=60000", resilience={**RULES, "stall": "200ms"}, extra={"write_timeout": "600ms"}) as (sim, gateway):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", gateway.port))
        body = json.dumps({"model": "main", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        state = sim.wait("alpha", cancelled=1, timeout="20s")
        assert 0 < state["tokens"] <= 60000
        gone(gateway)   # not "stalled": the silence was the client's
        assert gateway.metric("process_resident_memory_bytes") < 100e6
        s.close()


class Hanging:
    """A provider that sends a whole stream with its terminator, and then neither ends the body nor closes."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.peers = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": "All of it."}, "finish_reason": None}]}
        end = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        text = b"".join(b"data: %s\n\n" % e for e in (json.dumps(chunk).encode(), json.dumps(end).encode(), b"[DONE]"))
        with self.socket:
            peer, _ = self.socket.accept()
            self.peers.append(peer)
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(text), text))


def test_one_that_leaves_at_the_terminator_has_its_whole_answer():
    """As SDKs do: they close when they have read [DONE], also when the end of the body is not there yet."""
    provider = Hanging()
    gateway = Gateway(config({"alpha": {"preset": "openai-compatible", "base_url": f"http://127.0.0.1:{provider.port}/v1", "models": ["m"]}},
                             {"main": {"strategy": "priority", "targets": ["alpha/m"]}}, RULES))
    try:
        s = gateway.stream()
        while s.next() != "[DONE]":
            pass
        assert s.text == "All of it."
        s.close()
        gateway.until("the call's end", lambda: gateway.metric("perdure_calls_running") == 0)
        assert gateway.metric("perdure_calls_total", outcome="complete") == 1, gateway.log()
        assert gateway.metric("perdure_calls_total", outcome="client_gone") == 0
        assert gateway.stop() == 0
    finally:
        gateway.program.kill()


if __name__ == "__main__":
    main(globals())
