"""The seam to the cache that all projects of a user share: content by its digest, and what lpack computed by its key.

`packer.cache.local` keeps it in a folder, and `packer.cache.remote` wraps any store to share it with other machines.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct

from builders.files import write_file
from packer.core.errors import StoreError

NATIVE = "native"
"""The kind of derived files that are kept with the wheels: what was read once from each wheel when it entered."""
REMOTE_VARIABLE = "LPACK_REMOTE"
"""The environment variable that names the remote store, and outweighs what a project configures; empty means none."""
COMPILER = "zig"
"""The folder of the cross compiler's cache; its modification time says when it was last used."""
RUNTIMES = "runtimes"
"""The folder of the images that lie unpacked (`packer.cache.unpacked_images`)."""
_FREE_SPACE = "Free some space there (`lpack cache prune` removes what has not been used for long) and try again."
_OTHER_FOLDER = "Name a folder that can be written: --out for artifacts, LPACK_CACHE_DIR for the cache."


class DerivedFile(Struct, frozen=True, kw_only=True):
    """A derived file, whose payload starts at byte ``offset`` of ``path``."""

    path: Path
    offset: int
    payload: bytes


@contextmanager
def store_errors(path: Path, doing: str, remedy: str = _OTHER_FOLDER) -> Iterator[None]:
    """Turn an ``OSError`` into a `StoreError` that says what failed, where, and what to do.

    ``remedy`` is for all errors but a full disk.
    """
    try:
        yield
    except OSError as error:
        todo = _FREE_SPACE if error.errno == errno.ENOSPC else remedy
        raise StoreError(f"Cannot {doing} {path}: {error.strerror or error}.", remedy=todo) from error


def replace_file(path: Path, data: bytes) -> None:
    """Write a file of the user's whole or not at all; raise `StoreError`."""
    with store_errors(path, "write", f"Check that {path.parent.absolute()} is a folder that can be written."):
        write_file(path, data, mode=0o644)


class Store(Protocol):
    """A cache of wheels, image blobs and derived files; may be used from many threads.

    Whatever a store returns is a file below ``root`` that was proved by its digest. Every method raises `StoreError` where the
    folder cannot be used.
    """

    @property
    def root(self) -> Path:
        """The folder that holds all of it."""

    def wheel_path(self, digest: str) -> Path:
        """Return where a wheel or sdist lies, whether it exists or not; raise `StoreError` for what is no SHA-256."""

    def derived_path(self, kind: str, key: str) -> Path:
        """Return where a derived file lies, whether it exists or not."""

    def blob_path(self, digest: str) -> Path:
        """Return where an image's blob lies by its SHA-256 (hex), whether it exists or not."""

    def wheel(self, digest: str, prove: Callable[[Path], None] | None = None, size: int | None = None) -> Path | None:
        """Return a wheel or sdist by its SHA-256; None where there is none, or its bytes have changed.

        A store that can get it from elsewhere does so only if ``prove`` is given, which raises a `LpackError` for a file that
        must not enter. ``size`` is the length in bytes according to the lock, if known: no more is read from elsewhere.
        """

    def adopt(self, temporary: Path, digest: str, size: int) -> Path:
        """Take in an accepted wheel or sdist from ``temporary``: ``size`` bytes with the SHA-256 ``digest``."""

    def blob(self, digest: str) -> Path | None:
        """Return a blob by its SHA-256; None where there is none, or its bytes have changed."""

    def adopt_blob(self, temporary: Path, digest: str, size: int) -> Path:
        """Take in a blob from ``temporary``, read-only: ``size`` bytes with the SHA-256 ``digest``."""

    def load(self, kind: str, key: str) -> DerivedFile | None:
        """Return a derived file; None where there is none, or it is broken."""

    def load_all(self, kind: str, keys: Sequence[str]) -> dict[str, DerivedFile]:
        """Return the derived files, by key, that exist of those which are always asked for together."""

    def save(self, kind: str, key: str, payload: bytes) -> DerivedFile:
        """Write a derived file, replacing one with the same key."""

    def keep_log(self, name: str, text: str) -> Path:
        """Keep the log of something that failed, replacing an earlier one of the same name."""

    def temporary(self) -> AbstractContextManager[Path]:
        """Create an empty file on the store's file system; it is removed at the end unless it was moved away."""

    def workspace(self) -> AbstractContextManager[Path]:
        """Create a folder on the store's file system; it is removed at the end."""


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store through which machines exchange files."""

    def share(self, digest: str) -> None:
        """Upload a wheel or sdist of this store, so that other machines find it."""

    def offer(self, digest: str, path: Path) -> None:
        """Upload a file under its SHA-256, without keeping it here."""

    def obtain(self, digest: str, to: Path) -> bool:
        """Download a file that another machine uploaded to the new file ``to``; return False where there is none."""

    def flush(self) -> None:
        """Wait until others can read what was written."""


def digest_of(*parts: str | bytes) -> str:
    """Return the SHA-256 (hex) of a list of strings; the length of each is hashed too, so that no two lists collide."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.hexdigest()
