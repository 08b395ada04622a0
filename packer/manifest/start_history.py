"""Remembers how long functions took to start when that was last measured, for what looks at them later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packer.cache.store import Store, digest_of

_FORM = "1"
_KIND = "starts"


def save_start(store: Store, project: Path, function: str, measured: Mapping[str, Any]) -> None:
    """Keep what was measured (`packer.verify.coldstart.describe_start`) of a function that a project file configures."""
    store.save(_KIND, _key(project, function), json.dumps(measured).encode())


def load_start(store: Store, project: Path, function: str) -> dict[str, Any] | None:
    """Give what was last measured of a function; None where nothing was."""
    record = store.load(_KIND, _key(project, function))
    found: dict[str, Any] | None = json.loads(record.payload) if record else None
    return found


def start_path(store: Store, project: Path, function: str) -> Path:
    """Give the file that keeps what was measured of a function, whether it is there or not."""
    return store.derived_path(_KIND, _key(project, function))


def _key(project: Path, function: str) -> str:
    return digest_of(_FORM, str(project), function)
