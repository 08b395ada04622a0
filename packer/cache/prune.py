"""The store as a whole: measure its size, verify all of its files, and remove old ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from builders.files import file_digest
from packer.cache.store import COMPILER, NATIVE, Store, store_errors

# What a build in another process may be using right now is never pruned.
_MINIMUM_AGE = timedelta(hours=1)


class StoreUsage(Struct, frozen=True, kw_only=True):
    """How much one kind of content takes, in bytes."""

    kind: str
    files: int
    size: int


def measure_usage(store: Store) -> tuple[StoreUsage, ...]:
    """Return the usage of each kind of content."""
    found: dict[str, list[int]] = {}
    for path in _files(store.root):
        parts = path.relative_to(store.root).parts
        kind = "/".join(parts[:2]) if parts[0] == "derived" or parts[1:2] == (NATIVE,) else parts[0]
        found.setdefault(kind, []).append(_size(path))
    return tuple(StoreUsage(kind=kind, files=len(sizes), size=sum(sizes)) for kind, sizes in sorted(found.items()))


def verify_store(store: Store) -> tuple[int, list[Path]]:
    """Check every file; return their number, and the broken ones, which are removed."""
    checked, broken = 0, []
    derived = [*_files(store.root / "derived"), *_files(store.root / "wheels" / NATIVE)]
    for path in (*_files(store.root / "wheels"), *_files(store.root / "blobs")):
        if NATIVE in path.relative_to(store.root).parts:
            continue
        checked += 1
        try:
            sound = file_digest(path) == path.name
        except FileNotFoundError:
            continue  # another process has just removed it
        if not sound:
            path.unlink(missing_ok=True)
            broken.append(path)
    for path in derived:
        checked += 1
        if store.load(path.parts[-3], path.name) is None:
            broken.append(path)
    return checked, broken


def prune_old(store: Store, age: timedelta) -> tuple[int, int]:
    """Remove files that were not used for ``age``; return their number and bytes."""
    limit = time.time() - max(age, _MINIMUM_AGE).total_seconds()
    files = size = 0
    for name in ("wheels", "blobs", "derived", "projects", "logs", "tmp"):
        for path in list(_files(store.root / name)):
            try:
                status = path.stat()
                if status.st_mtime < limit:
                    path.unlink()
                    files, size = files + 1, size + status.st_size
            except FileNotFoundError:
                continue  # another process has just removed it
    _remove_old_workspaces(store.root / "tmp", limit)
    more, their_size = _remove_old_compiler(store.root / COMPILER, limit)
    return files + more, size + their_size


def _remove_old_compiler(folder: Path, limit: float) -> tuple[int, int]:
    """Remove the whole cache of the cross compiler, or nothing: its files depend on each other."""
    if not folder.is_dir() or folder.stat().st_mtime >= limit:
        return 0, 0
    sizes = [_size(path) for path in _files(folder)]
    with store_errors(folder, "remove"):
        shutil.rmtree(folder)
    return len(sizes), sum(sizes)


def _remove_old_workspaces(folder: Path, limit: float) -> None:
    """Remove the folders that killed builds left."""
    if folder.is_dir():
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                if path.is_dir() and path.stat().st_mtime < limit:
                    shutil.rmtree(path, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    with store_errors(folder, "read"):
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
