"""Before the first output any failure is invisible; after it, it is told honestly. Each story has providers and a gateway of its own."""
import json
import time

from perdure_test import main, running

QUICK = {"backoff": "10ms", "backoff_max": "40ms", "retry_budget": 10, "ttft": "100ms", "ttft_adaptive": False, "hedge_budget": 1, "affinity": 0}
TWO = ("alpha:0,tokens=30", "beta:0,tokens=30")
FOREVER = {"times": 0}


def text_of(answer):
    return answer.json["choices"][0]["message"]["content"]


def whole(sim, gateway, provider, answer):
    """This answer is whole, and from this provider."""
    assert answer.status == 200, (answer.status, answer.body, gateway.log())
    assert answer.header("x-perdure-provider") == provider, answer.headers
    assert len(text_of(answer).split()) == 30, answer.body
    assert answer.json["usage"]["completion_tokens"] > 0


def breaker(gateway, name):
    return next((t["breaker"] for p in gateway.get("/api/providers").json["providers"] if p["name"] == name for t in p["targets"]), "closed")


def test_a_rate_limit_goes_elsewhere_at_once_and_the_limited_target_rests():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 429, "headers": {"retry-after": "30"}})
        whole(sim, gateway, "beta", gateway.chat())
        assert sim.state("alpha")["by_fault"] == {"status": 1}
        whole(sim, gateway, "beta", gateway.chat())
        assert sim.state("alpha")["requests"] == 1, "a resting target was asked"
        assert breaker(gateway, "alpha") == "closed", "a rate limit is no failure of the target"


def test_with_one_target_the_retry_after_is_waited_out():
    with running("alpha:0,tokens=30", resilience=QUICK) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 429, "headers": {"retry-after-ms": "300"}})
        began = time.monotonic()
        whole(sim, gateway, "alpha", gateway.chat())
        assert time.monotonic() - began >= 0.3, "asked again before the time it was told"
        assert sim.state("alpha")["requests"] == 2


def test_a_retry_after_too_long_to_wait_for_is_told_to_the_client():
    with running("alpha:0", resilience={**QUICK, "retry_after_max": "100ms"}) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 429, "headers": {"retry-after": "40"}, **FOREVER})
        answer = gateway.chat()
        assert answer.status == 429 and answer.json["error"]["code"] == "rate_limit_exceeded", answer.body
        assert 30 <= int(answer.header("retry-after")) <= 40, answer.headers


def test_a_bad_request_is_sent_nowhere_else_and_the_provider_is_quoted():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        for stream in (False, True):
            sim.faults("alpha", {"fault": "status", "status": 400, "message": "top_p is 7: at most 1", "code": "out_of_range"})
            answer = gateway.chat(stream=stream)
            assert answer.status == 400, answer.body
            assert answer.json["error"]["message"] == "top_p is 7: at most 1" and answer.json["error"]["code"] == "out_of_range"
        assert sim.state("alpha")["by_fault"] == {"status": 2}
        assert sim.state("beta")["requests"] == 0, "a bad request was sent elsewhere"
        assert gateway.metric("perdure_calls_total", outcome="error") == 2


def test_what_a_content_filter_refuses_is_sent_nowhere_else():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "like": "content_filter"})
        answer = gateway.chat()
        assert answer.status == 400 and answer.json["error"]["code"] == "content_filter", answer.body
        assert sim.state("beta")["requests"] == 0


def test_a_prompt_that_is_too_long_is_the_clients_to_shorten():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "like": "context_length"})
        answer = gateway.chat()
        assert answer.status == 400 and answer.json["error"]["code"] == "context_length_exceeded", answer.body


def test_a_refused_key_parks_its_target_and_the_client_is_served_elsewhere():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "like": "auth", **FOREVER})
        whole(sim, gateway, "beta", gateway.chat())
        whole(sim, gateway, "beta", gateway.chat())
        assert sim.state("alpha")["requests"] == 1, "a parked target was asked"
        parked = gateway.get("/api/providers").json["providers"][0]["targets"][0]
        assert parked["parked_for"] == "auth" and parked["resting_ms"] > 60000, parked
        assert "target.parked target=alpha/m class=auth" in gateway.log()


def test_a_refused_key_everywhere_is_not_the_clients_key():
    with running("alpha:0", resilience=QUICK) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "like": "auth", **FOREVER})
        answer = gateway.chat()
        assert answer.status == 502 and answer.json["error"]["code"] == "provider_auth", (answer.status, answer.body)
        again = gateway.chat()  # parked by now: the reason is told, not a lack of capacity
        assert again.status == 502 and again.json["error"]["code"] == "provider_auth", (again.status, again.body)
        assert again.header("x-should-retry") == "false" and again.header("x-perdure-attempts") == "0", again.headers


def test_five_failures_open_the_breaker_and_a_probe_heals_it():
    rules = {**QUICK, "attempts": 1, "breaker_hold": "100ms", "breaker_trials": 2, "probe": "50ms"}
    with running(*TWO, resilience=rules) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 500, **FOREVER})
        for n in range(5):
            assert breaker(gateway, "alpha") == "closed", f"open after {n} failures"
            whole(sim, gateway, "beta", gateway.chat())
        assert gateway.metric("perdure_breaker_transitions_total", provider="alpha", state="open") == 1
        # open: only probes reach it, and they fail
        sim.wait("alpha", status=6)
        answer = gateway.chat()
        whole(sim, gateway, "beta", answer)
        assert answer.header("x-perdure-attempts") == "1", "a call was tried on an open target"
        gateway.until("a failed probe", lambda: gateway.metric("perdure_probes_total", provider="alpha", result="failed") >= 1)
        sim.faults("alpha")
        gateway.until("the trial", lambda: breaker(gateway, "alpha") == "trial")
        assert gateway.metric("perdure_probes_total", provider="alpha", result="passed") == 1
        for _ in range(2):
            whole(sim, gateway, "alpha", gateway.chat())
        assert breaker(gateway, "alpha") == "closed"


def test_a_probe_heals_a_provider_of_whatever_dialect():
    rules = {**QUICK, "attempts": 1, "breaker_hold": "100ms", "breaker_trials": 1, "probe": "50ms"}
    for wire, preset in (("openai-responses", "openai"), ("anthropic-messages", "anthropic"), ("gemini", "gemini")):
        kind = {"alpha": {"preset": preset, **({"wires": [wire]} if preset == "openai" else {})}}
        with running(*TWO, providers=kind, resilience=rules) as (sim, gateway):
            sim.faults("alpha", {"fault": "status", "status": 500, **FOREVER})
            gateway.until("it is open", lambda: gateway.chat() and breaker(gateway, "alpha") == "open")
            sim.faults("alpha")
            gateway.until(f"the trial of {wire}", lambda: breaker(gateway, "alpha") == "trial")


def refused(sim, gateway, fault):
    """Two probes of alpha fail that began after this fault had happened: of those that were under way before there was one at most."""
    def failed():
        return gateway.metric("perdure_probes_total", provider="alpha", result="failed") or 0
    sim.wait("alpha", **{fault: 1})
    before = failed()
    gateway.until(f"two probes fail of {fault}", lambda: failed() >= before + 2)


def test_a_probe_passes_by_its_first_output_and_is_not_read_to_its_end():
    rules = {**QUICK, "attempts": 1, "breaker_hold": "100ms", "breaker_trials": 1, "probe": "50ms"}
    for wire, preset in (("openai-chat", "openai"), ("openai-responses", "openai"), ("anthropic-messages", "anthropic"), ("gemini", "gemini")):
        kind = {"alpha": {"preset": preset, **({"wires": [wire]} if preset == "openai" else {})}}
        with running(*TWO, providers=kind, resilience=rules) as (sim, gateway):
            sim.faults("alpha", {"fault": "status", "status": 500, **FOREVER})
            gateway.until("it is open", lambda: gateway.chat() and breaker(gateway, "alpha") == "open")
            sim.faults("alpha", {"fault": "error_in_stream", "after": 0, **FOREVER})
            refused(sim, gateway, "error_in_stream")
            sim.faults("alpha", {"fault": "hold", "after": 1, **FOREVER})   # the rest never comes
            gateway.until(f"the trial of {wire}", lambda: breaker(gateway, "alpha") == "trial")
            sim.wait("alpha", hold=1)
            sim.wait("alpha", cancelled=1)


def test_a_provider_that_does_not_stream_is_probed_all_the_same():
    rules = {**QUICK, "attempts": 1, "breaker_hold": "100ms", "breaker_trials": 1, "probe": "50ms"}
    with running(*TWO, providers={"alpha": {"stream": False}}, resilience=rules) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 500, **FOREVER})
        gateway.until("it is open", lambda: gateway.chat() and breaker(gateway, "alpha") == "open")
        sim.faults("alpha", {"fault": "error_in_200", **FOREVER})
        refused(sim, gateway, "error_in_200")
        sim.faults("alpha")
        gateway.until("the trial", lambda: breaker(gateway, "alpha") == "trial")


def test_a_session_stays_where_it_was_served():
    rules = {**QUICK, "affinity": "1h"}
    routes = {"main": {"strategy": "weighted", "targets": [{"model": "alpha/m", "weight": 50}, {"model": "beta/m", "weight": 50}]}}
    with running(*TWO, routes=routes, resilience=rules) as (sim, gateway):
        for n in range(6):
            first = gateway.chat(text=f"session {n}", headers={"x-session-id": f"s{n}"}).header("x-perdure-provider")
            for _ in range(4):
                assert gateway.chat(text=f"session {n}, more", headers={"x-session-id": f"s{n}"}).header("x-perdure-provider") == first
        assert sim.state("alpha")["requests"] + sim.state("beta")["requests"] == 30
        # and moves when its target fails, and stays there
        answer = gateway.chat(headers={"x-session-id": "moving"})
        home = answer.header("x-perdure-provider")
        other = "beta" if home == "alpha" else "alpha"
        sim.faults(home, {"fault": "status", "status": 503, "times": 2})
        assert gateway.chat(headers={"x-session-id": "moving"}).header("x-perdure-provider") == other
        assert sim.state(home)["by_fault"]["status"] >= 1


def test_past_the_ttft_limit_the_next_target_is_started_beside_and_the_loser_is_cancelled():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        for stream in (False, True):
            sim.faults("alpha", "silent")
            if stream:
                s = gateway.stream().rest()
                assert s.done and len(s.text.split()) == 30 and s.headers["x-perdure-provider"] == "beta"
            else:
                whole(sim, gateway, "beta", gateway.chat())
        sim.wait("alpha", cancelled=2)
        assert sim.state("alpha")["by_fault"] == {"silent": 2}
        assert gateway.metric("perdure_hedges_total", provider="beta", result="won") == 2
        assert gateway.metric("perdure_calls_total", outcome="complete") == 2


def test_slowness_alone_never_fails_a_call():
    with running(*TWO, resilience={**QUICK, "ttft": "20ms"}) as (sim, gateway):
        for name in ("alpha", "beta"):
            sim.faults(name, {"fault": "slow", "ttft": "400ms", **FOREVER})
        answer = gateway.chat()
        assert answer.status == 200 and len(text_of(answer).split()) == 30, answer.body
        assert sim.state("alpha")["requests"] == sim.state("beta")["requests"] == 1


def test_comments_are_no_life():
    """Keep-alive comments alone: the next target is started; where there is none, the limit ends the wait."""
    with running("alpha:0,style=deepseek,tokens=30", "beta:0,tokens=30", resilience=QUICK) as (sim, gateway):
        sim.faults("alpha", {"fault": "keepalive", "for": "10m", "every": "20ms"})
        s = gateway.stream().rest()
        assert s.done and s.headers["x-perdure-provider"] == "beta" and len(s.text.split()) == 30
        sim.wait("alpha", cancelled=1)
    with running("alpha:0,style=deepseek", resilience={**QUICK, "attempts": 1, "first_token_timeout": "200ms"}) as (sim, gateway):
        sim.faults("alpha", {"fault": "keepalive", "for": "10m", "every": "20ms", **FOREVER})
        answer = gateway.chat(stream=True)
        assert answer.status == 504 and answer.json["error"]["code"] == "provider_timeout", (answer.status, answer.body)
        sim.wait("alpha", cancelled=1)


def test_an_unstreamed_client_never_sees_a_cut():
    with running(*TWO, resilience={**QUICK, "attempts": 1, "breaker_failures": 0}) as (sim, gateway):
        for fault in "cut reset early_end error_in_stream bad_chunk".split():
            sim.faults("alpha", {"fault": fault, "after": 12})
            whole(sim, gateway, "beta", gateway.chat())
            assert sim.state("alpha")["by_fault"][fault] == 1, f"{fault} did not happen"
    with running(*TWO, resilience={**QUICK, "attempts": 1, "stall": "100ms"}) as (sim, gateway):
        sim.faults("alpha", {"fault": "stall", "after": 12})
        whole(sim, gateway, "beta", gateway.chat())
        assert sim.state("alpha")["by_fault"]["stall"] == 1


def broken(gateway, stream, outcome="cut_after_output"):
    stream.rest()
    assert stream.status == 200 and stream.text, (stream.status, stream.raw)
    assert stream.error and "broke off" in stream.error["message"], stream.raw[-500:]
    assert not stream.done and stream.cut, "it looks like an end"
    assert stream.error["attempts"][0]["provider"] == "alpha", stream.error
    assert gateway.metric("perdure_streams_total", outcome=outcome) >= 1, gateway.get("/metrics").body.decode()


AFTER_OUTPUT = ({"fault": "cut", "after": 12}, {"fault": "reset", "after": 12}, {"fault": "early_end", "after": 12},
                {"fault": "error_in_stream", "after": 12, "like": "overloaded"}, {"fault": "bad_chunk", "after": 12})


def test_what_was_shown_and_then_cut_goes_on_elsewhere():
    for fault in AFTER_OUTPUT:
        with running(*TWO, resilience={**QUICK, "attempts": 1}) as (sim, gateway):
            want = gateway.stream().rest().text
            sim.faults("alpha", fault)
            s = gateway.stream().rest()
            assert s.done and not s.cut and s.text == want, (fault, s.text, want)
            assert len({e["id"] for e in s.events}) == 1, "one answer has one id"
            assert sum((c.get("delta") or {}).get("role") is not None for e in s.events for c in e["choices"]) == 1
            assert sim.state("alpha")["by_fault"] == {fault["fault"]: 1}
            assert sim.state("alpha")["requests"] + sim.state("beta")["requests"] == 3
            assert gateway.metric("perdure_streams_total", outcome="continued") == 1


def test_a_stall_after_output_goes_on_elsewhere():
    with running(*TWO, resilience={**QUICK, "stall": "150ms", "attempts": 1, "breaker_timeouts": 0}) as (sim, gateway):
        want = gateway.stream().rest().text
        for shape in ("nothing", "comments", "pings", "blank"):
            sim.faults("alpha", {"fault": "stall", "after": 12, "shape": shape, "every": "20ms"})
            s = gateway.stream().rest()
            assert s.done and s.text == want, (shape, s.text)
        sim.wait("alpha", cancelled=4)


def test_what_was_shown_and_then_cut_ends_in_an_honest_error_where_nothing_goes_on():
    for fault in AFTER_OUTPUT:
        with running(*TWO, resilience={**QUICK, "continuations": 0}) as (sim, gateway):
            sim.faults("alpha", fault)
            s = gateway.stream()
            broken(gateway, s)
            assert len(s.text.split()) <= 12, f"{fault}: {s.text}"
            assert sim.state("alpha")["by_fault"] == {fault["fault"]: 1}
            assert sim.state("beta")["requests"] == 0


def test_a_stall_after_output_ends_in_an_honest_error():
    with running(*TWO, resilience={**QUICK, "stall": "150ms", "continuations": 0}) as (sim, gateway):
        for shape in ("nothing", "comments"):
            sim.faults("alpha", {"fault": "stall", "after": 12, "shape": shape, "every": "20ms"})
            broken(gateway, gateway.stream(text=f"hello, {shape}"), "stalled")  # the same again would be resumed
        sim.wait("alpha", cancelled=2)
        assert gateway.metric("perdure_streams_total", outcome="stalled") == 2


def test_an_error_inside_a_200_is_an_error():
    with running(*TWO, resilience={**QUICK, "attempts": 1}) as (sim, gateway):
        for stream in (False, True):
            sim.faults("alpha", {"fault": "error_in_200", "like": "overloaded"})
            if stream:
                s = gateway.stream().rest()
                assert s.done and s.headers["x-perdure-provider"] == "beta"
            else:
                whole(sim, gateway, "beta", gateway.chat())
        assert sim.state("alpha")["by_fault"] == {"error_in_200": 2}
        assert gateway.metric("llm_request_errors_total", provider="alpha", error_type="overloaded") == 2


def test_an_html_page_is_no_answer_whatever_its_status():
    with running(*TWO, resilience={**QUICK, "attempts": 1, "breaker_failures": 0}) as (sim, gateway):
        for fault in ({"fault": "status", "status": 502, "html": True}, {"fault": "error_in_200", "html": True},
                      {"fault": "empty", "shape": "body"}, {"fault": "empty", "shape": "no_choices"}):
            for stream in (False, True):
                sim.faults("alpha", fault)
                answer = gateway.chat(stream=stream)
                assert answer.status == 200 and answer.header("x-perdure-provider") == "beta", (fault, stream, answer.body)


def test_a_terminator_without_an_answer_says_nothing_of_the_next_attempt():
    """An empty stream with [DONE], then a stream that takes longer than a terminator's grace."""
    with running("alpha:0", "beta:0,tokens=30,token_delay=20ms", resilience={**QUICK, "ttft": "5s"}) as (sim, gateway):
        sim.faults("alpha", {"fault": "empty", "shape": "no_choices", **FOREVER})
        s = gateway.stream().rest()
        assert s.done and not s.error and len(s.text.split()) == 30, s.raw[-500:]
        whole(sim, gateway, "beta", gateway.chat())
        assert sim.state("alpha")["by_fault"]["empty"] >= 2


def test_frames_that_are_no_chunk_are_skipped():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        for shape in ("json", "truncated", "html", "text"):
            sim.faults("alpha", {"fault": "malformed", "after": 12, "shape": shape, "count": 3})
            s = gateway.stream().rest()
            assert s.done and not s.error and len(s.text.split()) == 30, (shape, s.raw[-600:])
            assert s.headers["x-perdure-provider"] == "alpha"
        assert sim.state("alpha")["by_fault"] == {"malformed": 4}
        assert gateway.metric("perdure_malformed_events_total", provider="alpha") >= 3


def test_every_framing_reaches_the_client_as_the_same_text():
    framings = "sse sse-crlf sse-nospace multiline event-names jsonl one-byte split-bytes coalesced no-done no-final-blank no-done+no-final-blank".split()
    specs = [f"p{i}:0,tokens=30,framing={f}" for i, f in enumerate(framings)]
    with running(*specs, resilience=QUICK) as (sim, gateway):
        texts = {}
        for i, framing in enumerate(framings):
            s = gateway.stream(model=f"p{i}/m").rest()
            assert s.done and not s.error and not s.cut, (framing, s.raw[-400:])
            texts[framing] = s.text
            assert text_of(gateway.chat(model=f"p{i}/m")) == s.text, framing
        assert len(set(texts.values())) == 1 and len(s.text.split()) == 30, texts


def test_a_dead_first_provider_costs_nothing_but_an_attempt():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        sim.down("alpha")
        whole(sim, gateway, "beta", gateway.chat())
        assert gateway.metric("llm_request_errors_total", provider="alpha", error_type="connect") >= 1
        sim.up("alpha")
        whole(sim, gateway, "alpha", gateway.chat())


def test_a_pooled_connection_that_went_stale_is_no_failure():
    """The provider promises keep-alive and closes: the request goes out again on a fresh connection, uncounted as an attempt."""
    with running("alpha:0,tokens=30", resilience={**QUICK, "attempts": 1}) as (sim, gateway):
        sim.faults("alpha", {"fault": "close_idle", **FOREVER})
        for _ in range(10):
            answer = gateway.chat()
            whole(sim, gateway, "alpha", answer)
            assert answer.header("x-perdure-attempts") == "1"
        # a reset on a connection that was in use before
        sim.faults("alpha")
        gateway.chat()
        sim.faults("alpha", {"fault": "reset", "when": "reused", **FOREVER})
        whole(sim, gateway, "alpha", gateway.chat())
        assert sim.state("alpha")["by_fault"].get("reset", 0) == 1, "no connection was used again: this shows nothing"


def test_when_nobody_can_answer_the_error_tells_every_attempt():
    with running(*TWO, resilience={**QUICK, "attempts": 2}) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 503, "message": "closed for repairs", **FOREVER})
        sim.faults("beta", {"fault": "reset", **FOREVER})
        answer = gateway.chat()
        assert answer.status in (502, 503) and answer.header("retry-after"), (answer.status, answer.headers)
        assert answer.header("content-type") == "application/json"
        error = answer.json["error"]
        told = json.dumps(error)
        assert "alpha" in told and "beta" in told and "overloaded" in told and "reset" in told, told


def test_one_call_may_forbid_the_fallback():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 500, **FOREVER})
        answer = gateway.chat(headers={"x-perdure-no-fallback": "1"})
        assert answer.status == 502, (answer.status, answer.body)
        assert sim.state("beta")["requests"] == 0


def test_one_call_may_have_a_deadline_of_its_own():
    with running(*TWO, resilience=QUICK) as (sim, gateway):
        for name in ("alpha", "beta"):
            sim.faults(name, {"fault": "silent", **FOREVER})
        answer = gateway.chat(headers={"x-perdure-deadline": "250ms"})
        assert answer.status == 504, (answer.status, answer.body)
        sim.wait("alpha", cancelled=1)
        sim.wait("beta", cancelled=1)


def test_retries_do_not_multiply_an_outage():
    with running("alpha:0", resilience={**QUICK, "attempts": 3, "backoff": "1ms", "backoff_max": "2ms", "retry_budget": 0.1,
                                        "breaker_failures": 0}) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 500, **FOREVER})
        calls = 300
        for _ in range(calls):
            assert gateway.chat().status == 502
        asked = sim.state("alpha")["requests"]
        assert calls < asked < calls * 1.5, f"{asked} requests for {calls} calls"
        assert gateway.metric("perdure_budget_denied_total") > 0


if __name__ == "__main__":
    main(globals())
