"""The disk of a whole perdure fails: full, broken, short writes, syncs that fail, bytes that change. Errors are clear, and nothing acknowledged is lost.

Each fault is counted where it happens; a story in which none happened fails.
"""
import contextlib
import glob
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from test_checkpoints import alone, command, get, post
from perdure_test import DEADLINE, Gateway, Providers, config, main, request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "crash"))
from faults import Faults  # noqa: E402
from story import Book, PLAN, Story, judge  # noqa: E402

REFUSED = (500, 502, 503, 504, 507)


class World:
    """What a story asks: a gateway that may be replaced."""

    def __init__(self, gateway):
        self.gateway, self.changes = gateway, 0

    def port(self):
        return self.gateway.port

    def moment(self):
        return 0

    def wait_for_change(self):
        threading.Event().wait(0.005)   # the fault ends with the calls it is to hit: asking again decides

    def log(self):
        return self.gateway.log()


class Patient(Story):
    """Notes what it was refused with, and asks again."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.refused = {}

    def ask(self, method, path, body=None, headers=None):
        end = time.monotonic() + DEADLINE
        while True:
            answer = request(self.world.port(), method, path, body, headers)
            if answer.status not in REFUSED:
                return answer
            error = answer.json["error"]
            assert error["code"] and " " in error["message"], answer.body
            self.refused[(answer.status, error["code"])] = error["message"]
            assert time.monotonic() < end, f"{method} {path} is not answered: {answer.body}\n{self.world.log()[-3000:]}"
            self.asked_again += 1
            self.world.wait_for_change()


def noise(size, seed):
    return random.Random(seed).randbytes(size // 2).hex()


@contextlib.contextmanager
def small_disk(size="4m"):
    """A real one that fills up; None where none can be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], stderr=subprocess.DEVNULL).returncode == 0
        try:
            yield folder if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def on_a_disk_that_fills():
    """(folder, env, fill, make room, whether it was full)"""
    with small_disk() as disk:
        if disk:
            ballast = f"{disk}/ballast"
            with open(ballast, "wb") as f:
                f.write(bytes(1 << 20))
            yield disk, None, lambda: None, lambda: os.unlink(ballast), lambda: os.statvfs(disk).f_bavail * 4096 < 300_000
        else:
            with tempfile.TemporaryDirectory() as folder:
                faults = Faults(folder, part="/state/")
                yield (folder, faults.env, lambda: faults.arm("write ENOSPC"), faults.disarm, lambda: faults.got("failed") > 0)


def test_a_full_disk_refuses_clearly_loses_nothing_and_goes_on_when_there_is_room():
    sim = Providers("alpha:0")
    try:
        with on_a_disk_that_fills() as (folder, env, fill, make_room, was_full):
            text = config({"alpha": {"preset": "openai-compatible", "base_url": sim.url("alpha"), "key": "k", "models": ["m"]}},
                          {"main": {"targets": [{"model": "alpha/m"}]}}, extra={"state": f"{folder}/state"})
            gateway = Gateway(text, env=env)
            try:
                gateway.until("the database is open", lambda: gateway.metric("perdure_database_open") == 1)
                acknowledged, refused = [], None
                for n in range(200):
                    if n == 5:
                        fill()
                    state = {"n": n, "text": noise(60_000, n)}
                    a = request(gateway.port, "POST", "/api/checkpoints", {"agent_id": "a", "state": state})
                    if a.status == 201:
                        acknowledged.append((a.json["checkpoint_id"], state))
                        continue
                    refused = a
                    break
                assert refused and was_full(), "the disk was never full"
                assert refused.status == 507 and refused.json["error"]["code"] == "disk_full", (refused.status, refused.body)
                assert "full" in refused.json["error"]["message"], refused.body
                # while it is full: calls go on, what was acknowledged is given, a run is refused in the same way
                assert gateway.chat().status == 200
                assert get(gateway, "/latest?agent=a")["checkpoint"]["state"] == acknowledged[-1][1]
                for i in range(2000):
                    a = request(gateway.port, "POST", "/api/runs", PLAN, {"Idempotency-Key": f"k{i}"})
                    if a.status != 201:
                        break
                assert a.status == 507 and a.json["error"]["code"] == "disk_full", (a.status, a.body)
                assert gateway.chat().status == 200
                make_room()
                gateway.until("it stores again", lambda: request(gateway.port, "POST", "/api/checkpoints", {"agent_id": "a", "state": {"n": "again"}}).status == 201)
                story = Patient(World(gateway))
                judge([], story.live())
                assert get(gateway, "/latest?agent=a")["checkpoint"]["state"] == {"n": "again"}
                gateway.program.kill()
                gateway = Gateway(text, env=env)
                gateway.until("the database is open", lambda: gateway.metric("perdure_database_open") == 1)
                for id, state in acknowledged:
                    assert get(gateway, "/" + id)["checkpoint"]["state"] == state
                print(f"    {len(acknowledged)} acknowledged before the disk was full")
            finally:
                gateway.program.kill()
    finally:
        sim.program.kill()


def live_with(kind, points, count=1):
    """A story for each point, at which `count` calls fail; then kill -9, and each is judged. How many calls failed, and with what clients were refused."""
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(folder)
        stories, failed, refused, log = [], 0, {}, ""
        with alone(folder, env=faults.env) as gateway:
            for at in points:
                story = Patient(World(gateway), key=f"night-{at}")
                faults.arm(kind, at, count)
                story.live()
                now = faults.disarm()
                assert now, f"{kind}: the call {at} of a story was never made ({faults.got('calls')} were)"
                failed += now
                refused |= story.refused
                stories.append(story)
            log = gateway.log()
            gateway.program.kill()
        with alone(folder, env=faults.env) as gateway:
            for story in stories:
                again = Patient(World(gateway), story.book, key=story.key)
                judge([(what, value) for _, what, value in story.told], again)
            result = subprocess.run([sys.executable, "-c", "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('pragma integrity_check').fetchone()[0])",
                                     copy_of(f"{folder}/state", f"{folder}/copy")], capture_output=True, text=True)
            assert result.stdout.strip() == "ok", result
        print(f"    {kind}: {failed} failed in {len(stories)} stories; refused with {sorted(refused)}")
        assert not refused or ("database.trouble" in log and "database.well" in log), log
        return refused, log


def copy_of(state, to):
    os.makedirs(to)
    for f in glob.glob(f"{state}/perdure.db*"):
        shutil.copy(f, to)
    return f"{to}/perdure.db"


def test_a_write_that_fails_is_said_and_what_was_acknowledged_stays():
    refused, log = live_with("write EIO", range(0, 60, 4))
    assert {s for s, _ in refused} == {503}, refused


def test_a_write_for_which_there_is_no_room_is_said():
    refused, log = live_with("write ENOSPC", range(0, 60, 6))
    assert (507, "disk_full") in refused, refused


def test_short_writes_are_gone_on_with():
    refused, log = live_with("short write", range(0, 60, 6), count=3)
    assert not refused, refused


def test_after_a_sync_that_failed_nothing_is_taken_for_durable_that_is_not():
    refused, log = live_with("fsync EIO", range(0, 20, 2))
    assert {s for s, _ in refused} == {503}, refused


if __name__ == "__main__":
    main(globals())
