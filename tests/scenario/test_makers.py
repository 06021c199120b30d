"""A conversation with tools and reasoning that moves from maker to maker and back, for clients of every dialect.

Anthropic signs its thinking, OpenAI encrypts its reasoning, Gemini signs its calls; each wants its own back and takes nobody else's. The simulated
providers are as strict as the real ones, so a request that was refused fails a story; and when a conversation returns to a maker, what that maker
gave must be there again.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import signal
import tempfile

from perdure_test import DEADLINE, Gateway, Providers, config, main, request
from test_simulate_dialects import frames, sse

SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
MODELS = {"claude": "claude-sonnet-4-5", "gpt": "gpt-5", "flash": "gemini-3-pro-preview", "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0"}
THREE = ("claude", "gpt", "flash")
PROVIDERS = {
    "claude": {"preset": "anthropic", "path": ""},
    "gpt": {"preset": "openai", "wires": ["openai-responses"], "path": "/v1"},
    "flash": {"preset": "gemini", "path": ""},
    "bedrock": {"preset": "bedrock", "wires": ["bedrock-converse"], "region": "us-east-1", "path": ""},
}
RULES = {"attempts": 1, "backoff": "1ms", "backoff_max": "2ms", "retry_budget": 10, "ttft": 0, "hedge_budget": 0, "affinity": 0, "breaker_failures": 0,
         "breaker_timeouts": 0, "throttle_factor": 0, "probe": "off"}


# ---- the makers -------------------------------------------------------------------------------------------

class Makers:
    """Providers behind the route `main`, of which the first that is up answers."""

    def __init__(self, names):
        self.names = names
        self.sim = Providers(*(f"{name}:0,reasoning=6,tokens=8" for name in names))
        self.down = set()
        self.gateway = None
        self.followers = []
        self.state = None   # a folder that outlives the gateway; None: each has its own
        self.start()

    def start(self):
        table = {}
        for name in self.names:
            about = dict(PROVIDERS[name])
            path = about.pop("path")
            table[name] = {**about, "base_url": f"http://127.0.0.1:{self.sim.ports[name]}{path}", "key": "any", "models": [MODELS[name]]}
        routes = {"main": {"strategy": "priority", "targets": [{"model": f"{name}/{MODELS[name]}"} for name in self.names]}}
        self.gateway = Gateway(config(table, routes, RULES, {"state": self.state} if self.state else None))

    def restart(self):
        """perdure forgets what it kept for makers."""
        assert self.gateway.stop() == 0, self.gateway.log()[-4000:]
        self.start()

    def kill(self):
        """As a crash does."""
        self.gateway.program.kill()
        self.start()

    def upgrade(self):
        """The old process ends by itself; the one that follows is ended here by hand: it is nobody's child."""
        self.gateway.program.process.send_signal(signal.SIGUSR2)
        assert self.gateway.program.process.wait(DEADLINE) == 0, self.gateway.log()[-4000:]
        pid = int(re.search(r"upgrade\.handed_over pid=(\d+)", self.gateway.log()).group(1))
        self.followers.append(pid)

    def only(self, name):
        """Every other maker goes down."""
        for other in self.names:
            if other == name and other in self.down:
                self.sim.up(other)
                self.down.discard(other)
            elif other != name and other not in self.down:
                self.sim.down(other)
                self.down.add(other)

    def last(self, name):
        """The body that a maker got last."""
        return self.sim.order(name, "GET", "/sim/requests?last=1")[-1]["body"]

    def got(self, name, text):
        """Whether a maker's last body had exactly these bytes."""
        return self.sim.order(name, "GET", "/sim/requests?last=1")[-1]["sha256"] == hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def makers(*names):
    m = Makers(names or THREE)
    try:
        yield m
        for name in m.names:
            assert m.sim.state(name)["refused"] == 0, (name, m.sim.state(name))
        assert m.gateway.stop() == 0, m.gateway.log()[-4000:]
    finally:
        if m.gateway and m.gateway.program.process.poll() is None:
            m.gateway.program.kill()
        for pid in m.followers:
            os.kill(pid, signal.SIGKILL)
        m.sim.program.kill()


# ---- clients that remember, each as its dialect's own SDK would ---------------------------------------------

def compact(value):
    return json.dumps(value, separators=(",", ":"))


class Client:
    name = path = stream_path = None
    headers = {}

    def __init__(self, stream):
        self.stream, self.history, self.calls, self.text, self.sent = stream, [], [], "", ""

    def say(self, text):
        raise NotImplementedError

    def result(self, results):
        """[(call, text)]"""
        raise NotImplementedError

    def body(self):
        raise NotImplementedError

    def heard(self, raw):
        """Takes the answer into the history; sets calls and text."""
        raise NotImplementedError

    def ask(self, m, expected):
        self.sent = compact(self.body())
        answer = request(m.gateway.port, "POST", self.stream_path if self.stream else self.path, self.sent, self.headers)
        where = f"{self.name}{' streamed' if self.stream else ''}, at {expected}"
        assert answer.status == 200, (where, answer.status, answer.body[-1500:], m.gateway.log()[-1500:])
        assert answer.headers["x-perdure-provider"] == expected, (where, answer.headers)
        self.calls, self.text = [], ""
        self.heard(answer.body)


class Chat(Client):
    name, path, stream_path = "chat", "/v1/chat/completions", "/v1/chat/completions"

    def say(self, text):
        self.history.append({"role": "user", "content": text})

    def result(self, results):
        self.history += [{"role": "tool", "tool_call_id": call["id"], "content": text} for call, text in results]

    def body(self):
        return {"model": "main", "messages": self.history, "stream": self.stream, "reasoning_effort": "low", "max_tokens": 4000,
                "tools": [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]}

    def message(self, raw):
        if not self.stream:
            return json.loads(raw)["choices"][0]["message"]
        made, calls = {"role": "assistant", "content": ""}, {}
        for _, data in sse(raw):
            for choice in json.loads(data)["choices"] if data != b"[DONE]" else []:
                made["content"] += choice["delta"].get("content") or ""
                for piece in choice["delta"].get("tool_calls", []):
                    one = calls.setdefault(piece["index"], {"id": piece.get("id"), "type": "function", "function": {"name": "", "arguments": ""}})
                    one["function"]["name"] += piece["function"].get("name", "")
                    one["function"]["arguments"] += piece["function"].get("arguments", "")
        return {**made, **({"tool_calls": list(calls.values())} if calls else {})}

    def heard(self, raw):
        message = self.message(raw)
        self.text = message["content"] or ""
        self.calls = message.get("tool_calls", [])
        self.history.append({k: message[k] for k in ("role", "content", "tool_calls") if k in message})


class Responses(Client):
    name, path, stream_path = "responses", "/v1/responses", "/v1/responses"

    def say(self, text):
        self.history.append({"type": "message", "role": "user", "content": text})

    def result(self, results):
        self.history += [{"type": "function_call_output", "call_id": call["call_id"], "output": text} for call, text in results]

    def body(self):
        return {"model": "main", "input": self.history, "stream": self.stream, "store": False, "include": ["reasoning.encrypted_content"],
                "reasoning": {"effort": "low", "summary": "auto"}, "tools": [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}]}

    def heard(self, raw):
        if self.stream:
            response = next(json.loads(data)["response"] for event, data in sse(raw) if event == "response.completed")
        else:
            response = json.loads(raw)
        self.history += response["output"]
        self.calls = [item for item in response["output"] if item["type"] == "function_call"]
        self.text = "".join(p["text"] for item in response["output"] if item["type"] == "message" for p in item["content"])


class Messages(Client):
    name, path, stream_path, headers = "messages", "/v1/messages", "/v1/messages", {"anthropic-version": "2023-06-01"}

    def say(self, text):
        self.history.append({"role": "user", "content": text})

    def result(self, results):
        self.history.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": text} for call, text in results]})

    def body(self):
        return {"model": "main", "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": self.history, "stream": self.stream,
                "tools": [{"name": "look", "input_schema": SCHEMA}]}

    def content(self, raw):
        if not self.stream:
            return json.loads(raw)["content"]
        blocks, arguments = [], ""
        for _, data in sse(raw):
            e = json.loads(data)
            if e["type"] == "content_block_start":
                blocks.append(e["content_block"])
                arguments = ""
            elif e["type"] == "content_block_delta":
                d = e["delta"]
                arguments += d.get("partial_json", "")
                for member in ("text", "thinking"):
                    if member in d:
                        blocks[-1][member] += d[member]
                if d["type"] == "signature_delta":
                    blocks[-1]["signature"] = d["signature"]
            elif e["type"] == "content_block_stop" and blocks[-1]["type"] == "tool_use":
                blocks[-1]["input"] = json.loads(arguments or "{}")
        return blocks

    def heard(self, raw):
        blocks = self.content(raw)
        self.history.append({"role": "assistant", "content": blocks})
        self.calls = [b for b in blocks if b["type"] == "tool_use"]
        self.text = "".join(b["text"] for b in blocks if b["type"] == "text")


class Gemini(Client):
    name, path, stream_path = "gemini", "/v1beta/models/main:generateContent", "/v1beta/models/main:streamGenerateContent?alt=sse"

    def say(self, text):
        self.history.append({"role": "user", "parts": [{"text": text}]})

    def result(self, results):
        parts = [{"functionResponse": {**({"id": call["id"]} if "id" in call else {}), "name": call["name"], "response": {"output": text}}} for call, text in results]
        self.history.append({"role": "user", "parts": parts})

    def body(self):
        return {"contents": self.history, "generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "low"}, "maxOutputTokens": 4000},
                "tools": [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": SCHEMA}]}]}

    def heard(self, raw):
        chunks = [json.loads(data) for _, data in sse(raw, crlf=True)] if self.stream else [json.loads(raw)]
        parts = [p for c in chunks for candidate in c["candidates"] for p in candidate.get("content", {}).get("parts", [])]
        self.history.append({"role": "model", "parts": [p for p in parts if p != {"text": ""}]})
        self.calls = [p["functionCall"] for p in parts if "functionCall" in p]
        self.text = "".join(p.get("text", "") for p in parts if not p.get("thought"))


class Converse(Client):
    name, path, stream_path = "converse", "/model/main/converse", "/model/main/converse-stream"

    def say(self, text):
        self.history.append({"role": "user", "content": [{"text": text}]})

    def result(self, results):
        self.history.append({"role": "user", "content": [{"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": text}]}} for call, text in results]})

    def body(self):
        return {"messages": self.history, "inferenceConfig": {"maxTokens": 4000},
                "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
                "toolConfig": {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": SCHEMA}}}]}}

    def content(self, raw):
        if not self.stream:
            return json.loads(raw)["output"]["message"]["content"]
        blocks = {}
        for headers, payload in frames(raw):
            e, kind = json.loads(payload), headers[":event-type"]
            if kind == "contentBlockStart":
                blocks[e["contentBlockIndex"]] = {"toolUse": {**e["start"]["toolUse"], "input": ""}}
            elif kind == "contentBlockDelta":
                self.add(blocks, e["contentBlockIndex"], e["delta"])
        for block in blocks.values():
            if "toolUse" in block:
                block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
        return [blocks[i] for i in sorted(blocks)]

    @staticmethod
    def add(blocks, index, delta):
        if "toolUse" in delta:
            blocks[index]["toolUse"]["input"] += delta["toolUse"]["input"]
        elif "text" in delta:
            block = blocks.setdefault(index, {"text": ""})
            block["text"] += delta["text"]
        elif "reasoningContent" in delta:
            thought = delta["reasoningContent"]
            if "redactedContent" in thought:
                blocks[index] = {"reasoningContent": thought}
                return
            block = blocks.setdefault(index, {"reasoningContent": {"reasoningText": {"text": ""}}})["reasoningContent"]["reasoningText"]
            block["text"] += thought.get("text", "")
            if "signature" in thought:
                block["signature"] = thought["signature"]

    def heard(self, raw):
        blocks = self.content(raw)
        self.history.append({"role": "assistant", "content": blocks})
        self.calls = [b["toolUse"] for b in blocks if "toolUse" in b]
        self.text = "".join(b.get("text", "") for b in blocks)


class Ollama(Client):
    name, path, stream_path = "ollama", "/api/chat", "/api/chat"

    def say(self, text):
        self.history.append({"role": "user", "content": text})

    def result(self, results):
        self.history += [{"role": "tool", "tool_name": call["function"]["name"], "content": text} for call, text in results]

    def body(self):
        return {"model": "main", "messages": self.history, "stream": self.stream, "think": True,
                "tools": [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]}

    def heard(self, raw):
        said = [json.loads(line)["message"] for line in raw.splitlines()]
        self.calls = [c for m in said for c in m.get("tool_calls", [])]
        self.text = "".join(m.get("content", "") for m in said)
        thought = "".join(m.get("thinking", "") for m in said)
        self.history.append({"role": "assistant", "content": self.text, "thinking": thought, **({"tool_calls": self.calls} if self.calls else {})})


class OllamaWithoutIds(Ollama):
    """As its Python SDK has it, whose type of a call has no id."""

    def heard(self, raw):
        super().heard(raw)
        for one in self.calls:
            one.pop("id", None)


class GeminiWithoutIds(Gemini):
    """As clients of the time before calls had ids."""

    def heard(self, raw):
        super().heard(raw)
        for one in self.calls:
            one.pop("id", None)


CLIENTS = [Chat, Responses, Messages, Gemini, Converse, Ollama]
WAYS = [(kind, stream) for kind in CLIENTS for stream in (False, True)]
ALL_WAYS = WAYS + [(kind, stream) for kind in (OllamaWithoutIds, GeminiWithoutIds) for stream in (False, True)]


# ---- a round: a question, a call, its result, an answer ---------------------------------------------------------

def rounds():
    """Questions and the results of what is looked up for them; every second asks for two calls at once."""
    n = 0
    while True:
        n += 1
        yield f"question {n}{'' if n % 2 else ' [[sim parallel=2]]'}", f"it is {n * 7} degrees in place {n}"


def call(client, m, at, question):
    client.say(question)
    client.ask(m, at)
    assert len(client.calls) == (2 if "parallel" in question else 1), (client.name, at, client.calls)


def answer(client, m, at, result):
    client.result([(c, f"{result}.{i}") for i, c in enumerate(client.calls)])
    client.ask(m, at)
    assert not client.calls and result in client.text, (client.name, at, client.text)


def round_at(client, m, at, question, result):
    m.only(at)
    call(client, m, at, question)
    answer(client, m, at, result)


def marks(m, name):
    """What of its own a maker's last request had: signatures or sealed reasoning, none of them made up."""
    body = m.last(name)
    if name == "claude":
        blocks = [b for t in body["messages"] if isinstance(t["content"], list) for b in t["content"]]
        found = [b.get("signature") or b.get("data") for b in blocks if b["type"] in ("thinking", "redacted_thinking")]
    elif name == "bedrock":
        thoughts = [b["reasoningContent"] for t in body["messages"] for b in t["content"] if "reasoningContent" in b]
        found = [t["reasoningText"]["signature"] for t in thoughts if "reasoningText" in t]
    elif name == "gpt":
        found = [i["encrypted_content"] for i in body["input"] if i.get("type") == "reasoning"]
    else:
        parts = [p for c in body["contents"] for p in c["parts"]]
        found = [p["thoughtSignature"] for p in parts if "thoughtSignature" in p and p["thoughtSignature"] != "skip_thought_signature_validator"]
    assert not [f for f in found if f.startswith("perdure")], (name, found)
    return found


# ---- stories ------------------------------------------------------------------------------------------------------

def test_each_maker_gets_its_own_again_when_the_conversation_returns_to_it():
    for kind, stream in WAYS:
        with makers() as m:
            client, script = kind(stream), rounds()
            for name in THREE:
                round_at(client, m, name, *next(script))
            for name in THREE:
                round_at(client, m, name, *next(script))
                assert len(set(marks(m, name))) >= 2, (kind.name, stream, name, marks(m, name), m.last(name))


def test_a_maker_takes_the_result_of_a_call_that_another_made():
    for kind, stream in ALL_WAYS:
        with makers() as m:
            client, script, names = kind(stream), rounds(), THREE
            for i in range(2 * len(names)):
                question, result = next(script)
                m.only(names[i % 3])
                call(client, m, names[i % 3], question)
                m.only(names[(i + 1) % 3])
                answer(client, m, names[(i + 1) % 3], result)


def test_one_makers_signatures_are_good_at_every_host_of_its_models():
    for kind, stream in WAYS:
        with makers("claude", "bedrock") as m:
            client, script, before = kind(stream), rounds(), set()
            for there, back in (("claude", "bedrock"), ("bedrock", "claude")):
                m.only(there)
                question, result = next(script)
                call(client, m, there, question)
                m.only(back)
                answer(client, m, back, result)
                now = set(marks(m, back))
                assert now > before, (client.name, stream, back, before, now)
                before = now


# Clients that have a place for what the maker gave, and so remember it themselves.
REMEMBER = {"claude": ["messages", "converse"], "gpt": ["responses"], "flash": ["gemini"]}


def stands_in(body, name):
    """What makes a maker take a turn whose signatures are lost."""
    if name == "claude":
        return body.get("thinking", {}).get("type") != "enabled"
    return name == "gpt" or "skip_thought_signature_validator" in json.dumps(body)


def test_what_a_restart_forgets_is_missed_by_nobody():
    for kind, stream in ALL_WAYS:
        with makers() as m:
            client, script = kind(stream), rounds()
            for name in THREE:
                round_at(client, m, name, *next(script))
            for name in THREE:
                m.only(name)
                question, result = next(script)
                call(client, m, name, question)
                m.restart()   # also between a call and its result
                answer(client, m, name, result)
                if client.name not in REMEMBER[name]:
                    assert not marks(m, name), (client.name, name, marks(m, name))
                    assert stands_in(m.last(name), name), (client.name, name, m.last(name))


def written(m):
    """What is in the folder of the state by now; a crash costs at most the last tenth of a second."""
    return b"".join(p.read_bytes() for p in pathlib.Path(m.state, "keep").glob("*.log"))


def test_what_makers_want_back_outlives_the_process():
    for end in ("restart", "kill", "upgrade"):
        with tempfile.TemporaryDirectory() as folder, makers() as m:
            assert m.gateway.stop() == 0
            m.state = folder
            m.start()
            client, script = Chat(True), rounds()
            for name in THREE:
                m.only(name)
                question, result = next(script)
                call(client, m, name, question)
                ids = [one["id"].encode() for one in client.calls]
                if end == "kill":
                    m.gateway.until("it is written", lambda: any(i in written(m) for i in ids))
                if end != "upgrade" or not m.followers:
                    getattr(m, end)()   # between a call and its result
                answer(client, m, name, result)
                assert marks(m, name), (end, name, m.last(name))


def sent_on(client, name, made_up=()):
    """A request as a maker of its own dialect gets it: the model's own name, always streamed, and without what perdure had made up."""
    text = client.sent.replace('"model":"main"', f'"model":"{MODELS[name]}"').replace('"stream":false', '"stream":true')
    for piece in map(compact, made_up):
        assert piece + "," in text, (piece, text)
        text = text.replace(piece + ",", "")
    return text


def made_up_in(client):
    """The reasoning that another maker's answer was given in this client's dialect."""
    if client.name == "messages":
        return [b for t in client.history if t["role"] == "assistant" for b in t["content"] if b.get("signature", "").startswith("perdure")]
    return [i for i in client.history if i["type"] == "reasoning" and i["id"].startswith("rs_perdure")]


def test_a_conversation_returns_in_its_own_dialect_without_what_was_made_up_and_is_otherwise_the_same_bytes():
    for kind, stream, own in ((k, s, n) for k, n in ((Messages, "claude"), (Responses, "gpt")) for s in (False, True)):
        with makers() as m:
            client, script = kind(stream), rounds()
            round_at(client, m, own, *next(script))
            assert m.got(own, sent_on(client, own)), "what came from its maker goes back as it is"
            round_at(client, m, "flash", *next(script))
            made_up = made_up_in(client)
            assert made_up, client.history
            m.only(own)
            client.say("back")
            client.ask(m, own)
            assert m.got(own, sent_on(client, own, made_up)), (sent_on(client, own, made_up), m.last(own))


main(globals())
