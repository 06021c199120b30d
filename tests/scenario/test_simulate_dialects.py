"""perdure simulate speaks every dialect: the grammar of each, what each refuses, and every fault in each, by plain HTTP."""
import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import struct
import zlib

from perdure_test import Providers, main, request

SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
VERSION = {"anthropic-version": "2023-06-01"}
PNG = base64.b64encode(b"\x89PNG not really").decode()
PNG_SAID = f"I received image/png, 15 bytes, sha256 {hashlib.sha256(base64.b64decode(PNG)).hexdigest()}."


@contextlib.contextmanager
def simulated(*specs, **kw):
    sim = Providers(*(specs or ("alpha:0",)), **kw)
    try:
        yield sim
        assert sim.program.stop() == 0, sim.program.stderr()
    finally:
        sim.program.kill()


# ---- one small client for each dialect: a request, and what its answer adds up to --------------------------------

class Said:
    """What an answer came to, whatever its dialect."""

    def __init__(self):
        self.text, self.thinking, self.calls, self.finish, self.signature, self.whole, self.error, self.events = "", "", [], None, None, False, None, []


def sse(raw, crlf=False):
    """[(event, data)] of a body that must be well framed to its last byte."""
    gap = b"\r\n\r\n" if crlf else b"\n\n"
    if crlf:
        assert b"\n" not in raw.replace(b"\r\n", b""), raw[:200]
    out = []
    for block in raw.split(gap)[:-1]:
        event, data = None, []
        for line in block.replace(b"\r\n", b"\n").split(b"\n"):
            if line.startswith(b"event: "):
                event = line[7:].decode()
            elif line.startswith(b"data: "):
                data.append(line[6:])
        if data:
            out.append((event, b"\n".join(data)))
    return out


def frames(raw):
    """[(headers, payload)] of an AWS event stream; both checksums of each are checked. What is cut off is None."""
    out = []
    while raw:
        if len(raw) < 16 or len(raw) < struct.unpack(">I", raw[:4])[0]:
            return out + [None]
        total, headers_size, prelude = struct.unpack(">III", raw[:12])
        assert zlib.crc32(raw[:8]) == prelude, "prelude checksum"
        if zlib.crc32(raw[:total - 4]) != struct.unpack(">I", raw[total - 4:total])[0]:
            return out + ["crc"]
        head, headers = raw[12:12 + headers_size], {}
        while head:
            n = head[0]
            name, kind = head[1:1 + n].decode(), head[1 + n]
            assert kind == 7
            size = struct.unpack(">H", head[2 + n:4 + n])[0]
            headers[name] = head[4 + n:4 + n + size].decode()
            head = head[4 + n + size:]
        out.append((headers, raw[12 + headers_size:total - 4]))
        raw = raw[total:]
    return out


class Dialect:
    name = path = stream_path = None
    headers = {}
    thinks = {}

    def body(self, say="hi", tools=False, stream=False, messages=None, **extra):
        raise NotImplementedError

    def where(self, stream):
        return self.stream_path if stream else self.path

    def ask(self, port, stream, *a, **kw):
        return post(port, self.where(stream), self.body(*a, stream=stream, **kw), self.headers)

    def said(self, answer, stream):
        s = Said()
        (self.read_stream if stream else self.read_whole)(answer.body, s)
        return s


def post(port, path, body, headers=None):
    """Like request(), but an answer that is cut gives what came, with `cut` set."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    out, cut = b"", False
    try:
        while True:
            piece = answer.read1(65536)
            if not piece:
                cut = answer.chunked and answer.chunk_left is not None
                break
            out += piece
    except (http.client.IncompleteRead, OSError) as e:
        out += getattr(e, "partial", b"")
        cut = True
    connection.close()

    class Got:
        pass
    got = Got()
    got.status, got.headers, got.body, got.cut = answer.status, {k.lower(): v for k, v in answer.getheaders()}, out, cut
    got.type = got.headers.get("content-type", "")
    return got


class Chat(Dialect):
    name, path, stream_path = "chat", "/v1/chat/completions", "/v1/chat/completions"

    def body(self, say="hi", tools=False, stream=False, messages=None, **extra):
        b = {"model": "m", "messages": [{"role": "user", "content": say}] if messages is None else messages, "stream": stream, **extra}
        if tools:
            b["tools"] = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
        return b

    def read_whole(self, raw, s):
        choice = json.loads(raw)["choices"][0]
        s.text, s.thinking, s.finish, s.whole = choice["message"]["content"] or "", choice["message"].get("reasoning_content", ""), choice["finish_reason"], True
        s.calls = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in choice["message"].get("tool_calls", [])]

    def read_stream(self, raw, s):
        calls = {}
        for _, data in sse(raw):
            if data == b"[DONE]":
                s.whole = s.finish is not None
                continue
            e = json.loads(data)
            s.events.append(e)
            s.error = e.get("error", s.error)
            for c in e.get("choices", []):
                s.text += c["delta"].get("content") or ""
                s.thinking += c["delta"].get("reasoning_content") or ""
                s.finish = c.get("finish_reason") or s.finish
                for t in c["delta"].get("tool_calls", []):
                    one = calls.setdefault(t["index"], ["", ""])
                    one[0] += t["function"].get("name", "")
                    one[1] += t["function"].get("arguments", "")
        s.calls = [(n, json.loads(a)) for n, a in calls.values()]


class Responses(Dialect):
    name, path, stream_path = "responses", "/v1/responses", "/v1/responses"
    thinks = {"reasoning": {"effort": "low", "summary": "auto"}}

    def body(self, say="hi", tools=False, stream=False, messages=None, **extra):
        b = {"model": "gpt-5", "input": say if messages is None else messages, "stream": stream, **extra}
        if tools:
            b["tools"] = [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": True}]
        return b

    def items(self, response, s):
        s.finish = (response["incomplete_details"] or {}).get("reason") or response["status"]
        for item in response["output"]:
            if item["type"] == "message":
                s.text += "".join(p.get("text", "") for p in item["content"])
            elif item["type"] == "reasoning":
                s.thinking += "".join(p["text"] for p in item["summary"])
                s.signature = item.get("encrypted_content")
            elif item["status"] == "completed":
                s.calls.append((item["name"], json.loads(item["arguments"])))

    def read_whole(self, raw, s):
        self.items(json.loads(raw), s)
        s.whole = True

    def read_stream(self, raw, s):
        text = ""
        for event, data in sse(raw):
            if data == b"[DONE]":
                continue
            e = json.loads(data)
            if e["type"] == "ping":
                continue
            assert event in (None, e["type"]) and e["sequence_number"] == len(s.events), e
            s.events.append(e)
            if e["type"] == "response.output_text.delta":
                text += e["delta"]
            elif e["type"] == "error":
                s.error = e
            elif e["type"] in ("response.completed", "response.incomplete", "response.failed"):
                self.items(e["response"], s)
                s.whole = e["type"] != "response.failed"
        assert not s.whole or s.text == text or len(text) > 90000        # the fault `huge` adds a delta that the end does not know
        s.text = text


class Messages(Dialect):
    name, path, stream_path, headers = "messages", "/v1/messages", "/v1/messages", VERSION
    thinks = {"thinking": {"type": "enabled", "budget_tokens": 1024}}

    def body(self, say="hi", tools=False, stream=False, messages=None, **extra):
        b = {"model": "claude-sonnet-4-5", "max_tokens": 4000, "messages": [{"role": "user", "content": say}] if messages is None else messages, **extra}
        if stream:
            b["stream"] = True
        if tools:
            b["tools"] = [{"name": "look", "input_schema": SCHEMA}]
        return b

    def read_whole(self, raw, s):
        m = json.loads(raw)
        s.finish, s.whole = m["stop_reason"], True
        for b in m["content"]:
            if b["type"] == "text":
                s.text += b["text"]
            elif b["type"] == "thinking":
                s.thinking, s.signature = s.thinking + b["thinking"], b["signature"]
            elif b["type"] == "tool_use":
                s.calls.append((b["name"], b["input"]))

    def read_stream(self, raw, s):
        self.read_events([(event, json.loads(data)) for event, data in sse(raw)], s)

    def read_events(self, events, s, named=True):
        open_block, parts = None, {}
        for event, e in events:
            assert not named or event == e["type"], (event, e)
            s.events.append(e)
            kind = e["type"]
            if kind == "content_block_start":
                assert open_block is None and e["index"] == len(parts)
                open_block = e["index"]
                parts[open_block] = [e["content_block"], ""]
            elif kind == "content_block_delta":
                assert e["index"] == open_block
                d = e["delta"]
                if d["type"] == "signature_delta":
                    s.signature = d["signature"]
                else:
                    parts[open_block][1] += d.get("text", "") + d.get("thinking", "") + d.get("partial_json", "")
                    s.text += d.get("text", "")
            elif kind == "content_block_stop":
                assert e["index"] == open_block
                block, text = parts[open_block]
                if block["type"] == "thinking":
                    s.thinking += text
                elif block["type"] == "tool_use":
                    with contextlib.suppress(ValueError):
                        s.calls.append((block["name"], json.loads(text or "{}")))
                open_block = None
            elif kind == "message_delta":
                s.finish = e["delta"]["stop_reason"]
            elif kind == "message_stop":
                s.whole = s.finish is not None
            elif kind == "error":
                s.error = e["error"]


class Vertex(Messages):
    name, headers = "messages", {}
    path = "/v1/projects/p/locations/global/publishers/anthropic/models/claude-sonnet-4-5:rawPredict"
    stream_path = path.replace("rawPredict", "streamRawPredict")

    def body(self, *a, **kw):
        b = super().body(*a, **kw)
        del b["model"]
        return {**b, "anthropic_version": "vertex-2023-10-16"}


class Gemini(Dialect):
    name, thinks = "gemini", {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
    path, stream_path = "/v1beta/models/gemini-3-pro:generateContent", "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"

    def body(self, say="hi", tools=False, stream=False, messages=None, **extra):
        b = {"contents": [{"role": "user", "parts": [{"text": say}]}] if messages is None else messages, **extra}
        if tools:
            b["tools"] = [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": SCHEMA}]}]
        return b

    def chunk(self, c, s):
        s.events.append(c)
        s.error = c.get("error", s.error)
        for candidate in c.get("candidates", []):
            s.finish = candidate.get("finishReason", s.finish)
            for p in candidate.get("content", {}).get("parts", []):
                if "functionCall" in p:
                    s.calls.append((p["functionCall"]["name"], p["functionCall"]["args"]))
                if p.get("thought"):
                    s.thinking += p["text"]
                else:
                    s.text += p.get("text", "")
                s.signature = p.get("thoughtSignature", s.signature)

    def read_whole(self, raw, s):
        self.chunk(json.loads(raw), s)
        s.whole = True

    def read_stream(self, raw, s):
        tail = raw[raw.rfind(b"\r\n\r\n") + 4:]
        if tail.startswith(b"{"):
            s.error = json.loads(tail)["error"]           # raw, as Google does it
            raw = raw[:len(raw) - len(tail)]
        for _, data in sse(raw, crlf=True):
            self.chunk(json.loads(data), s)
        s.whole = s.finish is not None and s.error is None


class GeminiArray(Gemini):
    stream_path = "/v1/projects/p/locations/l/publishers/google/models/gemini-3-pro:streamGenerateContent"
    path = "/v1/models/gemini-3-pro:generateContent"

    def read_stream(self, raw, s):
        text = raw.decode()
        ended = text.rstrip().endswith("]")
        for c in json.loads(text if ended else text + "]"):
            self.chunk(c, s)
        s.whole = ended and s.finish is not None and s.error is None


class Converse(Dialect):
    name, path, stream_path = "converse", "/model/us.anthropic.claude-sonnet-4-5-v1%3A0/converse", "/model/us.anthropic.claude-sonnet-4-5-v1%3A0/converse-stream"
    thinks = {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}

    def body(self, say="hi", tools=False, stream=False, messages=None, **extra):
        b = {"messages": [{"role": "user", "content": [{"text": say}]}] if messages is None else messages, **extra}
        if tools:
            b["toolConfig"] = {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": SCHEMA}}}]}
        return b

    def read_whole(self, raw, s):
        m = json.loads(raw)
        s.finish, s.whole = m["stopReason"], True
        for b in m["output"]["message"]["content"]:
            s.text += b.get("text", "")
            if "toolUse" in b:
                s.calls.append((b["toolUse"]["name"], b["toolUse"]["input"]))
            if "reasoningText" in b.get("reasoningContent", {}):
                s.thinking, s.signature = b["reasoningContent"]["reasoningText"]["text"], b["reasoningContent"]["reasoningText"]["signature"]

    def read_stream(self, raw, s):
        tools, metadata = {}, False
        for frame in frames(raw):
            if frame in (None, "crc"):
                s.error = frame or "cut"
                break
            headers, payload = frame
            if headers[":message-type"] == "exception":
                s.error = headers[":exception-type"]
                continue
            e, kind = json.loads(payload), headers[":event-type"]
            s.events.append({kind: e})
            delta = e.get("delta", {})
            if kind == "contentBlockStart":
                tools[e["contentBlockIndex"]] = [e["start"]["toolUse"]["name"], ""]
            s.text += delta.get("text", "")
            if "toolUse" in delta:
                tools[e["contentBlockIndex"]][1] += delta["toolUse"]["input"]
            thought = delta.get("reasoningContent", {})
            s.thinking += thought.get("text", "")
            s.signature = thought.get("signature", s.signature)
            if kind == "messageStop":
                s.finish = e["stopReason"]
            metadata |= kind == "metadata" and s.finish is not None
        s.whole = metadata
        with contextlib.suppress(ValueError):
            s.calls = [(n, json.loads(a or "{}")) for n, a in tools.values()]


class Invoke(Messages):
    name, headers = "invoke", {}
    path = "/model/anthropic.claude-sonnet-4-5-v1%3A0/invoke"
    stream_path = path + "-with-response-stream"

    def body(self, *a, stream=False, **kw):
        b = super().body(*a, **kw)
        del b["model"]
        return {**b, "anthropic_version": "bedrock-2023-05-31"}

    def read_stream(self, raw, s):
        events = []
        for frame in frames(raw):
            if frame in (None, "crc") or frame[0][":message-type"] == "exception":
                s.error = frame and (frame if frame == "crc" else frame[0][":exception-type"]) or "cut"
                break
            assert frame[0][":event-type"] == "chunk"
            events.append((None, json.loads(base64.b64decode(json.loads(frame[1])["bytes"]))))
        self.read_events(events, s, named=False)


class Ollama(Dialect):
    name, path, stream_path, thinks = "ollama", "/api/chat", "/api/chat", {"think": True}

    def body(self, say="hi", tools=False, stream=False, messages=None, **extra):
        b = {"model": "qwen3", "messages": [{"role": "user", "content": say}] if messages is None else messages, **extra}
        if not stream:
            b["stream"] = False
        if tools:
            b["tools"] = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
        return b

    def line(self, e, s):
        s.events.append(e)
        s.error = e.get("error", s.error)
        m = e.get("message", {})
        s.text += m.get("content", "")
        s.thinking += m.get("thinking", "")
        s.calls += [(c["function"]["name"], c["function"]["arguments"]) for c in m.get("tool_calls", [])]
        if e.get("done"):
            s.finish, s.whole = e["done_reason"], True

    def read_whole(self, raw, s):
        self.line(json.loads(raw), s)

    def read_stream(self, raw, s):
        for line in raw.split(b"\n"):
            if line:
                self.line(json.loads(line), s)


CHAT, RESPONSES, MESSAGES, VERTEX, GEMINI, ARRAY, CONVERSE, INVOKE, OLLAMA = ALL = [
    Chat(), Responses(), Messages(), Vertex(), Gemini(), GeminiArray(), Converse(), Invoke(), Ollama()]
STOP = dict(chat="stop", responses="completed", messages="end_turn", gemini="STOP", converse="end_turn", invoke="end_turn", ollama="stop")
LENGTH = dict(chat="length", responses="max_output_tokens", messages="max_tokens", gemini="MAX_TOKENS", converse="max_tokens", invoke="max_tokens", ollama="length")
TOOLS = dict(STOP, chat="tool_calls", messages="tool_use", converse="tool_use", invoke="tool_use")
STREAM_TYPE = dict(chat="text/event-stream", responses="text/event-stream", messages="text/event-stream", gemini="text/event-stream",
                   converse="application/vnd.amazon.eventstream", invoke="application/vnd.amazon.eventstream", ollama="application/x-ndjson")


def each(sim, stream_too=True):
    for d in ALL:
        for stream in ([False, True] if stream_too else [False]):
            yield d, stream, f"{type(d).__name__} {'streamed' if stream else 'whole'}"


# ---- what is said -------------------------------------------------------------------------------------------------

def test_every_dialect_says_the_same_words_whole_and_streamed():
    with simulated() as sim:
        texts = set()
        for d, stream, where in each(sim):
            answer = d.ask(sim.ports["alpha"], stream, "hi [[sim tokens=20]]")
            assert answer.status == 200 and not answer.cut, (where, answer.body)
            expected = ("application/json" if not stream or d is ARRAY else STREAM_TYPE[d.name])
            assert answer.type.startswith(expected), (where, answer.type)
            said = d.said(answer, stream)
            assert said.whole and said.finish == STOP[d.name], (where, said.finish)
            texts.add(said.text)
        assert len(texts) == 1 and len(texts.pop().split()) == 20
        state = sim.state("alpha")
        assert state["by_dialect"] == dict(chat=2, responses=2, messages=4, gemini=4, converse=2, invoke=2, ollama=2)
        assert state["complete"] == 18 and state["tokens"] == 18 * 20


def test_every_dialect_calls_a_tool_with_arguments_of_its_schema():
    with simulated("alpha:0,parallel=2") as sim:
        for d, stream, where in each(sim):
            answer = d.ask(sim.ports["alpha"], stream, tools=True)
            said = d.said(answer, stream)
            assert said.calls == [("look", {"at": "sample at"})] * 2, (where, said.calls, answer.body)
            assert said.finish == TOOLS[d.name] and said.whole, (where, said.finish)


def test_every_dialect_reasons_and_signs():
    with simulated("alpha:0,reasoning=6") as sim:
        for d, stream, where in each(sim):
            extra = dict(d.thinks)
            if d is RESPONSES:
                extra["include"] = ["reasoning.encrypted_content"]
            said = d.said(d.ask(sim.ports["alpha"], stream, "hi [[sim tokens=3]]", **extra), stream)
            assert len(said.thinking.split()) == 6 and len(said.text.split()) == 3, (where, said.thinking, said.text)
            assert bool(said.signature) == (d.name not in ("chat", "ollama")), where


def test_reasoning_that_was_not_asked_for_is_not_shown():
    with simulated("alpha:0,reasoning=6") as sim:
        for d in (MESSAGES, VERTEX, CONVERSE, INVOKE, GEMINI, RESPONSES):
            for stream in (False, True):
                said = d.said(d.ask(sim.ports["alpha"], stream, "hi [[sim tokens=3]]"), stream)
                assert not said.thinking and len(said.text.split()) == 3, d.name
        usage = json.loads(GEMINI.ask(sim.ports["alpha"], False).body)["usageMetadata"]
        assert usage["thoughtsTokenCount"] == 6 and usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"] + 6


def test_every_dialect_gives_json_that_fits_a_schema():
    asked = {
        CHAT: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        RESPONSES: {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
        MESSAGES: {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        VERTEX: {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        GEMINI: {"generationConfig": {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT", "properties": {"at": {"type": "STRING"}}, "required": ["at"]}}},
        ARRAY: {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
        CONVERSE: {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"name": "x", "schema": json.dumps(SCHEMA)}}}}},
        INVOKE: {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        OLLAMA: {"format": SCHEMA},
    }
    with simulated() as sim:
        for d, extra in asked.items():
            said = d.said(d.ask(sim.ports["alpha"], False, **extra), False)
            assert json.loads(said.text) == {"at": "sample at"}, d.name


def test_images_and_documents_are_told_by_type_size_and_hash():
    anthropic = [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}, {"type": "text", "text": "what?"}]}]
    asked = {
        CHAT: [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]}],
        RESPONSES: [{"role": "user", "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}]}],
        MESSAGES: anthropic, VERTEX: anthropic, INVOKE: anthropic,
        GEMINI: [{"parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}]}],
        ARRAY: [{"parts": [{"inline_data": {"mime_type": "image/png", "data": PNG}}]}],
        CONVERSE: [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": PNG}}}]}],
        OLLAMA: [{"role": "user", "content": "what?", "images": [PNG]}],
    }
    with simulated() as sim:
        for d, messages in asked.items():
            said = d.said(d.ask(sim.ports["alpha"], False, messages=messages), False)
            assert said.text == (PNG_SAID if d is not OLLAMA else PNG_SAID.replace("image/png", "image")), (d.name, said.text)


def test_a_refusal_and_an_answer_that_is_too_long():
    with simulated("alpha:0,answer=one two three four") as sim:
        port = sim.ports["alpha"]
        limit = {CHAT: {"max_tokens": 2}, MESSAGES: {"max_tokens": 2}, VERTEX: {"max_tokens": 2}, INVOKE: {"max_tokens": 2}, GEMINI: {"generationConfig": {"maxOutputTokens": 2}},
                 ARRAY: {"generationConfig": {"maxOutputTokens": 2}}, CONVERSE: {"inferenceConfig": {"maxTokens": 2}}, OLLAMA: {"options": {"num_predict": 2}}}
        for d, stream, where in each(sim):
            if d in limit:
                said = d.said(d.ask(port, stream, **limit[d]), stream)
                assert said.text == "one two" and said.finish == LENGTH[d.name], (where, said.text, said.finish)
            d.said(d.ask(port, stream, "[[sim refusal=\"Not that.\"]]"), stream)
        said = RESPONSES.said(RESPONSES.ask(port, True, "[[sim tokens=40]]", max_output_tokens=16), True)
        assert said.finish == "max_output_tokens" and len(said.text.split()) == 16
        assert json.loads(CHAT.ask(port, False, "[[sim refusal=\"Not that.\"]]").body)["choices"][0]["message"]["refusal"] == "Not that."
        assert json.loads(MESSAGES.ask(port, False, "[[sim refusal=\"Not that.\"]]").body)["stop_reason"] == "refusal"
        item = json.loads(RESPONSES.ask(port, False, "[[sim refusal=\"Not that.\"]]").body)["output"][0]
        assert item["content"] == [{"type": "refusal", "refusal": "Not that."}]
        assert json.loads(GEMINI.ask(port, False, "[[sim refusal=\"Not that.\"]]").body)["candidates"][0]["finishReason"] == "SAFETY"
        stopped = json.loads(MESSAGES.ask(port, False, stop_sequences=[" three"]).body)
        assert stopped["stop_reason"] == "stop_sequence" and stopped["stop_sequence"] == " three" and stopped["content"][0]["text"] == "one two"


# ---- grammars ----------------------------------------------------------------------------------------------------

def test_the_events_of_messages_are_in_their_order():
    with simulated("alpha:0,reasoning=2") as sim:
        said = MESSAGES.said(MESSAGES.ask(sim.ports["alpha"], True, tools=True, **MESSAGES.thinks), True)
        kinds = [e["type"] for e in said.events]
        assert kinds[:3] == ["message_start", "content_block_start", "ping"] and kinds[-2:] == ["message_delta", "message_stop"], kinds
        start = said.events[0]["message"]
        assert start["id"].startswith("msg_01") and start["content"] == [] and start["stop_reason"] is None and start["usage"]["input_tokens"] > 0
        assert said.events[-2]["usage"]["output_tokens"] == sim.state("alpha")["tokens"]
        thought = [i for i, e in enumerate(said.events) if e.get("delta", {}).get("type") == "signature_delta"]
        assert len(thought) == 1 and kinds[thought[0] + 1] == "content_block_stop"
        call = next(e for e in said.events if e.get("content_block", {}).get("type") == "tool_use")
        assert call["content_block"]["input"] == {} and call["content_block"]["id"].startswith("toolu_01")
        vertex = VERTEX.said(VERTEX.ask(sim.ports["alpha"], True), True)
        assert [e["type"] for e in vertex.events][:3] == ["message_start", "ping", "content_block_start"]
        assert vertex.events[0]["message"]["id"].startswith("msg_vrtx_")
        redacted = json.loads(MESSAGES.ask(sim.ports["alpha"], False, "[[sim redacted=yes]]", **MESSAGES.thinks).body)["content"]
        assert [b["type"] for b in redacted] == ["thinking", "redacted_thinking", "text"]


def test_the_events_of_responses_are_in_their_order():
    with simulated("alpha:0,reasoning=1", "router:0,style=openrouter") as sim:
        said = RESPONSES.said(RESPONSES.ask(sim.ports["alpha"], True, tools=True, **RESPONSES.thinks), True)
        kinds = [e["type"].removeprefix("response.") for e in said.events]
        assert kinds == ["created", "in_progress", "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done",
                         "reasoning_summary_part.done", "output_item.done", "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
                         "function_call_arguments.done", "output_item.done", "completed"], kinds
        done = said.events[-1]["response"]
        assert done["id"].startswith("resp_") and done["output"][1]["call_id"].startswith("call_") and done["output"][1]["id"].startswith("fc_")
        assert done["usage"]["output_tokens_details"]["reasoning_tokens"] == 1
        said = RESPONSES.said(RESPONSES.ask(sim.ports["alpha"], True, "[[sim reasoning=0 text=a]]"), True)
        assert [e["type"].removeprefix("response.") for e in said.events][2:] == ["output_item.added", "content_part.added", "output_text.delta", "output_text.done",
                                                                                  "content_part.done", "output_item.done", "completed"]
        raw = RESPONSES.ask(sim.ports["router"], True).body
        assert b"event:" not in raw and raw.endswith(b"data: [DONE]\n\n")
        assert b"[DONE]" not in RESPONSES.ask(sim.ports["alpha"], True).body


def test_gemini_streams_crlf_events_or_one_array():
    with simulated() as sim:
        raw = GEMINI.ask(sim.ports["alpha"], True, "[[sim tokens=3]]").body
        assert raw.endswith(b"}\r\n\r\n") and b"[DONE]" not in raw and b"event:" not in raw
        counts = [e["usageMetadata"]["candidatesTokenCount"] for e in GEMINI.said(GEMINI.ask(sim.ports["alpha"], True, "[[sim tokens=3]]"), True).events]
        assert counts == [1, 2, 3, 3]                                 # cumulative, on every chunk
        raw = ARRAY.ask(sim.ports["alpha"], True, "[[sim tokens=3]]").body
        assert raw.startswith(b"[{") and b"\n,\r\n{" in raw and raw.endswith(b"\n]")
        chunks = json.loads(raw)
        assert "trafficType" in chunks[-1]["usageMetadata"] and chunks[-1]["candidates"][0]["content"]["parts"][0]["thoughtSignature"]


def test_converse_streams_end_with_metadata_after_the_stop():
    with simulated("alpha:0,reasoning=2") as sim:
        said = CONVERSE.said(CONVERSE.ask(sim.ports["alpha"], True, tools=True, **CONVERSE.thinks), True)
        kinds = [next(iter(e)) for e in said.events]
        assert kinds[0] == "messageStart" and kinds[-2:] == ["messageStop", "metadata"] and kinds.count("contentBlockStart") == 1, kinds
        assert said.events[-1]["metadata"]["usage"]["totalTokens"] > 0
        answer = CONVERSE.ask(sim.ports["alpha"], False)
        assert len(answer.headers["x-amzn-requestid"]) == 36
        for model, text in (("amazon.nova-lite-v1%3A0", {"messages": [{"role": "user", "content": [{"text": "[[sim text=hello]]"}]}]}),
                            ("amazon.titan-text-express-v1", {"inputText": "[[sim text=hello]]"})):
            raw = post(sim.ports["alpha"], f"/model/{model}/invoke-with-response-stream", text).body
            inner = [json.loads(base64.b64decode(json.loads(p)["bytes"])) for _, p in frames(raw)]
            assert "hello" in json.dumps(inner), inner
        assert inner[-1]["completionReason"] == "FINISH" and "amazon-bedrock-invocationMetrics" in inner[-1]


def test_ollama_generates_lists_and_shows():
    with simulated("alpha:0,models=a+b") as sim:
        port = sim.ports["alpha"]
        lines = [json.loads(x) for x in post(port, "/api/generate", {"model": "a", "prompt": "[[sim text=one two]]"}).body.splitlines()]
        assert "".join(x["response"] for x in lines) == "one two" and lines[-1]["done"] and lines[-1]["eval_count"] == 2
        assert [m["name"] for m in request(port, "GET", "/api/tags").json["models"]] == ["a", "b"]
        assert post(port, "/api/show", {"model": "a"}).status == 200 and post(port, "/api/show", {"model": "x"}).status == 404
        assert post(port, "/api/chat", {"model": "x", "messages": []}).status == 404


def test_counts_embeddings_and_lists_are_in_the_shape_of_their_dialect():
    with simulated("alpha:0,dimensions=4") as sim:
        port = sim.ports["alpha"]
        assert json.loads(post(port, "/v1/messages/count_tokens", {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}]}, VERSION).body)["input_tokens"] > 0
        assert json.loads(post(port, "/v1beta/models/g:countTokens", {"contents": [{"parts": [{"text": "hi"}]}]}).body)["totalTokens"] > 0
        vectors = [json.loads(post(port, "/v1beta/models/e:embedContent", {"content": {"parts": [{"text": "x"}]}}).body)["embedding"]["values"],
                   json.loads(post(port, "/v1beta/models/e:batchEmbedContents", {"requests": [{"content": {"parts": [{"text": "x"}]}}]}).body)["embeddings"][0]["values"],
                   json.loads(post(port, "/api/embed", {"model": "e", "input": "x"}).body)["embeddings"][0],
                   json.loads(post(port, "/v1/embeddings", {"model": "e", "input": "x"}).body)["data"][0]["embedding"],
                   json.loads(post(port, "/model/amazon.titan-embed-text-v2%3A0/invoke", {"inputText": "x"}).body)["embedding"],
                   json.loads(post(port, "/model/cohere.embed-v4/invoke", {"texts": ["x"], "input_type": "search_query"}).body)["embeddings"][0]]
        assert len({tuple(v) for v in vectors}) == 1 and len(vectors[0]) == 4
        assert request(port, "GET", "/v1/models").json["data"][0]["object"] == "model"
        assert request(port, "GET", "/v1/models", headers=VERSION).json["data"][0]["type"] == "model"
        for path, headers in (("/v1beta/models", {}), ("/v1/models", {"x-goog-api-key": "k"})):
            assert request(port, "GET", path, headers=headers).json["models"][0]["name"] == "models/sim-small"
        assert request(port, "GET", "/v1beta/models/sim-large").json["name"] == "models/sim-large"
        assert request(port, "GET", "/v1beta/openai/models").json["object"] == "list"


# ---- conversations, and what is refused --------------------------------------------------------------------------------

def refused(sim, d, why, status=400, name="alpha", **kw):
    answer = d.ask(sim.ports[name], False, **kw)
    assert answer.status == status and why in answer.body.decode(), (d.name, answer.status, answer.body)
    return answer


def test_anthropics_signatures_are_known_by_anthropic_alone():
    with simulated("alpha:0,reasoning=3", "beta:0,reasoning=3") as sim:
        ask = [{"role": "user", "content": "hi"}]
        first = json.loads(MESSAGES.ask(sim.ports["alpha"], False, tools=True, messages=ask, **MESSAGES.thinks).body)["content"]
        assert [b["type"] for b in first] == ["thinking", "tool_use"]
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": first[1]["id"], "content": "42 apples"}]}

        def go_on(d, blocks, name="beta", extra=None):
            return d.ask(sim.ports[name], False, tools=True, messages=ask + [{"role": "assistant", "content": blocks}, result], **(extra or MESSAGES.thinks))

        for d in (MESSAGES, VERTEX, INVOKE):                          # another provider of the maker, and its other houses
            answer = go_on(d, first)
            assert answer.status == 200 and b"42 apples" in answer.body, answer.body
        forged = [{**first[0], "signature": first[0]["signature"][:-4] + "AAAA"}, first[1]]
        other = [{**first[0], "thinking": first[0]["thinking"] + "!"}, first[1]]
        foreign = [{**first[0], "signature": GEMINI.said(GEMINI.ask(sim.ports["alpha"], False, tools=True), False).signature}, first[1]]
        for blocks in (other, foreign):
            answer = go_on(MESSAGES, blocks)
            assert answer.status == 400 and b"messages.1.content.0: Invalid `signature` in `thinking` block" in answer.body, answer.body
        assert go_on(MESSAGES, forged).status in (200, 400)
        answer = go_on(MESSAGES, [first[1]])
        assert answer.status == 400 and b"Expected `thinking` or `redacted_thinking`, but found `tool_use`" in answer.body
        assert go_on(MESSAGES, [first[1]], extra={"thinking": {"type": "disabled"}}).status == 200
        bedrock = [{"role": "user", "content": [{"text": "hi"}]},
                   {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": first[0]["thinking"], "signature": first[0]["signature"]}}},
                                                     {"toolUse": {"toolUseId": "t1", "name": "look", "input": {}}}]},
                   {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "42 apples"}]}}]}]
        answer = CONVERSE.ask(sim.ports["beta"], False, tools=True, messages=bedrock, **CONVERSE.thinks)
        assert answer.status == 200 and b"42 apples" in answer.body, answer.body
        bedrock[1]["content"][0]["reasoningContent"]["reasoningText"]["signature"] = "bm90IG91cnM="
        assert b"Invalid `signature`" in CONVERSE.ask(sim.ports["beta"], False, tools=True, messages=bedrock, **CONVERSE.thinks).body


def test_what_anthropic_refuses():
    user = {"role": "user", "content": "hi"}
    use = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}]}

    def result(i="toolu_1"):
        return {"type": "tool_result", "tool_use_id": i, "content": "x"}
    rows = [
        (dict(max_tokens=None), "max_tokens: Field required"),
        (dict(nonsense=1), "nonsense: Extra inputs are not permitted"),
        (dict(messages=[]), "messages: at least one message is required"),
        (dict(messages=[{"role": "system", "content": "x"}, user]), "Unexpected role"),
        (dict(messages=[{"role": "tool", "content": "x"}]), "messages.0.role: Input should be 'user' or 'assistant'"),
        (dict(messages=[{"role": "user", "content": [{"type": "text", "text": ""}]}]), "text content blocks must be non-empty"),
        (dict(messages=[user, use, {"role": "user", "content": "go on"}]), "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_1"),
        (dict(messages=[user, use, {"role": "user", "content": [{"type": "text", "text": "so"}, result()]}]), "`tool_use` ids were found without"),
        (dict(messages=[user, use, {"role": "user", "content": [result(), result("toolu_2")]}]), "unexpected `tool_use_id` found in `tool_result` blocks: toolu_2"),
        (dict(messages=[user, {"role": "assistant", "content": [{"type": "tool_use", "id": "functions.look:0", "name": "look", "input": {}}]}]), "String should match pattern '^[a-zA-Z0-9_-]+$'"),
        (dict(messages=[user, {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "look", "input": "{}"}]}]), "Input should be a valid dictionary"),
        (dict(messages=[user, {"role": "assistant", "content": "So, "}]), "cannot end with trailing whitespace"),
        (dict(model="claude-opus-4-6", messages=[user, {"role": "assistant", "content": "So"}]), "does not support assistant message prefill"),
        (dict(thinking={"type": "enabled", "budget_tokens": 5000}), "`max_tokens` must be greater than"),
        (dict(thinking={"type": "enabled", "budget_tokens": 10}), "greater than or equal to 1024"),
        (dict(tools=True, tool_choice={"type": "any"}, thinking={"type": "enabled", "budget_tokens": 1024}), "Thinking may not be enabled when tool_choice forces"),
        (dict(system=[{"type": "text", "text": str(i), "cache_control": {"type": "ephemeral"}} for i in range(5)]), "A maximum of 4 blocks"),
    ]
    with simulated() as sim:
        for extra, why in rows:
            body = {k: v for k, v in MESSAGES.body(**extra).items() if v is not None}
            answer = post(sim.ports["alpha"], "/v1/messages", body, VERSION)
            got = json.loads(answer.body)
            assert answer.status == 400 and got["type"] == "error" and got["error"]["type"] == "invalid_request_error" and why in got["error"]["message"], (why, got)
            assert answer.headers["request-id"] == got["request_id"] and got["request_id"].startswith("req_011C")
        assert post(sim.ports["alpha"], "/v1/messages", MESSAGES.body(), {}).status == 400                # no anthropic-version
        assert MESSAGES.ask(sim.ports["alpha"], False, messages=[user, {"role": "assistant", "content": "So"}]).status == 200
        beta = {**VERSION, "anthropic-beta": "x"}
        assert post(sim.ports["alpha"], "/v1/messages", MESSAGES.body(messages=[user, {"role": "system", "content": "x"}]), beta).status == 200
        answer = post(sim.ports["alpha"], VERTEX.path, {**VERTEX.body(), "model": "claude-x"})
        assert answer.status == 400 and b"model: Extra inputs are not permitted" in answer.body
        assert sim.state("alpha")["refused"] == len(rows) + 2


def test_what_gemini_refuses():
    user = {"role": "user", "parts": [{"text": "hi"}]}
    with simulated() as sim:
        port = sim.ports["alpha"]
        part = json.loads(GEMINI.ask(port, False, tools=True).body)["candidates"][0]["content"]["parts"][0]
        back = {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"result": "42 apples"}}}]}

        def go_on(part, back=back, then=()):
            return GEMINI.ask(port, False, tools=True, messages=[user, {"role": "model", "parts": [part]}, back, *then])
        assert part["thoughtSignature"] and b"42 apples" in go_on(part).body
        pieces = [{"role": "model", "parts": [p]} for p in ({"text": "I look."}, part, {"text": ""})]   # as the SDKs keep a stream
        assert b"42 apples" in GEMINI.ask(port, False, tools=True, messages=[user, *pieces, back]).body
        bare = {"functionCall": part["functionCall"]}
        assert b"missing a thought_signature" in go_on(bare).body
        assert go_on(bare, then=[user]).status == 200                  # an old turn needs none
        assert go_on({**bare, "thoughtSignature": "skip_thought_signature_validator"}).status == 200
        foreign = MESSAGES.said(MESSAGES.ask(port, False, "[[sim reasoning=3]]", **MESSAGES.thinks), False).signature
        assert b"Corrupted thought signature" in go_on({**bare, "thoughtSignature": foreign}).body
        renamed = {"functionCall": {"name": "other", "args": {}}, "thoughtSignature": part["thoughtSignature"]}
        assert b"Corrupted thought signature" in go_on(renamed).body       # it belongs to its call
        said = go_on(part, {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": "text"}}]})
        assert said.status == 400 and json.loads(said.body)["error"]["status"] == "INVALID_ARGUMENT" and b"function_response.response" in said.body
        assert b"number of function response parts" in go_on(part, {"role": "user", "parts": back["parts"] * 2}).body
        assert b"number of function response parts" in go_on(part, {"role": "user", "parts": [{"functionResponse": {"name": "who", "response": {}}}]}).body
        refused(sim, GEMINI, "valid role", messages=[{"role": "assistant", "parts": [{"text": "x"}]}])
        refused(sim, GEMINI, "parts must not be empty", messages=[{"role": "user", "parts": []}])
        error = post(port, ARRAY.stream_path, {"contents": []})
        assert json.loads(error.body)[0]["error"]["code"] == 400        # wrapped in the array


def test_what_bedrock_refuses():
    user = {"role": "user", "content": [{"text": "hi"}]}

    def use(*ids):
        return {"role": "assistant", "content": [{"toolUse": {"toolUseId": i, "name": "look", "input": {}}} for i in ids]}

    def results(*ids):
        return {"role": "user", "content": [{"toolResult": {"toolUseId": i, "content": [{"text": "x"}]}} for i in ids]}
    rows = [
        (dict(nonsense=1), "extraneous key [nonsense]"),
        (dict(messages=[{"role": "user", "content": [{"text": ""}]}]), "is blank"),
        (dict(messages=[user, user]), "must alternate"),
        (dict(messages=[use("a")]), "must start with a user message"),
        (dict(tools=True, messages=[user, use("a b"), results("a b")]), "regular expression pattern"),
        (dict(tools=True, messages=[user, use("x" * 65), results("x" * 65)]), "regular expression pattern"),
        (dict(tools=True, messages=[user, use("a", "b"), results("a")]), "Expected toolResult blocks at messages.2.content for the following Ids: b"),
        (dict(tools=True, messages=[user, use("a"), results("a", "c")]), "exceeds the number of toolUse blocks"),
        (dict(messages=[user, use("a"), results("a")]), "toolConfig field must be defined"),
        (dict(toolConfig={"tools": [{"toolSpec": {"name": "a.b", "inputSchema": {"json": {}}}}]}), "[a-zA-Z0-9_-]+"),
    ]
    with simulated("alpha:0", "beta:0,models=known") as sim:
        for extra, why in rows:
            answer = refused(sim, CONVERSE, why, **extra)
            assert answer.headers["x-amzn-errortype"].startswith("ValidationException:")
        refused(sim, CONVERSE, "model identifier is invalid", name="beta")
        newer = "/model/anthropic.claude-opus-4-7/converse"
        assert b"does not support assistant message prefill" in post(sim.ports["alpha"], newer, {"messages": [user, {"role": "assistant", "content": [{"text": "So"}]}]}).body
        assert CONVERSE.ask(sim.ports["alpha"], False, tools=True, messages=[user, use("a", "b"), results("b", "a")]).status == 200


def test_what_responses_and_chat_refuse():
    with simulated("alpha:0,reasoning=2", "mistral:0,style=mistral") as sim:
        port = sim.ports["alpha"]
        include = {"include": ["reasoning.encrypted_content"], "store": False, **RESPONSES.thinks}
        first = json.loads(RESPONSES.ask(port, False, tools=True, **include).body)
        output = first["output"]
        assert [i["type"] for i in output] == ["reasoning", "function_call"]
        back = {"type": "function_call_output", "call_id": output[1]["call_id"], "output": "42 apples"}

        def go_on(*items, **extra):
            return RESPONSES.ask(port, False, tools=True, messages=[{"role": "user", "content": "hi"}, *items], **extra)
        assert b"42 apples" in go_on(*output, back).body
        assert b"No tool call found for function call output with call_id call_x" in go_on({**back, "call_id": "call_x"}).body
        assert b"No tool output found for function call" in go_on(*output).body
        answer = go_on({**output[0], "encrypted_content": "gAAAAABforeign"}, output[1], back)
        assert answer.status == 400 and json.loads(answer.body)["error"]["code"] == "invalid_encrypted_content"
        alone = {k: v for k, v in output[0].items() if k != "encrypted_content"}
        answer = go_on(alone, output[1], back)
        assert answer.status == 404 and b"Items are not persisted" in answer.body
        assert b"required following item" in go_on(output[0]).body
        kept = json.loads(RESPONSES.ask(port, False, tools=True).body)
        assert go_on(kept["output"][0], kept["output"][1], {**back, "call_id": kept["output"][1]["call_id"]}).status == 200
        result = {**back, "call_id": kept["output"][1]["call_id"]}
        assert RESPONSES.ask(port, False, messages=[result], previous_response_id=kept["id"]).status == 200
        answer = RESPONSES.ask(port, False, messages=[result], previous_response_id="resp_other")
        assert answer.status == 400 and json.loads(answer.body)["error"]["code"] == "previous_response_not_found"
        refused(sim, RESPONSES, "integer_below_min_value", max_output_tokens=3)
        call = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}
        user, tool = {"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "call_1", "content": "42 apples"}
        assert b"42 apples" in CHAT.ask(port, False, messages=[user, call, tool]).body
        refused(sim, CHAT, "must be a response to a preceeding message with 'tool_calls'", messages=[user, call, {**tool, "tool_call_id": "call_2"}])
        refused(sim, CHAT, "did not have response messages: call_1", messages=[user, call, user])
        assert CHAT.ask(port, False, nonsense=1).status == 200
        refused(sim, CHAT, "extra_forbidden", 422, "mistral", nonsense=1)
        refused(sim, CHAT, "must be a-z, A-Z, 0-9, with a length of 9", name="mistral", messages=[user, call, tool])
        calls = json.loads(CHAT.ask(sim.ports["mistral"], False, tools=True).body)["choices"][0]["message"]["tool_calls"]
        assert len(calls[0]["id"]) == 9


# ---- who may ask ---------------------------------------------------------------------------------------------------------

def sign(port, path, body, key_id, secret, when=None, region="us-east-1", service="bedrock", tamper=None):
    """SigV4 by the book, from the standard library."""
    when = when or datetime.datetime.now(datetime.timezone.utc)
    stamp, day = when.strftime("%Y%m%dT%H%M%SZ"), when.strftime("%Y%m%d")
    host, digest = f"127.0.0.1:{port}", hashlib.sha256(body).hexdigest()
    canonical = "\n".join(["POST", path.replace("%", "%25"), "", f"host:{host}", f"x-amz-date:{stamp}", "", "host;x-amz-date", digest])
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return {"x-amz-date": stamp, "authorization": f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}"}


def test_keys_are_asked_for_as_each_provider_does():
    with simulated("alpha:0,key=secret") as sim:
        port = sim.ports["alpha"]
        good = {CHAT: {"authorization": "Bearer secret"}, RESPONSES: {"api-key": "secret"}, MESSAGES: {**VERSION, "x-api-key": "secret"}, VERTEX: {"authorization": "Bearer secret"},
                GEMINI: {"x-goog-api-key": "secret"}, CONVERSE: {"authorization": "Bearer secret"}, INVOKE: {"authorization": "Bearer secret"}, OLLAMA: {"authorization": "Bearer secret"}}
        bad = {CHAT: (401, "invalid_api_key"), RESPONSES: (401, "invalid_api_key"), MESSAGES: (401, "authentication_error"), VERTEX: (401, "authentication_error"),
               GEMINI: (400, "API_KEY_INVALID"), CONVERSE: (403, "message"), INVOKE: (403, "message"), OLLAMA: (401, "unauthorized")}
        for d, headers in good.items():
            assert post(port, d.path, d.body(), headers).status == 200, d.name
            answer = post(port, d.path, d.body(), {k: v.replace("secret", "wrong") for k, v in headers.items()})
            assert answer.status == bad[d][0] and bad[d][1] in answer.body.decode(), (d.name, answer.status, answer.body)
        assert post(port, GEMINI.path + "?key=secret", GEMINI.body()).status == 200
        assert post(port, ARRAY.stream_path, ARRAY.body(), {"authorization": "Bearer wrong"}).status == 401
        assert request(port, "GET", "/v1/models").status == 401 and request(port, "GET", "/v1/models", headers=good[CHAT]).status == 200
        recent = request(port, "GET", "/sim/requests").json
        assert "secret" not in json.dumps(recent)


def test_aws_signatures_are_recomputed():
    with simulated("alpha:0,aws=AKID:topsecret") as sim:
        port, path = sim.ports["alpha"], CONVERSE.path
        body = json.dumps(CONVERSE.body()).encode()

        def ask(headers, body=body, path=path):
            return request(port, "POST", path, body, {"content-type": "application/json", **headers})
        assert ask(sign(port, path, body, "AKID", "topsecret")).status == 200
        now = datetime.datetime.now(datetime.timezone.utc)
        rows = [({}, body, path, "MissingAuthenticationToken"),
                (sign(port, path, body, "AKID", "wrong"), body, path, "InvalidSignature"),
                (sign(port, path, body, "OTHER", "topsecret"), body, path, "UnrecognizedClient"),
                (sign(port, path, body, "AKID", "topsecret", now - datetime.timedelta(minutes=6)), body, path, "InvalidSignature"),
                (sign(port, path, body, "AKID", "topsecret", service="s3"), body, path, "InvalidSignature"),
                (sign(port, path, body, "AKID", "topsecret"), body.replace(b"hi", b"ho"), path, "InvalidSignature"),
                (sign(port, path, body, "AKID", "topsecret"), body, path + "-stream", "InvalidSignature"),
                (sign(port, path.replace("%3A", ":"), body, "AKID", "topsecret"), body, path, "InvalidSignature")]
        for headers, sent, where, why in rows:
            answer = ask(headers, sent, where)
            assert answer.status == 403 and answer.header("x-amzn-errortype").startswith(why), (why, answer.status, answer.headers, answer.body)
        assert ask(sign(port, path, body, "AKID", "topsecret", now - datetime.timedelta(minutes=4))).status == 200
        assert CHAT.ask(port, False).status == 200                      # other dialects are not AWS's


def test_what_was_asked_can_be_seen():
    with simulated() as sim:
        for d in (MESSAGES, GEMINI, CONVERSE):
            d.ask(sim.ports["alpha"], True)
        got = sim.order("alpha", "GET", "/sim/requests?last=2")
        assert [g["dialect"] for g in got] == ["gemini", "converse"]
        assert got[0]["query"] == "alt=sse" and got[0]["path"].endswith(":streamGenerateContent") and got[0]["body"]["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]
        assert got[1]["path"] == CONVERSE.stream_path and got[1]["streamed"]
        assert sim.wait("alpha", messages=1, converse=1)["by_dialect"]["gemini"] == 1


# ---- faults ------------------------------------------------------------------------------------------------------------------

def test_error_statuses_have_the_envelope_of_their_dialect():
    names = dict(chat=("type", "invalid_request_error"), responses=("type", "invalid_request_error"), messages=("type", "invalid_request_error"), gemini=("status", "INVALID_ARGUMENT"))
    with simulated() as sim:
        for d, stream, where in each(sim):
            for like in ("context_length", "rate_limit", "overloaded", "auth", "quota", "model_not_found", "server_error"):
                sim.faults("alpha", {"fault": "status", "like": like, "headers": {"x-mine": "1"}})
                answer = d.ask(sim.ports["alpha"], stream)
                assert 400 <= answer.status < 600 and answer.headers["x-mine"] == "1", (where, like)
                e = json.loads(answer.body)
                e = e[0] if isinstance(e, list) else e
                if d.name in ("converse", "invoke"):
                    assert e["message"] and answer.headers["x-amzn-errortype"].split(":")[0].endswith("Exception"), (where, like)
                elif d.name == "ollama":
                    assert e["error"]
                else:
                    key, value = names[d.name]
                    assert like != "context_length" or e["error"][key] == value, (where, e)
                    assert d is not MESSAGES or answer.headers["x-should-retry"] == ("true" if answer.status >= 429 else "false"), where
            sim.faults("alpha", {"fault": "error_in_200", "like": "overloaded"})
            assert d.ask(sim.ports["alpha"], stream).status == 200


def test_every_fault_that_breaks_a_stream_breaks_it_in_every_dialect():
    with simulated("alpha:0,tokens=20") as sim:
        for d in ALL:
            def broken(*faults, **kw):
                sim.faults("alpha", *faults)
                answer = d.ask(sim.ports["alpha"], True, **kw)
                assert sim.state("alpha")["by_fault"].get(faults[0]["fault"]), (d.name, faults)
                return answer
            where = type(d).__name__
            answer = broken({"fault": "cut", "after": 7})
            said = d.said(answer, True)
            assert answer.cut and not said.whole and len(said.text.split()) == 7, (where, said.text)
            answer = broken({"fault": "early_end", "after": 7})
            said = d.said(answer, True)
            assert not answer.cut and not said.whole and len(said.text.split()) == 7, where
            answer = broken({"fault": "early_done", "after": 7})
            assert not answer.cut and not d.said(answer, True).finish, where
            said = d.said(broken({"fault": "finish", "after": 7}), True)
            assert said.whole and said.finish == LENGTH[d.name] and len(said.text.split()) == 7, (where, said.finish)
            answer = broken({"fault": "error_in_stream", "after": 7, "like": "overloaded"})
            said = d.said(answer, True)
            assert said.error and not said.whole and len(said.text.split()) == 7, (where, answer.body[-300:])
            answer = broken({"fault": "stall", "after": 7, "shape": "pings", "every": "10ms", "for": "60ms"})
            assert d.said(answer, True).whole, (where, answer.body)
            answer = broken({"fault": "stall", "after": 7, "for": "20ms"})
            assert d.said(answer, True).whole, where
            answer = broken({"fault": "huge", "after": 7, "bytes": 100000})
            assert len(d.said(answer, True).text) > 100000, where
            for shape in ("json", "truncated", "html", "binary", "text", "crc", "field"):
                answer = broken({"fault": "malformed", "after": 7, "shape": shape})
                try:
                    said = d.said(answer, True)
                    clean = said.whole and said.error is None
                except (ValueError, AssertionError, struct.error, KeyError):
                    clean = False
                sse_noise = d.name in ("chat", "responses", "messages", "gemini") and d is not ARRAY and shape in ("html", "field", "binary", "crc")
                assert not clean or sse_noise, (where, shape, answer.body)
            broken({"fault": "empty"})
            for shape in ("no_choices", "no_content"):
                said = d.said(broken({"fault": "empty", "shape": shape}), True)
                assert said.text == "" and not said.calls, (where, shape)
            answer = broken({"fault": "slow", "ttft": "20ms", "token_delay": "1ms"})
            assert d.said(answer, True).whole, where
            answer = broken({"fault": "keepalive", "for": "40ms", "every": "10ms"})
            if d is not GEMINI and d is not MESSAGES:
                assert d.said(answer, True).whole, (where, answer.body)


def test_an_error_in_a_stream_looks_as_each_provider_makes_it():
    with simulated("alpha:0,tokens=20") as sim:
        def raw(d, **fault):
            sim.faults("alpha", {"fault": "error_in_stream", "after": 2, "like": "overloaded", **fault})
            return d.ask(sim.ports["alpha"], True).body
        last = sse(raw(MESSAGES))[-1]
        assert last[0] == "error" and json.loads(last[1])["error"]["type"] == "overloaded_error"
        events = [json.loads(d) for _, d in sse(raw(RESPONSES))]
        assert [e["type"] for e in events[-2:]] == ["error", "response.failed"] and events[-1]["response"]["status"] == "failed" and events[-1]["response"]["error"]["code"]
        flat = json.loads(sse(raw(RESPONSES, shape="string"))[-1][1])
        assert flat["type"] == "error" and flat["message"] and "error" not in flat
        assert raw(GEMINI).rsplit(b"\r\n\r\n", 1)[1].startswith(b'{"error":{"code":503')
        assert frames(raw(CONVERSE))[-1][0] == {":message-type": "exception", ":exception-type": "serviceUnavailableException", ":content-type": "application/json"}
        assert json.loads(raw(OLLAMA).splitlines()[-1]).keys() == {"error"}


def test_an_answer_that_breaks_in_the_middle_of_a_call_shows_it():
    with simulated() as sim:
        sim.faults("alpha", {"fault": "finish", "after": 2, "reason": "length"})
        said = RESPONSES.said(RESPONSES.ask(sim.ports["alpha"], True, tools=True), True)
        item = said.events[-1]["response"]["output"][-1]
        assert said.events[-1]["type"] == "response.incomplete" and item["type"] == "function_call" and item["status"] == "incomplete"
        sim.faults("alpha", {"fault": "finish", "after": 2, "reason": "length"})
        said = MESSAGES.said(MESSAGES.ask(sim.ports["alpha"], True, tools=True), True)
        assert said.whole and said.finish == "max_tokens" and not said.calls


AT = [  # where it strikes, and what must be and must not be in the body
    ({"at": "reasoning", "after": 3}, dict(thinking=True)),
    ({"at": "text", "after": 20}, dict(text=True)),
    ({"at": "character", "after": 20, "bytes": 1}, dict(text=True, broken=True)),
    ({"at": "character", "after": 20, "bytes": 3}, dict(text=True, broken=True)),
    ({"at": "id"}, dict(text=True)),
    ({"at": "name"}, dict(text=True)),
    ({"at": "arguments"}, dict(text=True, name=True)),
    ({"at": "calls"}, dict(text=True, name=True, calls=1)),
    ({"at": "arguments", "call": 2}, dict(text=True, name=True)),
    ({"after_bytes": 333}, dict(bytes=333)),
    ({"after_bytes": 3333}, dict(bytes=3333)),
]
NO_CHARACTERS = (INVOKE,)   # its payloads are base64


def test_a_fault_strikes_at_the_place_it_names():
    with simulated("alpha:0,varied=true,preface=true,parallel=2,reasoning=12") as sim:
        for d, stream, where in each(sim):
            for at, wanted in AT:
                if d in NO_CHARACTERS and stream and at.get("at") in ("character", "id", "name"):
                    continue
                where_at = (where, at)
                sim.faults("alpha", {"fault": "cut", **at})
                answer = d.ask(sim.ports["alpha"], stream, tools=True, **d.thinks)
                assert answer.cut if stream else len(answer.body) < int(answer.headers["content-length"]), (*where_at, answer.body)
                (row,) = request(sim.ports["alpha"], "GET", "/sim/faults").json
                assert row == {"fault": "cut", "match": "", "used": 1, "struck": 1}, (*where_at, row)
                if not stream:
                    continue
                if "bytes" in wanted:
                    assert len(answer.body) == wanted["bytes"], (*where_at, len(answer.body))
                if "broken" in wanted:
                    assert b"[3]" in answer.body or b"[3" in answer.body or len(answer.body) > 2000, (*where_at, "too early", answer.body)
                    try:
                        answer.body[answer.body.rfind(b'{"'):].decode()
                        raise AssertionError((*where_at, "no character is cut", answer.body[-60:]))
                    except UnicodeDecodeError as e:
                        assert e.end == len(e.object) and e.end - e.start == at["bytes"], (*where_at, e)
                if d in NO_CHARACTERS:
                    continue
                if "text" in wanted:
                    assert b"[1] " in answer.body or b"[1]" in answer.body, (*where_at, answer.body[-200:])
                if "name" in wanted:
                    assert b'"look"' in answer.body, (*where_at, answer.body[-200:])
                if at.get("at") == "name":
                    assert answer.body.endswith(b'"lo'), (*where_at, answer.body[-200:])
                if at.get("at") == "id" and d in (CHAT, MESSAGES, CONVERSE):
                    begins = {CHAT: b'"call_', MESSAGES: b'"toolu_', CONVERSE: b'"tooluse_'}[d]
                    assert answer.body[answer.body.rfind(b'"'):].startswith(begins), (*where_at, answer.body[-200:])


def test_a_fault_at_a_place_that_is_not_there_does_not_strike():
    with simulated("alpha:0,varied=true") as sim:
        for d, stream, where in each(sim):
            for at, tools in (({"at": "arguments"}, False), ({"at": "calls", "call": 2}, True)):
                sim.faults("alpha", {"fault": "cut", **at})
                answer = d.ask(sim.ports["alpha"], stream, tools=tools)
                if stream:
                    assert d.said(answer, stream).whole, (where, answer.body)
                    assert request(sim.ports["alpha"], "GET", "/sim/faults").json[0]["struck"] == 0, where


def test_a_fault_before_a_further_call_is_before_that_one():
    with simulated("alpha:0,varied=true,parallel=3") as sim:
        for n in (2, 3):
            sim.faults("alpha", {"fault": "cut", "at": "calls", "call": n})
            answer = CHAT.ask(sim.ports["alpha"], True, tools=True)
            assert answer.cut and answer.body.count(b'"look"') == n - 1, (n, answer.body)


def test_varied_answers_differ_with_every_request_and_provider():
    with simulated("alpha:0,varied=true", "beta:0,varied=true") as sim:
        texts = {CHAT.said(CHAT.ask(sim.ports[name], False), False).text for name in ("alpha", "beta") for _ in range(3)}
        assert len(texts) == 6


def test_a_tool_call_that_does_not_fit_is_made_in_every_dialect():
    with simulated("alpha:0") as sim:
        for d, stream, where in each(sim):
            for shape, call in (("missing", ("look", {})), ("type", ("look", {"at": {"unfit": True}})), ("name", ("look_x", {"at": "sample at"}))):
                sim.faults("alpha", {"fault": "unfit", "shape": shape})
                assert d.said(d.ask(sim.ports["alpha"], stream, tools=True), stream).calls == [call], (where, shape)
        sim.faults("alpha", {"fault": "unfit", "shape": "truncated"})
        assert json.loads(CHAT.ask(sim.ports["alpha"], False, tools=True).body)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"at":"sa'


def test_what_is_paid_is_counted():
    with simulated("alpha:0,varied=true,items=5,style=openrouter") as sim:
        first = CHAT.said(CHAT.ask(sim.ports["alpha"], False), False).text
        paid = sim.state("alpha")
        assert paid["tokens"] > 20 and paid["prompt_tokens"] > 5 and paid["continued"] == paid["strayed"] == 0
        half = first[:len(first) // 2].rstrip()
        rest = CHAT.said(CHAT.ask(sim.ports["alpha"], False, messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": half}]), False).text
        state = sim.state("alpha")
        assert state["continued"] == 1 and rest.endswith(";") and "[5]" in rest and "[1]" not in rest
        CHAT.ask(sim.ports["alpha"], False, messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": half[3:]}])
        assert sim.state("alpha")["strayed"] == 1


def test_a_fault_can_be_of_one_dialect():
    with simulated() as sim:
        sim.faults("alpha", {"fault": "status", "status": 500, "dialect": "gemini", "times": 0}, {"fault": "status", "status": 503, "on": "count"})
        assert [d.ask(sim.ports["alpha"], False).status for d in (CHAT, GEMINI, MESSAGES, ARRAY)] == [200, 500, 200, 500]
        assert post(sim.ports["alpha"], "/v1/messages/count_tokens", {"model": "c", "messages": [{"role": "user", "content": "x"}]}, VERSION).status == 503


def test_a_script_of_turns_is_played_in_every_dialect():
    script = {"providers": {"alpha": {"port": 0, "turns": [{"tool_calls": [{"name": "look", "arguments": {"at": "door"}}], "reasoning": "I look."}, {"text": "Done."}]}}}
    steps = {
        CHAT: lambda a: [{"role": "user", "content": "hi"}, a["choices"][0]["message"], {"role": "tool", "tool_call_id": a["choices"][0]["message"]["tool_calls"][0]["id"], "content": "x"}],
        RESPONSES: lambda a: [{"role": "user", "content": "hi"}, *a["output"], {"type": "function_call_output", "call_id": a["output"][-1]["call_id"], "output": "x"}],
        MESSAGES: lambda a: [{"role": "user", "content": "hi"}, {"role": "assistant", "content": a["content"]},
                             {"role": "user", "content": [{"type": "tool_result", "tool_use_id": a["content"][-1]["id"], "content": "x"}]}],
        GEMINI: lambda a: [{"role": "user", "parts": [{"text": "hi"}]}, a["candidates"][0]["content"], {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"r": 1}}}]}],
        CONVERSE: lambda a: [{"role": "user", "content": [{"text": "hi"}]}, a["output"]["message"],
                             {"role": "user", "content": [{"toolResult": {"toolUseId": a["output"]["message"]["content"][-1]["toolUse"]["toolUseId"], "content": [{"json": {"r": 1}}]}}]}],
        OLLAMA: lambda a: [{"role": "user", "content": "hi"}, a["message"], {"role": "tool", "tool_name": "look", "content": "x"}],
    }
    with simulated(script=script) as sim:
        for d, go_on in steps.items():
            first = d.ask(sim.ports["alpha"], False, tools=True, **d.thinks)
            said = d.said(first, False)
            assert said.calls == [("look", {"at": "door"})], (d.name, first.body)
            assert not said.thinking or said.thinking == "I look.", d.name
            second = d.ask(sim.ports["alpha"], False, tools=True, messages=go_on(json.loads(first.body)), **d.thinks)
            assert second.status == 200 and d.said(second, False).text == "Done.", (d.name, second.body)


if __name__ == "__main__":
    main(globals())
