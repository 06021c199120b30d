"""Programs run under the recorder (recorder.c), which is built at the first use, and the table of what was tried with them."""
import concurrent.futures
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import traceback

AT_ONCE = os.cpu_count() or 2
SHOWN_MAX = 20      # failures in words
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scenario"))


def recorder():
    """The library, built anew when its source is newer."""
    built = pathlib.Path(os.environ.get("CRASH_BUILD", tempfile.gettempdir())) / f"perdure-recorder-{os.getuid()}.so"
    source = HERE / "recorder.c"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        fresh = built.with_suffix(f".{os.getpid()}")
        subprocess.run([os.environ.get("CC", "cc").split()[-1], "-shared", "-fPIC", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o", str(fresh), str(source), "-ldl", "-pthread"],
                       check=True)
        os.replace(fresh, built)
    return str(built)


def surroundings(root, record=None, role=None, count=None, at=0, sockets=False, with_all=False):
    """The environment of a program that is recorded, or killed before point `at` of its role."""
    env = {"LD_PRELOAD": recorder(), "CRASH_ROOT": str(root)}
    if record:
        env["CRASH_RECORD"] = str(record)
    if role:
        env |= {"CRASH_ROLE": role, "CRASH_COUNT": str(count)}
    if at:
        env["CRASH_AT"] = str(at)
    if with_all:
        env["CRASH_ALL"] = "1"
    if sockets:
        env["CRASH_SOCKETS"] = "1"
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


class Table:
    """Rows of points, tried some at once: a function for each, which says what is wrong, or nothing."""

    def __init__(self, heading):
        self.heading, self.rows, self.failures = heading, [], 0

    def row(self, name, points, todo):
        failed = 0
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for at, f in [(at, pool.submit(what)) for at, what in todo]:
                try:
                    why = f.result()
                except BaseException as e:
                    why = "".join(traceback.format_exception_only(e)).strip()
                if why:
                    failed += 1
                    if self.failures + failed <= SHOWN_MAX:
                        print(f"FAIL {name}, point {at}: {why[:2500]}", flush=True)
        self.rows.append((name, points, len(todo), failed))
        self.failures += failed
        print(f"{name}: {points} points, {len(todo)} tried, {failed} failed", flush=True)

    def end(self):
        """Prints it. The exit status."""
        print(f"\n| {self.heading} | points of a run | tried | failed |\n|---|---|---|---|")
        for name, points, tried, failed in self.rows:
            print(f"| {name} | {points} | {tried} | {failed} |")
        print(f"\n{sum(r[2] for r in self.rows) - self.failures} passed, {self.failures} failed")
        return 1 if self.failures or not self.rows else 0
