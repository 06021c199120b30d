"""perdure simulate by itself: what docs/simulate.md promises, seen from a client."""
import contextlib
import json
import pathlib
import re
import socket
import threading

from perdure_test import ROOT, Program, Providers, Stream, main, request

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi [[sim tokens=20]]"}]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}}}


@contextlib.contextmanager
def simulated(*specs, args=()):
    sim = Providers(*specs, args=args)
    try:
        yield sim
        assert sim.program.stop() == 0, sim.program.stderr()
    finally:
        sim.program.kill()


def chat(sim, name="alpha", body=ASK, **kw):
    return request(sim.ports[name], "POST", "/v1/chat/completions", body, **kw)


def stream(sim, name="alpha", body=ASK):
    return Stream(sim.ports[name], body)


def raw(port, body, path="/v1/chat/completions"):
    """The bytes of an answer and how the connection ended, read to its end."""
    text = json.dumps(body).encode()
    s = socket.create_connection(("127.0.0.1", port), timeout=30)
    s.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode() + text)
    out = b""
    try:
        while True:
            more = s.recv(65536)
            if not more:
                return out, "eof"
            out += more
    except ConnectionResetError:
        return out, "reset"
    finally:
        s.close()


def test_it_says_where_its_providers_are():
    with simulated("alpha:0", "beta:0", "gamma:0") as sim:
        assert list(sim.ports) == ["alpha", "beta", "gamma"] and len(set(sim.ports.values())) == 3
        for name in sim.ports:
            assert chat(sim, name).json["choices"][0]["finish_reason"] == "stop"
            assert request(sim.ports[name], "GET", "/v1/models").json["data"]
        assert request(sim.ports["alpha"], "GET", "/v1/models/nope").status == 404


def test_streamed_and_whole_say_the_same():
    with simulated("alpha:0") as sim:
        whole = chat(sim).json["choices"][0]["message"]["content"]
        parts = stream(sim).rest()
        assert parts.done and not parts.cut and parts.text == whole and len(whole.split()) == 20


def test_every_style_and_framing_gives_the_same_text():
    styles = "openai azure deepseek mistral groq openrouter vllm llamacpp siliconflow chutes nvidia".split()
    framings = "sse sse-crlf sse-nospace multiline event-names no-done no-final-blank one-byte split-bytes coalesced".split()
    with simulated(*[f"s{i}:0,style={s}" for i, s in enumerate(styles)], *[f"f{i}:0,framing={f}" for i, f in enumerate(framings)]) as sim:
        texts = {stream(sim, name).rest().text for name in sim.ports}
        assert len(texts) == 1 and len(texts.pop().split()) == 20


def test_a_cut_is_a_cut_and_the_tokens_before_it_arrive():
    with simulated("alpha:0,fault=cut,after=7") as sim:
        s = stream(sim).rest()
        assert s.cut and not s.done and len(s.text.split()) == 7
        assert stream(sim).rest().done
        state = sim.state("alpha")
        assert state["by_fault"] == {"cut": 1} and state["faulted"] == 1 and state["complete"] == 1 and state["tokens"] == 27


def test_a_reset_is_a_reset():
    with simulated("alpha:0") as sim:
        for after in ({}, {"after": 0}, {"after": 5}):
            sim.faults("alpha", {"fault": "reset", **after})
            out, end = raw(sim.ports["alpha"], {**ASK, "stream": True})
            assert end == "reset"
            assert out.count(b'"content":"') == (after["after"] + 1 if after.get("after") else 0), out   # and the role's empty content


def test_a_held_answer_waits_for_its_release():
    with simulated("alpha:0") as sim:
        sim.faults("alpha", {"fault": "hold"}, {"fault": "hold", "after": 4})
        for words in (0, 4):
            s = threading.Thread(target=lambda: done.append(stream(sim).rest()))
            done = []
            s.start()
            state = sim.wait("alpha", held=1)
            assert state["held"] == 1 and state["running"] == 1
            sim.release("alpha")
            s.join()
            assert done[0].done and len(done[0].text.split()) == 20, words
        assert sim.wait("alpha", held=0, running=0)["complete"] == 2


def test_a_client_that_leaves_is_counted_whatever_the_state():
    with simulated("alpha:0,token_delay=1h", "beta:0,fault=silent,times=0", "gamma:0,fault=stall,after=3,times=0", "delta:0,ttft=1h") as sim:
        for name in sim.ports:
            body = json.dumps({**ASK, "stream": True}).encode()
            s = socket.create_connection(("127.0.0.1", sim.ports[name]))
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            sim.wait(name, running=1)
            s.close()
            state = sim.wait(name, cancelled=1, running=0)
            assert state["complete"] == 0
        assert sim.state("alpha")["tokens"] == 1 and sim.state("gamma")["tokens"] == 3 and sim.state("beta")["tokens"] == 0


def test_a_provider_that_is_down_refuses_and_comes_back_on_its_port():
    with simulated("alpha:0", "beta:0") as sim:
        control = sim.ports["beta"]
        assert request(control, "POST", "/sim/down?provider=alpha", "").status == 200
        assert refused(sim.ports["alpha"])
        assert not request(control, "GET", "/sim/state?provider=alpha").json["listening"]
        answer = request(control, "POST", "/sim/up?provider=alpha", "")
        assert answer.status == 200, answer.body
        assert chat(sim).status == 200
        sim.faults("alpha", {"fault": "refuse"})
        assert raw(sim.ports["alpha"], ASK) == (b"", "reset")
        assert refused(sim.ports["alpha"])
        assert request(control, "POST", "/sim/up?provider=alpha", "").status == 200
        assert chat(sim).status == 200


def test_a_provider_that_goes_down_takes_its_streams_along():
    with simulated("alpha:0,token_delay=1h", "beta:0") as sim:
        s = stream(sim)
        s.next()
        assert request(sim.ports["beta"], "POST", "/sim/down?provider=alpha", "").status == 200
        assert s.rest().cut
        state = request(sim.ports["beta"], "GET", "/sim/wait?provider=alpha&running=0").json
        assert state["faulted"] == 1 and state["cancelled"] == 0     # it was not the client who left


def refused(port):
    for _ in range(2000):                       # the last event before it is the loop's next turn
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:            # it was in the queue of a socket that was just closed
            continue
    return False


def test_a_seed_gives_the_same_weather_again():
    def outcomes():
        with simulated("alpha:0,fault=status,status=503,rate=0.3", args=["--seed", "5"]) as sim:
            return [chat(sim).status for _ in range(30)]
    first = outcomes()
    assert first == outcomes() and 200 in first and 503 in first


def test_an_error_before_the_body_needs_no_body():
    with simulated("alpha:0") as sim:
        sim.faults("alpha", {"fault": "status", "status": 413, "before_body": True, "headers": {"x-why": "large"}})
        s = socket.create_connection(("127.0.0.1", sim.ports["alpha"]), timeout=30)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        out = s.recv(65536)
        s.close()
        assert out.startswith(b"HTTP/1.1 413") and b"x-why: large" in out
        assert sim.state("alpha")["by_fault"] == {"status": 1}


def test_a_stale_connection_can_be_made():
    with simulated("alpha:0,fault=reset,when=reused") as sim:
        s = socket.create_connection(("127.0.0.1", sim.ports["alpha"]), timeout=30)
        body = json.dumps({**ASK, "messages": [{"role": "user", "content": "[[sim text=x]]"}]}).encode()
        ask = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        s.sendall(ask)
        assert s.recv(65536).startswith(b"HTTP/1.1 200")
        s.sendall(ask)
        try:
            assert s.recv(65536) == b""
        except ConnectionResetError:
            pass
        assert sim.state("alpha")["by_fault"] == {"reset": 1}
    with simulated("alpha:0,idle_close=50ms") as sim:
        s = socket.create_connection(("127.0.0.1", sim.ports["alpha"]), timeout=30)
        s.sendall(ask)
        assert s.recv(65536).startswith(b"HTTP/1.1 200")
        assert s.recv(65536) == b""


def test_keys_models_and_concurrency_are_enforced():
    with simulated("alpha:0,key=secret,models=m+n,concurrency=1") as sim:
        good = {"authorization": "Bearer secret"}
        assert chat(sim).status == 401
        assert chat(sim, headers={"authorization": "Bearer other"}).status == 401
        assert chat(sim, headers=good).status == 200
        assert chat(sim, headers=good, body={**ASK, "model": "x"}).status == 404
        assert "secret" not in json.dumps(sim.state("alpha"))
        sim.faults("alpha", "hold")
        waiting = threading.Thread(target=lambda: chat(sim, headers=good))
        waiting.start()
        sim.wait("alpha", held=1)
        assert chat(sim, headers=good).status == 429
        sim.release("alpha")
        waiting.join()


def test_a_wait_that_is_not_reached_says_so():
    with simulated("alpha:0") as sim:
        assert request(sim.ports["alpha"], "GET", "/sim/wait?requests=1&timeout=10ms").status == 408
        answer = request(sim.ports["alpha"], "GET", "/sim/wait?nonsense=1")
        assert answer.status == 400 and b"nonsense" in answer.body


def test_a_bad_fault_list_changes_nothing():
    with simulated("alpha:0,fault=status,status=418,times=0") as sim:
        answer = request(sim.ports["alpha"], "POST", "/sim/faults", '[{"fault": "cut"},\n {"fault": "cutt"}]')
        assert answer.status == 400 and "line 2" in answer.json["error"]["message"] and "cutt" in answer.json["error"]["message"]
        assert chat(sim).status == 418
        assert request(sim.ports["alpha"], "POST", "/sim/faults", "[]").status == 200
        assert chat(sim).status == 200
        assert request(sim.ports["alpha"], "POST", "/sim/reset", "").status == 200
        assert chat(sim).status == 418
        assert sim.state("alpha")["requests"] == 1


def test_an_agent_can_move_between_providers_in_the_middle_of_a_script():
    folder = pathlib.Path(ROOT, "examples", "simulate")
    script = json.loads((folder / "agent.json").read_text())
    for p in script["providers"].values():
        p["port"] = 0
        p["faults"] = []
    tools = [{"type": "function", "function": {"name": n, "parameters": {"type": "object"}}} for n in ("write", "read")]
    program = Program(["simulate", "--script", "/dev/stdin", "--control", "0"], stdin=as_stdin(script))
    try:
        ports = {n: p["port"] for n, p in json.loads(program.line(r"^(\{.*\})").group(1))["providers"].items()}
        messages, seen = [{"role": "user", "content": "write hello.txt"}], []
        title = request(ports["alpha"], "POST", "/v1/chat/completions", {"model": "m", "messages": messages}).json
        assert title["choices"][0]["message"]["content"] == "A simulated session"
        for name in ("alpha", "beta", "alpha"):
            m = request(ports[name], "POST", "/v1/chat/completions", {"model": "m", "messages": messages, "tools": tools}).json["choices"][0]["message"]
            messages.append(m)
            for call in m.get("tool_calls", []):
                seen.append((call["function"]["name"], json.loads(call["function"]["arguments"])))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": "ok"})
        assert [n for n, _ in seen] == ["write", "read"] and seen[0][1]["content"] == "hello\n"
        assert messages[-1]["content"] == "hello.txt is written and says hello."
    finally:
        program.kill()


def as_stdin(value):
    import tempfile
    f = tempfile.TemporaryFile()
    f.write(json.dumps(value).encode())
    f.seek(0)
    return f


def test_the_examples_are_scripts():
    for path in sorted(pathlib.Path(ROOT, "examples", "simulate").glob("*.json")):
        script = json.loads(path.read_text())
        for p in script["providers"].values():
            p["port"] = 0
        program = Program(["simulate", "--script", "/dev/stdin"], stdin=as_stdin(script))
        try:
            program.line(r'^\{"providers"')
            assert program.stop() == 0, path
        finally:
            program.kill()


def test_the_documentation_is_what_the_program_does():
    reference = Program(["simulate", "--reference=markdown"])
    text = reference.process.stdout.read().decode()
    assert reference.stop() == 0
    doc = pathlib.Path(ROOT, "docs", "simulate.md").read_text()
    assert doc.endswith(text), "docs/simulate.md: replace its tables by what perdure simulate --reference=markdown prints"
    examples = re.findall(r"^(\{\"fault\".*\})$", doc, re.M)
    assert len(examples) > 35
    faults = set(re.findall(r"^\| `(\w+)`", text[text.index("### Faults"):text.index("### Keys of a fault")], re.M)) - {"fault"}
    assert faults == {json.loads(e)["fault"] for e in examples}, "each fault has an example"
    with simulated("alpha:0") as sim:
        sim.faults("alpha", *map(json.loads, examples))


def test_it_ends_with_streams_running():
    with simulated("alpha:0,token_delay=1h", "beta:0,fault=silent") as sim:
        s = stream(sim)
        sim.wait("alpha", running=1)
        assert sim.program.stop() == 0
        s.close()


if __name__ == "__main__":
    main(globals())
