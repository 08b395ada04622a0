"""Remembers how long functions took to start when that was last measured, for what looks at them later."""

from __future__ import annotations

from pathlib import Path

import msgspec

from packer.cache.store import Store, digest_of
from packer.verify.coldstart import StartRecord

_FORM = "1"
_KIND = "starts"


class PastStart(StartRecord, frozen=True, kw_only=True):
    """What was measured of a function, by which clock, and whether from a cold disk."""

    clock: str
    cold: bool


def save_start(store: Store, project: Path, function: str, measured: PastStart) -> None:
    """Keep what was measured of a function that a project file configures."""
    store.save(_KIND, _key(project, function), msgspec.json.encode(measured))


def load_start(store: Store, project: Path, function: str) -> PastStart | None:
    """Return what was last measured of a function; None where nothing was."""
    record = store.load(_KIND, _key(project, function))
    return msgspec.json.decode(record.payload, type=PastStart) if record else None


def start_path(store: Store, project: Path, function: str) -> Path:
    """Return the file that keeps what was measured of a function, whether it exists or not."""
    return store.derived_path(_KIND, _key(project, function))


def _key(project: Path, function: str) -> str:
    return digest_of(_FORM, str(project), function)
