"""Other programs: one function type to run them, passed in so that tests can replace it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from msgspec import Struct

_FINDING_UV = Lock()


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


def uv_command() -> str:
    """Return the path of the uv binary that was installed with lpack; may be called from many threads."""
    with _FINDING_UV:  # the first use of the standard library's sysconfig is not thread-safe
        return _find_uv()


@cache
def _find_uv() -> str:
    from uv import find_uv_bin

    return find_uv_bin()


@cache
def uv_version() -> str:
    """Return the version of the uv that was installed with lpack.

    It is read from the name of its metadata's folder: `importlib.metadata` takes as long to import as all that resolves.
    """
    spec = find_spec("uv")
    place = Path(spec.origin).parent.parent if spec and spec.origin else None
    found = list(place.glob("uv-*.dist-info")) if place else []
    if len(found) == 1:
        return found[0].name.removeprefix("uv-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version("uv")


def is_running(process: str) -> bool:
    """Return whether a process (by its number) of any user is running."""
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
