"""Marks that functions leave when they run: not in /tmp, of which a function that is verified sees an empty one."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

_PLACE = "/var/tmp"


def new_mark() -> Path:
    """Give the path of a file that is not there, in a folder that goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="lpack-marks-", dir=_PLACE))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "mark"
