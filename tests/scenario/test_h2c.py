"""HTTP/2 without TLS, by prior knowledge: curl and node's http2 through the real program, as over HTTP/1.1."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from perdure_test import DEADLINE, Gateway, Providers, config, main, running

RULES = {"ttft": 0, "backoff": "10ms", "first_token_timeout": "10m", "stall": "10m", "affinity": 0}
CLIENT = pathlib.Path(__file__).with_name("h2c_node.mjs")


def curl(gateway, path, body=None, *more):
    """Status line to body, as curl shows it; fails as curl does."""
    given = ["curl", "-sS", "-i", "--http2-prior-knowledge", "--max-time", str(int(DEADLINE)), f"http://127.0.0.1:{gateway.port}{path}", *more]
    if body is not None:
        given += ["-H", "content-type: application/json", "--data-binary", "@-"]
    done = subprocess.run(given, input=json.dumps(body).encode() if body is not None else None, capture_output=True, timeout=DEADLINE)
    head, _, text = done.stdout.partition(b"\r\n\r\n")
    return done.returncode, head.decode(), text.decode()


def chat(stream=False, text="hello", **more):
    return {"model": "main", "stream": stream, "messages": [{"role": "user", "content": text}], **more}


def node(gateway, story, **more):
    """What the client of h2c_node.mjs saw, or None without a node."""
    if not shutil.which("node"):
        return None
    done = subprocess.run(["node", str(CLIENT), json.dumps({"port": gateway.port, "story": story, **more})], capture_output=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.decode().splitlines()[-1])


class Node:
    """The same client, in the middle of whose story something happens: it says a line and waits for one."""

    def __init__(self, gateway, story, **more):
        self.process = subprocess.Popen(["node", str(CLIENT), json.dumps({"port": gateway.port, "story": story, **more})],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def hear(self):
        line = self.process.stdout.readline()
        assert line, f"node ended with {self.process.wait()}"
        return json.loads(line)

    def go(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(DEADLINE) == 0
        self.process.stdout.close()


def test_every_endpoint_answers_curl():
    with running("alpha:0,tokens=20", resilience=RULES) as (sim, gateway):
        code, head, text = curl(gateway, "/v1/models")
        assert code == 0 and head.startswith("HTTP/2 200") and "main" in text, (code, head, text)
        code, head, text = curl(gateway, "/v1/chat/completions", chat())
        assert code == 0 and head.startswith("HTTP/2 200"), (code, head, text)
        assert len(json.loads(text)["choices"][0]["message"]["content"].split()) == 20
        code, head, text = curl(gateway, "/v1/chat/completions", chat(stream=True))
        assert code == 0 and head.startswith("HTTP/2 200") and text.rstrip().endswith("data: [DONE]"), (code, head, text[-300:])
        assert "transfer-encoding" not in head and "connection" not in head, head
        code, head, text = curl(gateway, "/v1/nothing")
        assert code == 0 and head.startswith("HTTP/2 404"), (code, head, text)
        code, head, text = curl(gateway, "/healthz", None, "--head")
        assert code == 0 and head.startswith("HTTP/2 200") and not text, (code, head, text)


def test_a_body_of_two_megabytes_arrives_whole():
    with running("alpha:0,tokens=5", resilience=RULES) as (sim, gateway):
        code, head, text = curl(gateway, "/v1/chat/completions", chat(text="x" * (2 << 20)))
        assert code == 0 and head.startswith("HTTP/2 200"), (code, head, text[:300])
        code, head, text = curl(gateway, "/v1/chat/completions", chat(text="x" * (2 << 20)), "-H", "expect: 100-continue")
        assert code == 0 and head.strip() == "HTTP/2 100" and text.startswith("HTTP/2 200"), (code, head, text[:300])


def test_a_broken_stream_does_not_end_as_if_it_were_whole():
    with running("alpha:0,tokens=40", resilience={**RULES, "continuations": 0}) as (sim, gateway):
        sim.faults("alpha", {"fault": "cut", "after": 5})
        code, head, text = curl(gateway, "/v1/chat/completions", chat(stream=True))
        assert code == 92, f"curl's exit status is {code}, not that of a stream that was reset"
        assert head.startswith("HTTP/2 200") and "[DONE]" not in text, (head, text[-300:])
        assert '"error"' in text, text[-300:]


def test_many_calls_share_a_connection():
    with running("alpha:0,tokens=30,token_delay=2ms", resilience=RULES) as (sim, gateway):
        saw = node(gateway, "many", count=60)
        if saw is None:
            return
        assert saw["whole"] == 60 and saw["connections"] == 1, saw


def test_a_stream_that_its_client_resets_cancels_that_call_alone():
    with running("alpha:0,tokens=200,token_delay=20ms", resilience=RULES) as (sim, gateway):
        if not shutil.which("node"):
            return
        client = Node(gateway, "leave")
        assert client.hear() == {"both": "begun"}
        client.go()
        state = sim.wait("alpha", cancelled=1, timeout="10s")
        assert state["tokens"] < 400
        gateway.until("the call's end", lambda: gateway.metric("perdure_calls_total", outcome="client_gone") == 1)
        assert client.hear() == {"other": "whole"}
        client.end()
        assert sim.state("alpha")["cancelled"] == 1


def test_a_drain_lets_streams_of_a_connection_end():
    sim = Providers("alpha:0,tokens=40")
    gateway = Gateway(config({"alpha": {"preset": "openai-compatible", "base_url": sim.url("alpha"), "models": ["m"]}},
                             {"main": {"strategy": "priority", "targets": ["alpha/m"]}}, RULES))
    try:
        if not shutil.which("node"):
            return
        sim.faults("alpha", {"fault": "hold", "after": 5})
        client = Node(gateway, "drain")
        assert client.hear() == {"stream": "begun"}
        sim.wait("alpha", held=1)
        gateway.program.process.send_signal(signal.SIGTERM)
        assert client.hear() == {"goaway": 0}, "it was not told"
        assert gateway.program.process.poll() is None, "it ended before its stream"
        sim.release("alpha")
        assert client.hear() == {"stream": "whole"}
        client.end()
        assert gateway.program.process.wait(30) == 0, gateway.log()
    finally:
        gateway.program.kill()
        sim.program.kill()


def test_a_client_that_does_not_read_stops_its_provider():
    with running("alpha:0,tokens=200000", resilience=RULES) as (sim, gateway):
        if not shutil.which("node"):
            return
        client = Node(gateway, "slow")
        assert client.hear() == {"stream": "begun"}
        seen = []

        def still():
            """The provider's tokens stand still while nothing is read."""
            seen.append(sim.state("alpha")["tokens"])
            return len(seen) > 30 and len(set(seen[-30:])) == 1
        gateway.until("the provider to stand still", still)
        assert seen[-1] < 200000, "everything was taken from the provider"
        client.go()
        assert client.hear() == {"stream": "whole"}
        client.end()


def test_a_stream_that_breaks_goes_on_over_http_2_too():
    vllm = {n: {"preset": "vllm"} for n in ("alpha", "beta")}
    with running("alpha:0,tokens=200,style=vllm", "beta:0,tokens=200,style=vllm", providers=vllm, resilience={**RULES, "breaker_failures": 0}) as (sim, gateway):
        want = gateway.stream().rest().text
        for ask in ({}, {"stream_options": {"include_usage": True}}):
            sim.faults("alpha", {"fault": "cut", "after": 30})
            sim.faults("beta", {"fault": "cut", "after": 40})
            code, head, text = curl(gateway, "/v1/chat/completions", chat(stream=True, **ask))
            assert code == 0 and head.startswith("HTTP/2 200"), (code, head)
            events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
            assert "".join(c["delta"].get("content") or "" for e in events for c in e["choices"]) == want, text[-600:]
            assert text.rstrip().endswith("data: [DONE]") and text.count("[DONE]") == 1
            assert sum(bool(e.get("usage")) for e in events) == bool(ask), text[-600:]
        assert gateway.metric("perdure_calls_total", outcome="continued") == 2
        sim.faults("alpha", *[{"fault": "cut", "after": 5}] * 20)
        sim.faults("beta", *[{"fault": "cut", "after": 5}] * 20)
        code, head, text = curl(gateway, "/v1/chat/completions", chat(stream=True))
        assert code != 0 and "[DONE]" not in text and '"error"' in text, (code, text[-600:])


if __name__ == "__main__":
    main(globals())
