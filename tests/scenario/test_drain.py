"""SIGTERM: what runs ends whole, nothing new is taken, and the process ends with status 0."""
import http.client
import signal
import socket
import threading

from perdure_test import Gateway, Providers, config, main, request

RULES = {"ttft": 0, "backoff": "10ms", "affinity": 0}


class Pair:
    """Provider and gateway whose end is part of the story."""

    def __init__(self, spec="alpha:0,tokens=40", extra=None):
        self.sim = Providers(spec)
        self.gateway = Gateway(config({"alpha": {"preset": "openai-compatible", "base_url": self.sim.url("alpha"), "models": ["m"]}},
                                      {"main": {"strategy": "priority", "targets": ["alpha/m"]}}, RULES, extra))

    def __enter__(self):
        return self.sim, self.gateway

    def __exit__(self, *_):
        self.gateway.program.kill()
        self.sim.program.kill()

    def held(self, count=1):
        """A stream that has begun and goes on when it is released."""
        self.sim.faults("alpha", *[{"fault": "hold", "after": 5}] * count)


def begun(stream):
    while len(stream.text.split()) < 5:
        stream.next()
    return stream


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionError:
        return False    # it was waiting to be accepted when the socket closed: the next one is refused
    return False


def test_a_running_stream_ends_whole_and_new_connections_are_refused():
    pair = Pair()
    with pair as (sim, gateway):
        pair.held()
        s = begun(gateway.stream())
        sim.wait("alpha", held=1)
        gateway.program.process.send_signal(signal.SIGTERM)
        gateway.until("the listening socket closed", lambda: refused(gateway.port))
        assert gateway.program.process.poll() is None, "it ended before its stream"
        sim.release("alpha")
        s.rest()
        assert s.done and not s.cut and not s.error and len(s.text.split()) == 40, s.raw[-300:]
        assert gateway.program.process.wait(30) == 0, gateway.log()
        assert "serve.draining" in gateway.log() and "serve.ended" in gateway.log()


def test_a_whole_answer_is_delivered_too():
    pair = Pair()
    with pair as (sim, gateway):
        pair.held()
        answers = []
        caller = threading.Thread(target=lambda: answers.append(gateway.chat()))
        caller.start()
        sim.wait("alpha", held=1)
        gateway.program.process.send_signal(signal.SIGTERM)
        gateway.until("the listening socket closed", lambda: refused(gateway.port))
        sim.release("alpha")
        caller.join()
        assert answers[0].status == 200 and len(answers[0].json["choices"][0]["message"]["content"].split()) == 40
        assert gateway.program.process.wait(30) == 0, gateway.log()


def test_an_idle_connection_does_not_hold_it():
    with Pair() as (_, gateway):
        idle = http.client.HTTPConnection("127.0.0.1", gateway.port)
        idle.request("GET", "/healthz")
        assert idle.getresponse().read() == b"ok\n"
        assert gateway.stop() == 0, gateway.log()
        idle.close()


def test_a_request_that_never_ends_holds_it_to_its_own_limit_only():
    pair = Pair(extra={"head_timeout": "200ms"})
    with pair as (_, gateway):
        half = socket.create_connection(("127.0.0.1", gateway.port))
        half.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
        gateway.program.process.send_signal(signal.SIGTERM)
        try:
            seen = half.recv(4096)      # 408; or nothing, when it was not yet read at the signal
        except ConnectionResetError:
            seen = b""
        assert seen == b"" or seen.startswith(b"HTTP/1.1 408 "), seen
        half.close()
        assert gateway.program.process.wait(30) == 0, gateway.log()


def test_a_kept_connection_is_told_to_close():
    pair = Pair()
    with pair as (sim, gateway):
        pair.held()
        s = begun(gateway.stream())
        kept = http.client.HTTPConnection("127.0.0.1", gateway.port)
        kept.request("GET", "/readyz")
        ready = kept.getresponse()
        assert ready.status == 200 and ready.read() == b"ready\n"
        gateway.program.process.send_signal(signal.SIGTERM)
        gateway.until("the listening socket closed", lambda: refused(gateway.port))
        try:
            kept.request("GET", "/readyz")
            answer = kept.getresponse()
            assert answer.status == 503 and answer.getheader("connection", "").lower() == "close", (answer.status, answer.getheaders())
        except (http.client.RemoteDisconnected, ConnectionError):
            pass    # closed already: as good
        sim.release("alpha")
        assert s.rest().done
        assert gateway.program.process.wait(30) == 0
        kept.close()


def test_every_worker_ends_its_streams():
    """Whichever worker has nothing left first: the others go on. Which one has the last stream is chance, so more than once."""
    for _ in range(3):
        pair = Pair(extra={"workers": 3})
        with pair as (sim, gateway):
            pair.held(9)
            streams = [begun(gateway.stream()) for _ in range(9)]
            sim.wait("alpha", held=9)
            gateway.program.process.send_signal(signal.SIGTERM)
            gateway.until("the listening socket closed", lambda: refused(gateway.port))
            for s in streams:
                sim.order("alpha", "POST", "/sim/release?n=1", {})
                s.rest()
                assert s.done and not s.cut and len(s.text.split()) == 40, s.raw[-300:]
                s.close()
            assert gateway.program.process.wait(30) == 0, gateway.log()


def test_a_second_signal_ends_it_at_once_and_honestly():
    pair = Pair()
    with pair as (sim, gateway):
        pair.held()
        s = begun(gateway.stream())
        gateway.program.process.send_signal(signal.SIGTERM)
        gateway.until("the listening socket closed", lambda: refused(gateway.port))
        gateway.program.process.send_signal(signal.SIGTERM)
        s.rest()
        assert not s.done and s.cut, "a stream that was cut off looks whole"
        assert gateway.program.process.wait(30) == 0, gateway.log()
        sim.wait("alpha", cancelled=1)


def test_the_drain_limit_ends_what_does_not_end():
    pair = Pair(extra={"drain_timeout": "200ms"})
    with pair as (sim, gateway):
        pair.held()
        s = begun(gateway.stream())
        gateway.program.process.send_signal(signal.SIGINT)
        s.rest()
        assert not s.done and s.cut
        assert gateway.program.process.wait(30) == 0, gateway.log()
        assert "serve.drain_limit" in gateway.log()


def test_sigint_ends_it_too():
    with Pair() as (_, gateway):
        assert gateway.chat().status == 200
        assert gateway.stop(signal.SIGINT) == 0
        try:
            request(gateway.port, "GET", "/healthz", timeout=5)
            raise AssertionError("it still answers")
        except ConnectionError:
            pass


if __name__ == "__main__":
    main(globals())
