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
REMEDY = "Install elfutils (the package of that name in Debian, Ubuntu, Fedora and Amazon Linux; `brew install elfutils`)."


@cache
def strip_version() -> str:
    """Give what eu-strip says of itself, which is part of keys; raises `BuilderUnavailable` where there is none."""
    program = shutil.which(_PROGRAM)
    if program is None:
        raise BuilderUnavailable(f"there is no {_PROGRAM}", remedy=REMEDY)
    try:
        finished = subprocess.run(
            [program, "--version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BuilderUnavailable(f"{program} cannot be run ({error})", remedy=REMEDY) from None
    return finished.stdout.partition("\n")[0]


def strip_file(path: Path, to: Path) -> None:
    """Write a file without debug sections and symbols that nothing links to; raises `BuildFailure`."""
    try:
        finished = subprocess.run(
            [_PROGRAM, "-o", str(to), str(path)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildFailure(f"{_PROGRAM} did not end well ({error})") from None
    if finished.returncode or not to.is_file():
        log = finished.stderr.decode("utf-8", "replace")
        raise BuildFailure(f"{_PROGRAM} ended with status {finished.returncode}", log=log)
