"""Runs commands in a root folder of their own: one process, which `builders.inside.isolate` is, forks for each of them."""

from __future__ import annotations

import errno
import marshal
import os
import select
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from threading import Lock

import msgspec
from msgspec import Struct

from builders.errors import BuildError, interruption_error
from builders.inside import read_script
from builders.inside.isolate import (
    ASKED,
    ENDED,
    FAILED,
    LENGTH,
    LOST,
    MEMORY,
    NOTE,
    OVER,
    READY,
    REFUSED,
    SCARCE,
    SHORTAGES,
    UNAVAILABLE,
)
from builders.leftovers import OwnFolder
from builders.runtimes import RUNTIME_API
from builders.sandbox.root_plan import RootPlan
from builders.sandbox.task import LONGEST_OUTPUT

_SCRIPT, *_BESIDE = "isolate.py", "held_memory.py", "mounts.py", "runtime_api.py"
_BUFFER = 1 << 16
"""Bytes that are read at once."""
_GRACE_SECONDS = 10.0
"""Seconds that the process may take to start, to kill what it runs, or to end."""
_PROCESSORS = os.cpu_count() or 1
_PAGE = 4096
"""Bytes."""
_LESS = "End what else runs, or build fewer functions at a time (--jobs 1)."


class IsolatedCommand(Struct, frozen=True, kw_only=True):
    """A command (its path first) with its variables, and the folder it starts in.

    ``shown`` are pairs of folders of this machine, each on top of those after it, and their place in the root, in order.
    ``storage`` is the size of /tmp, ``memory`` what all processes may hold (None: no limit), ``longest`` the size of the
    answer, all in bytes. With ``runtime``, it finds Lambda's runtime interface, and ends as soon as it asks for an event.
    """

    command: Sequence[str]
    variables: Mapping[str, str]
    start: str
    shown: Sequence[tuple[Sequence[Path], str]]
    storage: int
    memory: int | None
    longest: int
    runtime: bool = False

    def encode(self, seconds: float) -> bytes:
        """Return what `builders.inside.isolate` reads, after its length; raises ``OSError`` where a folder is missing."""
        seen = [folder for folders, _ in self.shown for folder in folders]
        order = {
            "command": list(self.command),
            "variables": dict(self.variables),
            "start": self.start,
            "shown": [(_overlay_options(folders), place) for folders, place in self.shown],
            "same": [(str(path), (facts := path.stat()).st_dev, facts.st_ino) for path in seen],
            "storage": self.storage,
            "memory": self.memory or 0,
            "file": max(self.storage + _PAGE, self.longest),  # /tmp is full before a file in it is too long
            "seconds": max(1, round(seconds * _PROCESSORS)),
            "runtime": RUNTIME_API if self.runtime else "",
        }
        data = marshal.dumps(order)
        return LENGTH.pack(len(data)) + data


def _overlay_options(folders: Sequence[Path]) -> str:
    return str(folders[0]) if len(folders) == 1 else ":" + ":".join(map(str, folders))


class CommandEnd(Struct, frozen=True, kw_only=True):
    """How a command has ended: its exit status (negative: a signal), its output, and its answer, if it gave one.

    ``late`` says that it was stopped for time; ``memory`` are the bytes that it held when it was stopped for that, else 0.
    ``excess`` are the bytes of an answer that is longer than it may be, and was not read. ``asked`` says that it has asked for
    an event, or, as its answer says, why it cannot.
    """

    status: int
    late: bool
    output: bytes
    answer: bytes | None
    memory: int = 0
    excess: int = 0
    asked: bool = False


class _Server(Struct, kw_only=True):
    """The process, how many runs it has, whether it gets no more of them, and what ends it."""

    channel: socket.socket
    process: subprocess.Popen[bytes]
    end: Callable[[], object]
    runs: int = 0
    retired: bool = False

    def is_usable(self) -> bool:
        """Return whether it takes runs."""
        return not self.retired and self.process.poll() is None


class Isolation:
    """Runs commands in a root; may be used from many threads. What still runs is killed when it is closed, or gone."""

    def __init__(self, plan: RootPlan) -> None:
        self._plan = plan
        self._lock = Lock()
        self._servers: list[_Server] = []  # the last one gets what comes
        self._refusal = ""
        self.closed = False

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self.closed = True
            servers = tuple(self._servers)
        for server in servers:
            server.end()

    def refusal(self) -> str:
        """Return why the machine does not allow it; empty where it does. Raises `BuildError`."""
        with self._lock:
            if self.closed:
                raise interruption_error()
            if not self._refusal and not self._servers:
                self._start()
            return self._refusal

    def run(self, order: IsolatedCommand, seconds: float) -> CommandEnd | None:
        """Run a command to its end, with all that it starts; None where the machine does not allow it. Raises `BuildError`."""
        deadline = time.monotonic() + seconds
        for last in (False, True):
            with self._borrow_server(alone=last) as server:
                if server is None:
                    return None
                run = _Run(order, server, deadline)
                run.perform(seconds)
                if self.closed:
                    raise interruption_error()
                if OVER in run.notes and (REFUSED not in run.notes or last):
                    return run.result()
                if last:
                    what = f"the isolation process ended with status {_end(server.process)}"
                    raise BuildError(what, detail=_server_output(server))
                # What it sees is older than what is to be shown, or it was killed: this run gets one for itself.
                server.retired = True
        raise AssertionError("the last one returns or raises")

    @contextmanager
    def _borrow_server(self, *, alone: bool) -> Iterator[_Server | None]:
        """Return the process that takes runs, or one for this run alone; None where the machine allows none."""
        with self._lock:
            if self.closed:
                raise interruption_error()
            if not self._refusal and (alone or not self._servers or not self._servers[-1].is_usable()):
                self._start()
            server = None if self._refusal else self._servers[-1]
            if server:
                server.retired |= alone
                server.runs += 1
        try:
            yield server
        finally:
            if server:
                self._give_back(server)

    def _give_back(self, server: _Server) -> None:
        with self._lock:
            server.runs -= 1
            over = not server.is_usable() and not server.runs
            if over:
                self._servers.remove(server)
        if over:
            server.end()

    def _start(self) -> None:
        """Start a process, or note why the machine does not allow it; raises `BuildError`."""
        if sys.platform != "linux":
            self._refusal = f"{sys.platform} has no namespaces"
            return
        server = _start_server(self, self._plan)
        server.channel.settimeout(_GRACE_SECONDS)
        with suppress(OSError):
            if server.channel.recv(1):
                server.channel.settimeout(None)
                self._servers.append(server)
                return
        status, said = _end(server.process), _server_output(server)
        server.end()
        if status != UNAVAILABLE:
            raise BuildError(f"the isolation process ended with status {status}", detail=said)
        self._refusal = said.strip() or "no namespaces"


class _Run:
    """One command: sends its order, and takes in its notes and its output until it is over."""

    def __init__(self, order: IsolatedCommand, server: _Server, deadline: float) -> None:
        self._order = order
        self._server = server
        self._deadline = deadline
        self._data = bytearray()
        self._output = bytearray()
        self._answer: bytes | None = None
        self._excess = 0
        self.notes: dict[bytes, int] = {}
        self.late = False

    def perform(self, seconds: float) -> None:
        """Run it; raises `BuildError`. Where the process has gone meanwhile, the note `OVER` is missing."""
        with ExitStack() as closing:
            try:
                order = self._order.encode(seconds)
                answer = os.memfd_create("answer")
                closing.callback(os.close, answer)
                output, write_end = os.pipe()
                closing.callback(os.close, output)
                sending = closing.enter_context(ExitStack())
                sending.callback(os.close, write_end)
                mine, channel = map(closing.enter_context, socket.socketpair())
            except OSError as error:
                what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
                raise BuildError(f"its run cannot be prepared ({what})", remedy="Build again.") from error
            with suppress(ConnectionError):
                _send(self._server.channel, (channel.fileno(), write_end, answer))
                channel.close()
                sending.close()
                with suppress(ConnectionError):
                    mine.sendall(order)
                self._follow(mine, output)
                self._read_answer(answer)

    def _follow(self, connection: socket.socket, output: int) -> None:
        """Take in what comes until it is over, or the time is."""
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(output, select.POLLIN)
        deadline = self._deadline
        while OVER not in self.notes:
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                if self.late:
                    self._server.process.kill()  # it does not kill what it should
                    return
                self.late = True
                connection.shutdown(socket.SHUT_WR)  # has it killed
                deadline = time.monotonic() + _GRACE_SECONDS
            for descriptor, _ in ready:
                if descriptor == output:
                    if not self._take_output(output):
                        poll.unregister(output)
                elif not self._take_notes(connection):
                    return
        while self._take_output(output):
            pass

    def _take_notes(self, connection: socket.socket) -> bool:
        try:
            part = connection.recv(_BUFFER)
        except ConnectionError:
            part = b""
        self._data += part
        self.notes = dict(NOTE.iter_unpack(self._data[: len(self._data) - len(self._data) % NOTE.size]))
        return bool(part)

    def _take_output(self, output: int) -> bool:
        part = os.read(output, _BUFFER)
        self._output += part[: LONGEST_OUTPUT - len(self._output)]
        return bool(part)

    def _read_answer(self, answer: int) -> None:
        """Read the answer: nothing that could write to it runs any more."""
        size = os.fstat(answer).st_size
        if size > self._order.longest:
            self._excess = size
        elif size:
            self._answer = os.pread(answer, size, 0)

    def result(self) -> CommandEnd | None:
        """Return how it has ended; None where it could not be isolated. Raises `BuildError` where it was not started."""
        if REFUSED in self.notes:
            return None
        if FAILED in self.notes:
            what = f"{self._order.command[0]} cannot be started ({os.strerror(self.notes[FAILED])})"
            raise BuildError(what, remedy=_LESS if self.notes[FAILED] in SHORTAGES else "")
        if LOST in self.notes:
            what = f"it was stopped: it cannot be watched any more ({os.strerror(self.notes[LOST])})"
            raise BuildError(what, remedy=_LESS if self.notes[LOST] in SHORTAGES else "Build again.")
        if SCARCE in self.notes:
            what = f"it was stopped: this machine has {self.notes[SCARCE] >> 20} MB of memory left"
            raise BuildError(what, remedy=_LESS)
        if not self.late and READY not in self.notes:
            return None
        status = self.notes.get(ENDED, 9)
        return CommandEnd(
            status=os.waitstatus_to_exitcode(status),
            late=self.late and ENDED not in self.notes,
            output=bytes(self._output),
            answer=self._answer,
            memory=self.notes.get(MEMORY, 0),
            excess=self._excess,
            asked=ASKED in self.notes,
        )


def _start_server(owner: Isolation, plan: RootPlan) -> _Server:
    """Start a process; raises `BuildError` where that is not possible at all."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = None
    with theirs:
        try:
            folder = OwnFolder()
            process = _start_process(folder.path, theirs.fileno())
        except OSError as error:
            mine.close()
            if folder:
                folder.close()
            what = f"the isolation process cannot be started ({error.strerror or error})"
            raise BuildError(what, remedy="Check the folder for temporary files (TMPDIR), and its free space.") from error
    if process.stdin:
        with process.stdin as into, suppress(BrokenPipeError):  # it says itself why it has ended
            into.write(marshal.dumps(msgspec.structs.asdict(plan)))
    return _Server(channel=mine, process=process, end=weakref.finalize(owner, _close_server, mine, process, folder))


def _start_process(folder: Path, descriptor: int) -> subprocess.Popen[bytes]:
    """Start lpack's own Python with the script in a folder, and a socket; raises ``OSError``."""
    script, root = folder / f"{_SCRIPT}c", folder / "place"
    for name in (_SCRIPT, *_BESIDE):
        (folder / f"{name}c").write_bytes(_compile_script(name, read_script(name)))
    root.mkdir()
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), str(descriptor), str(root)],
        pass_fds=[descriptor],
        start_new_session=True,
        cwd="/",
        # What runs in it may be able to read them. Some Pythons find their own library by this one alone.
        env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _close_server(channel: socket.socket, process: subprocess.Popen[bytes], folder: OwnFolder) -> None:
    """Tell the process to kill what it runs, and to end."""
    with suppress(OSError):
        channel.shutdown(socket.SHUT_RDWR)
    channel.close()
    _end(process)
    if process.stderr:
        process.stderr.close()
    folder.close()


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that is about to end, and see that it does; return its exit status."""
    try:
        return process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _server_output(server: _Server) -> str:
    return server.process.stderr.read().decode("utf-8", "replace") if server.process.stderr else ""


def _send(channel: socket.socket, descriptors: Sequence[int]) -> None:
    """Send descriptors; raises ``ConnectionError`` where the other process is gone, or `BuildError`."""
    try:
        socket.send_fds(channel, [b"."], descriptors)
    except ConnectionError:
        raise
    except OSError as error:
        if error.errno == errno.EBADF:  # it was closed just now
            raise ConnectionError from error
        raise BuildError(f"it cannot be isolated ({error.strerror})") from error


@cache
def _compile_script(name: str, source: bytes) -> bytes:
    """Return a script as a .pyc file for the Python that runs this."""
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(compile(source, name, "exec"))  # PEP 552: no flags, time or size
