"""PostgreSQL under a whole perdure: killed in the middle, and its disk full. What was acknowledged is there."""
import contextlib
import os
import pathlib
import pwd
import shutil
import sys
import tempfile
import threading

from test_checkpoints import alone, get, post, server, tell
from perdure_test import main, request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "crash"))
from story import PLAN, judge  # noqa: E402
from test_storage_faults import Patient, World, noise, small_disk  # noqa: E402

KILLS = 5


def sql(process, statement):
    process.stdin.write(f"sql {statement}\n")
    process.stdin.flush()
    said = []
    while (line := process.stdout.readline().strip()) not in ("done", "failed", ""):
        said.append(line)
    assert line == "done", (statement, said, line)
    return said


def test_a_server_that_is_killed_in_the_middle_loses_nothing():
    with server("postgres_server") as pg, tempfile.TemporaryDirectory() as folder:
        if not pg:
            print("    no PostgreSQL here: not tried")
            return
        with alone(folder, env={"DATABASE_URL": pg[1]}) as gateway:
            acknowledged, refused, stop, stories = [], set(), threading.Event(), []

            def write():
                n = 0
                while not stop.is_set():
                    a = request(gateway.port, "POST", "/api/checkpoints", {"agent_id": "a", "state": {"n": n}})
                    if a.status == 201:
                        acknowledged.append((a.json["checkpoint_id"], n))
                    else:
                        refused.add((a.status, a.json["error"]["code"]))
                    n += 1

            def work():
                while not stop.is_set():
                    tale = Patient(World(gateway), key=f"night-{len(stories)}")
                    stories.append(tale.live())
            threads = [threading.Thread(target=f) for f in (write, work)]
            for t in threads:
                t.start()
            try:
                for _ in range(KILLS):
                    seen, told = len(acknowledged), len(stories)
                    gateway.until("both go on", lambda: len(acknowledged) > seen + 10 and len(stories) > told)
                    tell(pg[0], "kill", "killed")
                    tell(pg[0], "start", "started")
            finally:
                seen = len(acknowledged)
                with contextlib.suppress(AssertionError):
                    gateway.until("it goes on after the last", lambda: len(acknowledged) > seen + 10)
                stop.set()
                for t in threads:
                    t.join()
            assert len(acknowledged) > seen + 10
            assert {s for s, _ in refused} <= {503}, refused
            for id, n in acknowledged:
                assert get(gateway, "/" + id)["checkpoint"]["state"] == {"n": n}
            for tale in stories:
                again = Patient(World(gateway), tale.book, key=tale.key)
                judge([(what, value) for _, what, value in tale.told], again)
            print(f"    {KILLS} kills, {len(acknowledged)} checkpoints and {len(stories)} runs acknowledged, refused with {sorted(refused)}")


def test_a_server_whose_disk_is_full_is_said_and_loses_nothing():
    with server("postgres_server") as pg, small_disk("24m") as disk, tempfile.TemporaryDirectory() as folder:
        if not pg or not disk:
            print("    no PostgreSQL, or no disk to fill here: not tried")
            return
        os.chmod(disk, 0o755)
        space, ballast = f"{disk}/space", f"{disk}/ballast"
        os.mkdir(space, 0o700)
        with contextlib.suppress(KeyError):
            who = pwd.getpwnam("postgres")
            os.chown(space, who.pw_uid, who.pw_gid)
        sql(pg[0], f"CREATE TABLESPACE small LOCATION '{space}'")
        sql(pg[0], "CREATE DATABASE tight TABLESPACE small")
        # what a server replays after its crash needs room too
        with open(ballast, "wb") as f:
            f.write(bytes(12 << 20))
        url = pg[1].rsplit("/", 1)[0] + "/tight"
        with alone(folder, env={"DATABASE_URL": url}) as gateway:
            acknowledged, full = [], None
            for n in range(400):
                state = {"n": n, "text": noise(60_000, n)}
                a = request(gateway.port, "POST", "/api/checkpoints", {"agent_id": "a", "state": state})
                if a.status != 201:
                    full = a
                    break
                acknowledged.append((a.json["checkpoint_id"], state))
            assert full, "the disk was never full"
            assert full.status == 507 and full.json["error"]["code"] == "disk_full" and "space" in full.json["error"]["message"], (full.status, full.body)
            assert shutil.disk_usage(disk).free < 500_000, shutil.disk_usage(disk)
            assert get(gateway, "/latest?agent=a")["checkpoint"]["state"] == acknowledged[-1][1]
            gateway.until("it is in the log", lambda: "database.trouble" in gateway.log())
            os.unlink(ballast)
            more = post(gateway, agent_id="a", state={"n": "again"})
            tale = Patient(World(gateway))
            judge([], tale.live())
            gateway.until("it is well again", lambda: "database.well" in gateway.log())
            tell(pg[0], "kill", "killed")
            tell(pg[0], "start", "started")
            for id, state in acknowledged + [(more, {"n": "again"})]:
                assert get(gateway, "/" + id)["checkpoint"]["state"] == state
            print(f"    {len(acknowledged)} acknowledged before the disk was full")


if __name__ == "__main__":
    main(globals())
