"""Other programs: one function type to run them, passed in so that tests can replace it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct


class ProcessResult(Struct, frozen=True, kw_only=True):
    """The exit status of a program, and what it printed."""

    status: int
    stdout: str
    stderr: str


Run = Callable[[Sequence[str], Path, Mapping[str, str]], ProcessResult]
"""Run a command (arguments, working folder, variables set on top of the caller's environment) and wait for it."""


def run(arguments: Sequence[str], folder: Path, variables: Mapping[str, str]) -> ProcessResult:
    """Run a command without standard input; raise ``OSError`` where it cannot be started."""
    process = subprocess.run(
        list(arguments),
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return ProcessResult(status=process.returncode, stdout=process.stdout, stderr=process.stderr)


@cache
def uv_command() -> str:
    """Return the path of the uv binary that was installed with lpack.

    Call it once before threads start: the first use of the standard library's sysconfig is not thread-safe.
    """
    from uv import find_uv_bin

    return find_uv_bin()


def is_running(process: str) -> bool:
    """Return whether a process (by its number) of any user is running."""
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
