"""Programs run under the recorder (recorder.c), which is built at the first use; and what is common to the matrices: a try at each point, a table of them."""
import argparse
import collections
import concurrent.futures
import importlib.machinery
import importlib.util
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import threading
import traceback

from disk import MODES

AT_ONCE = os.cpu_count() or 2
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scenario"))


def recorder():
    """The library, built anew when its source is newer."""
    built = pathlib.Path(os.environ.get("CRASH_BUILD", tempfile.gettempdir())) / f"perdure-recorder-{os.getuid()}.so"
    source = HERE / "recorder.c"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        fresh = built.with_suffix(f".{threading.get_native_id()}")
        subprocess.run([os.environ.get("CC", "cc").split()[-1], "-shared", "-fPIC", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o", str(fresh), str(source), "-ldl", "-pthread"],
                       check=True)
        os.replace(fresh, built)
    return str(built)


def surroundings(root, record=None, role=None, count=None, at=0, sockets=False, with_all=False, pipes=False):
    """The environment of a program that is recorded, or killed before point `at` of its role."""
    env = {"LD_PRELOAD": recorder(), "CRASH_ROOT": str(root)}
    if record:
        env["CRASH_RECORD"] = str(record)
    if role:
        env["CRASH_ROLE"] = role
    if count:
        env["CRASH_COUNT"] = str(count)
    if at:
        env["CRASH_AT"] = str(at)
    if with_all:
        env["CRASH_ALL"] = "1"
    if sockets:
        env["CRASH_SOCKETS"] = "1"
    if pipes:
        env["CRASH_PIPES"] = "1"
    return env


def counted(count):
    """How many points a role has made."""
    raw = pathlib.Path(count).read_bytes() if os.path.exists(count) else b""
    return struct.unpack_from("<Q", raw)[0] if len(raw) >= 8 else 0


def left_over(count):
    """Processes of that run that are still there."""
    mark, found = f"CRASH_COUNT={count}".encode(), []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0") and (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()}")
            except OSError:
                pass
    return found


def who_died(count):
    """Its process id; 0: nobody did."""
    return struct.unpack_from("<Q", pathlib.Path(count).read_bytes(), 8)[0]

def postgres_module():
    loader = importlib.machinery.SourceFileLoader("postgres_server", str(HERE.parent / "lib" / "postgres_server"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("postgres_server", loader))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


def until_dead(count):
    """Who dies with all the others is the last of them: what begins before it has gone would be taken along."""
    end = time.monotonic() + 15
    try:
        stat = pathlib.Path(f"/proc/{who_died(count)}/stat")
        while stat.read_text().rsplit(")", 1)[1].split()[0] not in "ZX" and time.monotonic() < end:
            time.sleep(0.002)
    except (OSError, struct.error):
        pass    # it has, or nobody died


# ---- a try at each point ------------------------------------------------------------------------------------

def arguments(text, **more):
    """What every matrix is asked. `more`: options of its own, by name, each with its choices; they may be given several times."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, choices in more.items():
        parser.add_argument(f"--{name}", choices=choices, action="append")
    parser.add_argument("--every", type=int, default=1, help="only each so manieth point")
    parser.add_argument("--offset", type=int, default=0, help="from this one on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="folder for the scratch folders")
    return parser.parse_args()


class Report:
    """The table of what was tried. `heads` name the words of a row's key."""

    def __init__(self, *heads):
        self.heads, self.rows, self.failures = heads, collections.OrderedDict(), 0

    def begin(self, key, points):
        self.rows[key] = [points, 0, 0]

    def one(self, key, at, future):
        row = self.rows[key]
        try:
            why = future.result()
        except BaseException as e:
            why = "".join(traceback.format_exception_only(e)).strip()
        row[1] += 1
        if why:
            row[2] += 1
            self.failures += 1
            if self.failures <= 20:
                print(f"FAIL {', '.join(key)}, point {at}: {why[:2500]}", flush=True)

    def end(self):
        """Prints it, and ends the program."""
        print(f"\n| {' | '.join(self.heads)} | points | tried | failed |\n|{'---|' * (len(self.heads) + 3)}")
        for key, row in self.rows.items():
            print(f"| {' | '.join(key)} | {' | '.join(map(str, row))} |")
        tried = sum(row[1] for row in self.rows.values())
        print(f"\n{tried - self.failures} passed, {self.failures} failed")
        sys.exit(1 if self.failures or not tried else 0)


def at_each(report, key, points, ask, one):
    """one(at) for each point that is asked for; what it returns, or raises, is why it failed. How many points there are differs a little
    from one time to the next, as beats and batches fall: one that was not reached is tried again, and fails when it is not then."""
    def reached(at):
        for _ in range(4):
            if (why := one(at)) != NEVER:
                break
        return why
    report.begin(key, points)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        tried = {pool.submit(reached, at): at for at in range(1 + ask.offset % ask.every, points + 1, ask.every)}
        for f in concurrent.futures.as_completed(tried):
            report.one(key, tried[f], f)


NEVER = "never reached"


def one_death(at, count):
    """Why a try with a death proves nothing; "": it does."""
    return NEVER if counted(count) < at else "" if who_died(count) else "nothing died"


def at_each_disk(report, key, points, disk, where, ask, one, at_once=AT_ONCE):
    """one(folder, point) on each disk that a loss of power could have left after the points asked for. `where(i, mode)`: a folder for it.
    Of disks that differ in what was told alone, as all "dropped" ones between two syncs, the last is tried: most was told of it."""
    def last_of_its_kind(i):
        return ask.every > 1 or i + 1 == len(points) or points[i + 1].kind == "s"
    rows = {mode: (*key[:-1], f"{key[-1]}, {mode}") for mode in MODES}
    for row in rows.values():
        if row not in report.rows:
            report.begin(row, len(points))
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        waiting = {}

        def take(when):
            for f in concurrent.futures.wait(waiting, return_when=when).done if waiting else ():
                report.one(*waiting.pop(f), f)
        for i, p in enumerate(points):
            disk.play(p)
            if (i - ask.offset) % ask.every and i != len(points) - 1:
                continue
            for mode in MODES:
                if mode == "dropped" and not last_of_its_kind(i):
                    continue
                while len(waiting) >= (2 * at_once if at_once > 1 else 1):
                    take(concurrent.futures.FIRST_COMPLETED)
                folder = where(i, mode)
                disk.write(f"{folder}/all", mode, seed=ask.seed * 1000003 + i)
                waiting[pool.submit(one, folder, p)] = (rows[mode], i)
        take(concurrent.futures.ALL_COMPLETED)
