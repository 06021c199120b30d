"""tools/soak, tools/dying and tools/crowd pass for some seconds, and fail when something is lost or doubled that should not be."""
import importlib.machinery
import importlib.util
import socket
import threading

from perdure_test import ROOT, main


def tool(name):
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / "tools" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


SOAK, DYING, CROWD = tool("soak"), tool("dying"), tool("crowd")


class Between:
    """A wire to perdure that spoils answers: spoil(bytes) returns what arrives in their place; None: the connection is cut."""

    def __init__(self, port, spoil):
        self.to, self.spoil, self.listener = port, spoil, socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.to))
            for a, b, spoil in ((client, server, lambda x: x), (server, client, self.spoil)):
                threading.Thread(target=self.carry, args=(a, b, spoil), daemon=True).start()

    @staticmethod
    def carry(a, b, spoil):
        try:
            while (piece := a.recv(65536)) and (piece := spoil(piece)) is not None:
                b.sendall(piece)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def soak(spoil=None, seconds=5, **more):
    class Spoiled(SOAK.Soak):
        wire = None

        def port(self):
            if spoil and not self.wire:
                self.wire = Between(self.gateway.port, spoil)
            return self.wire.port if self.wire else self.gateway.port

    s = Spoiled(SOAK.options([str(seconds / 60), "--clients", "12", "--think", "0.2", "--outage-every", "1000", "--evidence", "/nowhere"]))
    for k, v in more.items():
        setattr(s, k, v)
    return SOAK.run(s), s


def seldom(change):
    """Every tenth piece of an answer with text in it is changed."""
    count = [0]

    def spoil(piece):
        if b"[3]" in piece:
            count[0] += 1
            if count[0] % 10 == 0:
                return change(piece)
        return piece
    return spoil


def test_a_soak_of_seconds_passes():
    failed, s = soak()
    assert not failed, failed
    assert s.asked > 50 and any(k.startswith("whole") for k in s.seen)


def test_a_soak_sees_a_changed_byte():
    failed, s = soak(seldom(lambda b: b.replace(b"[3]", b"[4]")))
    assert any("not what they had to be" in f for f in failed), failed
    assert s.seen.get("LOST OR DOUBLED"), s.seen


def test_a_soak_sees_a_cut_without_a_word():
    failed, s = soak(seldom(lambda b: None))
    assert s.seen.get("CUT WITHOUT A WORD") and failed, (failed, s.seen)


def test_a_soak_sees_a_call_that_nobody_counted():
    failed, _ = soak(asked=1)   # one that was never sent: as if perdure had forgotten it
    assert any("calls were asked" in f for f in failed), failed


def test_a_soak_sees_a_fault_that_never_happens():
    SOAK.FAULTS.append(("a fault of a place that no answer has", {"fault": "cut", "at": "calls", "call": 9}, 1))
    certain, SOAK.CERTAIN = SOAK.CERTAIN, 0.001
    try:
        failed, _ = soak()
    finally:
        SOAK.FAULTS.pop()
        SOAK.CERTAIN = certain
    assert any("a fault of a place that no answer has" in f for f in failed), failed


def dying(*arguments, run=DYING.Dying):
    return DYING.run(run(DYING.options(["--streams", "60", "--delay", "100", "--settle", "0.3", *arguments])))


def test_streams_of_a_dying_provider_are_whole():
    assert dying() == []


def test_streams_are_whole_when_all_providers_were_gone():
    assert dying("--way", "all", "--down", "1", "--set", "breaker_hold=1s", "--set", "probe=1s") == []


def test_a_death_is_seen_to_break_streams():
    problems = dying("--set", "continuations=0")
    assert any("cut" in p or "error" in p for p in problems), problems


def test_a_provider_that_did_not_die_is_seen():
    class Alive(DYING.Dying):
        def order(self, what):
            pass
    assert any("nothing died" in p for p in dying(run=Alive))


def crowd(spoils=(), every="0.7", tasks="900", gateway_every=4):
    """What it has to say, and what it says when it is judged again after each spoil(crowd, events)."""
    said = []

    class Spoiled(CROWD.Crowd):
        def judge(self, run, needs, events):
            for spoil in spoils:
                kept, effects = list(events), (self.path / "effects").read_text()
                spoil(self, kept)
                said.append(super().judge(run, needs, kept)[1])
                (self.path / "effects").write_text(effects)
            return super().judge(run, needs, events)
    o = CROWD.options(["--tasks", tasks, "--every", every, "--lease", "1s"])
    c = Spoiled(o, "sqlite", None)
    try:
        return c.night(o.tasks, o.every, gateway_every)[2], said
    finally:
        c.close()


def made_twice(c, events):
    with open(c.path / "effects", "a") as f:
        f.write("b0-head\n")


def never_made(c, events):
    (c.path / "effects").write_text((c.path / "effects").read_text().replace("b0-head\n", "", 1))


def lost(c, events):
    events.remove(next(e for e in events if e["what"] == "done"))


def recorded_twice(c, events):
    events.append(next(e for e in events if e["what"] == "step"))


def run_again(c, events):
    i = next(i for i, e in enumerate(events) if e["what"] == "step")
    events[i] = {**events[i], "ms": events[i]["ms"] - 600000}


def hurried(c, events):
    i = next(i for i, e in enumerate(events) if e["what"] == "claimed" and e["task"] == "b0-all")
    events[i] = {**events[i], "seq": 0}


def test_a_crowd_of_seconds_passes_and_sees_each_thing_that_can_be_wrong():
    problems, said = crowd((made_twice, never_made, lost, recorded_twice, run_again, hurried))
    assert problems == [], problems
    words = ("in the outside once", "in the outside once", "not done once", "not one record", "again after their step", "before what they need")
    for word, found in zip(words, said, strict=True):
        assert any(word in p for p in found), (word, found)


def test_a_crowd_in_which_nobody_is_killed_fails():
    problems, _ = crowd(every="1000", tasks="100", gateway_every=0)
    assert any("nothing was shown" in p for p in problems), problems


if __name__ == "__main__":
    main(globals())
