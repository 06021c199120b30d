"""Reads answers with the official SDKs of Python and says, one line of JSON for each, what the SDK made of them. Started by fixtures_sdk.

    fixtures_python.py '{"base": URL, "to": FORMAT, "cases": [{"case": N, "streamed": BOOL}, ...]}'
"""
import json
import sys

USER = [{"role": "user", "content": "hello"}]


def said():
    return {"text": "", "reasoning": "", "refusal": "", "tools": [], "finish": None, "usage": None}


def chat(base):
    import openai
    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)

    def of(usage):
        return {"input": usage.prompt_tokens, "output": usage.completion_tokens, "cached": usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens}

    # by hand: the SDK's own helper raises where an answer was cut or filtered
    def read_stream(r, chunks):
        calls = {}
        for chunk in chunks:
            r["usage"] = of(chunk.usage) if chunk.usage else r["usage"]
            for choice in (c for c in chunk.choices if c.index == 0):
                delta, r["finish"] = choice.delta, choice.finish_reason or r["finish"]
                r["text"] += delta.content or ""
                r["reasoning"] += getattr(delta, "reasoning_content", None) or ""
                r["refusal"] += delta.refusal or ""
                pieces = [(t.index, t.id, t.function) for t in delta.tool_calls or []] + ([("legacy", None, delta.function_call)] if delta.function_call else [])
                for index, call_id, function in pieces:
                    if index not in calls:
                        calls[index] = {"id": call_id, "name": function.name, "arguments": ""}
                        r["tools"].append(calls[index])
                    calls[index]["arguments"] += function.arguments or ""

    def read_whole(r, answer):
        message = answer.choices[0].message
        r["text"] = message.content or ""
        r["reasoning"] = getattr(message, "reasoning_content", None) or ""
        r["refusal"] = message.refusal or ""
        r["tools"] = [{"id": t.id, "name": t.function.name, "arguments": t.function.arguments} for t in message.tool_calls or []]
        if message.function_call:
            r["tools"].append({"id": None, "name": message.function_call.name, "arguments": message.function_call.arguments})
        r["finish"] = answer.choices[0].finish_reason
        r["usage"] = answer.usage and of(answer.usage)

    def read(model, streamed):
        r = said()
        if streamed:
            read_stream(r, client.chat.completions.create(model=model, messages=USER, stream=True, stream_options={"include_usage": True}))
        else:
            read_whole(r, client.chat.completions.create(model=model, messages=USER))
        return r
    return read


def responses(base):
    import openai
    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)

    def read(model, streamed):
        r = said()
        if streamed:
            with client.responses.stream(model=model, input="hello") as stream:   # which wants "completed" for its final response
                answer = [event.response for event in stream if event.type in ("response.completed", "response.incomplete")][-1]
        else:
            answer = client.responses.create(model=model, input="hello")
        r["text"] = answer.output_text
        for item in answer.output:
            if item.type == "reasoning":
                r["reasoning"] += "".join(p.text for p in [*(item.summary or []), *(item.content or [])])
            elif item.type == "function_call":
                r["tools"].append({"id": item.call_id, "name": item.name, "arguments": item.arguments})
            elif item.type == "message":
                r["refusal"] += "".join(p.refusal for p in item.content if p.type == "refusal")
        r["finish"] = answer.incomplete_details.reason if answer.status == "incomplete" else answer.status
        u = answer.usage
        r["usage"] = {"input": u.input_tokens, "output": u.output_tokens, "cached": u.input_tokens_details.cached_tokens}
        return r
    return read


def messages(base):
    import anthropic
    client = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)

    def read(model, streamed):
        r = said()
        ask = {"model": model, "max_tokens": 1000, "messages": USER}
        if streamed:
            with client.messages.stream(**ask) as stream:
                answer = stream.get_final_message()
        else:
            answer = client.messages.create(**ask)
        for block in answer.content:
            if block.type == "text":
                r["text"] += block.text
            elif block.type == "thinking":
                r["reasoning"] += block.thinking
            elif block.type == "tool_use":
                r["tools"].append({"id": block.id, "name": block.name, "arguments": block.input})
        u = answer.usage
        r["finish"] = answer.stop_reason
        r["usage"] = {"input": u.input_tokens + u.cache_read_input_tokens + u.cache_creation_input_tokens, "output": u.output_tokens,
                      "cached": u.cache_read_input_tokens}
        return r
    return read


def gemini(base):
    from google import genai
    client = genai.Client(api_key="none", http_options={"base_url": base})

    def read(model, streamed):
        r = said()
        ask = {"model": model, "contents": "hello"}
        for chunk in client.models.generate_content_stream(**ask) if streamed else [client.models.generate_content(**ask)]:
            candidate = next((c for c in chunk.candidates or [] if not c.index), None)
            for part in (candidate and candidate.content and candidate.content.parts) or []:
                if part.function_call:
                    r["tools"].append({"id": part.function_call.id, "name": part.function_call.name, "arguments": part.function_call.args})
                else:
                    r["reasoning" if part.thought else "text"] += part.text or ""
            if candidate and candidate.finish_reason:
                r["finish"] = candidate.finish_reason.value
            u = chunk.usage_metadata
            if u:
                r["usage"] = {"input": u.prompt_token_count, "output": (u.candidates_token_count or 0) + (u.thoughts_token_count or 0),
                              "cached": u.cached_content_token_count}
        return r
    return read


def converse(base):
    import boto3
    from botocore.config import Config
    client = boto3.client("bedrock-runtime", endpoint_url=base, region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none",
                          config=Config(retries={"total_max_attempts": 1}))

    def usage_of(u):
        return {"input": u["inputTokens"] + u.get("cacheReadInputTokens", 0) + u.get("cacheWriteInputTokens", 0), "output": u["outputTokens"],
                "cached": u.get("cacheReadInputTokens")}

    def read_whole(r, answer):
        for block in answer["output"]["message"]["content"]:
            if "text" in block:
                r["text"] += block["text"]
            elif "citationsContent" in block:
                r["text"] += "".join(c["text"] for c in block["citationsContent"]["content"])
            elif "reasoningText" in block.get("reasoningContent", {}):
                r["reasoning"] += block["reasoningContent"]["reasoningText"]["text"]
            elif "toolUse" in block:
                r["tools"].append({"id": block["toolUse"]["toolUseId"], "name": block["toolUse"]["name"], "arguments": block["toolUse"]["input"]})
        r["finish"] = answer["stopReason"]
        r["usage"] = usage_of(answer["usage"])

    def read_stream(r, stream):
        calls = {}
        for event in stream:
            if "contentBlockStart" in event and "toolUse" in event["contentBlockStart"]["start"]:
                start = event["contentBlockStart"]
                call = calls[start["contentBlockIndex"]] = {"id": start["start"]["toolUse"]["toolUseId"], "name": start["start"]["toolUse"]["name"], "arguments": ""}
                r["tools"].append(call)
            elif "contentBlockDelta" in event:
                delta = event["contentBlockDelta"]["delta"]
                r["text"] += delta.get("text", "")
                r["reasoning"] += delta.get("reasoningContent", {}).get("text", "")
                if "toolUse" in delta:
                    calls[event["contentBlockDelta"]["contentBlockIndex"]]["arguments"] += delta["toolUse"]["input"]
            elif "messageStop" in event:
                r["finish"] = event["messageStop"]["stopReason"]
            elif "metadata" in event:
                r["usage"] = usage_of(event["metadata"]["usage"])

    def read(model, streamed):
        r = said()
        ask = {"modelId": model, "messages": [{"role": "user", "content": [{"text": "hello"}]}]}
        if streamed:
            read_stream(r, client.converse_stream(**ask)["stream"])
        else:
            read_whole(r, client.converse(**ask))
        return r
    return read


def ollama(base):
    import ollama as package
    client = package.Client(host=base)

    def read(model, streamed):
        r = said()
        answer = client.chat(model=model, messages=USER, stream=streamed)
        for line in answer if streamed else [answer]:
            r["text"] += line.message.content or ""
            r["reasoning"] += line.message.thinking or ""
            r["tools"] += [{"id": None, "name": c.function.name, "arguments": dict(c.function.arguments)} for c in line.message.tool_calls or []]
            if line.done:
                r["finish"] = line.done_reason
                r["usage"] = {"input": line.prompt_eval_count, "output": line.eval_count}
        return r
    return read


want = json.loads(sys.argv[1])
read = {"openai-chat": chat, "openai-responses": responses, "anthropic-messages": messages, "gemini": gemini, "bedrock-converse": converse,
        "ollama": ollama}[want["to"]](want["base"])
for case in want["cases"]:
    try:
        result = read(f"case-{case['case']}", case["streamed"])
    except Exception as e:
        result = {"error": f"{type(e).__name__}: {e}"[:500]}
    print(json.dumps({"case": case["case"], **result}))
