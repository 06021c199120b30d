"""Signs of life for clients: honest ones, where a format has a place for them, between events and never within one."""
import http.client
import json

from dialect_gateway import ARRAY, CHAT, CONVERSE, MESSAGES, OLLAMA, RESPONSES, pair
from perdure_test import DEADLINE, running

EVERY = "40ms"
LONG = {"ttft": 0, "attempts": 1, "backoff": "10ms", "affinity": 0, "keepalive": EVERY}
SIGN = {CHAT: b": keep-alive\n\n", RESPONSES: b": keep-alive\n\n", MESSAGES: b'event: ping\ndata: {"type": "ping"}\n\n', ARRAY: b"\n"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}}}


class Reader:
    """A streamed call whose bytes are read as they come."""

    def __init__(self, port, path, body, headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        self.connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **(headers or {})})
        self.answer = self.connection.getresponse()
        self.bytes = b""

    def until(self, test):
        while not test(self.bytes):
            more = self.answer.read1(65536)
            assert more, (self.bytes, "it ended before")
            self.bytes += more
        return self

    def rest(self):
        while more := self.answer.read1(65536):
            self.bytes += more
        self.connection.close()
        return self.bytes


def test_each_format_is_told_in_its_own_way_before_the_first_byte():
    for upstream in ("chat", "messages"):
        with pair(upstream, LONG, routes=8, specs=("alpha:0,tokens=9", "beta:0,tokens=9")) as p:
            for route, client in enumerate((CHAT, RESPONSES, MESSAGES, ARRAY)):
                p.sim.faults("alpha", {"fault": "hold"})
                r = Reader(p.gateway.port, p.path(client, True, f"r{route}"), p.body(client, True, f"r{route}"), client.headers)
                r.until(lambda got, c=client: got.count(SIGN[c]) >= 3)
                assert r.bytes == SIGN[client] * (len(r.bytes) // len(SIGN[client])), (client.name, r.bytes)
                p.sim.release("alpha")
                got = r.rest()
                if client is ARRAY:
                    items = json.loads(got)
                    assert "".join(part.get("text", "") for i in items for c in i.get("candidates", []) for part in c["content"].get("parts", [])).split(), got
                else:
                    assert no_sign_within_an_event(got), (client.name, got)


def no_sign_within_an_event(raw):
    """Every block between blank lines is one whole event or one comment."""
    for block in raw.split(b"\n\n"):
        lines = [x for x in block.split(b"\n") if x]
        kinds = {line.split(b":", 1)[0] for line in lines}
        if b"" in kinds and kinds != {b""}:
            return False
        for line in lines:
            if line.startswith(b"data: {"):
                json.loads(line[6:])
    return True


def test_formats_without_a_place_for_them_get_none():
    with pair("chat", LONG, routes=4, specs=("alpha:0,tokens=9", "beta:0,tokens=9")) as p:
        for route, client in enumerate((OLLAMA, CONVERSE)):
            p.sim.faults("alpha", {"fault": "keepalive", "for": "400ms"})
            answer = p.ask(client, True, route=route)
            said = client.said(answer, True)
            assert answer.status == 200 and said.whole and len(said.text.split()) == 9, (client.name, answer.body)
            assert b"keep-alive" not in answer.body and not answer.body.startswith(b"\n"), answer.body


def test_an_answer_that_is_not_streamed_is_left_alone():
    with running("alpha:0,tokens=9", resilience=LONG) as (sim, gateway):
        sim.faults("alpha", {"fault": "slow", "ttft": "300ms"})
        a = gateway.chat()
        assert a.status == 200 and a.body.startswith(b"{"), a.body[:80]


def test_while_tool_calls_are_held_the_client_hears_that_they_come():
    with running("alpha:0,tokens=9", resilience=LONG) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "at": "arguments"})
        r = Reader(gateway.port, "/v1/chat/completions", {"model": "main", "stream": True, "tools": [TOOL], "messages": [{"role": "user", "content": "x"}]})
        sim.wait("alpha", held=1)
        r.until(lambda got: got.count(SIGN[CHAT]) >= 3)
        assert b"look" not in r.bytes, r.bytes
        sim.release("alpha")
        got = r.rest()
        assert b'"look"' in got and b"[DONE]" in got and no_sign_within_an_event(got), got


def test_an_upstream_that_only_pings_is_stalled_all_the_same():
    for shape in ("comments", "blank", "nothing"):
        with running("alpha:0,tokens=30,style=vllm", "beta:0,tokens=30,style=vllm", providers={n: {"preset": "vllm"} for n in ("alpha", "beta")},
                     resilience={**LONG, "stall": "300ms"}) as (sim, gateway):
            want = gateway.stream().rest().text
            sim.faults("alpha", {"fault": "stall", "after": 10, "shape": shape})
            s = gateway.stream().rest()
            assert s.done and s.text == want, (shape, s.raw[-300:])
            assert SIGN[CHAT] in s.raw, (shape, s.raw)
            assert gateway.metric("perdure_stream_breaks_total", **{"class": "stalled"}) == 1, shape
            assert sim.state("beta")["requests"] == 1


def test_a_stream_that_flows_gets_none_and_0_is_off():
    with running("alpha:0,tokens=60,token_delay=5ms", resilience={**LONG, "keepalive": "10s"}) as (_, gateway):
        assert b"keep-alive" not in gateway.stream().rest().raw
    with running("alpha:0,tokens=9", resilience={**LONG, "keepalive": 0}) as (sim, gateway):
        sim.faults("alpha", {"fault": "slow", "ttft": "400ms"})
        assert b"keep-alive" not in gateway.stream().rest().raw


def test_the_array_of_a_call_that_fails_after_signs_stays_readable():
    rules = {**LONG, "hold": "2s", "breaker_hold": "100ms"}
    with pair("chat", rules, routes=2, specs=("alpha:0,tokens=9",)) as p:
        p.sim.down("alpha")
        connection = http.client.HTTPConnection("127.0.0.1", p.gateway.port, timeout=DEADLINE)
        connection.request("POST", p.path(ARRAY, True, "r0"), json.dumps(p.body(ARRAY, True, "r0")), {"content-type": "application/json", "x-perdure-session": "s", **ARRAY.headers})
        answer = connection.getresponse()
        got = b""
        try:
            while more := answer.read1(65536):
                got += more
        except http.client.IncompleteRead as e:
            got += e.partial
        items = json.loads(got + b"]")
        assert len(items) == 1 and items[0]["error"]["code"] == 503, got
        connection.close()


def test_an_event_that_is_torn_is_not_torn_further():
    # half an event has come and nothing more: a comment within it would spoil it for good
    with running("alpha:0,tokens=30,style=vllm", "beta:0,tokens=30,style=vllm", providers={n: {"preset": "vllm"} for n in ("alpha", "beta")},
                 resilience={**LONG, "stall": "300ms"}) as (sim, gateway):
        want = gateway.stream().rest()
        size = len(want.raw)
        for after in range(size // 2, size // 2 + 240, 24):
            sim.faults("alpha", {"fault": "stall", "after_bytes": after, "shape": "nothing"})
            s = gateway.stream().rest()
            assert s.done and s.text == want.text and no_sign_within_an_event(s.raw), (after, s.raw)


def test_an_event_that_is_torn_between_its_line_and_its_blank_line_stands_alone():
    with running("alpha:0,tokens=30,style=vllm", "beta:0,tokens=30,style=vllm", providers={n: {"preset": "vllm"} for n in ("alpha", "beta")},
                 resilience=LONG) as (sim, gateway):
        want = gateway.stream().rest()
        end = want.raw.index(b"\n\n", len(want.raw) // 2)
        for after in range(end - 1, end + 4):
            sim.faults("alpha", {"fault": "cut", "after_bytes": after})
            s = gateway.stream().rest()
            assert s.done and s.text == want.text and not s.error, (after, s.raw)
            assert sum(sim.state(n)["requests"] for n in ("alpha", "beta")) > after - end + 2, "it did not break"
        assert gateway.metric("perdure_calls_total", outcome="continued") == 5


if __name__ == "__main__":
    from perdure_test import main
    main(globals())
