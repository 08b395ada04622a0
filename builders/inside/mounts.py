"""Mounts files and folders for isolate.py, so that what is mounted below them cannot be written to either."""

from __future__ import annotations

import ctypes
import os
import struct

if __name__ == "mounts":
    from held_memory import read_file  # type: ignore[import-not-found]
else:
    from builders.inside.held_memory import read_file

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, SLAVE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19
PRIVATE = 1 << 18
_MOUNT_SETATTR, _AT_CWD, _AT_RECURSIVE = 442, -100, 0x8000
# Flags that a mount in a user namespace has to keep of the one that it shows (mount_namespaces(7)).
LOCKED = NOSUID | NODEV | NOEXEC
_ESCAPED = b"\t\n \\"
"""Characters that mountinfo writes in octal (proc_pid_mountinfo(5)); the one that begins this is the last."""


def libc() -> ctypes.CDLL:
    """Return the C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def check(status: int, what: str) -> None:
    """Raise the ``OSError`` of a call that has failed."""
    if status:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, place: str, kind: str, flags: int, options: str = "") -> None:
    """Call mount(2)."""
    names = [os.fsencode(name) or None for name in (source, place, kind)]
    check(libc().mount(*names, ctypes.c_ulong(flags), os.fsencode(options) or None), f"mount {place}")


def show(path: str, place: str) -> None:
    """Let a file, a folder, or several on top of each other, be seen, read-only, at a place that is there."""
    if path[:1] == ":":
        mount("overlay", place, "overlay", RDONLY | NOSUID | NODEV, "lowerdir=" + path[1:])
        return
    mount(path, place, "", BIND | REC)
    make_read_only(place, NOSUID if path.startswith("/dev/") else NOSUID | NODEV)


def make_read_only(place: str, flags: int) -> None:
    """Let nothing be written to a mount, nor to those below it, and let no others follow; ``flags`` are more of theirs."""
    # The attributes of mount_setattr(2) have the values of the flags of mount(2).
    attributes = struct.pack("=4Q", RDONLY | flags, 0, PRIVATE, 0)
    if not libc().syscall(_MOUNT_SETATTR, _AT_CWD, os.fsencode(place), _AT_RECURSIVE, attributes, len(attributes)):
        return
    mount("none", place, "", REC | PRIVATE)  # a kernel before 5.12, or something that does not know this call, and refuses it
    for point in mount_points(place):
        kept = os.statvfs(point).f_flag & LOCKED
        mount("none", point, "", REMOUNT | BIND | RDONLY | flags | kept)


def mount_points(place: str) -> list[str]:
    """Return where something is mounted at a place and below it."""
    place, found = os.path.realpath(place), []
    for line in read_file("/proc/self/mountinfo").splitlines():
        point = unescaped(line.split(b" ")[4])
        if point == place or point.startswith(place + "/"):
            found.append(point)
    return found


def unescaped(path: bytes) -> str:
    """Return a path as it is, of one in mountinfo."""
    for code in _ESCAPED:
        path = path.replace(b"\\%03o" % code, bytes([code]))
    return os.fsdecode(path)


def show_made(path: str, place: str) -> None:
    """Let a file or a folder be seen at a place; that of a file is made where it is missing."""
    if not os.path.isdir(path) and not os.path.lexists(place):
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    show(path, place)
