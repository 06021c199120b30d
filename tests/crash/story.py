"""What a client of the runtime lives through, and what it was told, so that it can be held against what is there after a crash.

A plan of a few tasks in a row is worked on over HTTP by a worker that is not perdure's own: each task has a pure step and an effect in the outside world (a
book that no crash touches), and makes a checkpoint. Everything is asked again until it is answered, as a worker does.
"""
import http.client
import json
import time

from perdure_test import DEADLINE, request

PLAN = {"goal": "pay each bill once", "tasks": [
    {"id": "one", "command": "x", "retries": 5, "backoff": "1ms"},
    {"id": "two", "command": "x", "needs": ["one"], "retries": 5, "backoff": "1ms"},
    {"id": "three", "command": "x", "needs": ["two"], "retries": 5, "backoff": "1ms"},
]}
TASKS = [t["id"] for t in PLAN["tasks"]]
LEASE_MS = 1000     # short: a worker that "dies" with the machine is missed soon


class Book:
    """The outside world: effects by their key, each with how often it was made."""

    def __init__(self, entries=None):
        self.entries = dict(entries or {})

    def make(self, key):
        self.entries[key] = self.entries.get(key, 0) + 1


class Story:
    """`world.port()` is where perdure answers now (it may have been started again), `world.moment()` where the record is."""

    def __init__(self, world, book=None, key="night-1", worker="outsider"):
        self.world, self.book, self.key, self.worker = world, book or Book(), key, worker
        self.told = []      # (moment, what, value): what perdure has said is so
        self.made = []      # (moment, key): effects, in order
        self.words = 0
        self.asked_again = 0

    def tell(self, what, value):
        self.told.append((self.world.moment(), what, value))

    def ask(self, method, path, body=None, headers=None):
        end = time.monotonic() + DEADLINE
        while True:
            try:
                answer = request(self.world.port(), method, path, body, headers)
                if answer.status not in (500, 502, 503, 504):
                    return answer
            except (OSError, http.client.HTTPException):
                pass
            assert time.monotonic() < end, f"{method} {path} is not answered:\n{self.world.log()[-3000:]}"
            self.asked_again += 1
            self.world.wait_for_change()

    def live(self):
        run = self.ask("POST", "/api/runs?name=night.yaml", PLAN, {"Idempotency-Key": self.key})
        assert run.status in (200, 201), (run.status, run.body)
        self.run = run.json["id"]
        self.tell("run", self.run)
        while self.state()["state"] == "running":
            self.one_task()
        return self

    def state(self):
        return self.ask("GET", f"/api/runs/{self.run}").json

    def one_task(self):
        self.words += 1
        word = f"{self.worker}-{self.key}-{self.words}-{time.monotonic_ns()}"
        claim = self.ask("POST", "/api/work/claim", {"worker": self.worker, "claim": word, "run": self.run, "lease_ms": LEASE_MS, "wait_ms": 500})
        if claim.status == 204:
            return
        assert claim.status == 200, (claim.status, claim.body)
        held = {k: claim.json[k] for k in ("run", "task", "epoch")}
        self.tell("claim", (held["task"], held["epoch"]))
        thought = self.step(held, "think", "pure", None, lambda: {"thought": f"about {held['task']}"})
        paid = thought is not None and self.step(held, "pay", "effect", f"{self.run}/{held['task']}", lambda: self.pay(f"{self.run}/{held['task']}"))
        if not paid:
            return
        self.checkpoint(held["task"])
        end = self.ask("POST", "/api/work/finish", {**held, "outcome": "done", "output": {"paid": held["task"]}})
        if end.status == 200:
            self.tell("done", held["task"])
        else:
            assert end.status == 409, (end.status, end.body)

    def pay(self, key):
        self.book.make(key)
        self.made.append((self.world.moment(), key))
        return {"paid": key}

    def step(self, held, name, kind, key, doing):
        """Its result; None: the task is another's by now."""
        begun = self.ask("POST", "/api/work/step", {**held, "step": name, "kind": kind, "phase": "begin", **({"key": key} if key else {})})
        if begun.status == 409:
            return None
        assert begun.status == 200, (begun.status, begun.body)
        found = begun.json["found"]
        if found == "done":
            return begun.json["result"]
        if found == "ambiguous" and key in self.book.entries:   # the other side is asked by the key
            result = {"paid": key}
        else:
            result = doing()
        ended = self.ask("POST", "/api/work/step", {**held, "step": name, "phase": "end", "kind": kind, "result": result})
        if ended.status == 409:
            return None
        assert ended.status == 200, (ended.status, ended.body)
        self.tell("step", (held["task"], name, result))
        return result

    def checkpoint(self, task):
        state = {"task": task, "notes": [f"{task} {i}" for i in range(60)]}
        made = self.ask("POST", "/api/checkpoints", {"agent_id": "outsider", "task": f"{self.run}/{task}", "step_index": TASKS.index(task), "state": state})
        assert made.status == 201, (made.status, made.body)
        self.tell("checkpoint", (made.json["checkpoint_id"], state))


def judge(told, story):
    """What was told before the crash holds after it; then the story is lived to its end, and everything was done once."""
    for what, value in told:
        if what == "checkpoint":
            got = story.ask("GET", f"/api/checkpoints/{value[0]}")
            assert got.status == 200 and got.json["checkpoint"]["state"] == value[1], f"checkpoint {value[0]}: {got.status} {got.body[:300]}"
    before = {value for what, value in told if what == "run"}
    story.live()
    assert before <= {story.run}, f"the run {before} was created, and {story.run} is another"
    one = story.state()
    assert one["state"] == "done", one
    steps = {}
    for what, value in told:
        if what == "step":
            steps[value[:2]] = value[2]
    for task in TASKS:
        detail = story.ask("GET", f"/api/runs/{story.run}/tasks/{task}").json
        assert detail["state"] == "done" and detail["output"] == {"paid": task}, detail
        for (of, name), result in steps.items():
            if of == task:
                kept = [s for s in detail["steps"] if s["step"] == name]
                assert kept and kept[0]["result"] == result, f"{task}/{name} was recorded as {result}, and is {kept}"
    again = [(what, value) for _, what, value in story.told if what == "done" and ("done", value) in told]
    assert not again, f"done before the crash, and done again: {again}"
    redone = [value[:2] for _, what, value in story.told if what == "step" and value[:2] in steps]
    assert not redone, f"recorded before the crash, and recorded again: {redone}"
    want = {f"{story.run}/{task}": 1 for task in TASKS}
    assert story.book.entries == want, f"effects: {story.book.entries}"
    last = story.ask("GET", "/api/checkpoints/latest?agent=outsider").json["checkpoint"]
    assert last["state"]["task"] == TASKS[-1], last


def told_until(story, moment):
    return [(what, value) for at, what, value in story.told if at <= moment]


def book_at(story, moment):
    book = Book()
    for at, key in story.made:
        if at <= moment:
            book.make(key)
    return book


def dump(story):
    return json.dumps({"told": story.told, "made": story.made, "again": story.asked_again}, indent=1)
