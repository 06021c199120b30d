"""Programs run under the recorder (recorder.c), which is built at the first use."""
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

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
