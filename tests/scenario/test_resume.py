"""A client that comes back: the same request asked again goes on from what there is, on whichever worker, and nothing is generated twice."""
import http.client
import json
import socket
import threading

from perdure_test import DEADLINE, Gateway, Stream, config, main, request, running
from strict_streams import items_of, line_is_whole

RULES = {"ttft": 0, "backoff": "10ms", "stall": "10m", "affinity": 0, "attempts": 2}
TOKENS = 40
SPEC = f"alpha:0,tokens={TOKENS},style=vllm"
VLLM = {"alpha": {"preset": "vllm"}}


def words(stream, n):
    while len(stream.text.split()) < n:
        assert stream.next() is not None, "the stream ended early"


def whole_answer(gateway, text="hello"):
    """What a healthy provider says to this."""
    return gateway.stream(text=text).rest().text


def test_the_same_request_goes_on_from_where_its_client_left():
    with running(SPEC, providers=VLLM, resilience=RULES) as (sim, gateway):
        want = whole_answer(gateway)
        paid = sim.state("alpha")["tokens"]
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream()
        words(first, 10)
        first.close()
        sim.wait("alpha", cancelled=1)
        gateway.until("the end of the first call", lambda: gateway.metric("perdure_calls_total", outcome="client_gone") == 1)
        again = gateway.stream().rest()
        assert again.done and again.text == want, again.text
        assert gateway.metric("perdure_calls_joined_total", to="part") == 1
        generated = sim.state("alpha")["tokens"] - paid
        assert generated <= paid + 1, f"{generated} tokens were generated for an answer of {paid}"


def test_nobody_gets_what_was_begun_for_another_key():
    keys = [{"name": n, "key": f"perdure-key-of-{n}-0123456789"} for n in ("one", "two")]
    one, two = ({"authorization": f"Bearer {k['key']}", "idempotency-key": "same"} for k in keys)
    with running(SPEC, providers=VLLM, resilience=RULES, extra={"keys": keys}) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream(headers=one)
        words(first, 10)
        assert "x-perdure-joined" not in gateway.stream(headers=two).rest().headers, "joined while it runs"
        first.close()
        sim.wait("alpha", cancelled=1)
        gateway.until("the end of the first call", lambda: "outcome=client_gone" in gateway.log())
        other = gateway.stream(headers={"authorization": two["authorization"]}).rest()
        assert other.done and "call.resumed" not in gateway.log(), "it goes on from another's answer"
        again = gateway.stream(headers=one).rest()
        assert again.done and again.text == other.text and "call.resumed" in gateway.log()


def test_a_part_that_nobody_goes_on_with_is_asked_anew():
    with running(f"alpha:0,tokens={TOKENS},continue=afresh,varied=true,items=60,token_delay=2ms", resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 20})
        first = gateway.stream()
        words(first, 8)
        first.close()
        gateway.until("the end of the first call", lambda: gateway.metric("perdure_calls_total", outcome="client_gone") == 1)
        again = gateway.stream().rest()
        assert again.done and not again.error and "[60]" in again.text and again.text.count("[1]") == 1, (again.text, again.error)
        assert gateway.metric("perdure_calls_joined_total", to="part") == 1
        assert not again.text.startswith(first.text), "it was gone on with after all: the test shows nothing"


def test_what_was_there_is_shown_though_the_next_attempt_breaks_before_its_first_word():
    with running(SPEC, providers=VLLM, resilience={**RULES, "keepalive": "20ms"}) as (sim, gateway):
        want = whole_answer(gateway)
        for fault in ({"fault": "error_in_stream", "after": 0}, {"fault": "cut", "after": 0, "ttft": "100ms"}, {"fault": "early_end", "after": 0}):
            sim.faults("alpha", {"fault": "hold", "after": 10}, fault)
            gone = gateway.metric("perdure_calls_total", outcome="client_gone")
            first = gateway.stream()
            words(first, 10)
            first.close()
            gateway.until("the end of the first call", lambda: gateway.metric("perdure_calls_total", outcome="client_gone") == gone + 1)
            again = gateway.stream().rest()
            assert again.done and again.text == want, (fault, again.text)
            struck = [row["struck"] for row in sim.order("alpha", "GET", "/sim/faults")]
            assert struck == [1, 1], struck


def test_a_second_request_of_the_same_words_is_another_call_while_the_first_client_is_there():
    with running(SPEC, providers=VLLM, resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream()
        words(first, 10)
        second = gateway.stream().rest()
        assert second.done and "x-perdure-joined" not in second.headers
        sim.release("alpha")
        assert first.rest().done
        assert sim.state("alpha")["requests"] == 2


def test_an_answer_that_lingers_is_joined():
    with running(SPEC, providers=VLLM, resilience={**RULES, "linger": "1m"}) as (sim, gateway):
        want = whole_answer(gateway)
        for workers_turn in range(2):
            sim.faults("alpha", {"fault": "hold", "after": 10})
            before = sim.state("alpha")["requests"]
            first = gateway.stream()
            words(first, 10)
            first.close()
            gateway.until("the first client is gone", lambda: gateway.metric("perdure_server_connections") <= 1)
            again = gateway.stream()
            words(again, 10)
            assert again.headers["x-perdure-joined"].startswith("c-")
            sim.release("alpha")
            assert again.rest().done and again.text == want
            assert sim.state("alpha")["requests"] == before + 1
            again.close()
        assert gateway.metric("perdure_calls_joined_total", to="running") == 2


LINE = {"type": "object", "properties": {"line": {"type": "string"}, "urgent": {"type": "boolean"}}, "required": ["line", "urgent"], "additionalProperties": False}
NOTES = [{"type": "function", "function": {"name": "note_down", "parameters": LINE}}]
VARIED = "alpha:0,varied=true,items=6,preface=true,token_delay=5ms,style=vllm"


def left_in_the_middle(gateway, **more):
    """A client that leaves behind its first words; its answer lingers on to its end."""
    first = gateway.stream(**more)
    words(first, 4)
    first.close()
    gateway.until("the end of the answer", lambda: gateway.metric("perdure_calls_running") == 0)
    return first.text


def test_a_lingering_answer_that_breaks_is_gone_on_with():
    with running(VARIED, providers=VLLM, resilience={**RULES, "linger": "1m"}) as (sim, gateway):
        for fault in ({"fault": "cut", "after": 20}, {"fault": "error_in_stream", "after": 20}, {"fault": "reset", "after": 25}):
            sim.faults("alpha", fault)
            before = sim.state("alpha")["requests"]
            had = left_in_the_middle(gateway)
            again = gateway.stream().rest()
            assert again.done and again.text.startswith(had)
            items_of(again.text, 6)
            assert again.headers["x-perdure-joined"].startswith("c-")
            assert sim.state("alpha")["requests"] == before + 2, "the break, and what goes on; nothing for the one that came back"
        assert gateway.metric("perdure_calls_total", outcome="continued") == 3


def test_tool_calls_of_a_lingering_answer_are_judged_by_what_was_asked():
    with running(VARIED, providers=VLLM, resilience={**RULES, "linger": "1m"}) as (sim, gateway):
        for shape in ("missing", "type"):
            sim.faults("alpha", {"fault": "unfit", "shape": shape})
            left_in_the_middle(gateway, tools=NOTES)
            again = gateway.stream(tools=NOTES).rest()
            calls = [c for e in again.events for choice in e["choices"] for c in choice["delta"].get("tool_calls") or []]
            arguments = json.loads("".join(c["function"].get("arguments") or "" for c in calls))
            assert again.done and set(arguments) == {"line", "urgent"} and line_is_whole(arguments["line"]), arguments
            assert [row["struck"] for row in sim.order("alpha", "GET", "/sim/faults")] == [1]


def test_an_answer_that_ended_while_its_client_was_away_is_there_whole():
    with running(SPEC, providers=VLLM, resilience={**RULES, "linger": "1m"}) as (sim, gateway):
        want = whole_answer(gateway)
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream()
        words(first, 10)
        first.close()
        gateway.until("the first client is gone", lambda: gateway.metric("perdure_server_connections") <= 1)
        sim.release("alpha")
        gateway.until("the end of the answer", lambda: gateway.metric("perdure_calls_running") == 0)
        again = gateway.stream().rest()
        assert again.done and again.text == want
        assert sim.state("alpha")["requests"] == 2


def test_an_idempotency_key_joins_while_both_are_there():
    with running(SPEC, providers=VLLM, resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 10})
        key = {"idempotency-key": "run-7"}
        first = gateway.stream(headers=key)
        words(first, 10)
        second = gateway.stream(headers=key)
        words(second, 10)
        sim.release("alpha")
        assert first.rest().done and second.rest().done
        assert first.text == second.text
        third = gateway.stream(headers=key).rest()
        assert third.done and third.text == first.text
        assert sim.state("alpha")["requests"] == 1


def test_a_call_is_read_by_its_id_from_any_position():
    with running(SPEC, providers=VLLM, resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 10})
        first = gateway.stream()
        words(first, 10)
        name = first.headers["x-request-id"]
        ids, reader = [], http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
        reader.request("GET", f"/api/calls/{name}/stream")
        answer = reader.getresponse()
        assert answer.status == 200
        text = ""
        while len(text.split()) < 10 or not ids:
            line = answer.readline().decode().strip()
            if line.startswith("id: "):
                ids.append(line[4:])
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
        reader.close()
        late = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
        late.request("GET", f"/api/calls/{name}/stream", headers={"Last-Event-ID": ids[-1]})
        answer = late.getresponse()
        sim.release("alpha")
        want = first.rest().text
        rest = answer.read().decode()
        events = [json.loads(line[6:]) for line in rest.splitlines() if line.startswith("data: {")]
        got = "".join((e["choices"][0]["delta"].get("content") or "") for e in events if e["choices"])
        assert text + got == want, (text, got, want)
        assert rest.rstrip().endswith("[DONE]")
        assert gateway.get(f"/api/calls/{name}x/stream").status == 404


def test_what_a_client_had_is_there_after_kill_9():
    with running(SPEC, providers=VLLM, resilience=RULES) as (sim, gateway):
        want = whole_answer(gateway)
        paid = sim.state("alpha")["tokens"]
        sim.faults("alpha", {"fault": "hold", "after": 12}, {"fault": "none"})
        first = gateway.stream()
        words(first, 12)
        # a stream that lasts is written a little behind its client: the next piece of it comes when the journal has the first
        folder = gateway.path.parent
        text = gateway.path.read_text()
        gateway.until("the journal has it", lambda: any(first.text.split()[-1].encode() in p.read_bytes() for p in folder.glob("perdure-state/journal-*")))
        gateway.program.process.kill()
        gateway.program.process.wait()
        sim.wait("alpha", cancelled=1)
        restarted = Gateway(text, folder=gateway.folder)
        try:
            again = restarted.stream().rest()
            assert again.done and again.text == want, again.text
            assert restarted.metric("perdure_calls_joined_total", to="part") == 1
            generated = sim.state("alpha")["tokens"] - paid
            assert generated <= paid + 1, f"{generated} tokens were generated for an answer of {paid}"
        finally:
            gateway.program = restarted.program
            gateway.port = restarted.port


class Whole(threading.Thread):
    """A client that does not stream; it can leave."""

    def __init__(self, gateway, text="hello", headers=None):
        super().__init__()
        self.connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
        body = {"model": "main", "messages": [{"role": "user", "content": text}]}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json", **(headers or {})})
        self.said = self.status = None
        self.start()

    def run(self):
        try:
            answer = self.connection.getresponse()
            body = json.loads(answer.read())
            self.status, self.headers = answer.status, {k.lower(): v for k, v in answer.getheaders()}
            self.said = body["choices"][0]["message"]["content"] if self.status == 200 else body
        except (OSError, http.client.HTTPException):
            pass

    def leave(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.join()

    def rest(self):
        self.join()
        assert self.status == 200, (self.status, self.said)
        return self.said


def test_a_client_that_does_not_stream_gets_the_rest_of_what_was_collected_for_it():
    with running(SPEC, providers=VLLM, resilience=RULES) as (sim, gateway):
        want = whole_answer(gateway)
        paid = sim.state("alpha")["tokens"]
        sim.faults("alpha", {"fault": "hold", "after": 30}, {"fault": "none"})
        first = Whole(gateway)
        sim.wait("alpha", held=1)
        first.leave()
        sim.wait("alpha", cancelled=1)
        gateway.until("the end of the first call", lambda: gateway.metric("perdure_calls_total", outcome="client_gone") == 1)
        assert Whole(gateway).rest() == want
        assert gateway.metric("perdure_calls_joined_total", to="part") == 1
        generated = sim.state("alpha")["tokens"] - paid
        assert generated <= paid + 1, f"{generated} tokens were generated for an answer of {paid}"


def test_what_was_collected_and_nobody_goes_on_with_is_asked_anew():
    chatty = {"varied": True, "items": 6, "continue": "afresh", "prefill": "ignore"}
    with running(SPEC, "beta:0," + ",".join(f"{k}={str(v).lower()}" for k, v in chatty.items()), providers={**VLLM, "beta": {"preset": "openai-compatible"}},
                 resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 30}, {"fault": "status", "status": 503, "times": 0})
        first = Whole(gateway)
        sim.wait("alpha", held=1)
        gateway.until("some of it is read", lambda: any("first_output_ms" in a for c in gateway.get("/api/calls").json["running"] for a in c["attempts"]))
        first.leave()
        gateway.until("the end of the first call", lambda: gateway.metric("perdure_calls_total", outcome="client_gone") == 1)
        items_of(Whole(gateway).rest(), 6)
        assert "call.afresh" in gateway.log()


def test_clients_that_do_not_stream_are_joined_by_their_idempotency_key_though_the_first_stream_breaks():
    varied = "varied=true,items=6"
    with running(f"alpha:0,{varied}", f"beta:0,{varied}", resilience={**RULES, "attempts": 1, "retry_budget": 10}) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 20}, {"fault": "none"})
        sim.faults("beta", {"fault": "hold", "after": 10}, {"fault": "none"})
        key = {"idempotency-key": "run-7"}
        clients = [Whole(gateway, headers=key)]
        sim.wait("alpha", held=1)
        clients.append(Whole(gateway, headers=key))
        gateway.until("it is joined", lambda: gateway.metric("perdure_calls_joined_total", to="running") == 1)
        name = gateway.get("/api/calls").json["running"][0]["id"]
        assert gateway.get(f"/api/calls/{name}/stream").status == 404, "what may be taken back was streamed"
        sim.down("alpha")
        sim.wait("beta", held=1)
        sim.release("beta")
        texts = [c.rest() for c in clients]
        items_of(texts[0], 6)
        assert texts[0] == texts[1] == Whole(gateway, headers=key).rest()
        assert sim.state("beta")["requests"] == 1
        sim.up("alpha")


def test_what_was_collected_is_there_after_kill_9():
    with running(SPEC, providers=VLLM, resilience=RULES) as (sim, gateway):
        want = whole_answer(gateway)
        paid = sim.state("alpha")["tokens"]
        sim.faults("alpha", {"fault": "hold", "after": 12}, {"fault": "none"})
        first = Whole(gateway)
        sim.wait("alpha", held=1)
        folder, text, last = gateway.path.parent, gateway.path.read_text(), want.split()[11].encode()
        gateway.until("the journal has it", lambda: any(last in p.read_bytes() for p in folder.glob("perdure-state/journal-*")))
        gateway.program.process.kill()
        gateway.program.process.wait()
        first.join()
        assert first.said is None
        restarted = Gateway(text, folder=gateway.folder)
        try:
            assert Whole(restarted).rest() == want
            assert restarted.metric("perdure_calls_joined_total", to="part") == 1
            generated = sim.state("alpha")["tokens"] - paid
            assert generated <= paid + 1, f"{generated} tokens were generated for an answer of {paid}"
        finally:
            gateway.program = restarted.program
            gateway.port = restarted.port


def test_what_was_taken_back_does_not_come_again_after_kill_9():
    """The first attempt's stream breaks behind a part that is in the journal already; the second's is what is gone on with."""
    varied = "style=vllm,varied=true,items=6"
    kinds = {"alpha": {"preset": "vllm"}, "beta": {"preset": "vllm"}}
    with running(f"alpha:0,{varied}", f"beta:0,{varied}", providers=kinds, resilience={**RULES, "attempts": 1, "retry_budget": 10}) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 25}, {"fault": "none"})
        sim.faults("beta", {"fault": "hold", "after": 12}, {"fault": "none"})
        first = Whole(gateway)
        sim.wait("alpha", held=1)
        folder, text = gateway.path.parent, gateway.path.read_text()

        def written(item):
            return any(b"[%d] " % item in p.read_bytes() for p in folder.glob("perdure-state/journal-*"))
        gateway.until("the journal has the first attempt's", lambda: written(4))
        sim.down("alpha")
        sim.wait("beta", held=1)
        gateway.until("the journal has the second's", lambda: sum(p.read_bytes().count(b"[1] ") for p in folder.glob("perdure-state/journal-*")) == 2)
        gateway.program.process.kill()
        gateway.program.process.wait()
        sim.up("alpha")
        first.join()
        restarted = Gateway(text, folder=gateway.folder)
        try:
            items_of(Whole(restarted).rest(), 6)
            assert restarted.metric("perdure_calls_joined_total", to="part") == 1
            assert sim.state("alpha")["strayed"] == 0 and sim.state("alpha")["continued"] == 1
        finally:
            gateway.program = restarted.program
            gateway.port = restarted.port


def test_an_answer_that_came_as_one_document_is_whole_for_whoever_is_joined_to_it():
    with running(SPEC, providers={"alpha": {"preset": "openai-compatible", "stream": False}}, resilience=RULES) as (sim, gateway):
        for ask in (lambda key: gateway.stream(headers=key).rest().text, lambda key: Whole(gateway, headers=key).rest()):
            key = {"idempotency-key": f"run-{ask.__code__.co_firstlineno}-{id(ask)}"}
            before = sim.state("alpha")["requests"]
            said = ask(key)
            assert len(said.split()) == TOKENS and ask(key) == said
            assert sim.state("alpha")["requests"] == before + 1


def test_a_hold_goes_on_where_it_was_after_kill_9():
    """The hold is 3 s; perdure is killed behind more than one of them. What is left is less than a new one."""
    rules = {**RULES, "hold": "3s", "hold_single": "3s", "retry_after_max": 0, "breaker_failures": 1, "breaker_hold": "300ms", "breaker_hold_max": "500ms", "probe": "200ms"}
    with running(SPEC, providers=VLLM, resilience=rules) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 503, "times": 0})
        first = Whole(gateway, text="first")
        folder, text = gateway.path.parent, gateway.path.read_text()

        def running_calls(g, held_ms):
            return [c for c in g.get("/api/calls").json["running"] if c["state"] == "holding" and c["took_ms"] >= held_ms]
        gateway.until("it is on hold, for a while", lambda: running_calls(gateway, 1500))
        gateway.program.process.kill()
        gateway.program.process.wait()
        first.join()
        restarted = Gateway(text, folder=gateway.folder)
        try:
            assert "state.held_calls count=1" in restarted.log()
            again, other = Whole(restarted, text="first"), Whole(restarted, text="another")
            again.join(), other.join()
            assert again.status == other.status == 503, (again.said, other.said)
            took = sorted(c["took_ms"] for c in restarted.get("/api/calls").json["recent"])
            assert took[0] <= 1500 and took[1] >= took[0] + 700, took   # a hold ends when no target can be back within it
            assert len(restarted.get("/api/calls").json["recent"]) == 2
            assert restarted.log().count("call.held_before") == 1
        finally:
            gateway.program = restarted.program
            gateway.port = restarted.port


if __name__ == "__main__":
    main(globals())
