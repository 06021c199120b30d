"""Readers of the four inbound dialects that accept nothing a strict SDK would not, and the proof of varied answers.

Each takes the bytes of a whole body and returns what it said, or raises Wrong with the reason. Nothing of it is shared with the readers of the other
scenarios: these are here to find what those let pass.
"""
import json
import re

WORDS = 3   # of an item: 3 + number % 4, as `perdure simulate` makes them
BETWEEN = ["\n\n- ", " ", "\n", "  ", " "]


class Wrong(AssertionError):
    pass


def need(true, *what):
    if not true:
        raise Wrong(" ".join(str(w)[:600] for w in what))


class Answer:
    """What an answer came to."""

    def __init__(self):
        self.text, self.thinking, self.calls, self.finish, self.input, self.output, self.id, self.model = "", "", [], None, None, None, None, None


# ---- varied answers ----------------------------------------------------------------------------------------------

def checksum(text):
    h = 2166136261
    for b in text.encode():
        h = ((h ^ b) * 16777619) & 0xffffffff
    return f"{h:08x}"


def line_is_whole(text):
    found = re.fullmatch(r"(.*) #([0-9a-f]{8});", text, re.S)
    return bool(found) and checksum(found[1]) == found[2]


def items_of(text, count):
    """Each item once, in order, uncut, and nothing else; raises Wrong at the first byte that is not so."""
    at = 0
    for n in range(1, count + 1):
        head = (BETWEEN[(n - 1) % 5] if n > 1 else "") + f"[{n}] "
        need(text.startswith(head, at), f"item {n} of {count} does not begin where it should:", repr(text[max(0, at - 60):at]), "then", repr(text[at:at + 60]))
        at += len(head)
        end = text.find(" #", at)
        need(end >= 0, f"item {n} has no end:", repr(text[at:at + 80]))
        words, tail = text[at:end], text[end:end + 11]
        need(words.count(" ") + 1 == WORDS + n % 4, f"item {n} has {words.count(' ') + 1} words:", repr(words))
        need(tail == f" #{checksum(words)};", f"item {n} was damaged:", repr(words), repr(tail), "not", checksum(words))
        at = end + 11
    need(at == len(text), "after the last item:", repr(text[at:at + 80]))


# ---- framing ------------------------------------------------------------------------------------------------------

def events_of(body, pings=False):
    """[(event, data)] of SSE that is well framed to its last byte; comments are left out, and so are a provider's pings."""
    try:
        text = body.decode()
    except UnicodeDecodeError as e:
        raise Wrong(f"the stream is no UTF-8: {e}")
    text = text.replace("\r\n", "\n")
    need(text.endswith("\n\n"), "the stream does not end with a blank line:", repr(text[-120:]))
    out = []
    for block in text.split("\n\n")[:-1]:
        event, data = None, None
        for line in block.split("\n"):
            if line.startswith(":") or line == "":
                continue
            name, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            need(name in ("event", "data", "id"), "a line that is none of SSE's:", repr(line))
            if name == "event":
                need(event is None and data is None, "an event has two names:", repr(block))
                event = value
            elif name == "data":
                need(data is None, "two data lines in one event:", repr(block))
                data = value
        if event == "ping" and data == '{"type":"ping"}' and not pings:
            continue
        if data is not None:
            out.append((event, data))
        else:
            need(event is None, "an event without data:", repr(block))
    return out


def parsed(text):
    try:
        return json.loads(text)
    except ValueError as e:
        raise Wrong(f"a frame is no JSON ({e}): {text[-300:]}")


def same(answer, member, value):
    """One id, one model: the same in each event."""
    if value is None:
        return
    have = getattr(answer, member)
    need(have is None or have == value, f"two of {member}:", have, "and", value)
    setattr(answer, member, value)


def arguments_of(text):
    value = parsed(text)
    need(isinstance(value, dict), "arguments are no object:", text)
    return value


# ---- OpenAI chat ----------------------------------------------------------------------------------------------------

class Chat:
    name, error_ends = "chat", (b'"finish_reason":"', b"data: [DONE]")
    stop, tool_stop = "stop", "tool_calls"

    @staticmethod
    def path(model, stream):
        return "/v1/chat/completions"

    @staticmethod
    def headers():
        return {"authorization": "Bearer test"}

    @staticmethod
    def body(model, text, stream, tools=None, think=False):
        b = {"model": model, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}], "stream": stream}
        if stream:
            b["stream_options"] = {"include_usage": True}
        if tools:
            b["tools"] = [{"type": "function", "function": {"name": n, "parameters": s}} for n, s in tools]
            b["parallel_tool_calls"] = True
        if think:
            b["reasoning_effort"] = "low"
        return b

    @staticmethod
    def usage(a, u):
        need(isinstance(u, dict), "no usage")
        a.input, a.output = u["prompt_tokens"], u["completion_tokens"]
        need(u["total_tokens"] == a.input + a.output, "usage does not add up:", u)

    @classmethod
    def whole(cls, body):
        a, m = Answer(), parsed(body.decode())
        need(m["object"] == "chat.completion" and len(m["choices"]) == 1, "no completion:", m)
        same(a, "id", m["id"])
        same(a, "model", m["model"])
        choice = m["choices"][0]
        need(choice["index"] == 0 and choice["message"]["role"] == "assistant", "not one choice of the assistant's:", choice)
        a.text, a.finish = choice["message"].get("content") or "", choice["finish_reason"]
        a.thinking = choice["message"].get("reasoning_content") or ""
        for c in choice["message"].get("tool_calls") or []:
            need(c["type"] == "function" and c["id"], "a call without type or id:", c)
            a.calls.append((c["id"], c["function"]["name"], arguments_of(c["function"]["arguments"])))
        cls.usage(a, m.get("usage"))
        return a

    @classmethod
    def stream(cls, body):
        a, calls, roles, finished, usages, done, created = Answer(), [], 0, False, 0, False, None
        for n, (event, data) in enumerate(events_of(body)):
            need(not done, "an event after [DONE]:", data)
            need(event is None, "an event with a name:", event, data)
            if data == "[DONE]":
                done = True
                continue
            m = parsed(data)
            need("error" not in m, "an error in the stream:", data)
            need(m["object"] == "chat.completion.chunk", "no chunk:", data)
            same(a, "id", m["id"])
            same(a, "model", m["model"])
            need(created in (None, m["created"]), "two times of creation")
            created = m["created"]
            need(usages == 0, "a chunk after the usage:", data)
            if m.get("usage"):
                usages += 1
                cls.usage(a, m["usage"])
            if not m["choices"]:
                need(m.get("usage") and finished, "a chunk with no choices and no usage, or before the end:", data)
                continue
            need(len(m["choices"]) == 1 and m["choices"][0]["index"] == 0, "not choice 0 alone:", data)
            c = m["choices"][0]
            delta = c["delta"]
            need(not finished, "a choice after its end:", data)
            if "role" in delta:
                roles += 1
                need(delta["role"] == "assistant" and (roles == 1 or c.get("finish_reason")), "a second role, or a strange one:", data)   # DeepSeek's finish has it again
            need(roles >= 1, "a delta before the role:", data)
            if delta.get("content"):
                need(not calls, "text after a tool call:", data)
                a.text += delta["content"]
            a.thinking += delta.get("reasoning_content") or ""
            for t in delta.get("tool_calls") or []:
                i = t["index"]
                if i == len(calls):
                    need(t.get("id") and t.get("type") == "function" and t["function"].get("name"), "a call begins without id, type or name:", data)
                    calls.append([t["id"], t["function"]["name"], t["function"].get("arguments") or ""])
                else:
                    need(i == len(calls) - 1, f"piece of call {i} while {len(calls)} have begun:", data)
                    need(not t.get("id") or t["id"] == calls[i][0], "a call with two ids:", data)
                    need(not (t["function"].get("name")), "a call is named twice:", data)
                    calls[i][2] += t["function"].get("arguments") or ""
            if c.get("finish_reason"):
                finished, a.finish = True, c["finish_reason"]
        need(finished, "no finish_reason")
        need(done, "no [DONE]")
        a.calls = [(i, n, arguments_of(x)) for i, n, x in calls]
        return a


# ---- OpenAI Responses ---------------------------------------------------------------------------------------------------

def named(item):
    """Of reasoning some servers give a status and others none."""
    return {k: v for k, v in item.items() if k != "status" or item["type"] != "reasoning"}


class Responses:
    name, error_ends = "responses", (b"response.completed", b"response.incomplete")
    stop = tool_stop = "completed"

    @staticmethod
    def path(model, stream):
        return "/v1/responses"

    headers = Chat.headers

    @staticmethod
    def body(model, text, stream, tools=None, think=False):
        b = {"model": model, "instructions": "Be brief.", "input": text, "stream": stream}
        if tools:
            b["tools"] = [{"type": "function", "name": n, "parameters": s, "strict": False} for n, s in tools]
        if think:
            b["reasoning"] = {"effort": "low", "summary": "auto"}
        return b

    @classmethod
    def response(cls, a, r):
        same(a, "id", r["id"])
        same(a, "model", r["model"])
        need(r["object"] == "response" and r["status"] == "completed", "not completed:", r["status"], r.get("error"), r.get("incomplete_details"))
        a.finish = r["status"]
        ids = [item["id"] for item in r["output"]]
        need(len(set(ids)) == len(ids), "two items with one id:", ids)
        a.text = a.thinking = ""
        a.calls = []
        for item in r["output"]:
            if item["type"] == "message":
                need(item["role"] == "assistant" and item["status"] == "completed", "a message that is not completed:", item)
                a.text += "".join(p["text"] for p in item["content"] if p["type"] == "output_text")
            elif item["type"] == "reasoning":
                a.thinking += "".join(p["text"] for p in item["summary"])
            elif item["type"] == "function_call":
                need(item["status"] == "completed" and item["call_id"], "a call that is not completed:", item)
                a.calls.append((item["call_id"], item["name"], arguments_of(item["arguments"])))
        u = r["usage"]
        need(isinstance(u, dict), "no usage:", u)
        a.input, a.output = u["input_tokens"], u["output_tokens"]
        need(u["total_tokens"] == a.input + a.output, "usage does not add up:", u)

    @classmethod
    def whole(cls, body):
        a = Answer()
        cls.response(a, parsed(body.decode()))
        return a

    @classmethod
    def stream(cls, body):
        a, items, n, over, done = Answer(), [], 0, False, False
        text = {}
        for event, data in events_of(body):
            need(not done, "an event after [DONE]:", data)
            if data == "[DONE]":
                need(over, "[DONE] before the end")
                done = True
                continue
            e = parsed(data)
            kind = e["type"]
            need(event == kind, "event name and type differ:", event, kind)
            need(not over, "an event after the end:", data)
            need(e["sequence_number"] == n, f"sequence_number {e['sequence_number']} where {n} is due:", data)
            n += 1
            if n == 1:
                need(kind == "response.created", "the first event is", kind)
            if kind in ("response.created", "response.in_progress"):
                need(n <= 2, "a second start:", data)
                same(a, "id", e["response"]["id"])
                same(a, "model", e["response"]["model"])
                need(e["response"]["status"] == "in_progress" and e["response"]["output"] == [], "a start that is none:", data)
            elif kind == "response.output_item.added":
                need(e["output_index"] == len(items), f"item {e['output_index']} where {len(items)} is due:", data)
                need(e["item"].get("status") in (None, "in_progress"), "an item begins with status", e["item"].get("status"))
                items.append({"id": e["item"]["id"], "type": e["item"]["type"], "item": None, "parts": 0, "open": None, "text": ""})
            elif kind == "response.output_item.done":
                item = items[e["output_index"]]
                need(item["item"] is None and item["id"] == e["item"]["id"] and item["open"] is None, "an item ends twice, under another id, or with a part open:", data)
                item["item"] = e["item"]
                if item["type"] == "message":
                    need("".join(p["text"] for p in e["item"]["content"]) == item["text"], "an item's text is not what its deltas said:", data)
                elif item["type"] == "function_call":
                    need(e["item"]["arguments"] == item["text"], "a call's arguments are not what their deltas said:", data)
                    need(e["item"]["status"] == "completed", "a call that is not completed:", data)
            elif kind.startswith("response."):
                if kind in ("response.completed", "response.incomplete", "response.failed"):
                    need(kind == "response.completed", "it ended with", data[:400])
                    need(all(i["item"] for i in items), "the end comes with items open")
                    need(list(map(named, e["response"]["output"])) == [named(i["item"]) for i in items], "the end lists other items than were told:", json.dumps(e["response"]["output"])[:300], "not",
                         json.dumps([i["item"] for i in items])[:300])
                    cls.response(a, e["response"])
                    over = True
                    continue
                item = items[e["output_index"]]
                need(item["item"] is None and item["id"] == e["item_id"], "an event of an item that is over, or under another id:", data)
                if kind in ("response.content_part.added", "response.reasoning_summary_part.added"):
                    i = e.get("content_index", e.get("summary_index"))
                    need(i == item["parts"] and item["open"] is None, "a part out of order:", data)
                    item["open"], item["part"] = i, ""
                    item["parts"] += 1
                elif kind in ("response.output_text.delta", "response.reasoning_summary_text.delta"):
                    need(e.get("content_index", e.get("summary_index")) == item["open"], "a delta of a part that is not open:", data)
                    item["part"] += e["delta"]
                    item["text"] += e["delta"]
                elif kind in ("response.output_text.done", "response.reasoning_summary_text.done"):
                    need(e["text"] == item["part"], "a part's text is not what its deltas said:", data[:200], "not", item["part"][:200])
                elif kind in ("response.content_part.done", "response.reasoning_summary_part.done"):
                    need(item["open"] == e.get("content_index", e.get("summary_index")) and e["part"]["text"] == item["part"], "a part ends out of order:", data)
                    item["open"] = None
                elif kind == "response.function_call_arguments.delta":
                    item["text"] += e["delta"]
                elif kind == "response.function_call_arguments.done":
                    need(e["arguments"] == item["text"], "arguments are not what their deltas said:", data)
                else:
                    need(kind in ("response.output_text.annotation.added",), "an unknown event:", data)
            else:
                raise Wrong(f"an event that is none of an answer's: {data[:400]}")
        need(over, "no response.completed")
        del text
        return a


# ---- Anthropic Messages -----------------------------------------------------------------------------------------------

class Messages:
    name, error_ends = "messages", (b"message_stop", b'"stop_reason":"')
    stop, tool_stop = "end_turn", "tool_use"
    DELTAS = {"text": ("text_delta",), "thinking": ("thinking_delta", "signature_delta"), "tool_use": ("input_json_delta",)}

    @staticmethod
    def path(model, stream):
        return "/v1/messages"

    @staticmethod
    def headers():
        return {"anthropic-version": "2023-06-01", "x-api-key": "test"}

    @staticmethod
    def body(model, text, stream, tools=None, think=False):
        b = {"model": model, "max_tokens": 8000, "system": "Be brief.", "messages": [{"role": "user", "content": text}]}
        if stream:
            b["stream"] = True
        if tools:
            b["tools"] = [{"name": n, "input_schema": s} for n, s in tools]
        if think:
            b["thinking"] = {"type": "enabled", "budget_tokens": 2000}
        return b

    @classmethod
    def whole(cls, body):
        a, m = Answer(), parsed(body.decode())
        need(m["type"] == "message" and m["role"] == "assistant", "no message:", m)
        same(a, "id", m["id"])
        same(a, "model", m["model"])
        for b in m["content"]:
            if b["type"] == "text":
                a.text += b["text"]
            elif b["type"] == "thinking":
                a.thinking += b["thinking"]
            elif b["type"] == "tool_use":
                need(isinstance(b["input"], dict), "input is no object:", b)
                a.calls.append((b["id"], b["name"], b["input"]))
        a.finish, a.input, a.output = m["stop_reason"], m["usage"]["input_tokens"], m["usage"]["output_tokens"]
        return a

    @classmethod
    def stream(cls, body):
        a, blocks, open_block, state = Answer(), [], None, "new"
        for event, data in events_of(body):
            m = parsed(data)
            kind = m["type"]
            need(event == kind, "event name and type differ:", event, kind)
            if kind == "ping":
                continue
            need(state != "over", "an event after message_stop:", data)
            if kind == "message_start":
                need(state == "new", "a second message_start:", data)
                state = "content"
                need(m["message"]["role"] == "assistant" and m["message"]["content"] == [] and m["message"]["stop_reason"] is None, "a start that is none:", data)
                same(a, "id", m["message"]["id"])
                same(a, "model", m["message"]["model"])
                a.input = m["message"]["usage"]["input_tokens"]
            elif kind == "content_block_start":
                need(state == "content" and open_block is None and m["index"] == len(blocks), "a block out of order:", data)
                open_block = {"type": m["content_block"]["type"], "start": m["content_block"], "text": ""}
                need(open_block["type"] in cls.DELTAS, "an unknown block:", data)
                blocks.append(open_block)
            elif kind == "content_block_delta":
                need(open_block is not None and m["index"] == len(blocks) - 1, "a delta of a block that is not open:", data)
                d = m["delta"]
                need(d["type"] in cls.DELTAS[open_block["type"]], f"{d['type']} in a block of {open_block['type']}:", data)
                open_block["text"] += d.get("text", "") + d.get("thinking", "") + d.get("partial_json", "")
            elif kind == "content_block_stop":
                need(open_block is not None and m["index"] == len(blocks) - 1, "a block ends that is not open:", data)
                open_block = None
            elif kind == "message_delta":
                need(state == "content" and open_block is None, "message_delta in the middle, or twice:", data)
                state = "told"
                a.finish, a.output = m["delta"]["stop_reason"], m["usage"]["output_tokens"]
                a.input = m["usage"].get("input_tokens") or a.input
            elif kind == "message_stop":
                need(state == "told", "message_stop before message_delta")
                state = "over"
            else:
                raise Wrong(f"an event that is none of a message's: {data[:400]}")
        need(state == "over", "no message_stop")
        for b in blocks:
            if b["type"] == "text":
                a.text += b["text"]
            elif b["type"] == "thinking":
                a.thinking += b["text"]
            else:
                a.calls.append((b["start"]["id"], b["start"]["name"], arguments_of(b["text"] or "{}")))
        return a


# ---- Gemini ----------------------------------------------------------------------------------------------------------------

class Gemini:
    name, error_ends = "gemini", (b'"finishReason"',)
    stop = tool_stop = "STOP"

    @staticmethod
    def path(model, stream):
        return f"/v1beta/models/{model}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"

    @staticmethod
    def headers():
        return {"x-goog-api-key": "test"}

    @staticmethod
    def body(model, text, stream, tools=None, think=False):
        b = {"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": [{"role": "user", "parts": [{"text": text}]}]}
        if tools:
            b["tools"] = [{"functionDeclarations": [{"name": n, "parametersJsonSchema": s} for n, s in tools]}]
        if think:
            b["generationConfig"] = {"thinkingConfig": {"includeThoughts": True}}
        return b

    @classmethod
    def chunk(cls, a, m):
        need("error" not in m, "an error in the stream:", m)
        same(a, "id", m.get("responseId"))
        same(a, "model", m.get("modelVersion"))
        u = m.get("usageMetadata")
        if u:
            a.input, a.output = u.get("promptTokenCount"), u.get("candidatesTokenCount", 0) + u.get("thoughtsTokenCount", 0)
        for c in m.get("candidates", []):
            need(c.get("index", 0) == 0 and a.finish is None, "another candidate, or one after its end:", m)
            need(c.get("content", {}).get("role", "model") == "model", "a strange role:", m)
            for p in c.get("content", {}).get("parts", []):
                if "functionCall" in p:
                    need(isinstance(p["functionCall"].get("args", {}), dict), "args are no object:", p)
                    a.calls.append((p["functionCall"].get("id"), p["functionCall"]["name"], p["functionCall"].get("args", {})))
                elif p.get("thought"):
                    a.thinking += p.get("text", "")
                else:
                    need(not a.calls or not p.get("text"), "text after a call:", m)
                    a.text += p.get("text", "")
            a.finish = c.get("finishReason", a.finish)

    @classmethod
    def whole(cls, body):
        a = Answer()
        cls.chunk(a, parsed(body.decode()))
        need(a.finish, "no finishReason")
        need(a.id, "no responseId")
        return a

    @classmethod
    def stream(cls, body):
        a = Answer()
        for event, data in events_of(body):
            need(event is None, "an event with a name:", event)
            cls.chunk(a, parsed(data))
        need(a.finish, "no finishReason")
        need(a.id, "no responseId")
        return a


CLIENTS = {c.name: c for c in (Chat, Responses, Messages, Gemini)}


def check(client, body, stream, items=None, calls=(), usage=True):
    """A whole answer: its text, its calls, its end and its usage (unless nobody told it). Returns what was read."""
    a = (client.stream if stream else client.whole)(body)
    if items is not None:
        items_of(a.text, items)
    need([n for _, n, _ in a.calls] == list(calls), "the calls are", [n for _, n, _ in a.calls], "not", list(calls))
    for _, name, arguments in a.calls:
        need(set(arguments) == {"line", "urgent"} and arguments["urgent"] is True and line_is_whole(arguments["line"]), f"arguments of {name} were damaged:", arguments)
    ids = [i for i, _, _ in a.calls if i]
    need(len(set(ids)) == len(ids), "two calls with one id:", ids)
    need(a.finish == (client.tool_stop if calls else client.stop), "it ended with", a.finish)
    need(not usage or (a.output or 0) >= 0.7 * len(a.text.split()), f"{a.output} tokens of output for {len(a.text.split())} words")
    need(not usage or a.input and a.input > 0 and a.output and a.output > 0, "usage is missing or nought:", a.input, a.output)
    return a
