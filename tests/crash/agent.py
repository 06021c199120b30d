"""The agent that supervise_matrix has kept going, which dies once and claims once to be done when it is not: it asks a model, writes files as one does who wants to find them again, has two effects in the outside world, each
once per key, and makes a checkpoint after each. What is there already it does not do again.

The world outside, which no crash touches, is the folder $STORY. What it was told, and what it did there, is noted with the place of the record (recorder.c) at that moment.
"""
import fcntl
import http.client
import json
import os
import sys
import time
import urllib.parse

STORY, AGENT = os.environ["STORY"], os.environ["AGENT_ID"]


def moment():
    try:
        return os.stat(f"{STORY}/record").st_size
    except FileNotFoundError:
        return 0


def note(name, value, at=None):
    with open(f"{STORY}/{name}", "a") as f:
        f.write(json.dumps([moment() if at is None else at, value]) + "\n")


def made():
    try:
        with open(f"{STORY}/book") as f:
            return [json.loads(line)[1] for line in f]
    except FileNotFoundError:
        return []


def write(name, text):
    with open(f"{name}.new", "w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.rename(f"{name}.new", name)
    folder = os.open(".", os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def ask(path, body):
    url = urllib.parse.urlsplit(os.environ["PERDURE_URL"])
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status in (200, 201), (path, answer.status, text)
    return json.loads(text)


def above():
    """Guard, keeper, watchdog."""
    found, pid = [], os.getpid()
    for _ in range(3):
        with open(f"/proc/{pid}/stat") as f:
            pid = int(f.read().rsplit(")", 1)[1].split()[1])
        found.append(pid)
        if pid <= 1:
            break
    return found


def go_on():
    """One of those above died: then this process is to be ended at once. It does not end by itself, so that it is seen when it is not."""
    try:
        fine = above() == ABOVE
    except OSError:
        fine = False
    if not fine:
        time.sleep(600)


def once(name, status):
    """It ends so, once."""
    if not os.path.exists(name):
        write(name, "")
        sys.exit(status)


def work():
    if not os.path.exists("answer.txt"):
        said = ask("/v1/chat/completions", {"model": "sim/m", "messages": [{"role": "user", "content": "say it"}]})
        write("answer.txt", said["choices"][0]["message"]["content"])
    for step, key in enumerate(("one", "two")):
        go_on()
        print("before", key, flush=True)    # the keeper passes it on
        if key not in made():
            note("book", key)
        state = {"paid": key, "notes": [f"{key} {i}" for i in range(40)]}
        note("told", [ask("/api/checkpoints", {"agent_id": AGENT, "task": "pay", "step_index": step, "state": state})["checkpoint_id"], state])
    print("before the result", flush=True)
    time.sleep(float(os.environ.get("LINGER", 0)))      # the watchdog measures
    go_on()
    once("died", 1)
    once("claimed", 0)
    with open("answer.txt") as f:
        write("result.txt", 2 * f.read())


ABOVE = above()
alone = open(f"{STORY}/alone", "a")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:     # another of us still lives
    note("two", os.getpid())
note("starts", int(os.environ["PERDURE_START"]))
work()
