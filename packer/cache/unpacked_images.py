"""The images that lie unpacked in the store, each in a folder that is called after its manifest's digest.

runtimes/<sha256>/root/       its files, which belong to the calling user
runtimes/<sha256>/root.json   what is known of them (`builders.rootfs.record`)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from builders.rootfs.listing import make_removable, tree_size
from builders.rootfs.record import RECORD, UnpackedImage, is_whole, read_root
from packer.cache.local import mark_used
from packer.cache.store import RUNTIMES, Store, store_errors


def image_folder(store: Store, digest: str) -> Path:
    """Return where an image lies by its manifest's digest (``sha256:…``), whether it exists or not."""
    return store.root / RUNTIMES / store.blob_path(digest.removeprefix("sha256:")).name


def find_unpacked(store: Store, digest: str) -> UnpackedImage | None:
    """Return an image that lies unpacked in the store; None where there is none, or it has visibly changed."""
    folder = image_folder(store, digest)
    found = read_root(folder, digest)
    if found is not None:
        mark_used(folder / RECORD)
    return found


def unpacked_folders(store: Store) -> Iterator[Path]:
    """Return the folders of all images that lie in the store, whole or not; raises `StoreError`."""
    folder = store.root / RUNTIMES
    with store_errors(folder, "read"):
        yield from (path for path in sorted(folder.iterdir() if folder.is_dir() else ()) if path.is_dir())


def folder_usage(folder: Path) -> tuple[int, int]:
    """Return the number and the bytes of the files that an image's folder holds; raises `StoreError`."""
    with store_errors(folder, "read"), suppress(FileNotFoundError):  # where another process has just removed it
        return tree_size(folder)
    return 0, 0


def is_intact(folder: Path) -> bool:
    """Return whether an image is exactly as it was unpacked; reads all of it. Raises `StoreError`."""
    with store_errors(folder, "verify"):
        return is_whole(folder, f"sha256:{folder.name}")


def last_used(folder: Path) -> float:
    """Return when an image was last used, in seconds since 1970; for one that is not whole, when it was last changed."""
    with store_errors(folder, "read"):
        for path in (folder / RECORD, folder):
            with suppress(FileNotFoundError):
                return path.stat().st_mtime
    return 0.0


def remove_unpacked(store: Store, folder: Path) -> None:
    """Remove an image, which is not there any more for others as soon as this begins; raises `StoreError`."""
    with store.workspace() as work, store_errors(folder, "remove"), suppress(FileNotFoundError):
        folder.rename(work / folder.name)
        make_removable(work / folder.name)
        shutil.rmtree(work / folder.name)
