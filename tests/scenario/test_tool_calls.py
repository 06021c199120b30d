"""Tool calls are handed on whole: nothing of one is seen before it is there, parses and fits; a break inside it is repaired unseen."""
import contextlib
import http.server
import json
import pathlib
import threading

from perdure_test import DEADLINE, Gateway, config, main, running

RULES = {"ttft": 0, "attempts": 2, "backoff": "10ms", "affinity": 0, "hold": 0, "probe": 0}
PAIR = ("alpha:0,tokens=9", "beta:0,tokens=9")


def tool(name="look", **properties):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties or {"what": {"type": "string"}}, "required": list(properties or {"what": 1})}}}


def calls_of(stream):
    """The calls as a client puts them together: by index, in the order in which they began; with how many pieces each came in."""
    found = {}
    for event in stream.events:
        for choice in event.get("choices", []):
            for piece in (choice.get("delta") or {}).get("tool_calls") or []:
                at = found.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                at["id"] += piece.get("id") or ""
                what = piece.get("function") or piece.get("custom") or {}
                at["name"] += what.get("name") or ""
                at["arguments"] += what.get("arguments") or what.get("input") or ""
    assert list(found) == sorted(found), found
    return list(found.values())


# ---- with simulated providers

def test_a_break_anywhere_in_a_call_is_repaired_unseen():
    for at in ("id", "name", "arguments", "calls"):
        for kind in ("cut", "stall", "reset", "error_in_stream", "early_end"):
            if at == "calls" and kind == "early_end":
                continue
            fault = {"fault": kind, "at": at}
            with running("alpha:0,tokens=9,parallel=2", "beta:0,tokens=9,parallel=2", resilience={**RULES, "stall": "200ms", "first_token_timeout": "400ms"}) as (sim, gateway):
                if kind == "reset":
                    fault["after"] = 1
                    del fault["at"]
                sim.faults("alpha", fault)
                s = gateway.stream(tools=[tool()], parallel_tool_calls=True).rest()
                assert sim.state("alpha")["struck"] == 1, (at, kind)
                got = calls_of(s)
                assert s.done and not s.error and len(got) == 2, (at, kind, s.raw)
                for c in got:
                    assert c["name"] == "look" and c["id"] and "what" in json.loads(c["arguments"]), (at, kind, got)
                assert len({c["id"] for c in got}) == 2
                finish = [c["finish_reason"] for e in s.events for c in e["choices"] if c.get("finish_reason")]
                assert finish == ["tool_calls"], finish


def test_nothing_of_a_call_is_seen_before_it_is_whole():
    with running(*PAIR, resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "at": "arguments"})
        s = gateway_thread(gateway, tools=[tool()])
        sim.wait("alpha", held=1)
        assert s.stream is None or b"look" not in s.stream.raw
        sim.release("alpha")
        got = calls_of(s.end())
        assert [c["name"] for c in got] == ["look"] and json.loads(got[0]["arguments"])


def test_one_that_does_not_fit_is_asked_for_again_as_often_as_set_and_then_handed_on():
    for repairs, misfits, asked in ((1, 1, 2), (1, 5, 2), (0, 5, 1), (3, 5, 4), (3, 2, 3)):
        with running("alpha:0,tokens=9", resilience={**RULES, "tool_repairs": repairs, "attempts": 9}) as (sim, gateway):
            sim.faults("alpha", *[{"fault": "unfit", "shape": "missing"}] * misfits)
            s = gateway.stream(tools=[tool()]).rest()
            got = calls_of(s)
            assert s.done and not s.error and len(got) == 1, (repairs, misfits, s.raw)
            assert sim.state("alpha")["requests"] == asked, (repairs, misfits, sim.state("alpha")["requests"])
            assert ("what" in json.loads(got[0]["arguments"])) == (misfits <= repairs), (repairs, misfits, got)


def test_the_same_holds_for_a_whole_answer():
    with running("alpha:0,tokens=9", resilience={**RULES, "tool_repairs": 1}) as (sim, gateway):
        for misfits, whole in ((1, True), (2, False)):
            sim.faults("alpha", *[{"fault": "unfit", "shape": "missing"}] * misfits)
            a = gateway.chat(tools=[tool()])
            call = a.json["choices"][0]["message"]["tool_calls"][0]["function"]
            assert a.status == 200 and ("what" in json.loads(call["arguments"])) == whole, a.body


def test_arguments_that_are_no_object_are_never_handed_on():
    with running(*PAIR, resilience={**RULES, "attempts": 1}) as (sim, gateway):
        sim.faults("alpha", {"fault": "unfit", "shape": "truncated"})
        got = calls_of(gateway.stream(tools=[tool()]).rest())
        assert "what" in json.loads(got[0]["arguments"]) and sim.state("beta")["requests"] == 1
        for n in ("alpha", "beta"):
            sim.faults(n, *[{"fault": "unfit", "shape": "truncated"}] * 3)
        s = gateway.stream(tools=[tool()])
        s.rest()
        assert s.status != 200 or (s.error and s.cut and not calls_of(s)), s.raw


# ---- with a provider that says exactly this

class Said(http.server.ThreadingHTTPServer):
    """Answers each request with the next of its streams (lists of data events, or bytes), and the last for ever."""

    daemon_threads = True

    def __init__(self, *streams):
        self.streams, self.asked = list(streams), []
        super().__init__(("127.0.0.1", 0), Answers)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        events = self.server.streams.pop(0) if len(self.server.streams) > 1 else self.server.streams[0]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            for event in events:
                raw = event if isinstance(event, bytes) else b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
            self.wfile.write(b"0\r\n\r\n")


def delta(finish=None, **d):
    return {"id": "u1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": d, "finish_reason": finish}]}


@contextlib.contextmanager
def saying(*streams, resilience=None):
    provider = Said(*streams)
    gateway = Gateway(config({"alpha": {"preset": "openai-compatible", "base_url": provider.url, "models": ["m"]}}, {"main": {"targets": ["alpha/m"]}}, {**RULES, **(resilience or {})}))
    try:
        yield provider, gateway
        assert gateway.stop() == 0, gateway.log()[-3000:]
    finally:
        gateway.program.kill()
        provider.shutdown()


def gateway_thread(gateway, **more):
    class Thread(threading.Thread):
        stream = None

        def run(self):
            self.stream = gateway.stream(**more)
            self.stream.rest()

        def end(self):
            self.join(DEADLINE)
            assert not self.is_alive(), gateway.log()[-2000:]
            return self.stream

    t = Thread(daemon=True)
    t.start()
    return t


def test_calls_whose_pieces_come_mixed_keep_their_order_and_index():
    pieces = [delta(role="assistant", content="first "), delta(content="words")]
    for i in (0, 1, 2):
        pieces.append(delta(tool_calls=[{"index": i, "id": f"c{i}", "type": "function", "function": {"name": "look", "arguments": ""}}]))
    for part in ('{"wh', 'at": "', "x", '"}'):
        for i in (2, 0, 1):
            pieces.append(delta(tool_calls=[{"index": i, "function": {"arguments": part}}]))
    pieces += [delta(finish="tool_calls"), "[DONE]"]
    with saying(pieces) as (_, gateway):
        s = gateway.stream(tools=[tool()]).rest()
        assert s.done and s.text == "first words"
        assert [(c["id"], c["arguments"]) for c in calls_of(s)] == [(f"c{i}", '{"what": "x"}') for i in range(3)]


def test_text_behind_a_call_keeps_its_place():
    pieces = [delta(role="assistant", content="before "), delta(tool_calls=[{"index": 0, "id": "c0", "type": "function", "function": {"name": "look", "arguments": '{"what":"x"}'}}]),
              delta(content="behind"), delta(finish="tool_calls"), "[DONE]"]
    with saying(pieces) as (_, gateway):
        s = gateway.stream(tools=[tool()]).rest()
        kinds = ["call" if (e["choices"][0]["delta"] or {}).get("tool_calls") else e["choices"][0]["delta"].get("content") for e in s.events if e.get("choices")]
        assert [k for k in kinds if k] == ["before ", "call", "behind"], kinds


def test_free_text_for_a_custom_tool_is_no_json_and_is_left_alone():
    custom = {"type": "custom", "custom": {"name": "run"}}
    pieces = [delta(role="assistant"), delta(tool_calls=[{"index": 0, "id": "c0", "type": "custom", "custom": {"name": "run", "input": ""}}])]
    pieces += [delta(tool_calls=[{"index": 0, "custom": {"input": t}}]) for t in ("*** Begin", " {not json")] + [delta(finish="tool_calls"), "[DONE]"]
    with saying(pieces) as (provider, gateway):
        s = gateway.stream(tools=[custom]).rest()
        got = calls_of(s)
        assert s.done and len(provider.asked) == 1 and [(c["name"], c["arguments"]) for c in got] == [("run", "*** Begin {not json")], s.raw


def test_a_function_call_of_old_is_one_too():
    function = {"name": "look", "parameters": tool()["function"]["parameters"]}
    good = [delta(role="assistant", function_call={"name": "look", "arguments": ""}), delta(function_call={"arguments": '{"what"'}), delta(function_call={"arguments": ':"x"}'}), delta(finish="function_call"), "[DONE]"]
    for bad in (good[:2], [*good[:2], delta(finish="function_call"), "[DONE]"]):
        with saying(bad, good) as (provider, gateway):
            s = gateway.stream(functions=[function]).rest()
            said = [e["choices"][0]["delta"].get("function_call") for e in s.events if e.get("choices") and (e["choices"][0]["delta"] or {}).get("function_call")]
            assert s.done and len(provider.asked) == 2, (bad, s.raw)
            assert json.loads("".join(x.get("arguments", "") for x in said)) == {"what": "x"} and [x["name"] for x in said if x.get("name")] == ["look"], said


def test_a_tool_that_nobody_offered_is_for_the_client_to_judge():
    stranger = [delta(role="assistant", tool_calls=[{"index": 0, "id": "c0", "type": "function", "function": {"name": "stranger", "arguments": "{}"}}]), delta(finish="tool_calls"), "[DONE]"]
    with saying(stranger) as (provider, gateway):
        s = gateway.stream(tools=[tool()]).rest()
        assert [c["name"] for c in calls_of(s)] == ["stranger"] and len(provider.asked) == 1


def rss_mb(gateway):
    status = pathlib.Path(f"/proc/{gateway.program.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def huge(size, piece=64 * 1024):
    yield delta(role="assistant", content="see: ")
    yield delta(tool_calls=[{"index": 0, "id": "c0", "type": "function", "function": {"name": "look", "arguments": '{"what":"'}}])
    for _ in range(size // piece):
        yield delta(tool_calls=[{"index": 0, "function": {"arguments": "x" * piece}}])
    yield delta(tool_calls=[{"index": 0, "function": {"arguments": '"}'}}])
    yield delta(finish="tool_calls")
    yield "[DONE]"


def test_huge_arguments_come_whole_in_bounded_memory():
    size = 10 << 20
    with saying(list(huge(size))) as (_, gateway):
        before = rss_mb(gateway)
        s = gateway.stream(tools=[tool()]).rest()
        got = calls_of(s)
        assert s.done and len(json.loads(got[0]["arguments"])["what"]) == size
        grown = rss_mb(gateway) - before
        sanitized = "san" in gateway.program.process.args[0]
        assert sanitized or grown < 120, f"{grown:.0f} MB for arguments of {size >> 20} MB"


def test_larger_ones_than_can_be_held_end_honestly():
    with saying(list(huge(80 << 20, 1 << 20)), resilience={"attempts": 1}) as (_, gateway):
        s = gateway.stream(tools=[tool()]).rest()
        assert not s.done and s.error and not calls_of(s), s.raw[-500:]
        assert gateway.chat(tools=[tool()]).status != 200


if __name__ == "__main__":
    main(globals())
