"""The CPythons of this machine: found by their minor version, and known by what they say of themselves when they are run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from msgspec import Struct

_SECONDS = 30
"""How long an interpreter may take to say what it is."""
_DESCRIBE = """
import json, os, sys, sysconfig
folders = [sysconfig.get_path("include"), sysconfig.get_config_var("INCLUDEPY")]
print(json.dumps({
    "implementation": sys.implementation.name,
    "flags": sys.abiflags,
    "level": sys.version_info.releaselevel,
    "executable": sys.executable,
    "prefix": sys.base_prefix,
    "version": list(sys.version_info[:3]),
    "include": next((each for each in folders if each and os.path.isfile(os.path.join(each, "Python.h"))), ""),
}))
"""


class Interpreter(Struct, frozen=True, kw_only=True):
    """A CPython of this machine, installed below ``prefix``.

    ``include`` is the folder of its C headers; None where they are not installed.
    """

    path: Path
    version: str
    prefix: str = ""
    include: Path | None = None


@cache
def find_interpreter(minor: int) -> Interpreter | None:
    """Find a released CPython 3.``minor``, if there can be one with its C headers; None where there is none at all."""
    without: Interpreter | None = None
    for path in dict.fromkeys(_candidates(minor)):
        found = _describe_interpreter(path, minor)
        if found is not None and found.include is not None:
            return found
        without = without or found
    return without


VARIABLES = ("PATH", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "XDG_DATA_HOME", "HOME")
"""What says where interpreters, and other programs, may be."""


def search_folders() -> tuple[Path, ...]:
    """Return every folder in which an interpreter, or another program, may appear."""
    return (*map(Path, os.get_exec_path()), *_version_folders())


def _version_folders() -> tuple[Path, Path]:
    """Return the folders in which pyenv and uv have one for each version."""
    home = Path(os.environ.get("HOME") or "/")
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    shared = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return pyenv / "versions", Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or shared / "uv" / "python")


def _candidates(minor: int) -> Iterator[Path]:
    """Return what may be such an interpreter, the best first: this one, PATH's, pyenv's, uv's.

    A shim of pyenv's comes last: it starts several shells to find what is one of pyenv's own mostly.
    """
    name = f"python3.{minor}"
    if sys.executable and sys.version_info[:2] == (3, minor):
        yield Path(sys.executable)
    pyenv, uv = _version_folders()
    # os.path.isfile passes over folders that may not be entered; Path.is_file raises for them.
    found = [Path(path) for folder in os.get_exec_path() if os.path.isfile(path := os.path.join(folder, name))]  # noqa: PTH113, PTH118
    shims = [path for path in found if path.parent == pyenv.parent / "shims"]
    yield from (path for path in found if path not in shims)
    yield from _installed_interpreters(pyenv, rf"3\.{minor}(?:\.(\d+))?", name)
    yield from _installed_interpreters(uv, rf"cpython-3\.{minor}(?:\.(\d+))?-.*", name)
    yield from shims


def _installed_interpreters(folder: Path, pattern: str, name: str) -> list[Path]:
    """Return the interpreters below a folder with a folder for each version, the newest patch first."""
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError:
        return []
    matches = [found for each in names if (found := re.fullmatch(pattern, each))]
    matches.sort(key=lambda found: -int(found[1] or -1))
    return [path for found in matches if os.path.isfile(path := folder / found[0] / "bin" / name)]  # noqa: PTH113 as above


def _describe_interpreter(path: Path, minor: int) -> Interpreter | None:
    """Run a file to see whether it is a CPython of a minor; what is on PATH may be a shim that runs nothing."""
    command = [str(path), "-I", "-c", _DESCRIBE]
    try:
        finished = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False)
        facts = json.loads(finished.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    # The flags tell free-threaded ("t") and debug ("d") interpreters, which have another ABI than Lambda's; betas may have.
    wanted = {"implementation": "cpython", "flags": "", "level": "final"}
    if not isinstance(facts, dict) or any(facts.get(key) != value for key, value in wanted.items()):
        return None
    if facts["version"][:2] != [3, minor]:
        return None
    return Interpreter(
        path=Path(facts["executable"]),
        version=".".join(map(str, facts["version"])),
        prefix=facts["prefix"],
        include=Path(facts["include"]) if facts["include"] else None,
    )
