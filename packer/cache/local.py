"""The store in a folder of this machine.

    wheels/1/ab/<sha256>     wheels and sdists as they were published, accepted and whole; the name is the content's digest
    wheels/native/ab/<key>   what native code a wheel holds, in the form of a derived file
    blobs/ab/<sha256>        parts of container images, whole; the name is the content's digest
    derived/<kind>/ab/<key>  what lpack computed: a seal, a newline, the payload; the name is the key's digest
    key                      the secret that seals are made with: what else has changed a derived file cannot seal it
    runtimes/<sha256>/       images that lie unpacked (`packer.cache.unpacked_images`)
    projects/<key>.json      what the last build of an output folder saw; it decides only whether that folder is current
    logs/                    the output of builds that failed
    zig/                     the cross compiler's own cache, in its own format
    tmp/                     files that are being written

Every file is written under tmp/ and then renamed, so that readers see all of it or nothing, and any number of processes may
work at once. Every file is verified when it is read; a broken one is removed and made again.

Seals are against what code of others leaves behind, and no sandbox reaches this folder. So only what is used as evidence, or
becomes a part of archives, is sealed or named by its digest; an unpacked image is compared with the listing that was made when
it was unpacked before anything runs in it. The output folder is the user's own: what is published from it is first compared
with the digests in its manifest (`packer.images.base_layout`, for images).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from builders.files import file_digest, place_file
from packer.cache.store import NATIVE, DerivedFile, digest_of, store_errors
from packer.core.errors import StoreError

CACHE_VARIABLE = "LPACK_CACHE_DIR"
_ACCEPTANCE = "1"
"""Part of the wheels' folder; raised whenever stricter rules decide what may enter it."""
_HEADER = 65
"""Bytes before the payload of a derived file: its seal, and a newline."""
KEY_FILE = "key"
"""The name of the file with the secret, in the cache folder."""
_SECRET_LENGTH = 32
_SEAL_LENGTH = 64
"""Letters of a seal."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MARKED_AFTER = 1800
"""Seconds after which the use of a file is recorded again: far less than the age at which files are pruned
(`packer.cache.prune`)."""


def store_folder() -> Path:
    """Return the cache folder: ``LPACK_CACHE_DIR``, or the platform's standard place for caches."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("lpack")


class Seal:
    """Seals derived files with the secret of the cache in a folder, which is made where there is none.

    A digest that stands in a file itself can be made anew by whatever changes the file. A seal needs the secret, and no sandbox
    can read the cache.
    Raises `StoreError` where it can be neither read nor made.
    """

    def __init__(self, root: Path) -> None:
        path = root / KEY_FILE
        with store_errors(path, "read"):
            self._secret = _read_secret(path) or _make_secret(path)

    def of(self, kind: str, key: str, payload: bytes | memoryview) -> bytes:
        """Return the seal of a payload under a key."""
        return digest_of(self._secret, kind, key, hashlib.sha256(payload).digest()).encode()

    def fits(self, kind: str, key: str, data: bytes) -> bool:
        """Return whether the bytes of a derived file begin with the seal of the rest."""
        return data[:_SEAL_LENGTH] == self.of(kind, key, memoryview(data)[_SEAL_LENGTH + 1 :])


def _read_secret(path: Path) -> bytes | None:
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        return None
    return secret if len(secret) == _SECRET_LENGTH else None


def _make_secret(path: Path) -> bytes:
    """Make a secret that only the user can read; of several processes that do it at once, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 a descriptor
            file.write(os.urandom(_SECRET_LENGTH))
        try:
            path.hardlink_to(temporary)
        except OSError:  # it is there already, or the file system has no such links
            if _read_secret(path) is None:
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.read_bytes()


class LocalStore:
    """A `Store` in a folder of this machine. It reads a file once to verify it, and then trusts it for its own lifetime."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[Path] = set()
        self._lock = Lock()
        self._seal: Seal | None = None

    @property
    def seal(self) -> Seal:
        """What shows that derived files are lpack's own."""
        with self._lock:
            if self._seal is None:
                self._seal = Seal(self.root)
            return self._seal

    def wheel_path(self, digest: str) -> Path:
        return self._named(self.root / "wheels" / _ACCEPTANCE, digest)

    def derived_path(self, kind: str, key: str) -> Path:
        return self.root / ("wheels" if kind == NATIVE else "derived") / kind / key[:2] / key

    def wheel(self, digest: str, prove: Callable[[Path], None] | None = None, size: int | None = None) -> Path | None:
        del prove, size  # only for files that come from elsewhere
        return self._whole(self.wheel_path(digest))

    def adopt(self, temporary: Path, digest: str, size: int) -> Path:
        return self._adopt(temporary, self.wheel_path(digest), size)

    def blob_path(self, digest: str) -> Path:
        return self._named(self.root / "blobs", digest)

    def blob(self, digest: str) -> Path | None:
        return self._whole(self.blob_path(digest))

    def adopt_blob(self, temporary: Path, digest: str, size: int) -> Path:
        temporary.chmod(0o444)
        path = self._adopt(temporary, self.blob_path(digest), size)
        with self._lock:  # its writer hashed it just now
            self._verified.add(path)
        return path

    @staticmethod
    def _named(folder: Path, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            # Digests come from lock files, and a path made of anything else could lead out of the store.
            raise StoreError(f"{digest[:80]!r} is not a SHA-256 digest.", remedy="Fix the lock that names it, or lock again.")
        return folder / digest[:2] / digest

    def _whole(self, path: Path) -> Path | None:
        """Return a file that is named by its SHA-256; None where it does not exist, or was broken and has been removed."""
        if path in self._verified and path.exists():
            return path
        with store_errors(path, "read"):
            try:
                found = file_digest(path)
            except FileNotFoundError:
                return None
            if found != path.name:
                path.unlink(missing_ok=True)
                return None
            mark_used(path)
        with self._lock:
            self._verified.add(path)
        return path

    def _adopt(self, temporary: Path, path: Path, size: int) -> Path:
        with store_errors(path, "write"):
            place_file(temporary, path, size)
        return path

    def load(self, kind: str, key: str) -> DerivedFile | None:
        path = self.derived_path(kind, key)
        with store_errors(path, "read"):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
            if not self.seal.fits(kind, key, data):
                path.unlink(missing_ok=True)
                return None
            mark_used(path)
        return DerivedFile(path=path, offset=_HEADER, payload=data[_HEADER:])

    def load_all(self, kind: str, keys: Sequence[str]) -> dict[str, DerivedFile]:
        found = {key: self.load(kind, key) for key in keys}
        return {key: record for key, record in found.items() if record is not None}

    def save(self, kind: str, key: str, payload: bytes) -> DerivedFile:
        path = self.derived_path(kind, key)
        with self.temporary() as temporary, store_errors(path, "write"):
            temporary.write_bytes(self.seal.of(kind, key, payload) + b"\n" + payload)
            place_file(temporary, path, _HEADER + len(payload))
        return DerivedFile(path=path, offset=_HEADER, payload=payload)

    def keep_log(self, name: str, text: str) -> Path:
        path = self.root / "logs" / f"{name}.log"
        with store_errors(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        return path

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        folder = self.root / "tmp"
        with store_errors(folder, "write to"):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder)
            os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        folder = self.root / "tmp"
        with store_errors(folder, "write to"):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name:
            yield Path(name)


def mark_used(path: Path) -> None:
    """Keep a file from being pruned soon: record that it was used now."""
    with suppress(OSError):  # a cache that cannot be written still serves
        if path.stat().st_mtime < time.time() - _MARKED_AFTER:
            os.utime(path)
