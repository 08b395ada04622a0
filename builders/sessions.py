"""Programs of this machine that run each in a session of its own, so that all that they start can be ended with them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from builders.errors import interruption_error


class Sessions:
    """Starts programs, and can kill all of them; may be used from many threads."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[Any]] = set()
        self._lock = Lock()
        self.closed = False

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self.closed = True
            for process in self._running:
                kill_session(process)

    def start(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], **streams: Any
    ) -> subprocess.Popen[Any]:
        """Start a program with its error output in its output; ``OSError`` where it cannot be started.

        ``streams`` are what ``Popen`` takes of them. Raises `BuildError` where `close` was called.
        """
        with self._lock:
            if self.closed:
                raise interruption_error()
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **streams,
            )
            self._running.add(process)
        return process

    def end(self, process: subprocess.Popen[Any]) -> int:
        """Leave nothing of a program running; return its exit status (negative: a signal)."""
        kill_session(process)
        status = process.wait()
        with self._lock:
            self._running.discard(process)
        return status


def kill_session(process: subprocess.Popen[Any]) -> None:
    """Kill a program, and all that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def wait_for_end(process: subprocess.Popen[Any], seconds: float) -> bool:
    """Wait for a program; say whether it has ended in time.

    ``Popen.wait`` looks every 50 ms at last, which is as long as many a program takes.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # another system, or a kernel before 5.3 (pidfd_open(2))
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.returncode is not None
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))
    finally:
        os.close(descriptor)
