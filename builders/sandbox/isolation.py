"""Starts commands where Lambda's paths are: one process, which `builders.inside.isolate` is, forks for each of them."""

from __future__ import annotations

import errno
import marshal
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from threading import Lock

from msgspec import Struct

from builders.errors import BuildError, interruption_error
from builders.inside import read_script
from builders.inside.isolate import FAILED, LENGTH, NOTE, OVER, READY, REFUSED, STARTED, UNAVAILABLE

_SCRIPT = "isolate.py"
_BUFFER = 64
"""Bytes that are read at once: an answer has fewer."""
_LEAST = 0.001
"""Seconds of a time-out that has passed already: 0 would mean not to wait at all."""
_PATIENCE = 10.0
"""Seconds that the process may take to kill what it runs, or to end."""


class IsolatedCommand(Struct, frozen=True, kw_only=True):
    """A command (its path first) with its variables, the folder it starts in, and its log, an empty file that exists.

    ``shown`` are pairs of folders, each on top of those after it, and the place where they are seen; ``empty_tmp`` says whether
    /tmp is to be empty.
    """

    command: Sequence[str]
    variables: Mapping[str, str]
    start: str
    log: Path
    shown: Sequence[tuple[Sequence[Path], str]]
    empty_tmp: bool

    def words(self) -> bytes:
        """Return it as `builders.inside.isolate` reads it, with its length; raises ``OSError`` for what does not exist."""
        seen = [self.log, *(folder for folders, _ in self.shown for folder in folders)]
        same = [(str(path), (facts := path.stat()).st_dev, facts.st_ino) for path in seen]
        shown = [(_overlay_options(folders), place) for folders, place in self.shown]
        words = (self.empty_tmp, self.start, shown, str(self.log), list(self.command), dict(self.variables), same)
        data = marshal.dumps(words)
        return LENGTH.pack(len(data)) + data


def _overlay_options(folders: Sequence[Path]) -> str:
    return str(folders[0]) if len(folders) == 1 else ":" + ":".join(map(str, folders))


class CommandEnd(Struct, frozen=True, kw_only=True):
    """How a command has ended: its exit status (negative: a signal), and whether it was stopped for time."""

    status: int
    late: bool


class _Server(Struct, kw_only=True):
    """The process, how many runs it has, whether it gets no more of them, and what ends it."""

    channel: socket.socket
    process: subprocess.Popen[bytes]
    end: Callable[[], object]
    runs: int = 0
    retired: bool = False

    def is_usable(self) -> bool:
        """Return whether it takes runs; one that has found the machine to allow none does, for it says so."""
        return not self.retired and self.process.poll() in {None, UNAVAILABLE}


class Isolation:
    """Runs commands; may be used from many threads. What still runs is killed when it is closed, or gone.

    ``places`` are folders that commands find there, whether the machine has them or not.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self.places = tuple(places)
        self._lock = Lock()
        self._servers: list[_Server] = []  # the last one gets what comes
        self.closed = False

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self.closed = True
            servers = tuple(self._servers)
        for server in servers:
            server.end()

    def run(self, order: IsolatedCommand, seconds: float, work: Path) -> CommandEnd | None:
        """Run a command to its end, with all of its process group; None where the machine does not allow it.

        ``work`` is a folder for this run alone. Raises `BuildError`.
        """
        deadline = time.monotonic() + seconds
        for last in (False, True):
            with self._borrow_server(work, alone=last) as (server, new):
                notes, late = _answer(server, order.words(), deadline)
                if self.closed:
                    raise interruption_error()
                if late or OVER in notes:
                    if late or REFUSED not in notes or new:
                        return _read_command_end(order, notes, late=late)
                elif _end(server.process) == UNAVAILABLE:
                    return None
                else:
                    _kill_group(notes)
                    if last:
                        what = f"the isolation process ended with status {server.process.wait()}"
                        raise BuildError(what, detail=_server_output(server))
                # A function has killed it, or what it sees is older than what is to be shown: this run gets one for itself.
                server.retired = True
            os.truncate(order.log, 0)
        raise AssertionError("the last one returns or raises")

    @contextmanager
    def _borrow_server(self, work: Path, *, alone: bool) -> Iterator[tuple[_Server, bool]]:
        """Return the process that takes runs, or one for this run alone, and whether it was started for it."""
        with self._lock:
            if self.closed:
                raise interruption_error()
            new = alone or not self._servers or not self._servers[-1].is_usable()
            if new:
                self._servers.append(_start_server(self, work))
            server = self._servers[-1]
            server.retired |= alone
            server.runs += 1
        try:
            yield server, new
        finally:
            with self._lock:
                server.runs -= 1
                over = not server.is_usable() and not server.runs
                if over:
                    self._servers.remove(server)
            if over:
                server.end()


def _start_server(owner: Isolation, work: Path) -> _Server:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = tempfile.mkdtemp(prefix="isolation-", dir=work)
    script, spare = Path(folder, f"{_SCRIPT}c"), Path(folder, "spare")
    script.write_bytes(_compile_script(read_script(_SCRIPT)))
    spare.mkdir()
    with theirs:
        command = [sys.executable, "-I", "-S", str(script), str(theirs.fileno()), str(spare), *owner.places]
        try:
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            mine.close()
            raise BuildError(f"{command[0]} cannot be started ({error.strerror})") from error
    return _Server(channel=mine, process=process, end=weakref.finalize(owner, _close_server, mine, process))


def _close_server(channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Have the process kill what it runs, and end."""
    channel.shutdown(socket.SHUT_RDWR)
    channel.close()
    _end(process)
    if process.stderr:
        process.stderr.close()


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that is about to end, and see that it does; return its exit status."""
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:  # a function may have stopped it
        process.kill()
        return process.wait()


def _server_output(server: _Server) -> str:
    return server.process.stderr.read().decode("utf-8", "replace") if server.process.stderr else ""


def _answer(server: _Server, order: bytes, deadline: float) -> tuple[dict[bytes, int], bool]:
    """Send an order and read the notes that answer it, by their kinds; say whether it had to be stopped for time."""
    late, data = False, bytearray()
    mine, theirs = socket.socketpair()
    with mine, suppress(ConnectionError):  # where the process ends, the last note is missing
        with theirs:
            _send(server.channel, theirs.fileno())
        try:
            mine.settimeout(max(deadline - time.monotonic(), _LEAST))
            mine.sendall(order)
            _read(mine, data, deadline)
        except TimeoutError:
            late = True
            mine.shutdown(socket.SHUT_WR)
            try:
                _read(mine, data, time.monotonic() + _PATIENCE)
            except TimeoutError:
                server.process.kill()
    return dict(NOTE.iter_unpack(data[: len(data) - len(data) % NOTE.size])), late


def _send(channel: socket.socket, descriptor: int) -> None:
    """Send one end of a connection; raises ``ConnectionError`` where the other process is gone, or `BuildError`."""
    try:
        socket.send_fds(channel, [b"."], [descriptor])
    except ConnectionError:
        raise
    except OSError as error:
        if error.errno == errno.EBADF:  # it was closed just now
            raise ConnectionError from error
        raise BuildError(f"it cannot be isolated ({error.strerror})") from error


def _read(connection: socket.socket, data: bytearray, deadline: float) -> None:
    """Read on to the last note, or to the end of what there is; raises ``TimeoutError``.

    Not always to the end: what is forked meanwhile has the other side of the connection for a moment, too.
    """
    while len(data) % NOTE.size or data[-NOTE.size : 1 - NOTE.size] != OVER:
        connection.settimeout(max(deadline - time.monotonic(), _LEAST))
        part = connection.recv(_BUFFER)
        if not part:
            return
        data += part


def _read_command_end(order: IsolatedCommand, notes: Mapping[bytes, int], *, late: bool) -> CommandEnd | None:
    """Return how a command has ended; None where it could not be isolated. Raises `BuildError` where it was not started."""
    if FAILED in notes:
        raise BuildError(f"{order.command[0]} cannot be started ({os.strerror(notes[FAILED])})")
    if late and OVER not in notes:
        _kill_group(notes)
        return CommandEnd(status=-signal.SIGKILL, late=True)
    return CommandEnd(status=os.waitstatus_to_exitcode(notes[OVER]), late=late) if late or READY in notes else None


def _kill_group(notes: Mapping[bytes, int]) -> None:
    """Kill what may be left of a command that is no longer waited for."""
    if STARTED in notes:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(notes[STARTED], signal.SIGKILL)


@cache
def _compile_script(source: bytes) -> bytes:
    """Return a script as a .pyc file for the Python that runs this."""
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(compile(source, _SCRIPT, "exec"))  # PEP 552: no flags, time or size
