"""Finds the runtimes' own file systems, in which functions are proved, among the images that lie unpacked in the store."""

from __future__ import annotations

from builders.errors import UnavailableError
from builders.rootfs.runtime_files import RuntimeFiles
from builders.runtimes import Target
from packer.cache.runtime_names import find_digest
from packer.cache.store import Store
from packer.cache.unpacked_images import find_unpacked


def find_runtime_files(target: Target, store: Store) -> RuntimeFiles | None:
    """Return the file system of a target's runtime; None where it was not pulled. Takes a few reads of small files.

    It is that of the locked image, or else of the one that was last pulled by its name.
    """
    digest = image_digest(target, store)
    unpacked = find_unpacked(store, digest) if digest else None
    return RuntimeFiles.of(unpacked, target) if unpacked else None


def image_digest(target: Target, store: Store) -> str:
    """Return the digest of the run-time image's manifest as far as it is known here; empty where it is not."""
    _, at, named = target.runtime_image.partition("@")
    if at:
        # Of an index, if the name has its digest: the one that was found in it then is remembered by the name.
        return find_digest(store, target.runtime_image, target.architecture) or named
    return target.image.digest or find_digest(store, target.runtime_image, target.architecture)


def pull_command(target: Target) -> str:
    """Return the command that pulls a target's runtime."""
    return f"lpack runtime pull {target.runtime.name} --arch {target.architecture}"


def absent_error(target: Target) -> UnavailableError:
    """Return the error for a runtime that was not pulled."""
    what = f"the file system of {target.runtime.name} on {target.architecture} ({target.runtime_image}) was not pulled"
    return UnavailableError(what, remedy=f"`{pull_command(target)}` brings it.")
