"""Runs a command where Lambda's paths are: ``python isolate.py SPEC COMMAND…``, on this machine, by any Python 3.

SPEC has words with a zero byte after each: an empty folder, ``spare``; the folder where the command starts; 1 where /tmp is to
be empty, else 0; then pairs of a folder and the place where it is seen, read-only; folders with a colon before each are seen on
top of each other, the first one uppermost. All of that, and a network that has nothing
but itself, is for the command alone: it is done in private namespaces (namespaces(7)), as root or in a user namespace. Exit
status 97 where the machine does not allow it; where it does, there is a folder ``confined`` in ``spare``.
"""

from __future__ import annotations

import _socket  # not socket, nor json: they import more than all of this takes
import ctypes
import fcntl
import os
import struct
import sys

UNAVAILABLE = 97
CONFINED = "confined"
_NEWNS, _NEWIPC, _NEWUSER, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000
_RDONLY, _REMOUNT, _BIND, _REC, _UNBINDABLE, _PRIVATE = 1, 32, 4096, 16384, 1 << 17, 1 << 18
# What a mount in a user namespace has to keep of the one that it shows (mount_namespaces(7)): nosuid, nodev, noexec.
_LOCKED = 2 | 4 | 8
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def main(spec_path: str, command: list) -> int:  # type: ignore[type-arg]
    """Make the namespaces, and become the command."""
    with open(spec_path, "rb") as file:
        spare, start, tmp, *words = map(os.fsdecode, file.read().split(b"\0")[:-1])
    mounts = [(words[number], words[number + 1]) for number in range(0, len(words), 2)]
    try:
        separate()
        bring_up_loopback()
        ensure([place for _, place in mounts], spare)
        for folder, place in mounts:
            show(folder, place)
        if tmp == "1":
            mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777")  # noqa: S108 the place itself
        os.chdir(start)
        os.mkdir(os.path.join(spare, CONFINED))  # a command may end with any status
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return UNAVAILABLE
    os.execvp(command[0], command)  # noqa: S606 a list, and no shell
    return UNAVAILABLE


def libc() -> ctypes.CDLL:
    """Give the C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def check(status: int, what: str) -> None:
    """Raise the ``OSError`` of a call that has failed."""
    if status:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def separate() -> None:
    """Leave the namespaces that other processes see."""
    user, group = os.getuid(), os.getgid()
    flags = _NEWNS | _NEWIPC | _NEWNET | (_NEWUSER if user else 0)
    check(libc().unshare(flags), "unshare")
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    mount("none", "/", "", _REC | _PRIVATE)


def mount(source: str, place: str, kind: str, flags: int, options: str = "") -> None:
    """Call mount(2)."""
    words = [word.encode() or None for word in (source, place, kind)]
    check(libc().mount(*words, ctypes.c_ulong(flags), options.encode() or None), f"mount {place}")


def show(folder: str, place: str) -> None:
    """Let a folder, or several on top of each other, be seen, read-only, at a place that is there."""
    if folder[:1] == ":":
        mount("overlay", place, "overlay", _RDONLY, "lowerdir=" + folder[1:])
        return
    mount(folder, place, "", _BIND | _REC)
    mount("none", place, "", _REMOUNT | _BIND | _RDONLY | (os.statvfs(place).f_flag & _LOCKED))


def ensure(places: list[str], spare: str) -> None:
    """Have a folder at each place, and all others where they were: nothing of it can be seen outside.

    Where one is missing, the process gets another root folder: a new one can be made in none of the machine's own, and nothing
    can be mounted over a folder (/, or where ``spare`` lies) whose content is still to be shown.
    """
    missing = [os.path.realpath(place) for place in places if not os.path.isdir(place)]
    if not missing:
        return
    root = os.path.join(spare, "root")
    os.mkdir(root)
    mount("tmpfs", root, "tmpfs", 0, "mode=755")
    mount("none", root, "", _UNBINDABLE)  # or it would show itself within itself
    show_neighbours("/", root, missing)
    for place in missing:
        os.makedirs(root + place)
    os.chroot(root)


def show_neighbours(old: str, new: str, missing: list[str]) -> None:
    """Let all folders below one be seen below another, and make those anew that lead to what is missing."""
    for name in os.listdir(old):
        path, at = os.path.join(old, name), os.path.join(new, name)
        if os.path.islink(path):
            os.symlink(os.readlink(path), at)
        elif os.path.isdir(path):
            os.mkdir(at)
            if any(place.startswith(path + "/") for place in missing):
                show_neighbours(path, at, missing)
            else:
                mount(path, at, "", _BIND | _REC)


def bring_up_loopback() -> None:
    """Let programs in the new network reach each other: it starts with its only interface down (netdevice(7))."""
    any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))
    finally:
        any_socket.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
