"""The official Python SDK through perdure: one condition of the first provider, every kind of call. Started by tests/scenario/sdk.

Reads what it needs as JSON from its first argument; prints a line for each promise and a last line of JSON for the caller.
"""
import json
import sys
import traceback

import openai
from openai import OpenAI
from pydantic import BaseModel

want = json.loads(sys.argv[1])
client = OpenAI(base_url=want["base_url"], api_key=want["key"], max_retries=0, timeout=30)
USER = [{"role": "user", "content": "Say something, please."}]
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather of a place", "parameters": {
        "type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}, "required": ["place", "days"]}}},
    {"type": "function", "function": {"name": "get_time", "parameters": {
        "type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}}},
]
met = 0     # calls that must have met the fault of the first provider
results = []


class Forecast(BaseModel):
    place: str
    degrees: float
    rain: bool
    days: list[str]


def served(headers):
    """The right provider answered, and not at the first attempt when the first one is at fault."""
    global met
    met += 1
    assert headers["x-perdure-provider"] == want["provider"], headers["x-perdure-provider"]
    attempts = int(headers["x-perdure-attempts"])
    assert (attempts == 1) == (want["provider"] == "first"), f"{attempts} attempts"
    assert headers["x-perdure-model"], "no x-perdure-model"
    assert headers["x-request-id"], "no x-request-id"
    assert "perdure;dur=" in headers["server-timing"], headers.get("server-timing")


def arguments_fit(call):
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        assert isinstance(arguments["place"], str) and isinstance(arguments["days"], int), arguments
    else:
        assert call.function.name == "get_time" and isinstance(arguments["zone"], str), call


def chat():
    raw = client.chat.completions.with_raw_response.create(model="chat", messages=USER)
    served(raw.headers)
    done = raw.parse()
    assert done.choices[0].message.content == want["text"], done
    assert done.choices[0].message.role == "assistant" and done.choices[0].finish_reason == "stop"
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0, done.usage
    assert done._request_id == raw.headers["x-request-id"]


def stream():
    raw = client.chat.completions.with_raw_response.create(model="stream", messages=USER, stream=True)
    served(raw.headers)
    text, finish, ids, pieces = "", None, set(), 0
    for chunk in raw.parse():
        ids.add(chunk.id)
        assert chunk.usage is None, f"usage that nobody asked for: {chunk}"
        for choice in chunk.choices:
            text += choice.delta.content or ""
            pieces += bool(choice.delta.content)
            finish = choice.finish_reason or finish
    assert text == want["text"], text
    assert finish == "stop" and len(ids) == 1 and pieces > 1, (finish, ids, pieces)


def stream_with_usage():
    raw = client.chat.completions.with_raw_response.create(model="stream_with_usage", messages=USER, stream=True,
                                                           stream_options={"include_usage": True})
    served(raw.headers)
    chunks = list(raw.parse())
    usages = [c.usage for c in chunks if c.usage]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == want["text"]
    assert len(usages) == 1 and chunks[-1].usage, "usage is in the last chunk, once"
    assert usages[0].total_tokens == usages[0].prompt_tokens + usages[0].completion_tokens > 0


def stream_helper():
    global met
    met += 1
    with client.chat.completions.stream(model="stream_helper", messages=USER) as events:
        deltas = "".join(e.delta for e in events if e.type == "content.delta")
        done = events.get_final_completion()
    assert deltas == want["text"] == done.choices[0].message.content, done


def whole_equals_streamed():
    """A long answer: streamed, whole, and as the provider itself says it."""
    global met
    met += 2
    messages = [{"role": "user", "content": "[[sim tokens=400]] A long story."}]
    whole = client.chat.completions.create(model="whole_equals_streamed", messages=messages).choices[0].message.content
    streamed = "".join(c.choices[0].delta.content or "" for c in
                       client.chat.completions.create(model="whole_equals_streamed", messages=messages, stream=True) if c.choices)
    itself = OpenAI(base_url=want["direct"], api_key="test-key", max_retries=0).chat.completions.create(
        model="any", messages=messages).choices[0].message.content
    assert len(whole) > 1500 and whole == streamed == itself, (len(whole), len(streamed), len(itself))


def image():
    raw = client.chat.completions.with_raw_response.create(model="image", messages=[{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 2000, "detail": "low"}}]}])
    served(raw.headers)
    assert raw.parse().choices[0].message.content == want["text"]


def reasoning():
    raw = client.chat.completions.with_raw_response.create(model="reasoning", messages=USER, stream=True)
    served(raw.headers)
    thought = text = ""
    for chunk in raw.parse():
        delta = chunk.choices[0].delta
        thought += getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None) or ""
        text += delta.content or ""
    assert len(thought.split()) >= 5, thought
    assert text == want["text"], text


def tools():
    raw = client.chat.completions.with_raw_response.create(model="tools", messages=USER, tools=TOOLS[:1])
    served(raw.headers)
    choice = raw.parse().choices[0]
    assert choice.finish_reason == "tool_calls" and len(choice.message.tool_calls) == 1, choice
    arguments_fit(choice.message.tool_calls[0])


def tools_streamed():
    global met
    met += 1
    with client.chat.completions.stream(model="tools_streamed", messages=USER, tools=TOOLS[:1]) as events:
        names = [e.name for e in events if e.type == "tool_calls.function.arguments.done"]
        done = events.get_final_completion()
    assert names == ["get_weather"], names
    assert done.choices[0].finish_reason == "tool_calls"
    arguments_fit(done.choices[0].message.tool_calls[0])


def tools_parallel():
    raw = client.chat.completions.with_raw_response.create(model="tools_parallel", messages=USER, tools=TOOLS, parallel_tool_calls=True)
    served(raw.headers)
    calls = raw.parse().choices[0].message.tool_calls
    assert [c.function.name for c in calls] == ["get_weather", "get_time"] and calls[0].id != calls[1].id, calls
    for call in calls:
        arguments_fit(call)


def tools_parallel_streamed():
    global met
    met += 1
    found = {}
    for chunk in client.chat.completions.create(model="tools_parallel_streamed", messages=USER, tools=TOOLS, parallel_tool_calls=True,
                                                stream=True):
        for part in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            call = found.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
            call["id"] = part.id or call["id"]
            call["name"] += part.function.name or ""
            call["arguments"] += part.function.arguments or ""
    assert [found[i]["name"] for i in sorted(found)] == ["get_weather", "get_time"], found
    assert all(isinstance(json.loads(c["arguments"]), dict) and c["id"] for c in found.values()), found


def tool_loop():
    """The call, its result, and the answer to it."""
    raw = client.chat.completions.with_raw_response.create(model="tool_loop", messages=USER, tools=TOOLS[:1])
    served(raw.headers)
    said = raw.parse().choices[0].message
    done = client.chat.completions.create(model="tool_loop", tools=TOOLS[:1], messages=[
        *USER, said, {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "sunny, 21 degrees"}])
    assert "sunny, 21 degrees" in done.choices[0].message.content, done


def structured():
    global met
    met += 1
    done = client.chat.completions.parse(model="structured", messages=USER, response_format=Forecast)
    forecast = done.choices[0].message.parsed
    assert isinstance(forecast, Forecast) and forecast.place, done


def structured_streamed():
    global met
    met += 1
    with client.chat.completions.stream(model="structured_streamed", messages=USER, response_format=Forecast) as events:
        for _ in events:
            pass
        done = events.get_final_completion()
    assert isinstance(done.choices[0].message.parsed, Forecast), done


def embeddings():
    """The SDK asks for base64 by itself and decodes it; floats are the same numbers."""
    raw = client.embeddings.with_raw_response.create(model="embeddings", input=["one text", "another"])
    served(raw.headers)
    packed = raw.parse()
    plain = OpenAI(base_url=want["direct"], api_key="test-key", max_retries=0).embeddings.create(
        model="any", input=["one text", "another"], encoding_format="float")
    assert [len(e.embedding) for e in packed.data] == [256, 256] and [e.index for e in packed.data] == [0, 1]
    assert packed.usage.total_tokens > 0
    for a, b in zip(packed.data, plain.data):
        assert all(abs(x - y) < 1e-5 for x, y in zip(a.embedding, b.embedding)), "base64 and float differ"


def embeddings_float():
    raw = client.embeddings.with_raw_response.create(model="embeddings_float", input="one text", encoding_format="float")
    served(raw.headers)
    assert len(raw.parse().data[0].embedding) == 256


def models():
    ids = [m.id for m in client.models.list()]
    assert "chat" in ids and "first/chat" in ids and "second/chat" in ids, ids
    one = client.models.retrieve("chat")
    assert one.id == "chat" and one.object == "model"
    assert client.models.retrieve("second/chat").id == "second/chat"
    fails(openai.NotFoundError, lambda: client.models.retrieve("nobody-has-this"))


def fails(kind, call, status=None, says=None, code=None):
    try:
        call()
    except kind as e:
        if isinstance(e, openai.APIStatusError):
            assert status is None or e.status_code == status, e
            assert code is None or e.code == code, (e.code, e.body)
        assert says is None or says in str(e), str(e)
        return e
    raise AssertionError(f"no {kind.__name__}")


def ask(model, text, **more):
    return lambda: client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


def error_unknown_model():
    fails(openai.NotFoundError, ask("nobody-has-this", "hello"), 404, "nobody-has-this", "model_not_found")
    fails(openai.NotFoundError, ask("nobody-has-this", "hello", stream=True), 404)


def error_bad_request():
    """The provider's own words, type and code."""
    text = '[[sim fault=status status=400 message="temperature is 9: it must be in 0 to 2" code=out_of_range times=0]]'
    for model, more in (("error_bad_request", {}), ("error_bad_request_streamed", {"stream": True})):
        e = fails(openai.BadRequestError, ask(model, text, **more), 400, "temperature is 9: it must be in 0 to 2", "out_of_range")
        assert e.type == "invalid_request_error" and e.request_id, e


def error_content_filter():
    fails(openai.BadRequestError, ask("error_content_filter", "[[sim fault=status like=content_filter times=0]]"), 400, code="content_filter")


def error_rate_limit():
    e = fails(openai.RateLimitError, ask("error_rate_limit", "[[sim fault=status like=rate_limit times=0]]"), 429, code="rate_limit_exceeded")
    assert int(e.response.headers["retry-after"]) >= 1, "a 429 always says when to come again"


def error_all_down():
    e = fails(openai.InternalServerError, ask("error_all_down", "[[sim fault=status status=500 times=0]]"))
    assert 500 <= e.status_code <= 599, e.status_code


def error_wrong_key():
    stranger = OpenAI(base_url=want["base_url"], api_key="not-the-key", max_retries=0)
    fails(openai.AuthenticationError, lambda: stranger.chat.completions.create(model="chat", messages=USER), 401, code="invalid_api_key")
    fails(openai.AuthenticationError, lambda: stranger.models.list(), 401)


def error_after_output():
    """What was shown cannot be taken back; the SDK sees an error and no end."""
    text = ""
    try:
        for chunk in ask("error_after_output", "[[sim tokens=30 fault=cut after=8 times=0]]", stream=True)():
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
            assert not (chunk.choices and chunk.choices[0].finish_reason), "a cut stream ended as if it were whole"
    except openai.APIError as e:
        assert "broke off" in str(e), e
        assert text, "nothing had been shown: another provider should have answered"
        return
    raise AssertionError(f"a cut stream ended without an error: {text}")


stories = [chat, stream, stream_with_usage, stream_helper, whole_equals_streamed, image, reasoning, tools, tools_streamed, tools_parallel,
           tools_parallel_streamed, tool_loop, structured, structured_streamed, embeddings, embeddings_float, models, error_unknown_model,
           error_bad_request, error_content_filter, error_rate_limit, error_all_down, error_wrong_key, error_after_output]
for story in stories:
    try:
        story()
        results.append([story.__name__, True])
    except Exception:
        results.append([story.__name__, False])
        print(f"FAIL  {story.__name__}")
        traceback.print_exc(file=sys.stdout)
print(json.dumps({"sdk": f"openai {openai.__version__} (Python)", "met": met, "results": results}))
