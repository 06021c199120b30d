"""One side is lost, damaged, or fails: the database, the object store, its S3 server. What was acknowledged is given by the other, and said."""
import contextlib
import glob
import json
import os
import shutil
import sqlite3
import tempfile

from test_checkpoints import alone, command, get, post, server, tell
from perdure_test import main, request


def uploaded(gateway, n):
    gateway.until(f"{n} are in the object store", lambda: gateway.metric("perdure_checkpoint_uploads_total", result="done") >= n)


def some(gateway, n, agent="a", first=0):
    """Small ones, large ones, and conversations; what each must give back."""
    made = []
    for i in range(first, first + n):
        state = {"n": i, "text": "x" * (30_000 if i % 3 == 1 else 10) + str(i)}
        more = {"messages": [{"role": "user", "content": f"m{j}"} for j in range(i + 1)]} if i % 3 == 2 else {}
        made.append((post(gateway, agent_id=agent, state=state, **more), state))
    return made


def damage_database(path, id):
    """Bytes of its document, where it is: in its row, or among the contents. How many places."""
    c = sqlite3.connect(path)
    places = 0
    for sql in ("SELECT rowid, document FROM checkpoints WHERE checkpoint_id = ? AND document IS NOT NULL",
                "SELECT rowid, stored FROM blobs WHERE name = (SELECT sha256 FROM checkpoints WHERE checkpoint_id = ?)"):
        for row, data in c.execute(sql, (id,)).fetchall():
            bad = data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 0x55]) + data[len(data) // 2 + 1:]
            c.execute(f"UPDATE {'checkpoints SET document' if 'document IS' in sql else 'blobs SET stored'} = ? WHERE rowid = ?", (bad, row))
            places += 1
    c.commit()
    c.close()
    return places


def damage_object(folder, id):
    found = [p for p in glob.glob(f"{folder}/**/*", recursive=True) if os.path.basename(p).startswith(id)]
    for path in found:
        os.chmod(path, 0o600)
        with open(path, "r+b") as f:
            f.seek(os.path.getsize(path) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 0x55]))
    return len(found)


def test_the_newest_is_damaged_on_one_side_then_on_both():
    for last in (3, 5):     # 5: the newest is a large one
        with tempfile.TemporaryDirectory() as folder:
            state = f"{folder}/state"
            with alone(folder) as gateway:
                made = some(gateway, last)
                uploaded(gateway, last)
            id, newest = made[-1]
            assert damage_database(f"{state}/perdure.db", id) == 1
            from_object = command("restore", "--agent", "a", "--database", f"{state}/perdure.db", "--snapshots", f"{state}/snapshots")
            assert from_object[0] == 0 and json.loads(from_object[1]) == newest, from_object
            assert "damaged" in from_object[2] or "object store" in from_object[2], from_object
            with alone(folder) as gateway:
                a = get(gateway, "/latest?agent=a")
                assert a["checkpoint"]["state"] == newest, a
                assert "damaged" in json.dumps(a.get("notes", a)), a
            assert damage_object(f"{state}/snapshots", id) == 1
            before = command("restore", "--agent", "a", "--database", f"{state}/perdure.db", "--snapshots", f"{state}/snapshots")
            assert before[0] == 0 and json.loads(before[1]) == made[-2][1], before
            assert "passed over" in before[2] and id in before[2], before
            with alone(folder) as gateway:
                assert get(gateway, "/latest?agent=a")["checkpoint"]["state"] == made[-2][1]
                assert request(gateway.port, "GET", f"/api/checkpoints/{id}").status in (404, 409, 410, 422, 500, 503)
                more = some(gateway, 1, first=100)
                assert get(gateway, "/latest?agent=a")["checkpoint"]["state"] == more[0][1]


@contextlib.contextmanager
def buckets():
    """(name, environment, what --snapshots is told): the folder, and a real S3 server where one can be had."""
    with tempfile.TemporaryDirectory() as folder, server("s3_server") as s3:
        ways = [("folder", {}, lambda state: f"{state}/snapshots")]
        if s3:
            url, access, secret, bucket = s3[1].split()
            env = {"CHECKPOINT_BUCKET": bucket, "MINIO_ENDPOINT": url, "MINIO_ACCESS_KEY": access, "MINIO_SECRET_KEY": secret}
            ways.append(("s3", env, lambda state: f"s3://{bucket}"))
        yield folder, ways


def test_the_database_is_lost_and_the_bucket_has_all_that_was_there():
    with buckets() as (folder, ways):
        for name, env, where in ways:
            own = f"{folder}/{name}"
            state = f"{own}/state"
            with alone(own, env=env) as gateway:
                made = some(gateway, 12)
                uploaded(gateway, 12)
                gateway.program.kill()
            gone = [os.unlink(f) for f in glob.glob(f"{state}/perdure.db*")]
            assert len(gone) >= 2, gone     # the file, and its log
            for id, value in made:
                one = command("show", id, "--snapshots", where(state), env=env)
                assert one[0] == 0 and json.loads(one[1])["state"] == value, (name, id, one)
            newest = command("restore", "--agent", "a", "--snapshots", where(state), env=env)
            assert newest[0] == 0 and json.loads(newest[1]) == made[-1][1] and "object store" in newest[2], newest
            # a new gateway with the same bucket goes on
            with alone(own, env=env) as gateway:
                assert get(gateway, "/latest?agent=a")["checkpoint"]["state"] == made[-1][1]
                more = some(gateway, 3, first=12)
                uploaded(gateway, 3)
                assert get(gateway, "/latest?agent=a")["checkpoint"]["state"] == more[-1][1]
                for id, value in made + more:
                    assert get(gateway, "/" + id)["checkpoint"]["state"] == value
            newest = command("restore", "--agent", "a", "--snapshots", where(state), env=env)
            assert newest[0] == 0 and json.loads(newest[1]) == more[-1][1], newest


def test_the_bucket_is_lost_and_the_database_has_all():
    with tempfile.TemporaryDirectory() as folder:
        state = f"{folder}/state"
        with alone(folder) as gateway:
            made = some(gateway, 6)
            uploaded(gateway, 6)
            shutil.rmtree(f"{state}/snapshots")      # under the feet of a running one
            more = some(gateway, 3, first=6)
            for id, value in made + more:
                assert get(gateway, "/" + id)["checkpoint"]["state"] == value
            gateway.until("it is said", lambda: "snapshots.behind" in gateway.log())
        for id, value in made + more:
            one = command("show", id, "--database", f"{state}/perdure.db")
            assert one[0] == 0 and json.loads(one[1])["state"] == value, one
        newest = command("restore", "--agent", "a", "--database", f"{state}/perdure.db")
        assert newest[0] == 0 and json.loads(newest[1]) == more[-1][1], newest
        assert not os.path.exists(f"{state}/snapshots")
        # the next one fills it again, and then the database may be lost, too
        with alone(folder) as gateway:
            uploaded(gateway, 9)
            assert gateway.log().count("snapshots.lost") == 1, gateway.log()
        with alone(folder) as gateway:      # it is there: nothing is sent again
            more += some(gateway, 1, first=9)
            uploaded(gateway, 1)
            assert gateway.metric("perdure_checkpoint_uploads_total", result="done") == 1 and "snapshots.lost" not in gateway.log()
        for f in glob.glob(f"{state}/perdure.db*"):
            os.unlink(f)
        for id, value in made + more:
            one = command("show", id, "--snapshots", f"{state}/snapshots")
            assert one[0] == 0 and json.loads(one[1])["state"] == value, one


def say(process, words):
    process.stdin.write(words + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


S3_FAULTS = (("409", 3), ("412", 3), ("500", 3), ("503", 2), ("lost", 3), ("lost500", 2), ("reset", 2), ("cut", 1), ("html", 1))


def test_an_s3_server_that_fails_gets_each_checkpoint_once_and_in_order():
    for kind, times in S3_FAULTS:
        with server("s3_faulty") as s3, tempfile.TemporaryDirectory() as folder:
            env = {"CHECKPOINT_BUCKET": "bucket", "MINIO_ENDPOINT": s3[1], "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "s"}
            with alone(folder, env=env) as gateway:
                made = some(gateway, 3)
                uploaded(gateway, 3)
                assert say(s3[0], f"fault {'GET' if kind == 'cut' else 'PUT'} {kind} {times}") == "ok"
                made += some(gateway, 4, first=3)
                uploaded(gateway, 7)
                for id, value in made:
                    assert get(gateway, "/" + id)["checkpoint"]["state"] == value
                counts = dict(p.split("=") for p in say(s3[0], "counts").split())
                assert int(counts.get(kind, 0)) == times, f"{kind}: {counts}"
                stored = [p.split("=") for p in say(s3[0], "stored").split()]
            shots = [k.rsplit("/", 1)[-1].removesuffix(".json.zst") for k, _, _ in stored if k.endswith(".json.zst")]
            shots = [k for k in shots if k in {id for id, _ in made}]
            assert shots == [id for id, _ in made], (kind, shots, made)
            changed = [(k, n, other) for k, n, other in stored if int(other) and "latest" not in k]
            assert not changed, (kind, changed)
            lost = command("restore", "--agent", "a", "--snapshots", "s3://bucket", env=env)
            assert lost[0] == 0 and json.loads(lost[1]) == made[-1][1], (kind, lost)
            print(f"    {kind}: {counts[kind]} failed, {counts['requests']} requests, {len(shots)} uploaded in order")


if __name__ == "__main__":
    main(globals())
