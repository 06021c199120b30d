"""Clients of every dialect before a gateway whose providers speak one of them: for stories that hold for each pair of dialects.

The clients are the small ones of test_simulate_dialects, each with the grammar of its dialect. The targets of each story are their own
(`alpha/r17` and `beta/r17` behind the route `r17`), so that a target that rests or is parked says nothing of the next story.
"""
import contextlib
import json

from perdure_test import Gateway, Providers, config
from test_simulate_dialects import ARRAY, CHAT, CONVERSE, GEMINI, MESSAGES, OLLAMA, RESPONSES, STOP, Dialect, frames, post

CLIENTS = [CHAT, RESPONSES, MESSAGES, GEMINI, ARRAY, CONVERSE, OLLAMA]
WAYS = [(client, stream) for client in CLIENTS for stream in (False, True) if client is not ARRAY or stream]
UPSTREAM = {
    "chat": {"preset": "openai-compatible", "wires": ["openai-chat"], "path": "/v1"},
    "responses": {"preset": "openai", "wires": ["openai-responses"], "path": "/v1"},
    "messages": {"preset": "anthropic", "path": ""},
    "gemini": {"preset": "gemini", "path": ""},
    "converse": {"preset": "bedrock", "wires": ["bedrock-converse"], "region": "us-east-1", "path": ""},
    "ollama": {"preset": "ollama", "wires": ["ollama"], "path": ""},
}
PLACES = {GEMINI: ("/v1beta/models/{}:generateContent", "/v1beta/models/{}:streamGenerateContent?alt=sse"),
          ARRAY: ("/v1beta/models/{}:generateContent", "/v1beta/models/{}:streamGenerateContent"),
          CONVERSE: ("/model/{}/converse", "/model/{}/converse-stream")}
ENDS = {CHAT: [b"[DONE]", b'"finish_reason":"'], RESPONSES: [b"response.completed", b"response.incomplete", b"[DONE]"], MESSAGES: [b"message_stop"],
        GEMINI: [b"finishReason"], ARRAY: [b"finishReason"], CONVERSE: [b"messageStop", b"metadata"], OLLAMA: [b'"done":true']}
TOKENS = 24

# Nothing but the fault itself moves a call: no hedge, no breaker, no wait.
QUIET = {"attempts": 1, "backoff": "1ms", "backoff_max": "2ms", "retry_budget": 10, "ttft": "30s", "ttft_adaptive": False, "hedge_budget": 1, "affinity": 0,
         "breaker_failures": 0, "breaker_timeouts": 0, "throttle_factor": 0, "retry_after_max": "10ms", "probe": "off", "stall": "20s",
         "hold": 0, "continuations": 0}  # a broken stream ends: what goes on is the wall's


def name_of(client):
    return type(client).__name__.lower()


class Pair:
    """A gateway before alpha and beta, which both speak `upstream`."""

    def __init__(self, upstream, resilience, routes, specs, extra):
        self.upstream, self.used, self.routes = upstream, 0, routes
        self.sim = Providers(*specs)
        about = dict(UPSTREAM[upstream])
        path = about.pop("path")
        names = list(self.sim.ports)
        try:
            self.gateway = Gateway(config(
                {n: {**about, "base_url": f"http://127.0.0.1:{self.sim.ports[n]}{path}", "key": "test-key-of-provider", "models": [f"r{i}" for i in range(routes)]} for n in names},
                {f"r{i}": {"strategy": "priority", "targets": [{"model": f"{n}/r{i}"} for n in names]} for i in range(routes)},
                {**QUIET, **(resilience or {})}, extra))
        except BaseException:
            self.sim.program.kill()
            raise

    def ask(self, client, stream, route=None, **more):
        """A call on targets that no call has used yet."""
        if route is None:
            route, self.used = self.used, self.used + 1
            assert route < self.routes, "more routes are needed"
        headers = {**client.headers, **more.pop("headers", {})}
        return post(self.gateway.port, self.path(client, stream, f"r{route}"), self.body(client, stream, f"r{route}", **more), headers)

    @staticmethod
    def path(client, stream, model):
        return PLACES[client][stream].format(model) if client in PLACES else client.where(stream)

    @staticmethod
    def body(client, stream, model, **more):
        body = client.body(stream=stream, **more)
        return {**body, "model": model} if "model" in body else body

    def same(self, client):
        return client.name == self.upstream


@contextlib.contextmanager
def pair(upstream, resilience=None, routes=120, specs=(f"alpha:0,tokens={TOKENS}", f"beta:0,tokens={TOKENS}"), extra=None):
    p = Pair(upstream, resilience, routes, specs, extra)
    try:
        yield p
        assert p.gateway.program.process.poll() is None, f"perdure ended by itself:\n{p.gateway.log()[-6000:]}"
        status = p.gateway.stop()
        assert status == 0, f"exit status {status}:\n{p.gateway.log()[-6000:]}"
    finally:
        if p.gateway.program.process.poll() is None:
            p.gateway.program.kill()
        p.sim.program.kill()


def whole(client, stream, answer, where, provider="beta", words=TOKENS):
    """The whole answer, by the client's own grammar and its own proof of an end."""
    assert answer.status == 200 and not answer.cut, (where, answer.status, answer.cut, answer.body[-800:])
    said = client.said(answer, stream)
    assert said.whole and said.error is None and said.finish == STOP[client.name], (where, said.finish, said.error, answer.body[-800:])
    assert words is None or len(said.text.split()) == words, (where, said.text)
    assert answer.headers.get("x-perdure-provider") == provider, (where, answer.headers)
    return said


class Told:
    """An error in a client's dialect: its words and what was tried."""

    def __init__(self, client, answer, where):
        got = json.loads(answer.body)
        self.body, self.retry_after = got, answer.headers.get("retry-after")
        assert answer.headers["content-type"].startswith("application/json"), (where, answer.headers)
        if client in (CHAT, RESPONSES):
            error = got["error"]
            self.message, self.type, self.code, self.attempts = error["message"], error["type"], error["code"], error.get("attempts")
        elif client is MESSAGES:
            assert got["type"] == "error", (where, got)
            error = got["error"]
            self.message, self.type, self.attempts = error["message"], error["type"], error.get("attempts")
        elif client in (GEMINI, ARRAY):
            error = got["error"]
            assert error["code"] == answer.status, (where, got)
            self.message, self.type, self.attempts = error["message"], error["status"], error.get("attempts")
        elif client is CONVERSE:
            self.message, self.type, self.attempts = got["message"], answer.headers["x-amzn-errortype"], got.get("attempts")
            assert got.get("__type", self.type) == self.type, (where, got, answer.headers)
        else:
            assert isinstance(got["error"], str), (where, got)
            self.message, self.type, self.attempts = got["error"], None, got.get("attempts")


def no_end(client, answer, where):
    """An error that says it broke off, and nothing that looks like an end."""
    assert answer.status == 200, (where, answer.status, answer.body[:800])
    assert answer.cut, (where, "the body ends properly", answer.body[-800:])
    for end in ENDS[client]:
        assert end not in answer.body, (where, end, answer.body[-800:])
    assert b"broke off" in answer.body and b"alpha" in answer.body, (where, answer.body[-800:])
    if client is CONVERSE:
        assert frames(answer.body)[-1][0][":message-type"] == "exception", (where, answer.body[-400:])
    if client is ARRAY:
        assert "error" in json.loads(answer.body + b"]")[-1], (where, answer.body[-400:])


def broken_off(client, answer, where, most):
    """Part of an answer, an error event in the client's dialect, and no end of any kind."""
    no_end(client, answer, where)
    said = client.said(answer, True)
    assert said.error, (where, "no error event", answer.body[-800:])
    assert not said.whole, (where, "it looks whole", answer.body[-800:])
    assert 0 < len(said.text.split()) <= most, (where, said.text)
