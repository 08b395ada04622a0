"""The content-addressed cache that all projects of a user share.

    wheels/1/ab/<sha256>     wheels and sdists as they were published, accepted and whole; the name is the content's digest
    wheels/native/ab/<key>   what native code a wheel holds, in the form of a derived file
    blobs/ab/<sha256>        parts of container images, whole; the name is the content's digest
    derived/<kind>/ab/<key>  what lpack computed: a SHA-256 of the rest, a newline, the payload; the name is the key's digest
    projects/<key>.json      what the last build of an output folder saw
    logs/                    what builds printed that failed
    zig/                     what the cross compiler keeps, in its own form
    tmp/                     files that are being written

Every file is written under tmp/ and then renamed, so that readers see all of it or nothing, and any number of processes may
work at once. Every file is verified when it is read; one that is broken is removed and made again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from msgspec import Struct

from builders.files import check_length
from packer.core.errors import StoreError

CACHE_VARIABLE = "LPACK_CACHE_DIR"
_ACCEPTANCE = "1"
"""Part of the wheels' folder; raised whenever stricter rules decide what may enter it."""
NATIVE = "native"
"""The kind of derived files that are kept with the wheels: what is read of each only once, when it has entered."""
COMPILER = "zig"
"""The folder of what the cross compiler keeps; its time says when it was last used."""
_HEADER = 65
_DIGEST = re.compile(r"[0-9a-f]{64}")
# How often use is written down: well within the shortest time after which anything is pruned (`packer.cache.prune`).
_MARKED_AFTER = 1800
_FREE_SPACE = "Free some space there (`lpack cache prune` removes what has not been used for long) and try again."
_OTHER_FOLDER = "Name a folder that can be written: --out for artifacts, LPACK_CACHE_DIR for the cache."


def store_folder() -> Path:
    """Give the cache folder: ``LPACK_CACHE_DIR``, or the platform's own place for caches."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("lpack")


class Record(Struct, frozen=True, kw_only=True):
    """A derived file: its payload starts at ``offset`` of ``path``."""

    path: Path
    offset: int
    payload: bytes


@contextmanager
def explained(path: Path, doing: str, remedy: str = _OTHER_FOLDER) -> Iterator[None]:
    """Turn an ``OSError`` into a `StoreError` that says what was tried, where, and what to do.

    ``remedy`` is for all but a disk that is full.
    """
    try:
        yield
    except OSError as error:
        todo = _FREE_SPACE if error.errno == errno.ENOSPC else remedy
        raise StoreError(f"Cannot {doing} {path}: {error.strerror or error}.", remedy=todo) from error


def replace_file(path: Path, data: bytes) -> None:
    """Write a file of the user's whole or not at all; raises `StoreError`."""
    folder = path.parent
    remedy = f"See that {folder.absolute()} is a folder that can be written."
    with explained(path, "write", remedy), tempfile.NamedTemporaryFile(dir=folder, prefix=".lpack-", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.close()
            check_length(temporary, len(data))
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


class Store:
    """Reads and writes the cache; may be used from many threads.

    Every method raises `StoreError` where the folder cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[Path] = set()
        self._lock = Lock()

    def wheel_path(self, digest: str) -> Path:
        """Give the place of a wheel or sdist, whether it is there or not."""
        return self._named(self.root / "wheels" / _ACCEPTANCE, digest)

    def derived_path(self, kind: str, key: str) -> Path:
        """Give the place of a derived file, whether it is there or not."""
        return self.root / ("wheels" if kind == NATIVE else "derived") / kind / key[:2] / key

    def wheel(self, digest: str, prove: Callable[[Path], None] | None = None, size: int | None = None) -> Path | None:
        """Find a wheel or sdist by its SHA-256; one whose bytes have changed is removed and not found.

        A store that may get it from elsewhere does so where ``prove`` is given, which raises a `LpackError` for
        a file that may not enter. ``size`` is what its lock says, if it does: no more is read from elsewhere.
        """
        del prove, size  # what is here was proved when it came
        return self._whole(self.wheel_path(digest))

    def adopt(self, temporary: Path, digest: str, size: int) -> Path:
        """Take in an accepted file from `temporary`, of which ``size`` bytes were written that have the SHA-256 ``digest``."""
        return self._adopt(temporary, self.wheel_path(digest), size)

    def blob_path(self, digest: str) -> Path:
        """Give the place of a blob of an image by its SHA-256 (hex), whether it is there or not."""
        return self._named(self.root / "blobs", digest)

    def blob(self, digest: str) -> Path | None:
        """Find a blob by its SHA-256; one whose bytes have changed is removed and not found."""
        return self._whole(self.blob_path(digest))

    def adopt_blob(self, temporary: Path, digest: str, size: int) -> Path:
        """Take in a blob from `temporary`, for reading only; ``size`` bytes were written that have the SHA-256 ``digest``."""
        temporary.chmod(0o444)
        path = self._adopt(temporary, self.blob_path(digest), size)
        with self._lock:  # whoever wrote it has read each byte just now
            self._verified.add(path)
        return path

    @staticmethod
    def _named(folder: Path, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            # Digests come from lock files, and a path made of anything else could lead out of the store.
            raise StoreError(f"{digest[:80]!r} is not a SHA-256 digest.", remedy="Mend the lock that names it, or lock again.")
        return folder / digest[:2] / digest

    def _whole(self, path: Path) -> Path | None:
        """Give a file that is called by its SHA-256 if it is there; it is read once and then trusted."""
        if path in self._verified and path.exists():
            return path
        with explained(path, "read"):
            try:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return None
            if found != path.name:
                path.unlink(missing_ok=True)
                return None
            _mark_used(path)
        with self._lock:
            self._verified.add(path)
        return path

    def _adopt(self, temporary: Path, path: Path, size: int) -> Path:
        with explained(path, "write"):
            check_length(temporary, size)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
        return path

    def load(self, kind: str, key: str) -> Record | None:
        """Find a derived file; one that is broken is removed and not found."""
        path = self.derived_path(kind, key)
        with explained(path, "read"):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
            payload = data[_HEADER:]
            if data[: _HEADER - 1] != hashlib.sha256(payload).hexdigest().encode():
                path.unlink(missing_ok=True)
                return None
            _mark_used(path)
        return Record(path=path, offset=_HEADER, payload=payload)

    def load_all(self, kind: str, keys: Sequence[str]) -> dict[str, Record]:
        """Find derived files that are always asked for together; those that are not there are left out."""
        found = {key: self.load(kind, key) for key in keys}
        return {key: record for key, record in found.items() if record is not None}

    def save(self, kind: str, key: str, payload: bytes) -> Record:
        """Write a derived file, replacing one with the same key."""
        path = self.derived_path(kind, key)
        with self.temporary() as temporary, explained(path, "write"):
            temporary.write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
            check_length(temporary, _HEADER + len(payload))
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
        return Record(path=path, offset=_HEADER, payload=payload)

    def flush(self) -> None:
        """Wait until others can read what was written; nobody else has this store."""

    def share(self, digest: str) -> None:
        """See that others can have a wheel or sdist that is here; nobody else has this store."""

    def offer(self, digest: str, path: Path) -> None:
        """See that others can have a file, by its SHA-256, without keeping it here; `flush` waits for that."""

    def obtain(self, digest: str, to: Path) -> bool:
        """Write what others have offered to a new file; False where it is not there. Nobody else has this store."""
        del digest, to
        return False

    def keep_log(self, name: str, text: str) -> Path:
        """Keep the log of something that failed, in place of an earlier one of the same name."""
        path = self.root / "logs" / f"{name}.log"
        with explained(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        return path

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Give a new file's path under tmp/; it is removed at the end unless it was moved away."""
        folder = self.root / "tmp"
        with explained(folder, "write to"):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder)
            os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give a new folder under tmp/; it is removed at the end."""
        folder = self.root / "tmp"
        with explained(folder, "write to"):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name:
            yield Path(name)


def _mark_used(path: Path) -> None:
    """Keep a file from being pruned."""
    with suppress(OSError):  # a cache that cannot be written still serves
        if path.stat().st_mtime < time.time() - _MARKED_AFTER:
            os.utime(path)


def digest_of(*parts: str | bytes) -> str:
    """Give the SHA-256 (hex) of a list of strings, such that no two lists give the same input."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.hexdigest()
