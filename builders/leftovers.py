"""Folders that a process makes for itself in a place that it shares, such as /tmp: none is left, however the process ends."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

_PREFIX = ".lpack-run-"
_NAME = re.compile(rf"{re.escape(_PREFIX)}[a-z0-9_]{{8}}")
"""What `tempfile.mkdtemp` makes of it; a folder of the user's own has another name."""
_YOUNGEST = 60.0
"""Seconds: a folder that was made since then may not be locked yet."""


class OwnFolder:
    """A new folder in ``parent``, with what killed processes of this user have left there removed; raises ``OSError``.

    It is locked for as long as this process lives (flock(2)): numbers of processes are used again, and in a container they are
    others than outside.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Make it; without ``parent``, in the folder for temporary files."""
        place = parent or Path(tempfile.gettempdir())
        _sweep(place)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        self._descriptor = os.open(self.path, os.O_RDONLY)
        _lock(self._descriptor)

    def close(self) -> None:
        """Remove it, with all that it holds."""
        if self._descriptor >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._descriptor)
            self._descriptor = -1


def _lock(descriptor: int) -> bool:
    """Lock a folder; return whether nobody else has."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


@cache
def _sweep(place: Path) -> None:
    """Remove what killed processes of this user have left in a folder; once in a process."""
    with suppress(OSError):
        for each in tuple(place.iterdir()):
            if _NAME.fullmatch(each.name):
                _remove_left(each)


def _remove_left(folder: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > _YOUNGEST and _lock(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
