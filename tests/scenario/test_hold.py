"""All providers are down: a session's call waits, says that it is there, and starts in its order when one is back; a single one fails at once."""
import contextlib
import http.client
import json
import signal
import threading
import time

from perdure_test import DEADLINE, Gateway, Providers, config, main, running

RULES = {"ttft": 0, "backoff": "10ms", "backoff_max": "50ms", "affinity": 0, "attempts": 1, "keepalive": "50ms", "hold": "1m",
         "retry_after_max": "1s", "breaker_hold": "100ms", "breaker_hold_max": "200ms", "probe": "100ms"}
SESSION = {"x-perdure-session": "one"}
DOWN = {
    "refused": lambda sim: sim.down("alpha"),
    "503": lambda sim: sim.faults("alpha", {"fault": "status", "status": 503, "on": "any", "times": 0}),
    "429 for long": lambda sim: sim.faults("alpha", {"fault": "status", "status": 429, "headers": {"Retry-After": "2"}, "on": "any", "times": 0}),
    "529": lambda sim: sim.faults("alpha", {"fault": "status", "status": 529, "on": "any", "times": 0}),
}


def back(sim):
    sim.up("alpha")
    sim.faults("alpha")


class Caller(threading.Thread):
    """A call in a thread of its own: its answer, and every line of it as it came."""

    def __init__(self, gateway, stream=True, text="hello", headers=SESSION, start=True, **more):
        super().__init__(daemon=True)
        self.gateway, self.stream_it, self.text, self.headers, self.more = gateway, stream, text, headers, more
        self.answer = self.stream = None
        self.began = self.took = None
        if start:
            self.start()

    def run(self):
        began = time.monotonic()
        if self.stream_it:
            self.stream = self.gateway.stream(text=self.text, headers=self.headers, **self.more).rest()
        else:
            self.answer = self.gateway.chat(text=self.text, headers=self.headers, **self.more)
        self.took = time.monotonic() - began

    def end(self):
        self.join(DEADLINE)
        assert not self.is_alive(), f"it never ended\n{self.gateway.log()[-3000:]}"
        return self.stream if self.stream_it else self.answer


def calls(gateway, state=None):
    found = gateway.get("/api/calls").json["running"]
    return [c for c in found if state is None or c["state"] == state]


def holding(gateway, count=1):
    """The first on hold, the others behind them in the queue of a target whose breaker is open."""
    gateway.until(f"{count} calls on hold", lambda: calls(gateway, "holding") and len(calls(gateway, "holding")) + len(calls(gateway, "waiting")) >= count)


def test_a_sessions_call_waits_and_says_so_until_a_provider_is_back():
    for how, strike in DOWN.items():
        with running("alpha:0,tokens=20", resilience=RULES) as (sim, gateway):
            strike(sim)
            caller = Caller(gateway)
            holding(gateway)
            held = calls(gateway, "holding")[0]
            assert held["until_ms"] > held["since_ms"], held
            assert gateway.metric("perdure_calls_held") == 1, how
            gateway.until("some time on hold", lambda: calls(gateway)[0]["held_ms"] >= 200)
            back(sim)
            s = caller.end()
            assert s.status == 200 and s.done and not s.error and len(s.text.split()) == 20, (how, s.raw[-300:])
            assert s.raw.startswith(b":"), (how, s.raw[:100])
            assert s.raw.count(b"\n:") + s.raw.startswith(b":") >= 2, (how, s.raw[:200])
            gateway.until("none is on hold", lambda: gateway.metric("perdure_calls_held") == 0)
            assert gateway.metric("perdure_held_seconds_count") == 1


def test_a_whole_answer_waits_too():
    with running("alpha:0,tokens=20", resilience=RULES) as (sim, gateway):
        sim.down("alpha")
        caller = Caller(gateway, stream=False)
        holding(gateway)
        back(sim)
        a = caller.end()
        assert a.status == 200 and len(a.json["choices"][0]["message"]["content"].split()) == 20


def test_what_makes_a_call_one_of_a_session():
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    rows = [({}, {}, False), (SESSION, {}, True), ({}, {"tools": [tool]}, True), ({}, {"messages": turns}, True)]
    for headers, more, waits in rows:
        with running("alpha:0,tokens=5", resilience=RULES) as (sim, gateway):
            sim.down("alpha")
            caller = Caller(gateway, stream=False, headers=headers, **more)
            if waits:
                holding(gateway)
                back(sim)
                assert caller.end().status == 200, (headers, more)
            else:
                a = caller.end()
                assert a.status == 503 and a.json["error"]["code"] == "provider_unreachable", a.body
                assert a.json["error"]["attempts"], a.body
                assert gateway.metric("perdure_held_seconds_count") == 0


def test_a_single_streamed_call_fails_at_once_with_a_status():
    with running("alpha:0,tokens=5", resilience=RULES) as (sim, gateway):
        sim.down("alpha")
        s = gateway.stream()
        assert s.status == 503 and s.headers["content-type"].startswith("application/json")
        s.close()


def test_one_request_says_how_long_it_waits():
    with running("alpha:0,tokens=5", resilience={**RULES, "hold": 0}) as (sim, gateway):
        sim.down("alpha")
        caller = Caller(gateway, stream=False, headers={"x-perdure-hold": "1m"})
        holding(gateway)
        back(sim)
        assert caller.end().status == 200
        sim.down("alpha")
        assert gateway.chat(headers=SESSION).status == 503
    with running("alpha:0,tokens=5", resilience=RULES) as (sim, gateway):
        sim.down("alpha")
        assert gateway.chat(headers={**SESSION, "x-perdure-hold": "0"}).status == 503
        assert gateway.chat(headers={**SESSION, "x-perdure-hold": "soon"}).status == 400


def test_when_the_hold_is_over_the_client_is_told_in_the_form_that_is_left():
    with running("alpha:0,tokens=5", resilience={**RULES, "hold": "3s"}) as (sim, gateway):
        sim.down("alpha")
        a = gateway.chat(headers=SESSION)
        assert a.status == 503 and a.json["error"]["code"] == "provider_unreachable", (a.status, a.body)
        s = gateway.stream(headers=SESSION).rest()          # comments were sent before: its status is spent
        assert s.status == 200 and s.error and not s.done and s.cut and s.text == "", s.raw
        gateway.until("both are counted", lambda: gateway.metric("perdure_held_seconds_count") == 2)
    with running("alpha:0,tokens=5", resilience={**RULES, "hold": "3s", "keepalive": 0}) as (sim, gateway):
        sim.down("alpha")
        s = gateway.stream(headers=SESSION)                 # and here it is not
        assert s.status == 503
        s.close()


def test_other_formats_are_told_in_theirs():
    with running("alpha:0,tokens=5", resilience={**RULES, "hold": "3s"}) as (sim, gateway):
        sim.down("alpha")
        bodies = {"/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}, "/v1/responses": {"input": "q"}}
        for path, body in bodies.items():
            raw = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
            raw.request("POST", path, json.dumps({"model": "main", "stream": True, **body}), {"content-type": "application/json", **SESSION})
            answer = raw.getresponse()
            assert answer.status == 200, (path, answer.status)
            got = b""
            with contextlib.suppress(http.client.IncompleteRead):
                while line := answer.readline():
                    got += line
            assert b"event: error" in got, (path, got)
            error = [json.loads(line[6:]) for line in got.decode().splitlines() if line.startswith("data: {") and "error" in line]
            assert error and error[-1]["type"] == "error", (path, got)
            raw.close()


def test_a_client_that_leaves_is_on_hold_no_more():
    with running("alpha:0,tokens=5", resilience=RULES) as (sim, gateway):
        sim.down("alpha")
        s = gateway.stream(headers=SESSION)
        holding(gateway)
        s.close()
        gateway.until("it is over", lambda: not calls(gateway))
        assert gateway.metric("perdure_calls_total", outcome="client_gone") == 1
        assert gateway.metric("perdure_calls_held") == 0
        back(sim)
        gateway.until("a healthy provider", lambda: gateway.chat(headers=SESSION).status == 200)
        assert sim.state("alpha")["tokens"] <= 10 + 20, "the call of a client that had left was made"


def test_a_hundred_wait_on_two_workers_and_start_without_a_stampede():
    count = 100
    rules = {**RULES, "affinity": 0}
    with running("alpha:0,tokens=5,concurrency=8", resilience=rules, extra={"workers": 2}) as (sim, gateway):
        sim.down("alpha")
        callers = []
        for i in range(count):
            callers.append(Caller(gateway, text=f"call {i}", headers={"x-perdure-session": f"s{i}", "connection": "close"}))
        holding(gateway, count)
        assert gateway.metric("perdure_calls_held") >= 1
        back(sim)
        for c in callers:
            s = c.end()
            assert s.status == 200 and s.done and not s.error, s.raw[-300:]
        state = sim.state("alpha")
        refused = state["requests"] - count
        assert refused <= count // 2, f"{state['requests']} requests for {count} calls"
        gateway.until("none is on hold", lambda: gateway.metric("perdure_calls_held") == 0)


def test_a_call_in_the_queue_is_let_in_by_the_others_worker():
    # one place, two workers: who waits is woken by whoever frees it, on either
    with running("alpha:0,tokens=5,token_delay=2ms,concurrency=1", resilience=RULES, extra={"workers": 2}) as (sim, gateway):
        sim.down("alpha")
        callers = [Caller(gateway, text=f"call {i}", headers={"x-perdure-session": f"s{i}", "connection": "close"}) for i in range(12)]
        holding(gateway, 12)
        back(sim)
        for c in callers:
            assert c.end().done


def test_the_stream_that_breaks_waits_for_recovery_too():
    with running("alpha:0,tokens=40,style=vllm", providers={"alpha": {"preset": "vllm"}}, resilience=RULES) as (sim, gateway):
        want = gateway.stream().rest().text
        sim.faults("alpha", {"fault": "hold", "after": 10})
        caller = Caller(gateway)
        sim.wait("alpha", held=1)
        gateway.until("ten words are there", lambda: calls(gateway, "relaying"))
        sim.down("alpha")       # cuts what runs, and refuses the next
        holding(gateway)
        back(sim)
        s = caller.end()
        assert s.done and s.text == want and not s.error, (s.text, s.raw[-400:])
        gateway.until("it is counted", lambda: gateway.metric("perdure_calls_total", outcome="continued") == 1)
        assert b"\n: " in s.raw or b"\n:\n" in s.raw, s.raw


def test_with_default_settings_a_lone_users_stream_that_broke_goes_on():
    for faults in ([{"fault": "cut", "after": 10}], [{"fault": "cut", "after": 5}] * 5):
        with running("alpha:0,tokens=40,style=vllm", providers={"alpha": {"preset": "vllm"}}, resilience={"breaker_hold": "300ms", "probe": "200ms"}) as (sim, gateway):
            want = gateway.stream(headers=SESSION).rest().text
            sim.faults("alpha", *faults)
            s = gateway.stream(headers=SESSION).rest()
            assert s.done and s.text == want and not s.error, (faults, s.text, s.raw[-500:])


def test_a_lone_users_stream_waits_for_its_only_target_though_the_breaker_is_open_and_no_retry_is_left():
    crowd = [f"p{i}" for i in range(8)]
    specs = ["alpha:0,tokens=40,style=vllm", *(f"{n}:0" for n in crowd)]
    routes = {"main": {"targets": ["alpha/m"]}, "crowd": {"strategy": "priority", "targets": [f"{n}/m" for n in crowd]}}
    with running(*specs, providers={"alpha": {"preset": "vllm"}}, routes=routes, resilience={"breaker_hold": "1s", "probe": "200ms"}) as (sim, gateway):
        want = gateway.stream().rest().text
        sim.faults("alpha", {"fault": "hold", "after": 10})
        s = gateway.stream()
        while len(s.text.split()) < 10:
            assert s.next() is not None
        for n in crowd:
            sim.faults(n, {"fault": "status", "status": 503, "times": 0})
        tries = [1 << 30]
        while tries[-1] > 1:   # a call alone tries nothing twice once the budget is empty
            before = sum(sim.state(n)["requests"] for n in crowd)
            gateway.chat(model=f"{crowd[len(tries) % len(crowd)]}/m")
            tries.append(sum(sim.state(n)["requests"] for n in crowd) - before)
            assert len(tries) < 60, tries
        sim.down("alpha")
        gateway.until("the call waits", lambda: calls(gateway, "holding") + calls(gateway, "waiting"))
        gateway.until("the breaker is open", lambda: gateway.chat().status != 200 and gateway.metric("perdure_breaker_state", provider="alpha", state="open"))
        assert calls(gateway, "holding") or calls(gateway, "waiting")
        back(sim)
        s.rest()
        assert s.done and s.text == want and not s.error, (s.text, s.raw[-500:])


def test_behind_an_open_breaker_a_call_is_shown_as_holding():
    rules = {**RULES, "breaker_failures": 1, "breaker_hold": "5m", "breaker_hold_max": "5m", "retry_after_max": "10m", "probe": "5m", "probe_waiting": 0}
    with running("alpha:0,tokens=20", resilience=rules) as (sim, gateway):
        sim.down("alpha")
        assert gateway.chat().status >= 500
        gateway.until("the breaker is open", lambda: gateway.metric("perdure_breaker_state", provider="alpha", state="open"))
        s = gateway.stream(headers=SESSION)     # the first comment
        call = calls(gateway)[0]
        assert call["state"] == "holding", call
        assert call["since_ms"] < 1000, call
        assert 200_000 < call["next_ms"] < call["until_ms"], call
        assert 600_000 <= call["until_ms"] <= 660_000, call     # retry_after_max, and the hold
        gateway.until("it is told how long", lambda: calls(gateway)[0]["waited_ms"] > 0)
        s.answer.close()
        s.connection.close()
        gateway.until("it is gone", lambda: not calls(gateway))


def test_sigterm_ends_a_call_on_hold_by_the_drain_limit():
    sim = Providers("alpha:0,tokens=5")
    gateway = Gateway(config({"alpha": {"preset": "openai-compatible", "base_url": sim.url("alpha"), "models": ["m"]}},
                             {"main": {"strategy": "priority", "targets": ["alpha/m"]}}, RULES, {"drain_timeout": "300ms"}))
    try:
        sim.down("alpha")
        caller = Caller(gateway)
        holding(gateway)
        gateway.program.process.send_signal(signal.SIGTERM)
        s = caller.end()
        assert s.cut and not s.done
        assert gateway.program.process.wait(20) == 0, gateway.log()
    finally:
        gateway.program.kill()
        sim.program.kill()


if __name__ == "__main__":
    main(globals())
