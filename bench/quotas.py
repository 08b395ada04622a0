"""Gives processes a part of a processor each (cgroups(7)): a machine with few of them stands in for one with enough."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import CommandFailedError

_ROOT = Path("/sys/fs/cgroup")
_PATIENCE = 10
"""Seconds after which what the last processes of a group still hold is given up."""
_PERIOD = 10_000
"""Microseconds in which a process group may use its part: short, so that none waits for long when it has used it up."""


@contextmanager
def quota(name: str, part: float) -> Iterator[tuple[str, ...]]:
    """Give what to put before a command, so that all that it starts gets this part of one processor; nothing for a whole one.

    Raises `CommandFailedError` where this user may not make control groups.
    """
    if part >= 1:
        yield ()
        return
    try:
        group = _made(f"lpack-bench-{os.getpid()}-{name}", round(part * _PERIOD))
    except OSError as error:
        what = f"no processor can be divided here ({error}): run this as root, or on a machine with more processors"
        raise CommandFailedError(what) from None
    try:
        yield ("/bin/sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh")
    finally:
        _remove(group)


def _made(name: str, microseconds: int) -> Path:
    """Make a control group of the first or of the second version."""
    second = (_ROOT / "cgroup.controllers").exists()
    if second:
        (_ROOT / "cgroup.subtree_control").write_text("+cpu")
    group = (_ROOT if second else _ROOT / "cpu") / name
    group.mkdir()
    if second:
        (group / "cpu.max").write_text(f"{microseconds} {_PERIOD}")
    else:
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(microseconds))
    return group


def _remove(group: Path) -> None:
    """Remove a control group as soon as the last of its processes is gone."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
