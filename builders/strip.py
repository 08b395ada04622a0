"""The recipe that strips shared libraries: elfutils' eu-strip, which leaves alone what is loaded of a file.

GNU strip and llvm-strip move segments of libraries that patchelf or auditwheel have changed, which then no longer load.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from builders.recipes import BuilderUnavailable, BuildFailure

_PROGRAM = "eu-strip"
_SECONDS = 300


class Refused(BuildFailure):
    """eu-strip has looked at a file, and does not strip it."""


REMEDY = "Install elfutils (the package of that name in Debian, Ubuntu, Fedora and Amazon Linux; `brew install elfutils`)."


@cache
def strip_version() -> str:
    """Give what eu-strip says of itself, which is part of keys; raises `BuilderUnavailable` where there is none."""
    program = strip_program()
    if program is None:
        raise BuilderUnavailable(f"there is no {_PROGRAM}", remedy=REMEDY)
    try:
        finished = subprocess.run(
            [str(program), "--version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BuilderUnavailable(f"{program} cannot be run ({error})", remedy=REMEDY) from None
    return finished.stdout.partition("\n")[0]


def strip_program() -> Path | None:
    """Give where eu-strip is on this machine, if it is."""
    found = shutil.which(_PROGRAM)
    return Path(found) if found else None


def strip_file(path: Path, to: Path) -> None:
    """Write a file without debug sections and symbols that nothing links to; raises `Refused` for good, else `BuildFailure`."""
    try:
        finished = subprocess.run(
            [_PROGRAM, "-o", str(to), str(path)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,  # it takes moments, and Ctrl-C is for who waits for it
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildFailure(f"{_PROGRAM} did not end well ({error})") from None
    if finished.returncode or not to.is_file():
        log = finished.stderr.decode("utf-8", "replace")
        kind = BuildFailure if finished.returncode < 0 else Refused
        raise kind(f"{_PROGRAM} ended with status {finished.returncode}", log=log)
