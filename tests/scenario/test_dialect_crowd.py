"""Translated calls under load: two workers and all dialects at once, signatures that all workers keep together, clients that leave, and clients that are slow."""
import concurrent.futures
import json
import signal
import socket

from dialect_gateway import ARRAY, CHAT, CONVERSE, GEMINI, MESSAGES, OLLAMA, RESPONSES, UPSTREAM, WAYS, Pair, name_of, pair, whole
from perdure_test import PERDURE, Gateway, Providers, config, main

SANITIZED = any(word in PERDURE for word in ("asan", "tsan"))

# The turn behind a first answer with a call: what was asked, the answer as this dialect's clients keep it, the result.
BACK = {
    CHAT: lambda a: [{"role": "user", "content": "hi"}, a["choices"][0]["message"], *({"role": "tool", "tool_call_id": c["id"], "content": "42"} for c in a["choices"][0]["message"]["tool_calls"])],
    RESPONSES: lambda a: [{"role": "user", "content": "hi"}, *a["output"], *({"type": "function_call_output", "call_id": c["call_id"], "output": "42"} for c in a["output"] if c["type"] == "function_call")],
    MESSAGES: lambda a: [{"role": "user", "content": "hi"}, {"role": "assistant", "content": a["content"]},
                         {"role": "user", "content": [{"type": "tool_result", "tool_use_id": c["id"], "content": "42"} for c in a["content"] if c["type"] == "tool_use"]}],
    GEMINI: lambda a: [{"role": "user", "parts": [{"text": "hi"}]}, a["candidates"][0]["content"],
                       {"role": "user", "parts": [{"functionResponse": {**({"id": p["functionCall"]["id"]} if "id" in p["functionCall"] else {}), "name": "look", "response": {"r": 42}}}
                                                  for p in a["candidates"][0]["content"]["parts"] if "functionCall" in p]}],
    CONVERSE: lambda a: [{"role": "user", "content": [{"text": "hi"}]}, a["output"]["message"],
                         {"role": "user", "content": [{"toolResult": {"toolUseId": c["toolUse"]["toolUseId"], "content": [{"json": {"r": 42}}]}} for c in a["output"]["message"]["content"] if "toolUse" in c]}],
    OLLAMA: lambda a: [{"role": "user", "content": "hi"}, a["message"], *({"role": "tool", "tool_name": "look", "content": "42"} for _ in a["message"]["tool_calls"])],
}
THINKS = {CHAT: {"reasoning_effort": "low"}, RESPONSES: {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]},
          MESSAGES: {"thinking": {"type": "enabled", "budget_tokens": 1024}}, GEMINI: {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
          CONVERSE: {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}, OLLAMA: {"think": True}}


def crowd_gateway(sim):
    """Six providers, one for each dialect, each with models of its makers' names; two workers."""
    models = {"chat": "gpt-5", "responses": "gpt-5", "messages": "claude-sonnet-4-5", "gemini": "gemini-3-pro", "converse": "us.anthropic.claude-sonnet-4-5-v1:0", "ollama": "qwen3"}
    providers = {}
    for name, about in UPSTREAM.items():
        about = dict(about)
        path = about.pop("path")
        providers[name] = {**about, "base_url": f"http://127.0.0.1:{sim.ports[name]}{path}", "key": "test-key-of-provider", "models": [models[name]]}
    return Gateway(config(providers, {f"to-{n}": {"strategy": "priority", "targets": [{"model": f"{n}/{models[n]}"}]} for n in UPSTREAM},
                          {"ttft": "60s", "affinity": 0, "attempts": 2, "backoff": "1ms"}, {"workers": 2}))


def talk(gateway, client, upstream, again):
    """A call of a tool, then its result, on connections of their own: any worker may get either."""
    from test_simulate_dialects import post
    headers = {**client.headers, "connection": "close"}
    route = f"to-{upstream}"
    first = post(gateway.port, Pair.path(client, False, route), Pair.body(client, False, route, tools=True, **THINKS[client]), headers)
    assert first.status == 200, (name_of(client), upstream, first.status, first.body)
    said = client.said(first, False)
    assert said.calls and all(c[0] == "look" for c in said.calls), (name_of(client), upstream, first.body)
    body = Pair.body(client, again, route, tools=True, messages=BACK[client](json.loads(first.body)), **THINKS[client])
    second = post(gateway.port, Pair.path(client, again, route), body, headers)
    assert second.status == 200 and not second.cut, (name_of(client), upstream, second.status, second.body, json.dumps(body))
    said = client.said(second, again)
    assert said.whole and said.text, (name_of(client), upstream, second.body)
    return 2


def leave(gateway, client, upstream, after):
    """Asks for a stream and goes away after some of its bytes."""
    body = json.dumps(Pair.body(client, True, f"to-{upstream}", say="hi [[sim tokens=400]]")).encode()
    fields = "".join(f"{k}: {v}\r\n" for k, v in client.headers.items())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as s:
        s.sendall(f"POST {Pair.path(client, True, f'to-{upstream}')} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        got = 0
        while got < after:
            piece = s.recv(4096)
            if not piece:
                break
            got += len(piece)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    return 1


def test_two_hundred_at_once_in_all_dialects_with_signatures_and_clients_that_leave():
    specs = [f"{n}:0,tokens=20,reasoning=5,parallel=2" for n in UPSTREAM]
    sim = Providers(*specs)
    gateway = crowd_gateway(sim)
    clients = [c for c in BACK]
    try:
        def one(i):
            client, upstream = clients[i % 6], list(UPSTREAM)[(i // 6) % 6]
            if i % 7 == 5:
                return leave(gateway, client, upstream, (i * 37) % 3000)
            if i % 29 == 3:
                gateway.get("/api/calls")
                gateway.get("/metrics")
                gateway.program.process.send_signal(signal.SIGHUP)   # calls keep the configuration they began with
            return talk(gateway, client, upstream, i % 2 == 0)
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            made = sum(pool.map(one, range(200 if SANITIZED else 400)))
        for upstream, proof in (("messages", '"signature":'), ("gemini", '"thoughtSignature":'), ("converse", '"signature":'), ("responses", '"encrypted_content":')):
            for _ in range(4):   # by then one of them had its turns on both workers
                made += talk(gateway, CHAT, upstream, True)
                asked = sim.order(upstream, "GET", "/sim/requests?last=1")[-1]["body"]
                asked = asked if isinstance(asked, str) else json.dumps(asked, separators=(",", ":"))
                assert proof in asked and "skip_thought" not in asked, (upstream, "what its maker wants back did not come", asked)
        gateway.until("the last call's end", lambda: gateway.metric("perdure_calls_running") == 0)
        done = sum(v for (n, labels), v in gateway.metrics().items() if n == "perdure_calls_total")
        assert done == made, (done, made)
        # those that leave ask for the same: one may go on from what another left
        assert sum(gateway.metric("perdure_calls_total", outcome=o) for o in ("complete", "continued", "client_gone")) == made
        assert gateway.program.process.poll() is None and gateway.stop() == 0, gateway.log()[-6000:]
        assert "ThreadSanitizer" not in gateway.log() and "AddressSanitizer" not in gateway.log(), gateway.log()[-6000:]
    finally:
        if gateway.program.process.poll() is None:
            gateway.program.kill()
        sim.program.kill()


def test_a_client_that_leaves_stops_the_provider_in_every_pair():
    for upstream in UPSTREAM:
        with pair(upstream, specs=("alpha:0,tokens=200", "beta:0")) as p:
            gone = 0
            for client, stream in WAYS:
                where = f"{name_of(client)}{' streamed' if stream else ''} on {upstream}"
                p.sim.faults("alpha", {"fault": "hold", "after": 5})
                route, p.used = p.used, p.used + 1
                body = json.dumps(p.body(client, stream, f"r{route}")).encode()
                fields = "".join(f"{k}: {v}\r\n" for k, v in client.headers.items())
                with socket.create_connection(("127.0.0.1", p.gateway.port), timeout=60) as s:
                    s.sendall(f"POST {p.path(client, stream, f'r{route}')} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                    p.sim.wait("alpha", held=1)
                gone += 1
                p.sim.wait("alpha", cancelled=gone)
                p.gateway.until(where, lambda: p.gateway.metric("perdure_calls_total", outcome="client_gone") == gone)
            assert p.gateway.metric("perdure_calls_running") == 0


def test_a_slow_client_of_a_large_translated_answer_costs_no_memory():
    """Ten megabytes and more for each of twelve clients that do not read: what waits is bounded, the provider stands still; then they read all of it."""
    words = 60000
    for upstream in ("chat", "gemini", "converse") if not SANITIZED else ("gemini",):
        with pair(upstream, {"stall": "10m", "ttft": 0, "first_token_timeout": "10m"}, specs=(f"alpha:0,tokens={words}", "beta:0"), extra={"write_timeout": "10m"}) as p:
            before = p.gateway.metric("process_resident_memory_bytes")
            peers = []
            for client in [MESSAGES, CHAT, RESPONSES, GEMINI, ARRAY, CONVERSE, OLLAMA]:
                route, p.used = p.used, p.used + 1
                body = json.dumps({**p.body(client, True, f"r{route}"), **({"max_tokens": 10 * words} if client is MESSAGES else {})}).encode()
                fields = "".join(f"{k}: {v}\r\n" for k, v in client.headers.items())
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.settimeout(120)
                s.connect(("127.0.0.1", p.gateway.port))
                s.sendall(f"POST {p.path(client, True, f'r{route}')} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                peers.append((client, s))
            counted = [-1]

            def stands_still():
                """No token is generated any more, though none of the answers is done."""
                last, counted[0] = counted[0], p.sim.state("alpha")["tokens"]
                return last == counted[0] > 0 and p.sim.state("alpha")["running"] == len(peers)
            p.gateway.until("the providers stand still", stands_still)
            held = p.gateway.metric("process_resident_memory_bytes") - before
            assert SANITIZED or held < 40e6, f"{held / 1e6:.0f} MB wait for {len(peers)} clients on {upstream}"
            assert p.sim.state("alpha")["tokens"] < len(peers) * words
            for client, s in peers:
                got = []
                while piece := s.recv(1 << 20):
                    got.append(piece)
                s.close()
                size = sum(map(len, got))
                tail = b"".join(got[-3:])[-4000:]
                end = {MESSAGES: b"message_stop", CHAT: b"[DONE]", RESPONSES: b"response.completed", GEMINI: b"finishReason", ARRAY: b"finishReason", CONVERSE: b"metadata", OLLAMA: b'"done":true'}[client]
                assert end in (b"".join(got) if client is RESPONSES else tail), (name_of(client), upstream, size, tail[-300:])
                assert size > words * 5, (name_of(client), upstream, size)
            assert p.gateway.metric("perdure_calls_total", outcome="complete") == len(peers)


def test_of_two_hedged_translations_the_winners_bytes_alone_are_seen():
    """Alpha begins late and in the middle of beta's answer: what its encoder made is thrown away with it."""
    for upstream in UPSTREAM:
        with pair(upstream, {"ttft": "60ms"}, specs=("alpha:0,tokens=24,answer=alpha " + " ".join(["alpha"] * 23), "beta:0,tokens=24,token_delay=4ms,answer=beta " + " ".join(["beta"] * 23))) as p:
            for client, stream in WAYS:
                where = f"{name_of(client)}{' streamed' if stream else ''} on {upstream}"
                p.sim.faults("alpha", {"fault": "slow", "ttft": "90ms", "token_delay": "4ms"})
                answer = p.ask(client, stream)
                winner = answer.headers["x-perdure-provider"]
                said = whole(client, stream, answer, where, winner, None)
                assert set(said.text.split()) == {winner}, (where, said.text)
            state = p.sim.state("alpha")
            assert state["by_fault"]["slow"] == len(WAYS)
            assert p.sim.state("beta")["requests"] > 0, "nothing was hedged: this shows nothing"


if __name__ == "__main__":
    main(globals())
