"""Finds the CPython interpreters of this machine: the running one, those on PATH, pyenv's and uv's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_LOOK = """
import json, os, sys, sysconfig
include = sysconfig.get_path("include")
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": list(sys.version_info[:3]),
    "include": include if os.path.exists(os.path.join(include, "Python.h")) else "",
    "threaded": not sysconfig.get_config_var("Py_GIL_DISABLED"),
}))
"""
_TIMEOUT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A CPython that runs; ``include`` is the folder of its C headers, None where they are not installed."""

    path: Path
    version: str
    include: Path | None


@cache
def find_interpreter(minor: int) -> Interpreter | None:
    """Find a CPython 3.``minor``: of those that are there one with C headers, if any has them; None where there is none."""
    best: Interpreter | None = None
    for path in dict.fromkeys(_candidates(minor)):
        found = _looked_at(path, minor)
        if found is not None and found.include is not None:
            return found
        best = best or found
    return best


def _candidates(minor: int) -> Iterator[Path]:
    name = f"python3.{minor}"
    if sys.version_info[1] == minor:
        yield Path(sys.executable)
    on_path = shutil.which(name)
    if on_path:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    managed = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    for folder, pattern in ((pyenv, f"3.{minor}.*"), (managed, f"cpython-3.{minor}.*")):
        if folder.is_dir():
            yield from (path / "bin" / name for path in sorted(folder.glob(pattern), key=_by_patch, reverse=True))


def _by_patch(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", path.name)))


def _looked_at(path: Path, minor: int) -> Interpreter | None:
    """Run a candidate: a shim of pyenv, for example, is a program that may fail."""
    try:
        ran = subprocess.run(
            [str(path), "-I", "-c", _LOOK], capture_output=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
        found = json.loads(ran.stdout) if ran.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if found.get("implementation") != "cpython" or found["version"][:2] != [3, minor] or not found["threaded"]:
        return None
    version = ".".join(map(str, found["version"]))
    return Interpreter(path=path, version=version, include=Path(found["include"]) if found["include"] else None)
