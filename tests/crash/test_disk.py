"""The model of a disk that loses power is right about SQLite, which is known to keep what it said it had: and sees it when syncs do nothing."""
import collections
import contextlib
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import recorded  # noqa: E402
from disk import MODES, Disk, read_record  # noqa: E402
from perdure_test import main  # noqa: E402

ROWS = 24
PROGRAM = f"""
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/db/a.db", isolation_level=None)
db.execute("pragma journal_mode=" + sys.argv[2])
db.execute("pragma synchronous=" + sys.argv[3])
db.execute("create table t(n integer primary key, x text)")
said = os.open(sys.argv[1] + "/said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range({ROWS}):
    db.execute("begin immediate")
    db.execute("insert into t values (?, ?)", (i, "x" * 3000))
    db.execute("commit")
    os.write(said, b"%d\\n" % i)
    if i == {ROWS // 2} and sys.argv[2] == "wal":
        db.execute("pragma wal_checkpoint(truncate)")
"""


def play(folder, mode, points, judge):
    """Every disk there could have been; how many are not as they should be."""
    os.makedirs(f"{folder}/base/db")
    disk, said, bad = Disk(f"{folder}/all", f"{folder}/base"), -1, 0
    for i, p in enumerate(points):
        disk.play(p)
        if p.kind == "w" and p.data.endswith(b"\n") and len(p.data) < 5:
            said = int(p.data)
        where = disk.write(f"{folder}/disk", mode, seed=i)
        bad += not judge(f"{where}/db/a.db", said)
        shutil.rmtree(where)
    assert said == ROWS - 1, said
    return bad


def keeps(path, said):
    if not os.path.exists(path):
        return said < 0
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            whole = db.execute("pragma integrity_check").fetchone()[0] == "ok"
            return whole and (said < 0 or db.execute("select coalesce(max(n), -1) from t").fetchone()[0] >= said)
    except sqlite3.Error:
        return said < 0


def record(folder, journal, synchronous):
    os.makedirs(f"{folder}/all/db")
    subprocess.run([sys.executable, "-c", PROGRAM, f"{folder}/all", journal, synchronous], check=True,
                   env={**os.environ, **recorded.surroundings(f"{folder}/all", f"{folder}/record")})
    points = read_record(f"{folder}/record")
    kinds = collections.Counter(p.kind for p in points)
    assert kinds["w"] > 2 * ROWS and kinds["s"] >= ROWS, kinds
    return points


def each_disk(journal, synchronous="full", without_syncs=False):
    with tempfile.TemporaryDirectory() as folder:
        points = record(folder, journal, synchronous)
        if without_syncs:
            points = [p for p in points if p.kind != "s" or p.path]
        total = 0
        for mode in MODES:
            total += play(folder, mode, points, keeps)
            shutil.rmtree(f"{folder}/base")
        return total


def test_sqlite_keeps_in_its_log_what_it_said():
    assert each_disk("wal") == 0


def test_sqlite_keeps_with_a_rollback_journal_what_it_said():
    assert each_disk("delete", "extra") == 0


def test_with_a_rollback_journal_full_is_not_enough_and_that_is_seen():
    """SQLite's own manual says so: the journal's unlink is not made durable, so the last transaction may be rolled back."""
    assert each_disk("delete", "full") > 0


def test_without_syncs_the_disks_are_seen_to_have_lost_it():
    assert each_disk("wal", without_syncs=True) > ROWS


def test_a_process_dies_before_the_point_that_was_named():
    with tempfile.TemporaryDirectory() as folder:
        all_points = None
        for at in (0, 1, 7, 40):
            root = f"{folder}/{at}"
            os.makedirs(f"{root}/db")
            env = recorded.surroundings(root, role="python3", count=f"{folder}/count-{at}", at=at)
            done = subprocess.run(["python3", "-c", PROGRAM, root, "wal", "full"], env={**os.environ, **env})
            n = recorded.counted(f"{folder}/count-{at}")
            if at == 0:
                assert done.returncode == 0 and n > 100, (done, n)
                all_points = n
            else:
                assert done.returncode == -signal.SIGKILL and n == at < all_points, (done, n)


if __name__ == "__main__":
    main(globals())
