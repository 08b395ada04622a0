"""Starts commands where Lambda's paths are: one process, which `builders.inside.isolate` is, forks for each of them."""

from __future__ import annotations

import marshal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import MAGIC_NUMBER
from os import waitstatus_to_exitcode
from pathlib import Path
from threading import Lock

from builders.inside.isolate import LENGTH, NOT_STARTED, OVER, READY, STATUS, UNAVAILABLE
from builders.recipes import BuildFailure
from builders.runtimes import LAYERS_FOLDER, TASK_FOLDER
from builders.script import source_of_script
from builders.sessions import interrupted

_SCRIPT = "isolate.py"
_PARTS = 16
"""Bytes of an answer that are read at once; it has fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command (its path first) with its variables, the folder it starts in, and its log, which is there and empty.

    ``shown`` are pairs of a folder and the place where it is seen; ``empty_tmp`` says whether /tmp is to be empty.
    """

    command: Sequence[str]
    variables: Mapping[str, str]
    start: str
    log: Path
    shown: Sequence[tuple[str, str]]
    empty_tmp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command has ended: its exit status (negative: a signal), and whether it was stopped for time."""

    status: int
    late: bool


class Isolation:
    """Runs commands; may be used from many threads. What still runs is killed when it is closed, or gone."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._finish: Callable[[], object] | None = None
        self.closed = False

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self.closed = True
        if self._finish:
            self._finish()

    def run(self, order: Order, seconds: float, work: Path) -> Ended | None:
        """Run a command to its end, with all that it has started; None where the machine does not allow it.

        ``work`` is a folder for this run alone. Raises `BuildFailure`.
        """
        words = (order.empty_tmp, order.start, list(order.shown), str(order.log), list(order.command), dict(order.variables))
        data = marshal.dumps(words)
        mine, theirs = socket.socketpair()
        with mine:
            with theirs:
                process = self._send(theirs, work)
            answer, late = _answer(mine, LENGTH.pack(len(data)) + data, seconds)
        if self.closed:
            raise interrupted()
        marks, over, status = answer.partition(OVER)
        if not over and process.wait() != UNAVAILABLE:
            raise BuildFailure(f"what isolates it has ended with status {process.returncode}")
        if NOT_STARTED in marks:
            raise BuildFailure(f"{order.command[0]} cannot be started")
        return Ended(status=waitstatus_to_exitcode(STATUS.unpack(status)[0]), late=late) if READY in marks else None

    def _send(self, connection: socket.socket, work: Path) -> subprocess.Popen[bytes]:
        """Hand over one end of a connection to the process, which is started where there is none: some functions kill it."""
        with self._lock:
            if self.closed:
                raise interrupted()
            if self._process is None or self._channel is None or self._process.poll() not in {None, UNAVAILABLE}:
                self._channel, self._process = _started(work)
                self._finish = weakref.finalize(self, _end, self._channel, self._process)
            with suppress(OSError):  # it has ended, as the missing answer will tell
                socket.send_fds(self._channel, [b"."], [connection.fileno()])
            return self._process


def _started(work: Path) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    script, spare = work / f"{_SCRIPT}c", work / "spare"
    script.write_bytes(_compiled(source_of_script(_SCRIPT)))
    spare.mkdir()
    with theirs:
        command = [sys.executable, "-I", "-S", str(script), str(theirs.fileno()), str(spare), TASK_FOLDER, LAYERS_FOLDER]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, cwd="/"
        )
    return mine, process


def _end(channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Have the process kill what it runs, and end."""
    channel.close()
    process.wait()


def _answer(connection: socket.socket, order: bytes, seconds: float) -> tuple[bytes, bool]:
    """Send an order and read the answer to its end; say whether it had to be stopped for time."""
    answer, late = b"", False
    connection.settimeout(seconds)
    with suppress(ConnectionError):  # the answer is too short then
        connection.sendall(order)
        # Not until it has no more to give: what is forked meanwhile has the other end for a moment, too.
        while len(answer.partition(OVER)[2]) < STATUS.size:
            try:
                part = connection.recv(_PARTS)
            except TimeoutError:
                late = True
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(None)
                continue
            if not part:
                break
            answer += part
    return answer, late


@cache
def _compiled(source: bytes) -> bytes:
    """Give a script as a .pyc file for the Python that runs this."""
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(compile(source, _SCRIPT, "exec"))  # PEP 552: no flags, time or size
