"""Runs a command as Lambda runs a function: ``python contain.py ORDER FOLDER``, the first process of a container.

ORDER is a `ContainedOrder` in the form of `marshal`, version 2. FOLDER, which nobody else can enter, gets the command's answer
as the file ``answer`` (descriptor `ANSWER` of the command), and ``memory``, the number of bytes that it held, where it was
stopped for that. Where the command cannot be started, the file ``refusal`` says why, and the exit status is `UNAVAILABLE`. It
is the command's otherwise, or 128 and the number of the signal that ended it.

It starts as the container's root, with no capabilities but those to become another user and to kill what that user runs. The
command is that user, without any, so that this process is closed to it; when this process ends, the container does.
"""

from __future__ import annotations

import _socket
import marshal
import os
import sys

sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # it is started without (-I), and what Python brings comes first

from builders.inside.isolate import (
    FAILED,
    MEMORY,
    NOTE,
    REFUSED,
    SCARCE,
    UNAVAILABLE,
    blank_arguments,
    can_filter_calls,
    give_up_privileges,
    start,
    tell,
    wait,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from builders.inside.isolate import CommandOrder, Limit

    class ContainedOrder(CommandOrder):
        """A command, which an empty first word has be this interpreter; ``seconds`` are of each processor.

        ``user`` is its identity (user, group), ``filter`` a program for seccomp(2).
        """

        user: tuple[int, int]
        filter: bytes


_DEVICES = {"fd", "full", "null", "random", "stderr", "stdin", "stdout", "urandom", "zero"}
_STATISTICS = "/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/memory/memory.stat"
"""Where a control group says what memory its processes hold: version 2 and 1."""
_HELD = {b"anon", b"shmem"}, {b"total_rss", b"total_shmem"}
"""What it calls pages that no file on a disk backs (the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst)."""


def main(order_path: str, folder: str) -> int:
    """Run the command to its end; return the exit status."""
    with open(order_path, "rb") as file:
        order: ContainedOrder = marshal.load(file)  # noqa: S302 lpack itself has written it
    order["command"][0] = order["command"][0] or sys.executable
    order["seconds"] *= os.cpu_count() or 1
    close_devices()
    blank_arguments()
    answer = os.open(os.path.join(folder, "answer"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.fchmod(answer, 0o666)  # the command opens it by its descriptor, and has no other way to it
    mine, theirs = _socket.socketpair()
    limit = control_group_limit(order["memory"])
    process = os.fork()
    if not process:
        become_function(theirs, answer, order)
    status = wait(theirs, process, limit)
    theirs.close()
    return report(mine, status, folder)


def close_devices() -> None:
    """Leave no devices but those of a function, and no shared memory, as far as the engine lets go of them."""
    for name in set(os.listdir("/dev")) - _DEVICES:
        path = "/dev/" + name
        try:
            if os.path.isdir(path):
                os.chmod(path, 0)
                os.rmdir(path)
            else:
                os.unlink(path)
        except OSError:
            continue  # something is mounted there, which nobody else can enter now


def become_function(notes: _socket.socket, answer: int, order: ContainedOrder) -> NoReturn:
    """Become the command, without any privileges."""
    try:
        give_up_privileges(*order["user"])
    except OSError as error:
        tell(notes, REFUSED, error.errno or 0)
        os._exit(UNAVAILABLE)
    start(notes, (1, answer), order, order["filter"] if can_filter_calls() else b"")


def report(notes: _socket.socket, status: int, folder: str) -> int:
    """Leave behind what is to be known of the end; return the exit status."""
    data = b""
    while part := notes.recv(NOTE.size):
        data += part
    for kind, number in NOTE.iter_unpack(data):
        if kind in (FAILED, REFUSED):
            with open(os.path.join(folder, "refusal"), "w", encoding="ascii") as file:
                file.write(os.strerror(number))
        if kind == SCARCE:
            os.write(2, f"it is stopped: this machine has {number >> 20} MB of memory left\n".encode())
        if kind == MEMORY:
            with open(os.path.join(folder, "memory"), "w", encoding="ascii") as file:
                file.write(str(number))
    ended = os.waitstatus_to_exitcode(status)
    return ended if ended >= 0 else 128 - ended


class ControlGroupLimit:
    """A limit, in bytes, of the memory that a container's processes hold beside this one, without files in /tmp."""

    def __init__(self, most: int, path: str, names: set[bytes]) -> None:
        self._most = most
        self._path = path
        self._names = names
        self._own = 0
        self._own = self._held()

    def _held(self) -> int:
        with open(self._path, "rb", 0) as file:
            numbers = dict(line.split() for line in file.read().splitlines())
        place = os.statvfs("/tmp")  # noqa: S108 the container's own
        stored = (place.f_blocks - place.f_bfree) * place.f_frsize
        return sum(int(numbers[name]) for name in self._names) - stored - self._own

    def excess(self) -> int:
        """Return the bytes that they hold, where these are too many; else 0."""
        held = self._held()
        return held if held > self._most else 0


def control_group_limit(most: int) -> Limit | None:
    """Return a limit of memory; None where there is none, or only the engine knows how much is held."""
    for path, names in zip(_STATISTICS, _HELD) if most else ():  # noqa: B905 not before Python 3.10
        try:
            return ControlGroupLimit(most, path, names)
        except (OSError, KeyError, ValueError):
            continue
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
