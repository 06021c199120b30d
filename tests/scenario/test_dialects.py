"""Clients of every dialect at a gateway: their own bytes where the provider speaks the same, their own grammar where it does not.

The provider of the stories about bytes replays what a simulated one said, and keeps what it was asked as it came.
"""
import contextlib
import http.server
import json
import re
import threading

from perdure_test import Gateway, config, main, request
from test_simulate_dialects import ARRAY, CHAT, CONVERSE, GEMINI, MESSAGES, OLLAMA, RESPONSES, VERSION, post, sign, simulated
from dialect_gateway import PLACES, UPSTREAM, name_of, pair

SAME = [CHAT, RESPONSES, MESSAGES, GEMINI, CONVERSE, OLLAMA]
TEAM = "team-key-7f1c99"
PROVIDER_KEY = "test-key-of-provider"
ALONE = {"attempts": 1, "ttft": 0, "affinity": 0, "probe": "off"}


class Replay(http.server.ThreadingHTTPServer):
    """Answers every request with the same bytes, and keeps path, head and body of what it was asked."""

    def __init__(self):
        self.asked, self.answer = [], (None, b"")
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, str(self.headers), body))
        kind, said = self.server.answer
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def replaying(extra=None, **more):
    """A gateway whose providers, one of each dialect, all replay: model `m-chat` is that of chat, and so on."""
    server = Replay()
    gateway = None
    try:
        table = {}
        for name, about in UPSTREAM.items():
            about = dict(about)
            base = f"http://127.0.0.1:{server.server_port}{about.pop('path')}"
            table[name] = {**about, "base_url": base, "key": PROVIDER_KEY, "models": [f"m-{name}"], **more}
        gateway = Gateway(config(table, resilience=ALONE, extra=extra))
        yield server, gateway
        assert gateway.stop() == 0, gateway.log()[-3000:]
    finally:
        if gateway and gateway.program.process.poll() is None:
            gateway.program.kill()
        server.shutdown()
        server.server_close()


def place_of(client, stream, model):
    return PLACES[client][stream].format(model) if client in PLACES else client.where(stream)


def odd_body(client, stream, model):
    """As nobody's serialiser writes it: spaces, escapes, an unknown member."""
    body = client.body(say="h\u00e9 \u4f60", stream=stream)
    if "model" in body:
        body["model"] = model
    if client is CHAT and stream:
        body["stream_options"] = {"include_usage": True}
    return " \n" + json.dumps({**body, "x_unknown": [1.50, {"a": None}]}, indent=3).replace("1.5", "1.50e0") + "\n "


def recorded(client, stream):
    """Without keep-alives, which say nothing: before the first output they are not handed on."""
    with simulated("alpha:0") as sim:
        answer = client.ask(sim.ports["alpha"], stream)
        assert answer.status == 200
        return answer.headers["content-type"], re.sub(rb"event: ping\n.*\n\n", b"", answer.body)


def raw_post(port, path, text, headers):
    return request(port, "POST", path, text.encode(), {"content-type": "application/json", **headers})


def test_requests_and_answers_of_the_same_dialect_are_the_same_bytes():
    for stream in (True, False):
        with replaying(**({} if stream else {"stream": False})) as (server, gateway):   # else whole answers are asked for as streams
            for client in SAME:
                where, model = f"{client.name}, streamed: {stream}", f"m-{client.name}"
                server.answer = recorded(client, stream)
                text, path = odd_body(client, stream, model), place_of(client, stream, model)
                answer = raw_post(gateway.port, path, text, client.headers)
                assert answer.status == 200, (where, answer.status, answer.body)
                got_path, _, body = server.asked[-1]
                assert got_path == path and body == text.encode(), (where, got_path, body, text)
                assert answer.body == server.answer[1], (where, answer.body[-600:], server.answer[1][-600:])
                assert "x-perdure-dropped" not in answer.headers, where


def test_each_clients_own_way_to_send_a_key():
    aws = sign(1, "/model/m-converse/converse", b"", TEAM, "no matter")
    ways = [(CHAT, {"authorization": f"Bearer {TEAM}"}, ""), (RESPONSES, {"authorization": f"Bearer {TEAM}"}, ""),
            (MESSAGES, {"x-api-key": TEAM}, ""), (MESSAGES, {"authorization": f"Bearer {TEAM}"}, ""), (GEMINI, {"x-goog-api-key": TEAM}, ""),
            (GEMINI, {}, f"key={TEAM}"), (CONVERSE, {"authorization": f"Bearer {TEAM}"}, ""), (CONVERSE, aws, ""),
            (OLLAMA, {"authorization": f"Bearer {TEAM}"}, "")]
    with replaying({"keys": [{"name": "team", "key": TEAM}]}) as (server, gateway):
        for client, headers, query in ways:
            model, where = f"m-{client.name}", (client.name, headers, query)
            server.answer = recorded(client, False)
            text, path = odd_body(client, False, model), place_of(client, False, model)
            asked = len(server.asked)
            for wrong in ({}, {k: v.replace(TEAM, "wrong") for k, v in headers.items()}):
                answer = raw_post(gateway.port, path, text, {**client.headers, **wrong})
                assert answer.status in (401, 403) and len(server.asked) == asked, (where, wrong, answer.status)
            answer = raw_post(gateway.port, path + (f"?{query}" if query else ""), text, {**client.headers, **headers})
            assert answer.status == 200, (where, answer.status, answer.body)
            got = server.asked[-1]
            assert TEAM not in got[0] + got[1], (where, got)


def test_a_prompt_of_ollama_is_a_prompt_at_ollama_and_a_message_elsewhere():
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            for n, stream in enumerate((True, False)):
                ask = {"model": f"r{n}", "prompt": "[[sim text=one two]]", "system": "s", "options": {"num_ctx": 512}, **({} if stream else {"stream": False})}
                answer = post(p.gateway.port, "/api/generate", ask)
                lines = [json.loads(x) for x in answer.body.splitlines()]
                assert answer.status == 200 and len(lines) > 1 if stream else len(lines) == 1, (upstream, answer.status, answer.body)
                assert "".join(x["response"] for x in lines) == "one two" and lines[-1]["done"] and lines[-1]["eval_count"], (upstream, lines)
                asked = p.sim.order("alpha", "GET", "/sim/requests?last=1")[0]
                if upstream == "ollama":
                    assert asked["path"] == "/api/generate" and asked["body"]["prompt"] == ask["prompt"], asked
                    assert asked["body"]["options"] == ask["options"] and "x-perdure-dropped" not in answer.headers, (asked, answer.headers)
                else:
                    assert asked["path"] != "/api/generate", asked
                    assert answer.headers["x-perdure-dropped"] == "options.num_ctx", (upstream, answer.headers)


def test_embeddings_of_ollama_are_its_own_or_translated():
    with simulated("alpha:0,dimensions=4", "beta:0,dimensions=4") as sim:
        at = {n: f"http://127.0.0.1:{sim.ports[n]}" for n in ("alpha", "beta")}
        gateway = Gateway(config({"alpha": {"preset": "ollama", "base_url": at["alpha"], "key": "k", "models": ["a"]},
                                  "beta": {"preset": "openai-compatible", "base_url": at["beta"] + "/v1", "key": "k", "models": ["b"]}}, resilience=ALONE))
        for model, name, path in (("a", "alpha", "/api/embed"), ("b", "beta", "/v1/embeddings")):
            answer = post(gateway.port, "/api/embed", {"model": model, "input": ["x", "y"]})
            assert answer.status == 200, (model, answer.body)
            vectors = json.loads(answer.body)["embeddings"]
            assert len(vectors) == 2 and {len(v) for v in vectors} == {4}, (model, answer.body)
            assert sim.order(name, "GET", "/sim/requests?last=1")[0]["path"] == path
        assert gateway.stop() == 0


def test_tokens_are_counted_where_it_can_be_asked_and_estimated_elsewhere():
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            for path, body, headers, field, own in (
                    ("/v1/messages/count_tokens", {"model": "r0", "messages": [{"role": "user", "content": "hi there"}]}, VERSION, "input_tokens", "messages"),
                    ("/v1beta/models/r0:countTokens", {"contents": [{"role": "user", "parts": [{"text": "hi there"}]}]}, {}, "totalTokens", "gemini")):
                before = p.sim.state("alpha")["requests"]
                answer = post(p.gateway.port, path, body, headers)
                assert answer.status == 200 and json.loads(answer.body)[field] > 0, (upstream, path, answer.status, answer.body)
                asked = p.sim.state("alpha")["requests"] - before
                if upstream == own or upstream not in ("messages", "gemini"):
                    assert asked == (upstream == own), (upstream, path, asked)


def test_one_list_of_models_in_each_dialects_shape():
    with pair("chat", routes=2) as p:
        port = p.gateway.port
        openai = request(port, "GET", "/v1/models").json
        assert openai["object"] == "list" and "r0" in [m["id"] for m in openai["data"]], openai
        anthropic = request(port, "GET", "/v1/models", headers=VERSION).json
        assert "r0" in [m["id"] for m in anthropic["data"]] and {m["type"] for m in anthropic["data"]} == {"model"} and "has_more" in anthropic, anthropic
        for path, headers in (("/v1beta/models", {}), ("/v1/models", {"x-goog-api-key": "k"})):
            google = request(port, "GET", path, headers=headers).json
            assert "models/r0" in [m["name"] for m in google["models"]], (path, google)
        tags = request(port, "GET", "/api/tags").json
        assert "r0" in [m["name"] for m in tags["models"]], tags
        assert request(port, "HEAD", "/").status == 200 and request(port, "GET", "/api/version").json["version"]


def test_a_gemini_stream_without_sse_is_one_array():
    for upstream in UPSTREAM:
        with pair(upstream) as p:
            answer = p.ask(ARRAY, True)
            said = ARRAY.said(answer, True)
            assert answer.status == 200 and answer.headers["content-type"].startswith("application/json"), (upstream, answer.headers)
            assert said.whole and len(said.events) > 3, (upstream, answer.body[-400:])


def test_what_is_left_out_is_named_and_nothing_else():
    rows = [(CHAT, {"seed": 7, "top_k": 3, "no_such": 1}, "messages", {"seed", "no_such"}), (CHAT, {"seed": 7, "min_p": 0.1}, "ollama", set()),
            (MESSAGES, {"top_k": 3}, "chat", {"top_k"}), (OLLAMA, {"keep_alive": "5m", "options": {"seed": 1, "num_ctx": 9}}, "gemini", {"keep_alive", "options.num_ctx"}),
            (GEMINI, {"safetySettings": []}, "converse", {"safetySettings"}), (CONVERSE, {"guardrailConfig": {"guardrailIdentifier": "g"}}, "chat", {"guardrailConfig"})]
    for client, more, upstream, names in rows:
        with pair(upstream) as p:
            answer = p.ask(client, False, **more)
            got = answer.headers.get("x-perdure-dropped", "")
            assert answer.status == 200, (name_of(client), upstream, answer.status, answer.body)
            assert {n.strip() for n in got.split(",") if n.strip()} == names, (name_of(client), upstream, got)


if __name__ == "__main__":
    main(globals())
