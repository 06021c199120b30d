"""The official Python SDKs through perdure: one SDK, every cell of its part of the matrix. Started by tests/scenario/sdk_matrix in the environment that
has the SDKs, with what it needs as JSON in its first argument; prints a line of JSON for each cell. The same as matrix_node.mjs, which says more."""
import base64
import json
import os
import sys
import time
import traceback
from types import SimpleNamespace

from pydantic import BaseModel, ConfigDict

WANT = json.loads(sys.argv[1])
TEXTS = WANT["texts"]
URL, KEY = WANT["url"], WANT["key"]
THINKING = 1024   # tokens, where a client says how many
PARAMETERS = {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}, "required": ["place", "days"], "additionalProperties": False}
NAMED = {"name": "get_weather", "description": "The weather of a place"}


class Forecast(BaseModel):
    model_config = ConfigDict(extra="forbid")
    place: str
    degrees: float
    rain: bool
    days: list[str]


SCHEMA = Forecast.model_json_schema()


class Said(SimpleNamespace):
    """What a turn came to."""

    def __init__(self):
        super().__init__(text="", pieces=[], reasoning="", calls=[], finish=None, usage=None, object=None)

    def count(self, given, made, total=None):
        self.usage = (given, made, given + made if total is None else total)


def call(id, name, given):
    return SimpleNamespace(id=id, name=name, given=json.loads(given) if isinstance(given, str) else given)


CLIENTS = {}


def client_of(sdk, make):
    """One for all conversations: making one reads certificates, or the description of a whole service."""
    if sdk not in CLIENTS:
        CLIENTS[sdk] = make()
    return CLIENTS[sdk]


def failure(kind, e, after=None):
    return SimpleNamespace(kind=kind or type(e).__name__, message=str(e), after=after)


BY_STATUS = {400: "bad request", 429: "rate limit"}


# ---- OpenAI ------------------------------------------------------------------------------------

class OpenAI:
    def __init__(self, model):
        import openai
        self.sdk, self.model, self.history = openai, model, []
        self.client = client_of("openai", lambda: openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0))

    def failed(self, e):
        kind = "bad request" if isinstance(e, self.sdk.BadRequestError) else "rate limit" if isinstance(e, self.sdk.RateLimitError) else None
        return failure(kind, e, e.response.headers.get("retry-after") if kind else None)


class OpenAIChat(OpenAI):
    ends = {"text": "stop", "tools": "tool_calls"}

    def user(self, text, image=None):
        parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]
        self.history.append({"role": "user", "content": parts if image else text})

    def results(self, found):
        self.history += [{"role": "tool", "tool_call_id": c.id, "content": output} for c, output in found]

    def send(self, stream=False, tools=False, schema=False, think=False):
        body = {"model": self.model, "messages": self.history}
        if tools:
            body |= {"tools": [{"type": "function", "function": {**NAMED, "parameters": PARAMETERS, "strict": True}}], "parallel_tool_calls": True}
        if think:
            body["reasoning_effort"] = "low"
        if schema:
            body["response_format"] = Forecast
        s = Said()
        completions = self.client.chat.completions
        if stream:
            with completions.stream(**body, stream_options={"include_usage": True}) as run:
                for event in run:
                    if event.type == "content.delta":
                        s.pieces.append(event.delta)
                    elif event.type == "chunk" and event.chunk.choices:
                        delta = event.chunk.choices[0].delta
                        s.reasoning += getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None) or ""
                done = run.get_final_completion()
        else:
            done = completions.parse(**body) if schema else completions.create(**body)
        choice = done.choices[0]
        message = choice.message
        self.history.append(message)
        if not stream:
            s.reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or ""
        s.text, s.finish = message.content or "", choice.finish_reason
        s.object = message.parsed if schema else None
        s.calls = [call(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or []]
        s.count(done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens)
        return s


class OpenAIResponses(OpenAI):
    ends = {"text": "completed", "tools": "completed"}

    def user(self, text, image=None):
        parts = [{"type": "input_text", "text": text}, {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{image}"}]
        self.history.append({"role": "user", "content": parts if image else text})

    def results(self, found):
        self.history += [{"type": "function_call_output", "call_id": c.id, "output": output} for c, output in found]

    def send(self, stream=False, tools=False, schema=False, think=False):
        body = {"model": self.model, "input": self.history, "store": False}
        if tools:
            body["tools"] = [{"type": "function", "strict": True, **NAMED, "parameters": PARAMETERS}]
        if think:
            body |= {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        s = Said()
        if stream:
            with self.client.responses.stream(**body) as run:
                for event in run:
                    if event.type == "response.output_text.delta":
                        s.pieces.append(event.delta)
                    elif event.type in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
                        s.reasoning += event.delta
                done = run.get_final_response()
        else:
            done = self.client.responses.parse(**body, text_format=Forecast) if schema else self.client.responses.create(**body)
        shown = "".join(p.text for i in done.output if i.type == "reasoning" for p in [*i.summary, *(i.content or [])])
        assert not stream or s.reasoning == shown, f"reasoning, streamed {s.reasoning!r} and whole {shown!r}"
        self.history += done.output
        s.text, s.reasoning, s.finish = done.output_text, shown, done.status
        s.object = done.output_parsed if schema else None
        s.calls = [call(i.call_id, i.name, i.arguments) for i in done.output if i.type == "function_call"]
        s.count(done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens)
        return s


# ---- Anthropic ------------------------------------------------------------------------------------

class Anthropic:
    ends = {"text": "end_turn", "tools": "tool_use"}

    def __init__(self, model):
        import anthropic
        self.sdk, self.model, self.history = anthropic, model, []
        self.client = client_of("anthropic", lambda: anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0))

    failed = OpenAI.failed

    def user(self, text, image=None):
        parts = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": image}}, {"type": "text", "text": text}]
        self.history.append({"role": "user", "content": parts if image else text})

    def results(self, found):
        self.history.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": c.id, "content": output} for c, output in found]})

    def send(self, stream=False, tools=False, schema=False, think=False):
        body = {"model": self.model, "max_tokens": 4096, "messages": self.history}
        if tools:
            body["tools"] = [{**NAMED, "input_schema": PARAMETERS}]
        if think:
            body["thinking"] = {"type": "enabled", "budget_tokens": THINKING}
        s = Said()
        if stream:
            with self.client.messages.stream(**body) as run:
                s.pieces = list(run.text_stream)
                done = run.get_final_message()
        else:
            done = self.client.messages.parse(**body, output_format=Forecast) if schema else self.client.messages.create(**body)
        self.history.append({"role": "assistant", "content": done.content})
        s.text = "".join(b.text for b in done.content if b.type == "text")
        s.reasoning = "".join(b.thinking for b in done.content if b.type == "thinking")
        s.calls = [call(b.id, b.name, b.input) for b in done.content if b.type == "tool_use"]
        s.finish, s.object = done.stop_reason, done.parsed_output if schema else None
        s.count(done.usage.input_tokens, done.usage.output_tokens)
        return s


# ---- Google ------------------------------------------------------------------------------------

class Google:
    ends = {"text": "STOP", "tools": "STOP"}

    def __init__(self, model):
        from google import genai
        from google.genai import errors, types
        self.errors, self.types = errors, types
        self.client = client_of("google", lambda: genai.Client(api_key=KEY, http_options={"base_url": URL}))
        self.chat = self.client.chats.create(model=model)   # keeps the history itself

    def failed(self, e):
        return failure(BY_STATUS.get(e.code) if isinstance(e, self.errors.ClientError) else None, e)

    def user(self, text, image=None):
        self.message = [text, self.types.Part.from_bytes(data=base64.b64decode(image), mime_type="image/png")] if image else text

    def results(self, found):
        self.message = [self.types.Part(function_response=self.types.FunctionResponse(id=c.id, name=c.name, response={"output": output})) for c, output in found]

    def send(self, stream=False, tools=False, schema=False, think=False):
        config = {}
        if tools:
            config["tools"] = [{"function_declarations": [{**NAMED, "parameters_json_schema": PARAMETERS}]}]
        if schema:
            config |= {"response_mime_type": "application/json", "response_schema": Forecast}
        if think:
            config["thinking_config"] = {"include_thoughts": True, "thinking_budget": THINKING}
        s = Said()
        answers = self.chat.send_message_stream(self.message, config=config) if stream else [self.chat.send_message(self.message, config=config)]
        for answer in answers:
            for part in (answer.candidates[0].content and answer.candidates[0].content.parts) or []:
                if part.thought:
                    s.reasoning += part.text or ""
                elif part.text:
                    s.pieces.append(part.text)
            s.calls += [call(c.id, c.name, c.args) for c in answer.function_calls or []]
            s.finish = answer.candidates[0].finish_reason.value if answer.candidates[0].finish_reason else s.finish
            u = answer.usage_metadata
            if u and u.total_token_count:
                s.count(u.prompt_token_count, (u.candidates_token_count or 0) + (u.thoughts_token_count or 0), u.total_token_count)
            s.object = answer.parsed if schema else None
        s.text = "".join(s.pieces)
        return s


# ---- AWS ------------------------------------------------------------------------------------

class Bedrock:
    ends = {"text": "end_turn", "tools": "tool_use"}

    def __init__(self, model):
        import boto3
        from botocore.config import Config
        self.model, self.history = model, []
        self.client = client_of("boto3", lambda: boto3.client("bedrock-runtime", endpoint_url=URL, region_name="us-east-1", aws_access_key_id=KEY,
                                                              aws_secret_access_key="any", config=Config(retries={"total_max_attempts": 1})))

    def failed(self, e):
        kinds = self.client.exceptions
        kind = "bad request" if isinstance(e, kinds.ValidationException) else "rate limit" if isinstance(e, kinds.ThrottlingException) else None
        return failure(kind, e, e.response["ResponseMetadata"]["HTTPHeaders"].get("retry-after") if kind else None)

    def user(self, text, image=None):
        self.history.append({"role": "user", "content": [{"text": text}] + ([{"image": {"format": "png", "source": {"bytes": base64.b64decode(image)}}}] if image else [])})

    def results(self, found):
        self.history.append({"role": "user", "content": [{"toolResult": {"toolUseId": c.id, "content": [{"text": output}]}} for c, output in found]})

    def send(self, stream=False, tools=False, schema=False, think=False):
        body = {"modelId": self.model, "messages": self.history}
        if tools:
            body["toolConfig"] = {"tools": [{"toolSpec": {**NAMED, "inputSchema": {"json": PARAMETERS}}}]}
        if schema:
            body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"name": "forecast", "schema": json.dumps(SCHEMA)}}}}
        if think:
            body["additionalModelRequestFields"] = {"thinking": {"type": "enabled", "budget_tokens": THINKING}}
        s = Said()
        done = self.streamed(self.client.converse_stream(**body), s) if stream else self.client.converse(**body)
        message = done["output"]["message"]
        self.history.append(message)
        for block in message["content"]:
            s.text += block.get("text", "")
            s.reasoning += block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
            if "toolUse" in block:
                s.calls.append(call(block["toolUse"]["toolUseId"], block["toolUse"]["name"], block["toolUse"]["input"]))
        s.finish = done["stopReason"]
        s.object = Forecast.model_validate_json(s.text) if schema else None
        s.count(done["usage"]["inputTokens"], done["usage"]["outputTokens"], done["usage"]["totalTokens"])
        return s

    @staticmethod
    def streamed(answer, s):
        """The SDK hands out events; putting the message together is its user's."""
        blocks, done = {}, {}
        for event in answer["stream"]:
            if "contentBlockStart" in event:
                blocks[event["contentBlockStart"]["contentBlockIndex"]] = {"toolUse": {**event["contentBlockStart"]["start"]["toolUse"], "input": ""}}
            elif "contentBlockDelta" in event:
                at, delta = event["contentBlockDelta"]["contentBlockIndex"], event["contentBlockDelta"]["delta"]
                if "text" in delta:
                    blocks.setdefault(at, {"text": ""})["text"] += delta["text"]
                    s.pieces.append(delta["text"])
                elif "toolUse" in delta:
                    blocks[at]["toolUse"]["input"] += delta["toolUse"]["input"]
                elif "redactedContent" in delta["reasoningContent"]:
                    blocks[at] = {"reasoningContent": delta["reasoningContent"]}
                else:
                    r = blocks.setdefault(at, {"reasoningContent": {"reasoningText": {"text": ""}}})["reasoningContent"]["reasoningText"]
                    for name, piece in delta["reasoningContent"].items():
                        r[name] = r.get(name, "") + piece
            elif "messageStop" in event:
                done["stopReason"] = event["messageStop"]["stopReason"]
            elif "metadata" in event:
                done["usage"] = event["metadata"]["usage"]
        for block in blocks.values():
            if "toolUse" in block:
                block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
        return {**done, "output": {"message": {"role": "assistant", "content": [blocks[i] for i in sorted(blocks)]}}}


# ---- Mistral ------------------------------------------------------------------------------------

class Mistral:
    ends = {"text": "stop", "tools": "tool_calls"}

    def __init__(self, model):
        from mistralai.client import Mistral as Client
        from mistralai.client import errors
        self.errors, self.model, self.history = errors, model, []
        self.client = client_of("mistral", lambda: Client(api_key=KEY, server_url=URL))

    def failed(self, e):
        known = isinstance(e, self.errors.MistralError)
        return failure(BY_STATUS.get(e.status_code) if known else None, e, e.headers.get("retry-after") if known else None)

    def user(self, text, image=None):
        parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": f"data:image/png;base64,{image}"}]
        self.history.append({"role": "user", "content": parts if image else text})

    def results(self, found):
        self.history += [{"role": "tool", "tool_call_id": c.id, "name": c.name, "content": output} for c, output in found]

    @staticmethod
    def parts(content):
        """(text, reasoning) of what is a text or a list of chunks."""
        if not isinstance(content, list):
            return content or "", ""
        return ("".join(c.text for c in content if c.type == "text"),
                "".join(t.text for c in content if c.type == "thinking" for t in c.thinking))

    def send(self, stream=False, tools=False, schema=False, think=False):
        body = {"model": self.model, "messages": self.history}
        if tools:
            body["tools"] = [{"type": "function", "function": {**NAMED, "parameters": PARAMETERS}}]
        if think:
            body["reasoning_effort"] = "high"
        s = Said()
        if stream:
            message, calls, usage = {"role": "assistant", "content": ""}, [], None
            for event in self.client.chat.stream(**body):
                usage = event.data.usage or usage
                if not event.data.choices:
                    continue
                choice = event.data.choices[0]
                text, thought = self.parts(choice.delta.content)
                if text:
                    s.pieces.append(text)
                s.reasoning += thought
                calls += choice.delta.tool_calls or []
                s.finish = choice.finish_reason or s.finish
            message["content"] = s.text = "".join(s.pieces)
            if calls:
                message["tool_calls"] = calls
        else:
            done = self.client.chat.parse(Forecast, **body) if schema else self.client.chat.complete(**body)
            message, s.finish, usage = done.choices[0].message, done.choices[0].finish_reason, done.usage
            s.text, s.reasoning = self.parts(message.content)
            s.object = message.parsed if schema else None
            calls = message.tool_calls or []
        self.history.append(message)
        s.calls = [call(c.id, c.function.name, c.function.arguments) for c in calls]
        s.count(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
        return s


# ---- Ollama ------------------------------------------------------------------------------------

class Ollama:
    ends = {"text": "stop", "tools": "stop"}

    def __init__(self, model):
        import ollama
        self.sdk, self.model, self.history = ollama, model, []
        self.client = client_of("ollama", lambda: ollama.Client(host=URL, headers={"Authorization": f"Bearer {KEY}"}))

    def failed(self, e):
        return failure(BY_STATUS.get(e.status_code) if isinstance(e, self.sdk.ResponseError) else None, e)

    def user(self, text, image=None):
        self.history.append({"role": "user", "content": text, **({"images": [image]} if image else {})})

    def results(self, found):
        self.history += [{"role": "tool", "content": output, "tool_name": c.name} for c, output in found]

    def send(self, stream=False, tools=False, schema=False, think=False):
        body = {"model": self.model, "messages": self.history, "stream": stream}
        if tools:
            body["tools"] = [{"type": "function", "function": {**NAMED, "parameters": PARAMETERS}}]
        if schema:
            body["format"] = SCHEMA
        if think:
            body["think"] = True
        s = Said()
        if stream:
            message = {"role": "assistant", "content": "", "thinking": "", "tool_calls": []}
            for end in self.client.chat(**body):
                if end.message.content:
                    s.pieces.append(end.message.content)
                message["content"] += end.message.content or ""
                message["thinking"] += end.message.thinking or ""
                message["tool_calls"] += end.message.tool_calls or []
            calls, s.text, s.reasoning = message["tool_calls"], message["content"], message["thinking"]
        else:
            end = self.client.chat(**body)
            message = end.message
            calls, s.text, s.reasoning = message.tool_calls or [], message.content or "", message.thinking or ""
        self.history.append(message)
        s.calls = [call(None, c.function.name, dict(c.function.arguments)) for c in calls]
        s.finish = end.done_reason
        s.object = Forecast.model_validate_json(s.text) if schema else None
        s.count(end.prompt_eval_count, end.eval_count)
        return s


SDKS = {"openai chat": OpenAIChat, "openai responses": OpenAIResponses, "anthropic": Anthropic, "google-genai": Google, "boto3": Bedrock,
        "mistral": Mistral, "ollama": Ollama}
Adapter = SDKS[WANT["sdk"]]


# ---- the scenarios ------------------------------------------------------------------------------------

def equal(got, want, what=""):
    assert got == want, f"{what} {got!r} in place of {want!r}"


def turn(cell, conversation, how, text, ends):
    """Sends, and checks what must hold of every turn."""
    s = conversation.send(**how)
    if text is not None:
        equal(s.text, text)
    if how.get("stream") and s.text:
        equal("".join(s.pieces), s.text, "the pieces of the stream")
    equal(s.finish, Adapter.ends[ends], "finish")
    given, made, total = s.usage
    assert given > 0 and made > 0 and total == given + made, f"usage {s.usage}"
    cell["usages"].append([given, made])
    return s


def loop(cell, how, calls):
    """Calls of the tool, their results, and what is said after these."""
    c = Adapter(cell["model"])
    c.user("How is the weather?")
    first = turn(cell, c, {"tools": True, **how}, TEXTS["before"], "tools")
    equal([{"name": x.name, "arguments": x.given} for x in first.calls], calls)
    assert all(x.id is None for x in first.calls) or len({x.id for x in first.calls}) == len(calls), "ids"
    c.results([(x, TEXTS["results"][x.given["place"]]) for x in first.calls])
    second = turn(cell, c, {"tools": True, **how}, TEXTS["final"], "text")
    equal(second.calls, [])
    return first, second


def fails(cell, text, how, kind, message):
    c = Adapter(cell["model"])
    c.user(text)
    try:
        c.send(**how)
    except Exception as thrown:
        e = c.failed(thrown)
    else:
        raise AssertionError("no error")
    equal(e.kind, kind, e.message)
    assert message in e.message, f"the error says: {e.message}"
    if kind == "rate limit" and e.after is not None:
        assert float(e.after) > 0, f"Retry-After is {e.after}"


def scenario_text(cell):
    c = Adapter(cell["model"])
    for words in ("Say something.", "And again."):
        c.user(words)
        turn(cell, c, {}, TEXTS["text"], "text")


def scenario_stream(cell):
    c = Adapter(cell["model"])
    c.user("Say something.")
    s = turn(cell, c, {"stream": True}, TEXTS["text"], "text")
    assert len(s.pieces) > 3, f"{len(s.pieces)} pieces"


def scenario_tools(cell):
    for stream in (False, True):
        loop(cell, {"stream": stream}, TEXTS["calls"][:1])


def scenario_parallel(cell):
    for stream in (False, True):
        loop(cell, {"stream": stream}, TEXTS["calls"])


def scenario_image(cell):
    for stream in (False, True):
        c = Adapter(cell["model"])
        c.user("What is this?", TEXTS["image"])
        turn(cell, c, {"stream": stream}, TEXTS["image_seen"][cell["upstream"]], "text")


def scenario_structured(cell):
    c = Adapter(cell["model"])
    c.user("The forecast, please.")
    s = turn(cell, c, {"schema": True}, None, "text")
    assert isinstance(s.object, Forecast), f"{s.object!r} of {s.text!r}"


def scenario_reasoning(cell):
    for stream in (False, True):
        first, second = loop(cell, {"stream": stream, "think": True}, TEXTS["calls"][:1])
        for got, thought in ((first.reasoning, TEXTS["thought"]), (second.reasoning, TEXTS["second_thought"])):
            cell["lacks"] |= not got
            assert got in ("", thought), f"{got!r} in place of {thought!r}"


def scenario_error(cell):
    fails(cell, "bad request", {}, "bad request", TEXTS["bad_request"])
    fails(cell, "bad request", {"stream": True}, "bad request", TEXTS["bad_request"])
    fails(cell, "rate limit", {}, "rate limit", TEXTS["rate_limit"])


for upstream, scenario in WANT["cells"]:
    cell = {"upstream": upstream, "scenario": scenario, "model": f"{upstream}-{scenario}", "usages": [], "lacks": False, "why": None}
    began = time.monotonic()
    try:
        globals()[f"scenario_{scenario}"](cell)
    except Exception as e:
        cell["why"] = f"{type(e).__name__}: {e}"[:1500] + (f"\n{traceback.format_exc()}" if os.environ.get("MATRIX_TRACE") else "")
    cell["ms"] = round((time.monotonic() - began) * 1000)
    print(json.dumps(cell), flush=True)
