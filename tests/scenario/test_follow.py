"""Many clients of one answer, slow ones, and ends of the process while answers go on without their client."""
import concurrent.futures
import http.client
import json
import pathlib
import signal
import socket
import stat
import threading

from perdure_test import DEADLINE, Gateway, Providers, config, main, request, running

RULES = {"ttft": 0, "backoff": "10ms", "stall": "10m", "affinity": 0, "attempts": 2, "hold": 0}
VLLM = {n: {"preset": "vllm"} for n in ("alpha", "beta")}
PAIR = ("alpha:0,tokens=40,style=vllm", "beta:0,tokens=40,style=vllm")


def words(stream, n):
    while len(stream.text.split()) < n:
        assert stream.next() is not None, "the stream ended early"


def text_of(raw):
    events = [json.loads(line[6:]) for line in raw.decode().splitlines() if line.startswith("data: {")]
    return "".join((c["delta"].get("content") or "") for e in events for c in e.get("choices", []))


def test_two_hundred_follow_one_answer_on_two_workers():
    with running(*PAIR, providers=VLLM, resilience=RULES, extra={"workers": 2}) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream()
        words(first, 10)
        path = f"/api/calls/{first.headers['x-request-id']}/stream"

        def read():
            c = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
            c.request("GET", path)
            answer = c.getresponse()
            began = answer.read1(65536)
            joined.release()
            got = began + answer.read()
            c.close()
            return answer.status, got

        joined = threading.Semaphore(0)
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            readers = [pool.submit(read) for _ in range(200)]
            for _ in readers:
                assert joined.acquire(timeout=DEADLINE), "a follower heard nothing"
            sim.release("alpha")
            want = first.rest().text
            for r in readers:
                status, got = r.result()
                assert status == 200 and text_of(got) == want and got.rstrip().endswith(b"[DONE]"), got[-300:]
        assert sim.state("alpha")["requests"] == 1


def test_a_follower_whose_call_is_cut_is_told_and_may_ask_again():
    with running(*PAIR, providers=VLLM, resilience={**RULES, "linger": "1m", "continuations": 0, "attempts": 1}) as (sim, gateway):
        want = gateway.stream().rest().text
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream()
        words(first, 10)
        first.close()
        gateway.until("the first client is gone", lambda: gateway.metric("perdure_server_connections") <= 1)
        second = gateway.stream()
        words(second, 10)
        sim.down("alpha")
        second.rest()
        assert second.error and second.cut and not second.done, second.raw[-300:]
        third = gateway.stream().rest()
        assert third.done and third.text == want, third.raw[-300:]
        assert gateway.metric("perdure_calls_joined_total", to="part") == 1


def test_an_answer_that_is_followed_outlives_the_time_it_lingers():
    with running(*PAIR, providers=VLLM, resilience={**RULES, "linger": "200ms"}) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream()
        words(first, 10)
        want_id = first.headers["x-request-id"]
        reader = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
        reader.request("GET", f"/api/calls/{want_id}/stream")
        answer = reader.getresponse()
        answer.read1(65536)
        first.close()
        gateway.until("it has gone on for longer than that", lambda: gateway.get(f"/api/calls/{want_id}").json["took_ms"] > 1500)
        reader.close()
        answer.close()
        gateway.until("nobody follows it, and it ends", lambda: gateway.metric("perdure_calls_running") == 0)
        sim.wait("alpha", cancelled=1)


def alone(resilience=None, extra=None):
    sim = Providers(PAIR[0])
    gateway = Gateway(config({"alpha": {"preset": "vllm", "base_url": sim.url("alpha"), "models": ["m"]}}, {"main": {"targets": ["alpha/m"]}}, {**RULES, **(resilience or {})}, extra))
    return sim, gateway


def test_a_slow_client_of_a_stream_that_breaks_gets_all_of_it():
    """It breaks while its client takes nothing, and again where only a client that reads gets to; what rests meanwhile is no provider that is silent."""
    tokens = 40000
    specs = [f"{n}:0,tokens={tokens},style=vllm" for n in ("alpha", "beta")]
    body = {"model": "main", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    with running(*specs, providers=VLLM, resilience={**RULES, "stall": "500ms"}) as (sim, gateway):
        want = text_of(request(gateway.port, "POST", "/v1/chat/completions", body).body)
        sim.faults("alpha", {"fault": "cut", "after": 100})
        sim.faults("beta", {"fault": "cut", "after": tokens // 2})
        client = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
        client.connect()
        client.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        gateway.until("it has broken off", lambda: sim.state("beta")["requests"] == 1)
        gateway.until("its client is silent for longer than a stall", lambda: gateway.get("/api/calls").json["running"][0]["took_ms"] > 1500)
        assert sim.state("alpha")["requests"] == 2, "it broke a second time before its client read anything"
        answer = client.getresponse()
        got = answer.read()
        client.close()
        assert text_of(got) == want, (len(text_of(got)), len(want))
        assert got.rstrip().endswith(b"[DONE]"), got[-300:]
        assert sim.state("alpha")["requests"] + sim.state("beta")["requests"] == 4
        assert gateway.metric("perdure_stream_breaks_total", **{"class": "stalled"}) == 0, "the client's silence was taken for a provider's"


def test_the_process_ends_though_an_answer_lingers_and_gives_it_back_after_its_start():
    sim, gateway = alone({"linger": "1h"})
    try:
        want = gateway.stream().rest().text
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream()
        words(first, 10)
        first.close()
        gateway.until("the first client is gone", lambda: gateway.metric("perdure_server_connections") <= 1)
        assert gateway.metric("perdure_calls_running") == 1
        assert gateway.stop() == 0, gateway.log()[-2000:]
        sim.wait("alpha", cancelled=1)
        later = Gateway(gateway.path.read_text(), folder=gateway.folder)
        gateway.program, gateway.port = later.program, later.port
        again = gateway.stream().rest()
        assert again.done and again.text == want, again.raw[-300:]
        assert gateway.metric("perdure_calls_joined_total", to="part") == 1
        assert gateway.stop() == 0
    finally:
        gateway.program.kill()
        sim.program.kill()


def test_the_drain_limit_ends_followers_too():
    sim, gateway = alone(extra={"drain_timeout": "300ms"})
    try:
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream()
        words(first, 10)
        reader = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
        reader.request("GET", f"/api/calls/{first.headers['x-request-id']}/stream")
        answer = reader.getresponse()
        answer.read1(65536)
        gateway.program.process.send_signal(signal.SIGTERM)
        assert gateway.program.process.wait(20) == 0, gateway.log()
        assert first.rest().cut
    finally:
        gateway.program.kill()
        sim.program.kill()


def journal_bytes(gateway):
    return b"".join(p.read_bytes() for p in gateway.path.parent.glob("perdure-state/journal-*"))


def test_what_is_kept_is_for_its_owner_and_no_words_are_in_the_log():
    for keep in ("10m", "0"):
        sim, gateway = alone(extra={"resume_keep": keep, "log_level": "debug"})
        try:
            sim.faults("alpha", {"fault": "hold", "after": 12})
            s = gateway.stream()
            words(s, 12)
            some = s.text.split()[5] + " " + s.text.split()[6]
            if keep != "0":
                gateway.until("the journal has it", lambda: some.encode() in journal_bytes(gateway))
                folder = gateway.path.parent / "perdure-state"
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700
                for p in pathlib.Path(folder).rglob("*"):
                    assert stat.S_IMODE(p.stat().st_mode) == (0o700 if p.is_dir() else 0o600), p
            s.close()
            gateway.until("the call is over", lambda: gateway.metric("perdure_calls_running") == 0)
            assert gateway.stop() == 0
            assert (some.encode() in journal_bytes(gateway)) == (keep != "0"), keep
            assert some not in gateway.log()
        finally:
            gateway.program.kill()
            sim.program.kill()


def test_a_stream_that_breaks_again_and_again_ends_honestly():
    with running(PAIR[0], providers=VLLM, resilience={**RULES, "continuations": 3, "breaker_failures": 0}) as (sim, gateway):
        sim.faults("alpha", *[{"fault": "cut", "after": 3}] * 20)
        s = gateway.stream().rest()
        assert s.error and s.cut and not s.done, s.raw[-300:]
        assert sim.state("alpha")["requests"] == 4, sim.state("alpha")["requests"]
        big = "x" * (2 << 20)
        sim.faults("alpha", *[{"fault": "cut", "after": 10}] * 2)
        s = gateway.stream(text=big).rest()
        assert s.done and len(s.text.split()) == 40 and not s.error


if __name__ == "__main__":
    main(globals())
