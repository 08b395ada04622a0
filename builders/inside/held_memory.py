"""Counts the memory that all other processes of a process namespace hold, for isolate.py, which is the first one in it."""

from __future__ import annotations

import ctypes
import errno
import os
import resource

_PIDFD_GETFD = 438
_SHARE_LEFT, _MOST_LEFT = 32, 256 << 20
"""The part of a machine's memory that has to be left, and the bytes that are enough of it on any."""
_SELDOM = 10
"""Looks at memory for each one at files in memory, which takes longer."""


class MemoryLimit:
    """A limit, in bytes, of what processes hold together.

    What is backed by files on a disk is left out: the kernel can drop it at any time. So is /tmp, which has a size of its own.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._looks = 0
        self._files = 0

    def excess(self) -> int:
        """Return the bytes that they hold, where these are too many; else 0."""
        if self._looks % _SELDOM == 0:
            self._files = held_files()
        self._looks += 1
        for look in (resident_pages, held_pages):  # the quick one first, which counts too much
            if look() + self._files <= self._most:
                return 0
        own, shared = exact_pages()
        place = os.statvfs("/tmp")  # noqa: S108 the root's own
        stored = (place.f_blocks - place.f_bfree) * place.f_frsize
        held = own + max(shared - stored, held_files())  # many of the files are mapped, and so are files in /tmp
        return held if held > self._most else 0


def resident_pages() -> int:
    """Return the bytes of all pages that are in memory, those of files on a disk too."""
    total = 0
    for name in other_processes():
        try:
            total += int(read_file(f"/proc/{name}/statm").split()[1])
        except OSError:
            continue  # it has just ended
    return total * os.sysconf("SC_PAGESIZE")


def held_pages() -> int:
    """Return the bytes of pages that no file on a disk backs; what several processes share is counted for each of them."""
    return sum(map(sum, _pages(exact=False)))


def exact_pages() -> tuple[int, int]:
    """Return the bytes of pages that are a process's own, and those of mapped shared memory, each counted once."""
    found = _pages(exact=True)
    return sum(own for own, _ in found), sum(shared for _, shared in found)


def _pages(*, exact: bool) -> list[tuple[int, int]]:
    found = []
    for name in other_processes():
        try:
            numbers = read_numbers(f"/proc/{name}/status", b"RssAnon:", b"RssShmem:")
            if exact:
                numbers = read_numbers(f"/proc/{name}/smaps_rollup", b"Pss_Anon:", b"Pss_Shmem:") or numbers
        except OSError:
            continue  # it has just ended
        if numbers:
            found.append((numbers[0] * 1024, numbers[1] * 1024))
    return found


def held_files() -> int:
    """Return the bytes of files in memory that are no part of a file system (memfd_create(2), shmget(2))."""
    files: dict[tuple[int, int], int] = {}
    for name in other_processes():
        try:
            try:
                for descriptor in os.listdir(f"/proc/{name}/fd"):
                    count_file(f"/proc/{name}/fd/{descriptor}", files)
            except PermissionError:
                count_hidden_files(int(name), files)
        except OSError:
            continue  # it has just ended, or closed that
    try:
        segments = [line.split() for line in read_file("/proc/sysvipc/shm").splitlines()]
        resident = segments[0].index(b"rss")
        return sum(files.values()) + sum(int(segment[resident]) for segment in segments[1:])
    except (OSError, ValueError, IndexError):
        return sum(files.values())  # a kernel without such segments


def count_file(path: str, files: dict[tuple[int, int], int]) -> None:
    """Add the size of an open file to ``files``, by its device and inode, if it is one in memory; raise ``OSError``."""
    if os.readlink(path).startswith("/memfd:"):
        facts = os.stat(path)
        files[facts.st_dev, facts.st_ino] = facts.st_blocks * 512


def count_hidden_files(process: int, files: dict[tuple[int, int], int]) -> None:
    """Do that for each file of a process that does not let itself be looked at; raise ``OSError``.

    Who may trace a process, as the first one of a user namespace may, gets copies of its descriptors (pidfd_getfd(2)).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.pidfd_open(process) if hasattr(os, "pidfd_open") else -1
    try:
        for number in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
            copy = libc.syscall(_PIDFD_GETFD, target, number, 0)
            if copy >= 0:
                try:
                    count_file(f"/proc/self/fd/{copy}", files)
                finally:
                    os.close(copy)
            elif ctypes.get_errno() != errno.EBADF:  # the kernel does not know it, or does not allow it
                return
    finally:
        if target >= 0:
            os.close(target)


def scarce_memory() -> int:
    """Return the bytes that this machine has left, where these are too few for whatever runs on it; else 0.

    That is for memory which no process shows, such as that of files on their way through a socket, and of the sockets.
    """
    try:
        total, left = (1024 * number for number in read_numbers("/proc/meminfo", b"MemTotal:", b"MemAvailable:"))
    except (OSError, ValueError):
        return 0
    return max(left, 1) if left < min(total // _SHARE_LEFT, _MOST_LEFT) else 0


def other_processes() -> list[str]:
    """Return the numbers of all processes but the first one, as names of their folders in /proc."""
    return [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def read_numbers(path: str, *names: bytes) -> list[int]:
    """Return numbers that follow names in a file of /proc; none where it may not be read, or lacks one of them."""
    try:
        lines = read_file(path).splitlines()
    except PermissionError:  # of a process that does not let itself be looked at
        return []
    found = [int(line.split()[1]) for name in names for line in lines if line.startswith(name)]
    return found if len(found) == len(names) else []


def read_file(path: str) -> bytes:
    """Read a file; not as text, for in the root there is no codec to be imported."""
    with open(path, "rb", 0) as file:
        return file.read()
