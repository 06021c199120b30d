"""The strict readers refuse what is not whole: each event of a healthy stream lost, doubled or in another place, each byte of its text lost or doubled."""
import re

from perdure_test import Providers, main
from strict_streams import CLIENTS, Wrong, check
from test_simulate_dialects import post

ITEMS = 6
LINE = {"type": "object", "properties": {"line": {"type": "string"}, "urgent": {"type": "boolean"}}, "required": ["line", "urgent"]}
TOOLS = [("note_down", LINE), ("look_up", LINE)]
CALLS = [n for n, _ in TOOLS]


def healthy(ports, client, stream):
    model = "claude-sonnet-4-5" if client.name == "messages" else "gpt-reason"
    got = post(ports["alpha"], client.path(model, stream), client.body(model, f"hi [[sim items={ITEMS}]]", stream, TOOLS, True), client.headers())
    assert got.status == 200 and not got.cut, got.body
    return got.body


def refused(client, body, stream):
    try:
        check(client, body, stream, ITEMS, CALLS)
    except (Wrong, KeyError, IndexError, TypeError) as e:
        return str(e) or type(e).__name__
    return None


def each():
    sim = Providers("alpha:0,varied=true,preface=true,parallel=2,reasoning=8")
    try:
        for client in CLIENTS.values():
            yield client, lambda stream: healthy(sim.ports, client, stream)
    finally:
        sim.program.kill()


def blocks_of(body):
    gap = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n"
    return body.split(gap)[:-1], gap


def told(block):
    """Reasoning, signs of life and chunks that say nothing may come in any number."""
    free = (b'"thought":true', b'"reasoning_content"', b"event: ping", b"thinking_delta", b"signature_delta", b"reasoning_summary_text.delta", b'"partial_json":""')
    return not any(f in block for f in free)


def bare(block):
    """Without what is there to differ, and Gemini's growing counts: the same word twice may be exchanged."""
    return re.sub(rb'"obfuscation":"\w*"|"\w*TokenCount":\d+', b"", block).rstrip(b"} ")


def test_a_healthy_answer_is_accepted():
    for client, get in each():
        for stream in (False, True):
            assert refused(client, get(stream), stream) is None, (client.name, stream, refused(client, get(stream), stream))


def test_an_event_lost_doubled_or_exchanged_is_refused():
    for client, get in each():
        blocks, gap = blocks_of(get(True))
        seen = 0
        for i, block in enumerate(blocks):
            if not told(block):
                continue
            for what, changed in (("lost", blocks[:i] + blocks[i + 1:]), ("doubled", blocks[:i] + [block] + blocks[i:]),
                                  ("exchanged", blocks[:i] + blocks[i + 1:i + 2] + [block] + blocks[i + 2:])):
                if changed == blocks or (what == "exchanged" and (i + 1 >= len(blocks) or not told(blocks[i + 1]) or bare(block) == bare(blocks[i + 1]))):
                    continue
                assert refused(client, gap.join(changed) + gap, True), (client.name, what, i, block, blocks[i + 1:i + 2])
                seen += 1
        assert seen > 100, (client.name, seen)


def test_a_stream_that_breaks_off_anywhere_is_refused():
    for client, get in each():
        body = get(True)
        for n in range(0, len(body) - len(blocks_of(body)[1]), 7):
            assert refused(client, body[:n], True), (client.name, n, body[max(0, n - 200):n])


def test_a_letter_of_the_text_lost_or_doubled_is_refused():
    for client, get in each():
        for stream in (False, True):
            body = get(stream)
            place = 0
            for _ in range(ITEMS):
                place = body.find(b"] ", place) + 2   # behind the number of an item: its first word
                letter = body[place:place + 1]
                if not letter.isalpha():
                    continue
                assert refused(client, body[:place] + body[place + 1:], stream), (client.name, stream, "lost")
                assert refused(client, body[:place] + letter + body[place:], stream), (client.name, stream, "doubled")


if __name__ == "__main__":
    main(globals())
