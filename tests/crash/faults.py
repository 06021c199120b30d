"""A program whose disk fails when it is told to, and whose clock jumps (faults.c, which is built at the first use)."""
import mmap
import os
import pathlib
import struct
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
KINDS = {"write EIO": 1, "write ENOSPC": 2, "short write": 3, "fsync EIO": 4, "read EIO": 5}
NAMES = ("kind", "after", "count", "calls", "failed", "clock_ms", "clock_reads")
FOREVER = 1 << 40


def library():
    built = pathlib.Path(os.environ.get("CRASH_BUILD", tempfile.gettempdir())) / f"perdure-faults-{os.getuid()}.so"
    source = HERE / "faults.c"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        fresh = built.with_suffix(f".{os.getpid()}")
        subprocess.run([os.environ.get("CC", "cc").split()[-1], "-shared", "-fPIC", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o", str(fresh), str(source), "-ldl"],
                       check=True)
        os.replace(fresh, built)
    return str(built)


class Faults:
    """What is to fail in the files whose path has `part`; `env` is for the program."""

    def __init__(self, folder, part="perdure.db"):
        path = f"{folder}/talk"
        with open(path, "wb") as f:
            f.write(bytes(8 * len(NAMES)))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 8 * len(NAMES))
        self.env = {"LD_PRELOAD": library(), "FAULTS_AT": part, "FAULTS_TALK": path}

    def put(self, name, value):
        struct.pack_into("<q", self.map, 8 * NAMES.index(name), value)

    def got(self, name):
        return struct.unpack_from("<q", self.map, 8 * NAMES.index(name))[0]

    def arm(self, kind, after=0, count=FOREVER):
        self.put("kind", 0)
        for name, value in (("after", after), ("count", count), ("calls", 0), ("failed", 0)):
            self.put(name, value)
        self.put("kind", KINDS[kind])

    def disarm(self):
        """How many have failed."""
        self.put("kind", 0)
        return self.got("failed")

    def clock(self, ahead_s):
        self.put("clock_ms", ahead_s * 1000)
