"""The wall clock jumps an hour, forward and back, while a run is worked on: no lease ends early, no pause hangs, the order of checkpoints stays."""
import pathlib
import sys
import tempfile
import threading
import time

from test_checkpoints import alone, get, post
from perdure_test import main, request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "crash"))
from faults import Faults  # noqa: E402
from story import judge  # noqa: E402
from test_storage_faults import Patient, World  # noqa: E402

HOUR = 3600
JUMPS = (HOUR, -HOUR, 0, HOUR, 0, -HOUR, HOUR)
LEASE_MS = 2000
SLACK_S = 30    # within it what waits for no clock must have come


def ask(gateway, path, body, headers=None, status=(200,)):
    a = request(gateway.port, "POST", path, body, headers)
    assert a.status in status, (path, a.status, a.body)
    return a.json if a.body else None


def claim(gateway, run, word, lease_ms=LEASE_MS, wait_ms=500):
    return ask(gateway, "/api/work/claim", {"worker": "w", "claim": word, "run": run, "lease_ms": lease_ms, "wait_ms": wait_ms}, status=(200, 204))


def one_task(gateway, key, **member):
    plan = {"goal": "x", "tasks": [{"id": "one", "command": "x", "retries": 9, "backoff": "1ms", **member}]}
    return ask(gateway, "/api/runs", plan, {"Idempotency-Key": key}, (201,))["id"]


def claimed_in_time(gateway, run, what):
    began = time.monotonic()
    n = 0
    while time.monotonic() - began < SLACK_S:
        n += 1
        held = claim(gateway, run, f"{what}-{n}")
        if held:
            return held
    raise AssertionError(f"{what}: not given again within {SLACK_S} s\n{gateway.get(f'/api/runs/{run}/tasks/one').body}")


def jumping(story):
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(folder)
        with alone(folder, env=faults.env) as gateway:
            story(gateway, faults)
        assert faults.got("clock_reads") > 0, "the clock never jumped"


def test_a_held_lease_outlives_each_jump_and_one_that_is_left_ends_in_time():
    def story(gateway, faults):
        run = one_task(gateway, "held")
        held = claim(gateway, run, "c")
        held = {k: held[k] for k in ("run", "task", "epoch")}
        swept = lambda: gateway.get(f"/api/runs/{run}/tasks/one").json["epoch"]
        for jump in JUMPS:
            faults.clock(jump)
            end = time.monotonic() + LEASE_MS / 2000     # longer than all leases after the last of these, were they ended by the wall
            while time.monotonic() < end:
                ask(gateway, "/api/work/beat", held)
                assert claim(gateway, run, f"t{time.monotonic_ns()}", wait_ms=200) is None, f"a lease ended early by a jump of {jump} s"
        assert swept() == held["epoch"]
        ask(gateway, "/api/work/finish", {**held, "outcome": "done", "output": {}})
        for jump in (HOUR, -HOUR):
            faults.clock(0)
            left = one_task(gateway, f"left{jump}")
            first = claim(gateway, left, f"a{jump}")
            faults.clock(jump)
            again = claimed_in_time(gateway, left, f"left{jump}")
            assert again["epoch"] > first["epoch"], (first, again)
    jumping(story)


def test_a_pause_before_another_attempt_ends_whatever_the_clock_does():
    def story(gateway, faults):
        for at, to in ((0, HOUR), (0, -HOUR), (HOUR, 0), (50 * 60, 0), (HOUR, -HOUR), (-HOUR, HOUR)):
            faults.clock(at)
            key = f"pause{at}to{to}"
            run = one_task(gateway, key, backoff="1s")
            held = claim(gateway, run, key)
            ask(gateway, "/api/work/finish", {**{k: held[k] for k in ("run", "task", "epoch")}, "outcome": "failed", "error": "no"})
            faults.clock(to)
            claimed_in_time(gateway, run, key + "again")
    jumping(story)


def test_checkpoints_keep_their_order_and_runs_end():
    def story(gateway, faults):
        made = []
        for n, jump in enumerate(JUMPS * 3):
            faults.clock(jump)
            made.append(post(gateway, agent_id="a", state={"n": n}))
            assert get(gateway, "/latest?agent=a")["checkpoint"]["state"] == {"n": n}
        assert [c["checkpoint_id"] for c in get(gateway, "?agent=a&limit=100")["checkpoints"]] == made[::-1]
        gateway.until("all are in the object store", lambda: gateway.metric("perdure_checkpoint_uploads_total", result="done") >= len(made))
        for n in range(len(JUMPS)):
            tale = Patient(World(gateway), key=f"jump{n}")
            stop = threading.Event()

            def jumps():
                while not stop.is_set():
                    for jump in JUMPS:
                        faults.clock(jump)
                        stop.wait(0.003)
            t = threading.Thread(target=jumps)
            t.start()
            try:
                tale.live()
            finally:
                stop.set()
                t.join()
            again = Patient(World(gateway), tale.book, key=tale.key)
            judge([(what, value) for _, what, value in tale.told], again)
        faults.clock(HOUR)
        assert get(gateway, "/latest?agent=a")["checkpoint"]["state"]["n"] == len(made) - 1
        gateway.program.kill()
    jumping(story)


if __name__ == "__main__":
    main(globals())
