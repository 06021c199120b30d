"""The ledger of sessions: what every call went through and cost, counted against what the simulated providers count, and over a restart."""
import contextlib
import http.client
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading

from perdure_test import PERDURE, Gateway, main, running
from test_upgrade import Chain

RULES = {"ttft": 0, "backoff": "10ms", "affinity": 0, "attempts": 1}
NIGHT = {"x-perdure-session": "night run"}
TOOLS = [{"type": "function", "function": {"name": "read_file", "parameters": {
    "type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}}]
# this style reports its usage in every chunk: what broke off is counted exactly, too
EXACT = "style=siliconflow,tokens=40"


def priced(*names, **price):
    return {n: {"prices": {"m": {"input": 3, "output": 15, **price}}} for n in names}


def the_session(gateway):
    sessions = gateway.get("/api/sessions").json["sessions"]
    assert len(sessions) == 1, sessions
    return sessions[0]


def shown(gateway, name):
    return gateway.get(f"/api/sessions/{name}").json


def tokens_of(sim, *names):
    states = [sim.state(n) for n in names]
    return sum(s["prompt_tokens"] for s in states), sum(s["tokens"] for s in states)


def test_what_providers_count_is_what_the_ledger_bills():
    with running(f"alpha:0,{EXACT}", f"beta:0,{EXACT}", providers=priced("alpha", "beta"), resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "cut", "after": 20}, {"fault": "status", "status": 500})
        s = gateway.stream(headers=NIGHT).rest()
        assert s.done
        gateway.until("it is booked", lambda: gateway.get("/api/sessions").json["sessions"])
        gateway.chat(headers=NIGHT)
        total = the_session(gateway)
        billed = tokens_of(sim, "alpha", "beta")
        assert (total["billed_in"], total["billed_out"]) == billed and total["estimated"] == 0, (total, billed)
        assert total["name"] == "night run" and total["calls"] == 2, total
        assert (total["breaks"], total["continued"]) == (1, 1) and total["failures"]["cut"] == 1, total
        pico = billed[0] * 3_000_000 + billed[1] * 15_000_000
        assert round(total["cost_usd"] * 10**12) == pico and total["unpriced"] == 0, (total, pico)
        one = shown(gateway, total["session"])
        attempts = [a for c in one["list"] for a in c["attempts"]]
        assert sum(a["tokens_out"] for a in attempts) == billed[1] and any(a["continues"] for a in attempts), attempts
        assert all(a["first_output_ms"] > 0 for a in attempts if a["tokens_out"]), "0 is for none"
        broken = gateway.get("/api/calls").json["recent"][1]
        assert broken["broke_by"] == "cut" and not broken["continuing"], broken
        assert gateway.metric("perdure_stream_breaks_total", **{"class": "cut"}) == 1
        assert gateway.metric("perdure_continuations_total", result="whole") == 1


def test_what_broke_off_unreported_is_estimated_and_flagged():
    with running("alpha:0,tokens=40", resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold", "after": 10})
        s = gateway.stream(headers=NIGHT)
        while len(s.text.split()) < 10:
            assert s.next() is not None
        s.close()
        sim.wait("alpha", cancelled=1)
        gateway.until("it is booked", lambda: gateway.get("/api/sessions").json["sessions"])
        total = the_session(gateway)
        assert total["estimated"] == 1 and total["billed_out"] == len(s.text.encode()) // 4 and total["billed_in"] > 0, total
        assert total["cost_usd"] is None and total["known_usd"] == 0 and total["unpriced"] == 1, "nobody said what it costs"


def test_a_price_that_is_not_known_for_a_part_leaves_the_call_without_one():
    """alpha's half was paid for, nobody said how much; beta's was."""
    with running(f"alpha:0,{EXACT}", f"beta:0,{EXACT}", providers=priced("beta"), resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "cut", "after": 20}, {"fault": "status", "status": 500, "times": 0})
        assert gateway.stream(headers=NIGHT).rest().done
        gateway.until("it is booked", lambda: gateway.get("/api/sessions").json["sessions"])
        total = the_session(gateway)
        call = shown(gateway, total["session"])["list"][0]
        costs = {a["target"]: a["cost_usd"] for a in call["attempts"] if a["tokens_out"]}
        assert costs["alpha/m"] is None and costs["beta/m"] > 0, call
        assert call["cost_usd"] is None and total["cost_usd"] is None and total["unpriced"] == 1, call


def test_a_prompt_that_was_reported_leaves_what_came_after_it_estimated():
    """Anthropic's format tells the prompt's tokens at the beginning, and those of the answer at its end, which a cut takes away."""
    with running("alpha:0,tokens=40", resilience=RULES) as (sim, gateway):
        text = gateway.path.read_text().replace('"openai-compatible"', '"anthropic"').replace("/v1\"", "\"")
        with contextlib.closing(Claude(text)) as claude:
            sim.faults("alpha", {"fault": "hold", "after": 10})
            s = claude.gateway.stream(headers=NIGHT)
            while len(s.text.split()) < 10:
                assert s.next() is not None
            s.close()
            sim.wait("alpha", cancelled=1)
            claude.gateway.until("it is booked", lambda: claude.gateway.get("/api/sessions").json["sessions"])
            total = the_session(claude.gateway)
            assert total["estimated"] == 1 and total["billed_in"] == sim.state("alpha")["prompt_tokens"], total
            assert total["billed_out"] == len(s.text.encode()) // 4, total


class Claude:
    """The same gateway, with providers of Anthropic's format."""

    def __init__(self, text):
        self.gateway = Gateway(text)

    def close(self):
        self.gateway.stop()


def test_what_was_refused_costs_nothing():
    with running("alpha:0", "beta:0,tokens=10", providers=priced("beta"), resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 500, "times": 0})
        assert gateway.chat(headers=NIGHT).status == 200
        total = the_session(gateway)
        call = shown(gateway, total["session"])["list"][0]
        assert [a["cost_usd"] for a in call["attempts"]][0] == 0 and call["attempts"][0]["tokens_in"] == 0, call
        assert total["cost_usd"] == call["cost_usd"] > 0 and total["failed"] == 1, "alpha has no price, and took none"


def test_a_tool_call_that_was_asked_for_again_is_billed_twice():
    with running(f"alpha:0,{EXACT}", providers=priced("alpha"), resilience={**RULES, "attempts": 3}) as (sim, gateway):
        sim.faults("alpha", {"fault": "unfit", "shape": "type"})
        answer = gateway.chat(headers=NIGHT, tools=TOOLS)
        assert answer.json["choices"][0]["message"]["tool_calls"], answer.body
        total = the_session(gateway)
        assert total["tool_repairs"] == 1 and total["failures"] == {"tool_use_failed": 1}, total
        assert (total["billed_in"], total["billed_out"]) == tokens_of(sim, "alpha"), total
        assert total["billed_out"] > total["tokens_out"], total
        assert gateway.metric("perdure_tool_repairs_total", provider="alpha", model="m") == 1


def test_a_call_on_hold_says_since_when_and_until_when():
    with running("alpha:0,tokens=10", resilience={**RULES, "hold": "10m"}) as (sim, gateway):
        sim.faults("alpha", {"fault": "status", "status": 503, "times": 0})
        done = []
        t = threading.Thread(target=lambda: done.append(gateway.chat(headers=NIGHT)))
        t.start()

        def held():
            calls = gateway.get("/api/calls").json["running"]
            return calls if calls and calls[0]["state"] == "holding" else None

        call = gateway.until("it is on hold", held)[0]
        assert call["since_ms"] <= call["took_ms"] and 500_000 < call["until_ms"] <= 610_000, call
        gateway.until("it is counted", lambda: gateway.metric("perdure_calls_held") == 1)
        sim.faults("alpha")
        t.join()
        assert done[0].status == 200, done[0].body
        total = the_session(gateway)
        assert total["held_ms"] > 0 and gateway.metric("perdure_calls_held") == 0, total
        line = shown(gateway, total["session"])["list"][0]
        pauses = [p for p in line["pauses"] if p["state"] == "holding"]
        assert sum(p["to_ms"] - p["from_ms"] for p in pauses) == line["held_ms"] == total["held_ms"], line
        assert gateway.metric("perdure_held_seconds_count") == 1


def test_a_second_start_that_was_lost_is_billed_for_its_prompt():
    with running(f"alpha:0,{EXACT}", f"beta:0,{EXACT}", resilience={**RULES, "hedge_budget": 1, "ttft_adaptive": False}) as (sim, gateway):
        sim.faults("alpha", {"fault": "hold"})
        assert gateway.chat(headers={**NIGHT, "x-perdure-ttft": "50ms"}).header("x-perdure-provider") == "beta"
        sim.wait("alpha", cancelled=1)
        total = the_session(gateway)
        slow, quick = shown(gateway, total["session"])["list"][0]["attempts"]
        assert total["hedges_lost"] == 1 and slow["state"] == "cancelled" and quick["hedge"], (slow, quick)
        assert slow["tokens_in"] > 0 and slow["tokens_out"] == 0 and slow["estimated"] and not quick["estimated"], slow
        assert total["billed_in"] == slow["tokens_in"] + quick["tokens_in"] > total["tokens_in"], total


def test_the_ledger_goes_along_through_an_upgrade():
    """The old process ends its calls after the new one has read its ledger: their lines come after."""
    with Chain(f"alpha:0,{EXACT}") as chain:
        gateway = chain.gateway
        gateway.chat(headers=NIGHT)
        chain.sim.faults("alpha", {"fault": "hold", "after": 5})
        s = gateway.stream(headers=NIGHT)
        while len(s.text.split()) < 5:
            assert s.next() is not None
        in_journal(gateway, '"outcome":"interrupted"')  # should it never end: the new process waits for the old one to tell
        chain.upgrade()
        assert the_session(gateway)["calls"] == 1, "the new process has read what the old one wrote"
        middle = gateway.chat(headers=NIGHT).header("x-request-id")
        chain.sim.release("alpha")
        assert s.rest().done
        chain.gone(chain.pids[0])
        gateway.until("the old one's last line", lambda: the_session(gateway)["calls"] == 3)
        name = the_session(gateway)["session"]
        whole = shown(gateway, name)
        assert [c["id"] for c in whole["list"]][1:] == [middle, s.headers["x-request-id"]], whole
        assert (whole["billed_in"], whole["billed_out"]) == tokens_of(chain.sim, "alpha"), whole
        # from here on the old one's files are gone
        chain.until("the new one is alone", lambda: chain.logged("upgrade.alone"))
        os.kill(chain.pid, signal.SIGKILL)
        chain.gone(chain.pid)
        again = Gateway(chain.text, folder=gateway.folder)
        try:
            assert shown(again, name) == whole
        finally:
            again.stop()


def test_the_list_has_a_limit_of_ones_own():
    with running("alpha:0,tokens=2", resilience=RULES) as (_, gateway):
        for i in range(3):
            gateway.chat(headers={"x-perdure-session": f"run {i}\xe9"})
        names = [s["name"] for s in gateway.get("/api/sessions?limit=2").json["sessions"]]
        assert names == ["run 2?", "run 1?"], names
        for most in ("", "?limit=4294967297"):
            assert len(gateway.get(f"/api/sessions{most}").json["sessions"]) == 3
        for bad in ("0", "x", "-1", ""):
            assert gateway.get(f"/api/sessions?limit={bad}").status == 400, bad


def in_journal(gateway, call):
    folder = gateway.path.parent / "perdure-state"

    def read():
        with contextlib.suppress(FileNotFoundError):  # an old one is deleted while we look
            return any(call.encode() in p.read_bytes() for p in folder.glob("journal-*"))
    gateway.until(f"the journal has {call}", read)


def killed(gateway, call):
    """kill -9 when the journal has this call; then the same again."""
    text = gateway.path.read_text()
    in_journal(gateway, call)
    gateway.program.process.kill()
    gateway.program.process.wait()
    return Gateway(text, folder=gateway.folder)


def test_the_ledger_is_there_after_kill_9():
    with running(f"alpha:0,{EXACT}", f"beta:0,{EXACT}", providers=priced("alpha", "beta"), resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "cut", "after": 20})
        assert gateway.stream(headers=NIGHT).rest().done
        gateway.chat(headers={"x-perdure-session": "other"})
        ids = [gateway.chat(headers=NIGHT).header("x-request-id") for _ in range(70)]
        before = gateway.get("/api/sessions").json
        name = next(s["session"] for s in before["sessions"] if s["name"] == "night run")
        whole = shown(gateway, name)
        assert whole["calls"] == 71 and len(whole["list"]) == 64, whole
        first = killed(gateway, ids[-1])
        gateway.program, gateway.port = first.program, first.port  # which `running` stops
        assert gateway.get("/api/sessions").json == before
        assert shown(gateway, name) == whole
        # and again: what was read is written anew
        more = gateway.chat(headers=NIGHT).header("x-request-id")
        whole = shown(gateway, name)
        assert whole["calls"] == 72 and whole["list"][-1]["id"] == more
        second = killed(gateway, more)
        gateway.program, gateway.port = second.program, second.port
        assert shown(gateway, name) == whole


def test_a_call_that_kill_9_ended_has_a_row_and_is_counted_once():
    """One in the middle of its answer, at its second attempt, and one that has none yet; over two kills."""
    with running(f"alpha:0,{EXACT}", f"beta:0,{EXACT}", providers=priced("alpha", "beta"), resilience=RULES) as (sim, gateway):
        sim.faults("alpha", {"fault": "cut", "after": 10}, {"fault": "hold", "after": 0})
        sim.faults("beta", {"fault": "hold", "after": 20})
        s = gateway.stream(headers=NIGHT)
        while len(s.text.split()) < 10:
            assert s.next() is not None
        sim.wait("beta", held=1)

        def ask():
            with contextlib.suppress(OSError, http.client.HTTPException):   # it will be killed
                gateway.chat(headers=NIGHT, text="silent")
        silent = threading.Thread(target=ask)
        silent.start()
        gateway.until("both run", lambda: len(gateway.get("/api/calls").json["running"]) == 2)
        ids = {c["id"] for c in gateway.get("/api/calls").json["running"]}
        quick = gateway.chat(headers=NIGHT, model="beta/m").header("x-request-id")
        for call in ids:
            in_journal(gateway, f'"id":"{call}"')
        in_journal(gateway, quick)
        # the lines that are written of what runs come to tell what it has used
        first = killed(gateway, quick)
        gateway.program, gateway.port = first.program, first.port
        whole = shown(gateway, the_session(gateway)["session"])
        lost = [c for c in whole["list"] if c["outcome"] == "interrupted"]
        assert {c["id"] for c in lost} == ids and whole["calls"] == 3, whole
        assert [c["outcome"] for c in whole["list"] if c["id"] == quick] == ["complete"], whole
        mine = next(c for c in lost if c["id"] == s.headers["x-request-id"])
        assert [a["target"] for a in mine["attempts"]] == ["alpha/m", "beta/m"] and mine["breaks"] == 1, mine
        assert mine["attempts"][0]["class"] == "cut" and mine["attempts"][1]["state"] == "running", mine
        assert (mine["tokens_in"], mine["tokens_out"], mine["billed_out"]) == (10, 30, 30) and not mine["estimated"], mine
        other = next(c for c in lost if c is not mine)
        assert other["attempts"][0]["state"] == "running" and other["billed_in"] > 0 and other["billed_out"] == 0, other
        assert " state.interrupted_calls count=2" in first.log(), first.log()
        more = gateway.chat(headers=NIGHT, model="beta/m").header("x-request-id")
        second = killed(gateway, more)
        gateway.program, gateway.port = second.program, second.port
        again = shown(gateway, whole["session"])
        assert again["calls"] == 4 and [c for c in again["list"] if c["id"] != more] == whole["list"], again
        assert "state.interrupted_calls" not in second.log()
        status, out, _ = sessions("show", "night run", gateway=gateway)
        assert status == 0 and "interrupted" in out, out


# ---- perdure sessions ----

def sessions(*args, gateway=None, env=None):
    where = ["--url", f"http://127.0.0.1:{gateway.port}"] if gateway else []
    done = subprocess.run([PERDURE, "sessions", *args, *where], env=env or {}, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_terminal_shows_the_sessions_and_the_calls_of_one():
    # slow enough for both attempts to have a width
    with running(f"alpha:0,{EXACT},token_delay=2ms", f"beta:0,{EXACT},token_delay=2ms", providers=priced("alpha", "beta"), resilience=RULES) as (sim, gateway):
        status, out, err = sessions(gateway=gateway)
        assert status == 0 and "no session yet" in out and not err, (out, err)
        sim.faults("alpha", {"fault": "cut", "after": 20})
        call = gateway.stream(headers=NIGHT).rest().headers["x-request-id"]
        gateway.until("it is booked", lambda: gateway.get("/api/sessions").json["sessions"])
        name = the_session(gateway)["session"]
        for words in ([], ["list"], ["--limit=1"]):
            status, out, err = sessions(*words, gateway=gateway)
            assert status == 0 and not err and len(out.splitlines()) == 2, (out, err)
            assert name in out and "night run" in out and re.search(r" 206\+56 +\$0\.001458$", out, re.M), out
        for which in (name, "night run"):
            status, out, err = sessions("show", which, gateway=gateway)
            assert status == 0 and not err and out.isascii(), (out, err)
            assert re.search(r"^\d\d:\d\d:\d\d  [-=]*x\.*>[-=]* .* continued .* 206\+56  \$0\.001458$", out, re.M), out
            assert "1 streams broke, 1 went on" in out and re.search(r"x alpha/m at \S+: cut, 20 tokens", out), out
        assert "\u2501" in sessions("show", name, gateway=gateway, env={"LANG": "C.UTF-8"})[1]
        status, out, err = sessions("show", name, "--json", gateway=gateway)
        assert json.loads(out) == shown(gateway, name) and call in out and not err, err
        assert json.loads(sessions("list", "--json", gateway=gateway)[1]) == gateway.get("/api/sessions").json
        # the URL that clients have will do
        done = subprocess.run([PERDURE, "sessions", "--url", f"127.0.0.1:{gateway.port}/v1/"], env={}, capture_output=True, text=True)
        assert done.returncode == 0 and name in done.stdout, done
        for which in ("s-0", "nobody"):
            status, out, err = sessions("show", which, gateway=gateway)
            assert status == 1 and not out and len(err.splitlines()) == 1, (out, err)


def on_a_terminal(args, env):
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(PERDURE, [PERDURE, *args], env)
    seen = b""
    with contextlib.suppress(OSError):  # a terminal whose program has ended says so by an error
        while more := os.read(fd, 65536):
            seen += more
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen


def test_colours_are_for_terminals_that_want_them():
    with running(f"alpha:0,{EXACT}", resilience=RULES) as (_, gateway):
        gateway.chat(headers=NIGHT)
        args = ["sessions", "show", "night run", "--url", f"127.0.0.1:{gateway.port}"]
        for env, want in (({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
            status, seen = on_a_terminal(args, env)
            assert status == 0 and (b"\x1b[32m" in seen) == want, (env, seen)
        assert "\x1b" not in sessions(*args[1:], env={"TERM": "xterm"})[1]


def test_without_a_perdure_it_says_what_to_do():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        status, out, err = sessions("--url", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert status == 1 and not out and "perdure serve" in err and "--url" in err and "refused" in err, err


def answers(raw, seen=None):
    """A server that says this to one request."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        peer, _ = listening.accept()
        with peer, listening:
            got = peer.recv(65536)
            if seen is not None:
                seen.append(got)
            peer.sendall(raw)
    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_what_is_no_perdure_is_said_to_be_none():
    for raw, said in ((b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n", "404"),
                      (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n<html/>", "no perdure"),
                      (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "no perdure"),
                      (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "no perdure answers"),
                      (b"SSH-2.0-OpenSSH\r\n", "no perdure answers"),
                      (b"", "no perdure answers")):
        for words in (["list"], ["show", "s-12"], ["list", "--json"]):
            status, out, err = sessions(*words, "--url", answers(raw))
            assert status == 1 and not out and said in err and len(err.splitlines()) == 1, (raw, out, err)


def test_a_key_is_read_from_a_variable():
    no = b'HTTP/1.1 401 Unauthorized\r\nContent-Length: 46\r\n\r\n{"error":{"message":"a client key is needed"}}'
    status, out, err = sessions("--url", answers(no))
    assert status == 1 and "a client key is needed" in err and not out and "401" in err and "--key-env" in err, err
    status, out, err = sessions("--key-env", "MINE", "--url", answers(no), env={"MINE": "a-key-of-mine"})
    assert status == 1 and "401" in err and "a-key-of-mine" not in err and "the key in that variable" in err, err
    seen = []
    status, out, err = sessions("--key-env", "MINE", "--url", answers(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"sessions":[]}', seen),
                                env={"MINE": "a-key-of-mine"})
    assert status == 0 and b"\r\nAuthorization: Bearer a-key-of-mine\r\n" in seen[0], (seen, err)


if __name__ == "__main__":
    main(globals())
