"""Runs lpack's command line in processes of its own, each forked from one that has imported everything already.

Starting Python and importing take most of a small command's time, and the suite runs more than a thousand commands. A fork has
its own working folder, environment, streams, threads and exit status, as `python -m packer.cli` has. What that command line
must not import, and that it works without what a fork finds imported, is asserted by tests that start Python themselves.
This module is run by the server, too: it imports the standard library alone.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from threading import Lock, active_count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self  # the Python of another program may be older

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("packer", "builders")
_APART = ("builders.inside.", "packer.cli.__main__")
"""Modules that are programs: the first run in a target's Python, the second runs lpack."""
_LATE = ("cyclonedx.contrib.license.factories", "cyclonedx.output.json", "filelock", "platformdirs", "uv", "zstandard")
"""What packer imports inside of functions, and nearly every build uses."""
_START_VARIABLES = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "GLIBC_")
"""Beginnings of the names of variables that a process reads when it starts, which a fork has behind it."""
_NOT_OF_PYTHON = "PYTHON_KEYRING_"  # the library keyring's, which reads it when it is used

_Running = dict[int, tuple[int, int]]
"""By the descriptor of a process that runs (pidfd): its number, and where to report on it."""

LPACK = "from packer.cli import main; main()"


class CommandServer:
    """Runs lpack in forks of one process while its ``with`` block lasts; may be used from many threads."""

    def __init__(self, *modules: str, python: str = sys.executable, packages: tuple[str, ...] = _PACKAGES) -> None:
        """Take what else the process is to have imported; it may be another program's, with that one's ``python``."""
        self._modules = modules
        self._python = python
        self._packages = packages
        self._lock = Lock()
        self._started_with = _start_variables(os.environ)

    def __enter__(self) -> Self:
        self._line, theirs = socket.socketpair()
        code = f"from tests.forkserver import serve; serve({theirs.fileno()}, {self._packages!r}, {self._modules!r})"
        with theirs:
            self._process = subprocess.Popen(
                [self._python, "-c", code],
                cwd=_ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        assert self._process.wait(60) == 0

    def can_run(self, environment: Mapping[str, str]) -> bool:
        """Say whether a fork would see what a new process with this environment sees."""
        return _start_variables(environment) == self._started_with

    def run(
        self, arguments: tuple[str, ...], cwd: Path, timeout: float, program: str = LPACK
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as ``subprocess.run`` does with captured output; ``program`` is Python that runs it."""
        command = ["lpack", *arguments]
        with ExitStack() as stack:
            ends = [os.pipe() for _ in range(2)]
            streams = [stack.enter_context(os.fdopen(reading, encoding="utf-8")) for reading, _ in ends]
            process = self._fork(arguments, cwd, program, os.environ, [writing for _, writing in ends])
            with process, ThreadPoolExecutor(2) as threads:
                texts = [threads.submit(stream.read) for stream in streams]
                try:
                    process.wait(timeout)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    raise
        return subprocess.CompletedProcess(command, process.wait(), *(text.result() for text in texts))

    def start(
        self, arguments: tuple[str, ...], cwd: Path, log: Path, program: str, environment: Mapping[str, str]
    ) -> ForkedProcess:
        """Start a command, as ``subprocess.Popen`` does, whose output goes to a file."""
        with log.open("wb") as file:
            return self._fork(arguments, cwd, program, environment, [os.dup(file.fileno()) for _ in range(2)])

    def _fork(
        self, arguments: tuple[str, ...], cwd: Path, program: str, environment: Mapping[str, str], streams: list[int]
    ) -> ForkedProcess:
        """Start a process with these two streams, which are closed here."""
        request = {
            "program": program,
            "arguments": arguments,
            "cwd": str(cwd),
            "environment": dict(environment),
            "umask": _umask(),
        }
        reading, writing = os.pipe()
        self._send(json.dumps(request).encode(), [*streams, writing])
        return ForkedProcess(["lpack", *arguments], reading)

    def _send(self, request: bytes, streams: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._line, [len(request).to_bytes(4, "big")], streams)
            self._line.sendall(request)
        _close(*streams)


class ForkedProcess:
    """A process that the server has forked, with what tests use of ``subprocess.Popen``."""

    def __init__(self, command: list[str], reports: int) -> None:
        """Take what it runs, and a pipe with two lines: the number of the process, and its exit status at its end."""
        self._command = command
        self._reports = os.fdopen(reports, encoding="utf-8")
        self.pid = int(self._reports.readline())
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def send_signal(self, number: int) -> None:
        """Send a signal, where it has not ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit status; raises ``TimeoutExpired`` after so many seconds."""
        if self.returncode is None:
            ready, _, _ = select.select([self._reports], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired(self._command, timeout or 0)
            self.returncode = int(self._reports.readline())
            self._reports.close()
        return self.returncode


def _start_variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_START_VARIABLES) and not name.startswith(_NOT_OF_PYTHON)
    }


def _umask() -> int:
    """Give this process's umask; to ask for it by setting another would be seen by threads."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("Umask:")), 8)


def serve(line_number: int, packages: tuple[str, ...], modules: tuple[str, ...]) -> None:
    """Fork a process for each request that comes in, until the line is closed; returns in each of them at its end, too."""
    _import_everything(packages, modules)
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: _Running = {}
    with socket.socket(fileno=line_number) as line:
        while True:
            watched: list[int | socket.socket] = [line, *running]
            ready, _, _ = select.select(watched, [], [])
            _report_ended(running, ready)
            if line not in ready:
                continue
            received = _receive(line)
            if received is None:
                return
            request, (*streams, reports) = received
            process = os.fork()
            if process == 0:
                line.close()
                _close(reports, *running, *(each for _, each in running.values()))
                signal.signal(signal.SIGINT, on_interrupt)
                _become_command(request, streams)
                return
            running[os.pidfd_open(process)] = process, reports
            os.write(reports, f"{process}\n".encode())
            _close(*streams)


def _import_everything(packages: tuple[str, ...], modules: tuple[str, ...]) -> None:
    for package in map(import_module, packages):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith(_APART):
                import_module(found.name)
    for name in (*(_LATE if packages else ()), *modules):
        import_module(name)
    if "builders.sandbox.root_plan" in sys.modules:
        _find_host_facts()
    assert active_count() == 1, "a fork has but the thread that forks"
    gc.collect()
    gc.freeze()


def _find_host_facts() -> None:
    """Find out what a sandbox of this Python needs, for all forks: each with a new cache would take 80 ms for that.

    Nothing else is remembered here: what interpreters there are is a matter of the environment, which forks bring with them.
    """
    from builders.interpreters import find_interpreter
    from builders.sandbox.host_sandbox import find_anew
    from builders.sandbox.root_plan import host_root

    found = find_interpreter.__wrapped__(sys.version_info.minor)
    if found and sys.platform == "linux":
        host_root(found, (), find_anew)


def _receive(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Receive a request, and the descriptors for output, error output, and reports on the process."""
    length, streams, _, _ = socket.recv_fds(line, 4, 3)
    if not length:
        return None
    data = b""
    while len(data) < int.from_bytes(length, "big"):
        data += line.recv(int.from_bytes(length, "big") - len(data))
    return json.loads(data), list(streams)


def _report_ended(running: _Running, ready: Sequence[int | socket.socket]) -> None:
    """Report the exit statuses of the processes among these that have ended, and forget them."""
    for watched in [each for each in running if each in ready]:
        process, reports = running.pop(watched)
        os.write(reports, f"{os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n".encode())
        _close(watched, reports)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _become_command(request: dict[str, Any], streams: list[int]) -> None:
    for stream, standard in zip(streams, (1, 2), strict=True):
        os.dup2(stream, standard)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    tempfile.tempdir = None
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    sys.argv = ["lpack", *request["arguments"]]
    try:
        exec(request["program"], {"__name__": "__main__"})  # noqa: S102 the tests' own
    except SystemExit as end:
        if isinstance(end.code, int | None):
            _end_process(end.code or 0)
        raise
    _end_process(0)


def _end_process(status: int) -> None:
    """End this process as Python does, but without taking its modules apart, which takes longer than most commands.

    Processes of multiprocessing end so: threads are joined, the functions of atexit run, streams are flushed. Returns where
    a stream cannot be flushed: Python reports that itself when it ends.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
    except OSError:
        return
    os._exit(status & 0xFF)
