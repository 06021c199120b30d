"""The disks that a loss of power could have left: made from a record of what was done to a folder (recorder.c).

A disk model as strict as POSIX allows, and stricter than most file systems are:
- bytes written are on the disk for certain only after an fsync (fdatasync) of that file; a name (create, rename, link, unlink, mkdir)
  only after an fsync of its folder. Until then they may be there or not.
- With `names_follow` an fsync of a new file makes its name durable too, as ext4, XFS and Btrfs do and PostgreSQL counts on.
- "dropped": nothing of what was not synced is there. "kept": all of it is (as after kill -9). "reordered": of the writes not synced each may or may
  not be there, whatever their order; of the names a first part is. "torn": as reordered, and of each write that is there only some
  sectors of SECTOR bytes are.
- What was synced is there always, and what was never written never is: a place that a lost write would have made reads as zeros only where a later one
  that is there lies behind it.
"""
import dataclasses
import os
import pathlib
import random
import struct

HEAD = struct.Struct("<IBBHHHIQQQ")   # struct record_head
MAGIC = 0x43524153
SECTOR = 512
MODES = ("dropped", "reordered", "torn")


@dataclasses.dataclass(slots=True)
class Point:
    kind: str
    role: bool
    pid: int
    file: int
    at: int
    size: int
    path: str
    other: str
    data: bytes
    end: int   # where in the record it ends


def read_record(path):
    """All points, in order. A torn end (its writer was killed) is left out."""
    raw = pathlib.Path(path).read_bytes() if os.path.exists(path) else b""
    points, i = [], 0
    while i + HEAD.size <= len(raw):
        magic, kind, role, np, no, _, pid, file, at, size = HEAD.unpack_from(raw, i)
        assert magic == MAGIC, f"the record is damaged at {i}"
        kind = chr(kind)
        nd = size if kind == "w" else 0
        end = i + HEAD.size + np + no + nd
        if end > len(raw):
            break
        p = i + HEAD.size
        points.append(Point(kind, bool(role), pid, file, at, size, raw[p:p + np].decode(), raw[p + np:p + np + no].decode(), raw[p + np + no:end], end))
        i = end
    return points


class File:
    """Bytes: those that are durable, and what was done since."""
    __slots__ = ("durable", "pending")

    def __init__(self, durable=b""):
        self.durable, self.pending = bytearray(durable), []

    def sync(self):
        for p in self.pending:
            apply(self.durable, p, None)
        self.pending = []

    def after(self, mode, rng):
        """What a disk has of it."""
        out = bytearray(self.durable)
        for p in self.pending:
            if mode == "kept":
                apply(out, p, None)
            elif mode in ("reordered", "torn") and rng.random() < 0.5:
                apply(out, p, rng if mode == "torn" else None)
        return bytes(out)


def apply(out, point, rng):
    if point.kind == "t":
        if len(out) > point.at:
            del out[point.at:]
        else:
            out.extend(bytes(point.at - len(out)))
        return
    data, at = point.data, point.at
    parts = [(at, data)]
    if rng:   # cut at sectors of the disk, not of the write
        parts, i = [], 0
        while i < len(data):
            n = min(len(data) - i, SECTOR - (at + i) % SECTOR)
            if rng.random() < 0.5:
                parts.append((at + i, data[i:i + n]))
            i += n
    for where, piece in parts:
        if len(out) < where:
            out.extend(bytes(where - len(out)))
        out[where:where + len(piece)] = piece


class Disk:
    """Plays a record. `base` is a copy of the folder from before it, taken to be durable; `root` is the path that the record speaks of."""

    def __init__(self, root, base=None, names_follow=False):
        self.names_follow = names_follow
        self.root = os.path.realpath(root)
        self.numbers = {}       # inode number -> File, as it is now
        self.now, self.durable = {}, {}   # path -> File or None (a folder)
        self.waiting = {}       # folder -> changes of names not yet durable: (function of a dict)
        self.now[self.root] = self.durable[self.root] = None
        if base:
            for folder, folders, files in os.walk(base):
                rel = os.path.relpath(folder, base)
                at = self.root if rel == "." else f"{self.root}/{rel}"
                for d in folders:
                    self.now[f"{at}/{d}"] = self.durable[f"{at}/{d}"] = None
                for f in files:
                    file = File(pathlib.Path(folder, f).read_bytes())
                    self.now[f"{at}/{f}"] = self.durable[f"{at}/{f}"] = file

    def know(self, paths_to_inodes):
        """The inode numbers of what was there before the record began."""
        for path, number in paths_to_inodes.items():
            if self.now.get(path) is not None:
                self.numbers[number] = self.now[path]

    def _name(self, point, change):
        for path in {os.path.dirname(p) for p in (point.path, point.other) if p}:
            self.waiting.setdefault(path, [])
        key = os.path.dirname(point.other or point.path)
        change(self.now)
        self.waiting[key].append(change)

    def play(self, point):
        k = point.kind
        if k == "w" or k == "t":
            self.numbers.setdefault(point.file, File()).pending.append(point)
        elif k == "c":
            file = self.numbers[point.file] = File()
            self._name(point, lambda names, p=point.path, f=file: names.__setitem__(p, f))
        elif k == "d":
            self._name(point, lambda names, p=point.path: names.__setitem__(p, None))
        elif k in "ux":
            self._name(point, lambda names, p=point.path: names.pop(p, None))
        elif k == "l":
            file = self.now.get(point.path)
            self._name(point, lambda names, p=point.other, f=file: names.__setitem__(p, f))
        elif k == "r":
            def move(names, a=point.path, b=point.other):
                for path in [p for p in names if p == a or p.startswith(a + "/")]:
                    names[b + path[len(a):]] = names.pop(path)
            self._name(point, move)
        elif k == "s":
            if point.path:
                for change in self.waiting.pop(point.path, []):
                    change(self.durable)
            elif point.file in self.numbers:
                file = self.numbers[point.file]
                file.sync()
                if self.names_follow:
                    for path in [p for p, f in self.now.items() if f is file]:
                        self.durable[path] = file

    def write(self, where, mode, seed=0):
        """The disk as it may be now, as a folder."""
        rng = random.Random(seed)
        names = dict(self.durable)
        for folder in sorted(self.waiting):
            changes = self.waiting[folder]
            n = {"dropped": 0, "kept": len(changes)}.get(mode)
            for change in changes[:rng.randint(0, len(changes)) if n is None else n]:
                change(names)
        where = str(where)
        os.makedirs(where, exist_ok=True)
        done = {}
        for path in sorted(names):
            file, to = names[path], where + path[len(self.root):]
            if file is None:
                os.makedirs(to, exist_ok=True)
                continue
            if not os.path.isdir(os.path.dirname(to)):
                continue        # its folder is not there: nor is it
            if id(file) not in done:
                done[id(file)] = file.after(mode, rng)
            pathlib.Path(to).write_bytes(done[id(file)])
        return where
