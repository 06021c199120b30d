"""Two worker threads, each with its own loop, share targets, breakers and budgets. `tools/check races` runs this under TSan."""
import concurrent.futures
import signal

from perdure_test import Stream, config, main, request, running


def each(gateway, count, call):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(call, range(count)))


def test_calls_from_many_connections_are_all_answered_and_counted():
    with running("alpha:0,tokens=5", "beta:0,tokens=5", extra={"workers": 2}) as (sim, gateway):
        def call(i):
            if i % 2:
                return gateway.chat(text=f"question {i}").status
            stream = gateway.stream(text=f"question {i}").rest()
            return stream.status if stream.done else 0
        assert each(gateway, 200, call) == [200] * 200
        assert gateway.metric("perdure_calls_total", outcome="complete") == 200


def test_a_breaker_opened_through_one_worker_is_open_for_the_other():
    with running("alpha:0", "beta:0", extra={"workers": 2}, resilience={"breaker_hold": "10m", "backoff": "1ms"}) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 500, "times": 0})
        assert each(gateway, 60, lambda i: gateway.chat(text=f"question {i}").status) == [200] * 60
        assert gateway.metric("perdure_breaker_state", provider="alpha", state="open") == 1
        seen = sim.state("alpha")["requests"]
        assert each(gateway, 60, lambda i: gateway.chat(text=f"again {i}").status) == [200] * 60
        assert sim.state("alpha")["requests"] == seen
        assert seen >= 5


def test_reload_and_scrape_while_both_work():
    with running("alpha:0,tokens=5", "beta:0,tokens=5", extra={"workers": 2}) as (sim, gateway):
        def call(i):
            if i % 10 == 3:
                gateway.program.process.send_signal(signal.SIGHUP)
            if i % 10 == 7:
                return gateway.get("/metrics").status
            if i % 10 == 8:
                return gateway.get("/api/calls").status
            return gateway.stream(text=f"question {i}").rest().status
        assert each(gateway, 120, call) == [200] * 120
        gateway.until("a reload", lambda: gateway.metric("perdure_config_reloads_total", result="ok") >= 1)


if __name__ == "__main__":
    main(globals())
