"""Failing providers in every dialect before clients of every dialect: invisible before the first output, told honestly after it.

Each story goes through all pairs of dialects, streamed and not; a fault that did not strike fails it.
"""
from dialect_gateway import ARRAY, CHAT, CONVERSE, GEMINI, MESSAGES, OLLAMA, RESPONSES, TOKENS, UPSTREAM, WAYS, Told, broken_off, name_of, no_end, pair, whole
from perdure_test import main

AFTER = 9


def each_way(p, fault, least=1):
    """Every client, streamed and not, after `fault` was set for the next request to alpha, and that it struck."""
    for client, stream in WAYS:
        where = f"{name_of(client)}{' streamed' if stream else ''} on {p.upstream}: {fault}"
        before = p.sim.state("alpha")["by_fault"].get(fault["fault"], 0)
        p.sim.faults("alpha", {**fault, "on": "chat"})
        yield client, stream, where
        struck = p.sim.state("alpha")["by_fault"].get(fault["fault"], 0) - before
        assert struck >= least, f"{where}: the fault did not strike"
        p.sim.faults("alpha")


def served_elsewhere(p, fault, attempts="2"):
    for client, stream, where in each_way(p, fault):
        answer = p.ask(client, stream)
        whole(client, stream, answer, where)
        assert answer.headers["x-perdure-attempts"] == attempts, (where, answer.headers)


REFUSALS = [
    {"fault": "status", "like": "auth"},
    {"fault": "status", "like": "model_not_found"},
    {"fault": "status", "status": 429, "headers": {"retry-after": "30"}},
    {"fault": "status", "status": 500},
    {"fault": "status", "status": 503},
    {"fault": "status", "status": 529},
]


def test_a_status_that_is_not_the_requests_fault_is_answered_elsewhere():
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            for fault in REFUSALS:
                served_elsewhere(p, fault)


def test_an_error_in_a_200_nothing_in_it_and_a_reset_are_answered_elsewhere():
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            for fault in ({"fault": "error_in_200", "like": "overloaded"}, {"fault": "empty"}, {"fault": "empty", "shape": "body"},
                          {"fault": "status", "status": 502, "html": True}, {"fault": "error_in_200", "html": True}):
                served_elsewhere(p, fault)
            for client, stream, where in each_way(p, {"fault": "reset", "times": 0}):   # one on a kept connection is no attempt
                whole(client, stream, p.ask(client, stream), where)


def test_silence_is_passed_by_and_the_loser_is_cancelled():
    for upstream in UPSTREAM:
        with pair(upstream, {"ttft": "80ms"}) as p:
            n = 0
            for client, stream, where in each_way(p, {"fault": "silent"}):
                whole(client, stream, p.ask(client, stream), where)
                n += 1
                p.sim.wait("alpha", cancelled=n)
            assert p.gateway.metric("perdure_hedges_total", provider="beta", result="won") == n
            assert p.gateway.metric("perdure_calls_total", outcome="complete") == n


def test_slowness_alone_gives_the_whole_answer_of_one_of_them():
    """Both answer, one behind the other: bytes of one only."""
    for upstream in UPSTREAM:
        with pair(upstream, {"ttft": "30ms"}) as p:
            for client, stream, where in each_way(p, {"fault": "slow", "ttft": "60ms", "token_delay": "2ms"}):
                answer = p.ask(client, stream)
                whole(client, stream, answer, where, answer.headers["x-perdure-provider"])


def test_what_the_request_did_wrong_is_told_in_the_clients_words_and_sent_nowhere_else():
    said = "the 7th of your wishes is too much"
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            for client, stream, where in each_way(p, {"fault": "status", "status": 400, "message": said}):
                answer = p.ask(client, stream)
                assert answer.status == 400 and not answer.cut, (where, answer.status, answer.body)
                told = Told(client, answer, where)
                assert said in told.message, (where, answer.body)
                assert told.type in {CHAT: ("invalid_request_error",), RESPONSES: ("invalid_request_error",), MESSAGES: ("invalid_request_error",),
                                     GEMINI: ("INVALID_ARGUMENT",), ARRAY: ("INVALID_ARGUMENT",), CONVERSE: ("ValidationException",), OLLAMA: (None,)}[client], (where, told.type)
                if p.same(client):
                    assert told.message == said and told.attempts is None, (where, answer.body)
                else:
                    assert [a["class"] for a in told.attempts] == ["bad_request"], (where, told.attempts)
            assert p.sim.state("beta")["requests"] == 0, f"{upstream}: a bad request was sent elsewhere"


def test_frames_that_are_no_events_are_skipped():
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            for shape in ("json", "truncated", "text"):
                for client, stream, where in each_way(p, {"fault": "malformed", "after": AFTER, "shape": shape, "count": 3}):
                    answer = p.ask(client, stream)
                    whole(client, stream, answer, where, answer.headers["x-perdure-provider"])


def test_a_wrong_checksum_is_the_end_of_what_can_be_read():
    with pair("converse") as p:
        for client, stream, where in each_way(p, {"fault": "malformed", "after": 0, "shape": "crc"}):
            whole(client, stream, p.ask(client, stream), where)
        for client, stream, where in each_way(p, {"fault": "malformed", "after": AFTER, "shape": "crc"}):
            answer = p.ask(client, stream)
            if stream:
                broken_off(client, answer, where, AFTER)
            else:
                whole(client, stream, answer, where)
        assert p.gateway.metric("llm_request_errors_total", provider="alpha", error_type="malformed") == 2 * len(WAYS)


def test_an_answer_under_a_wrong_content_type_is_read_for_what_it_is():
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            for client, stream, where in each_way(p, {"fault": "wrong_type", "content_type": "application/octet-stream"}):
                whole(client, stream, p.ask(client, stream), where, "alpha")


BREAKS = [
    {"fault": "cut", "after": AFTER},
    {"fault": "reset", "after": AFTER},
    {"fault": "early_end", "after": AFTER},
    {"fault": "error_in_stream", "after": AFTER, "like": "overloaded"},
    {"fault": "bad_chunk", "after": AFTER},
]


def test_what_breaks_after_output_is_an_honest_error_or_never_seen():
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            streams = 0
            for fault in BREAKS:
                for client, stream, where in each_way(p, fault):
                    answer = p.ask(client, stream)
                    if stream:
                        broken_off(client, answer, where, AFTER)
                        streams += 1
                    else:
                        whole(client, stream, answer, where)
            assert p.gateway.metric("perdure_calls_total", outcome="complete") == p.used - streams


def test_what_breaks_within_a_tool_call_is_no_call():
    """Gemini and Ollama tell calls only when they are whole: their clients have seen nothing, and get the second provider's."""
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            for fault in ({"fault": "cut", "after": 1}, {"fault": "early_end", "after": 1}):
                for client, stream, where in each_way(p, fault):
                    answer = p.ask(client, stream, tools=True)
                    if not stream:
                        assert client.said(answer, stream).calls and answer.headers["x-perdure-provider"] == "beta", (where, answer.body)
                    elif client in (GEMINI, ARRAY, OLLAMA) and not p.same(client) and upstream not in ("gemini", "ollama"):
                        said = client.said(answer, stream)
                        assert said.whole and said.calls and answer.headers["x-perdure-provider"] == "beta", (where, answer.body)
                    elif answer.headers.get("x-perdure-provider") == "alpha":
                        no_end(client, answer, where)
                    else:
                        assert client.said(answer, stream).whole, (where, answer.body)


def test_a_stall_after_output_is_an_honest_error_or_never_seen():
    for upstream in UPSTREAM:
        with pair(upstream, {"stall": "120ms"}) as p:
            n = 0
            for fault in ({"fault": "stall", "after": AFTER}, {"fault": "stall", "after": AFTER, "shape": "comments", "every": "20ms"}):
                for client, stream, where in each_way(p, fault):
                    answer = p.ask(client, stream)
                    n += 1
                    if stream:
                        broken_off(client, answer, where, AFTER)
                    else:
                        whole(client, stream, answer, where)
                    p.sim.wait("alpha", cancelled=n)


OUTAGES = [
    # fault of all, status, words of: chat, messages, gemini, converse; class
    ({"fault": "status", "like": "rate_limit", "headers": {"retry-after": "30"}}, 429, "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED", "ThrottlingException", "rate_limited"),
    ({"fault": "status", "status": 503, "message": "closed for repairs"}, 503, "api_error", "overloaded_error", "UNAVAILABLE", "ServiceUnavailableException", "overloaded"),
    ({"fault": "status", "status": 500}, 502, "api_error", "api_error", "UNAVAILABLE", "ServiceUnavailableException", "server_error"),
    ({"fault": "status", "like": "auth"}, 502, "api_error", "api_error", "UNAVAILABLE", "ServiceUnavailableException", "auth"),
    ({"fault": "status", "like": "model_not_found"}, 404, "invalid_request_error", "not_found_error", "NOT_FOUND", "ResourceNotFoundException", "not_found"),
]


def test_when_nobody_answers_the_error_has_the_clients_words_and_every_attempt():
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            for fault, status, chat, messages, gemini, converse, failed_as in OUTAGES:
                words = {CHAT: chat, RESPONSES: chat, MESSAGES: messages, GEMINI: gemini, ARRAY: gemini, CONVERSE: converse, OLLAMA: None}
                for client, stream, where in each_way(p, fault):
                    p.sim.faults("beta", fault)
                    answer = p.ask(client, stream)
                    assert answer.status == status and not answer.cut, (where, answer.status, answer.body)
                    told = Told(client, answer, where)
                    assert told.type == words[client], (where, told.type, answer.body)
                    assert [(a["provider"], a["class"]) for a in told.attempts] == [("alpha", failed_as), ("beta", failed_as)], (where, told.attempts)
                    if "message" in fault:
                        assert fault["message"] in told.message, (where, told.message)
                    if status == 429:
                        assert 25 <= int(told.retry_after) <= 30, (where, answer.headers)
            assert p.sim.state("beta")["by_fault"]["status"] == len(OUTAGES) * len(WAYS)


if __name__ == "__main__":
    main(globals())
