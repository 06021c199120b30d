"""The same as restart_node.mjs, which says more, with the official Python SDKs; each client is a thread."""
import json
import sys
import threading
import time

import anthropic
import openai
from google import genai

MAX_TOKENS = 4096


class Fatal(Exception):
    pass


def ended(finish, want):
    if finish != want:
        raise RuntimeError(f"the stream ended with {finish}")


def chat(client, c):
    body = {"model": c["model"], "messages": [{"role": "user", "content": c["text"]}]}
    if not c["stream"]:
        return client.chat.completions.create(**body).choices[0].message.content
    text, finish = "", None
    for chunk in client.chat.completions.create(**body, stream=True):
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
    ended(finish, "stop")
    return text


def responses(client, c):
    body = {"model": c["model"], "input": c["text"], "store": False}
    if not c["stream"]:
        return client.responses.create(**body).output_text
    text, done = "", None
    for event in client.responses.create(**body, stream=True):
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.completed":
            done = event.response
        elif event.type in ("error", "response.failed"):
            raise RuntimeError(str(event))
    ended(done and done.status, "completed")
    if done.output_text != text:
        raise Fatal("the end tells another text than the deltas")
    return text


def messages(client, c):
    body = {"model": c["model"], "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": c["text"]}]}
    if c["stream"]:
        with client.messages.stream(**body) as stream:
            done = stream.get_final_message()
    else:
        done = client.messages.create(**body)
    ended(done.stop_reason, "end_turn")
    return "".join(b.text for b in done.content)


def gemini(client, c):
    body = {"model": c["model"], "contents": c["text"]}
    if not c["stream"]:
        return client.models.generate_content(**body).text
    text, finish = "", None
    for chunk in client.models.generate_content_stream(**body):
        text += chunk.text or ""
        if chunk.candidates and chunk.candidates[0].finish_reason:
            finish = chunk.candidates[0].finish_reason.value
    ended(finish, "STOP")
    return text


SDKS = {
    "chat": (lambda o: openai.OpenAI(base_url=f"{o['url']}/v1", api_key="any", max_retries=o["retries"]), chat),
    "responses": (lambda o: openai.OpenAI(base_url=f"{o['url']}/v1", api_key="any", max_retries=o["retries"]), responses),
    "messages": (lambda o: anthropic.Anthropic(base_url=o["url"], api_key="any", max_retries=o["retries"]), messages),
    "gemini": (lambda o: genai.Client(api_key="any", http_options={"base_url": o["url"]}), gemini),
}
lock = threading.Lock()


def say(line):
    with lock:
        print(json.dumps(line), flush=True)


def answer(story, client, c, number):
    errors, asked = [], {**c, "text": f"{c['text']} Again, the {number}th time."} if c["rounds"] > 1 else c
    for tries in range(1, story["again"] + 1):
        try:
            say({"id": c["id"], "round": number, "errors": errors, "text": SDKS[c["sdk"]][1](client, asked)})
            return
        except Exception as e:
            errors.append(f"{type(e).__name__}: {e}"[:200])
            if isinstance(e, Fatal):
                break
            time.sleep(min(0.05 * tries, 0.5))
    say({"id": c["id"], "round": number, "errors": errors, "text": None})


def run(story):
    made = {sdk: SDKS[sdk][0](story) for sdk in {c["sdk"] for c in story["clients"]}}

    def client(c):
        for number in range(1, c["rounds"] + 1):
            answer(story, made[c["sdk"]], c, number)
    threads = [threading.Thread(target=client, args=(c,)) for c in story["clients"]]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    say({"end": True})


say({"ready": True})
for line in sys.stdin:
    run(json.loads(line))
