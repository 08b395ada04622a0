"""The store as a whole: measure its size, verify all of its files, and remove old ones."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from builders.files import file_digest
from builders.rootfs.listing import make_removable
from packer.cache.local import KEY_FILE, Seal
from packer.cache.store import COMPILER, NATIVE, RUNTIMES, Store, store_errors
from packer.cache.unpacked_images import folder_usage, is_intact, last_used, remove_unpacked, unpacked_folders
from packer.core.errors import StoreError

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
    used = [folder_usage(folder) for folder in unpacked_folders(store)]
    usage = (
        [StoreUsage(kind=RUNTIMES, files=sum(files for files, _ in used), size=sum(size for _, size in used))] if used else []
    )
    for path in _files(store.root):
        parts = path.relative_to(store.root).parts
        if parts[0] == KEY_FILE:
            continue
        kind = "/".join(parts[:2]) if parts[0] == "derived" or parts[1:2] == (NATIVE,) else parts[0]
        found.setdefault(kind, []).append(_size(path))
    usage += [StoreUsage(kind=kind, files=len(sizes), size=sum(sizes)) for kind, sizes in found.items()]
    return tuple(sorted(usage, key=lambda each: each.kind))


def verify_store(store: Store) -> tuple[int, list[Path]]:
    """Check every file; return their number, and the broken ones, which are removed."""
    checked, broken, seal = 0, [], Seal(store.root)
    wheels, blobs, derived = (tuple(_files(store.root / name)) for name in ("wheels", "blobs", "derived"))
    for path in (*wheels, *blobs, *derived):
        kept = path.relative_to(store.root).parts
        is_derived = kept[0] == "derived" or kept[1] == NATIVE
        checked += 1
        with store_errors(path, "verify"), suppress(FileNotFoundError):  # where another process has just removed it
            if not (seal.fits(kept[1], path.name, path.read_bytes()) if is_derived else file_digest(path) == path.name):
                path.unlink(missing_ok=True)
                broken.append(path)
    for folder in unpacked_folders(store):
        checked += folder_usage(folder)[0]
        if not is_intact(folder):
            remove_unpacked(store, folder)
            broken.append(folder)
    return checked, broken


def prune_old(store: Store, age: timedelta) -> tuple[int, int]:
    """Remove files that were not used for ``age``; return their number and bytes."""
    limit = time.time() - max(age, _MINIMUM_AGE).total_seconds()
    files = size = 0
    for name in ("wheels", "blobs", "derived", "projects", "logs"):
        for path in list(_files(store.root / name)):
            with store_errors(path, "remove"), suppress(FileNotFoundError):  # where another process has just removed it
                status = path.stat()
                if status.st_mtime < limit:
                    path.unlink()
                    files, size = files + 1, size + status.st_size
    others = (
        _remove_old_temporary(store.root / "tmp", limit),
        _remove_old_compiler(store.root / COMPILER, limit),
        _remove_old_images(store, limit),
    )
    return files + sum(more for more, _ in others), size + sum(more for _, more in others)


def _remove_old_images(store: Store, limit: float) -> tuple[int, int]:
    """Remove unpacked images, each whole or not at all."""
    files = size = 0
    for folder in unpacked_folders(store):
        if last_used(folder) < limit:
            more, their_size = folder_usage(folder)
            remove_unpacked(store, folder)
            files, size = files + more, size + their_size
    return files, size


def _remove_old_compiler(folder: Path, limit: float) -> tuple[int, int]:
    """Remove the whole cache of the cross compiler, or nothing: its files depend on each other."""
    with store_errors(folder, "read"):
        if not folder.is_dir() or folder.stat().st_mtime >= limit:
            return 0, 0
    sizes = [_size(path) for path in _files(folder)]
    with store_errors(folder, "remove"):
        shutil.rmtree(folder)
    return len(sizes), sum(sizes)


def _remove_old_temporary(folder: Path, limit: float) -> tuple[int, int]:
    """Remove the files and folders that killed builds left; a folder as a whole, as times in it may be those of an image."""
    files = size = 0
    with store_errors(folder, "read"):
        for path in folder.iterdir() if folder.is_dir() else ():
            with suppress(FileNotFoundError):  # where another process has just removed it
                if path.lstat().st_mtime >= limit:
                    continue
                if path.is_dir() and not path.is_symlink():
                    more, their_size = _remove_left(path)
                else:
                    more, their_size = 1, _size(path)
                    path.unlink()
                files, size = files + more, size + their_size
    return files, size


def _remove_left(folder: Path) -> tuple[int, int]:
    """Remove a folder, whatever modes an image has given to what is in it; one that belongs to another user stays."""
    try:
        make_removable(folder)
        found = folder_usage(folder)
        shutil.rmtree(folder)
    except (OSError, StoreError):
        return 0, 0
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Return the files below a folder; not those of unpacked images, which go together."""
    with store_errors(folder, "read"):
        for place, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if (Path(place) / name) != folder / RUNTIMES)
            yield from (path for name in sorted(names) if (path := Path(place, name)).is_file())


def _size(path: Path) -> int:
    with store_errors(path, "read"), suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
