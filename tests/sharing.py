"""What is slow to make and is made once, by whichever worker needs it first, for all workers of a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def run_folder(base: Path) -> Path:
    """Return the folder that all workers of a run share, from the base folder of this one."""
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder that ``make`` fills, once in a run; nobody may change what is in it."""
    done = folder.with_name(f"{folder.name}.done")
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            done.touch()
    return folder
