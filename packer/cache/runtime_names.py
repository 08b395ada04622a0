"""Which image stood behind a name when its runtime was last pulled, where no lock of bases says it.

runtimes/<key>.json      a name, a platform and a manifest's digest; the key is the digest of name and platform
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from builders.files import write_file
from builders.runtimes import Architecture
from packer.cache.store import RUNTIMES, Store, digest_of, store_errors


class RuntimeName(Struct, frozen=True, kw_only=True):
    """The name of an image, the architecture that it was pulled for, and its manifest's digest (``sha256:…``)."""

    name: str
    architecture: Architecture
    digest: str


def find_digest(store: Store, name: str, architecture: Architecture) -> str:
    """Return the digest of the image that was last pulled by a name; empty where there is none."""
    found = _read(_path(store, name, architecture))
    return found.digest if found and (found.name, found.architecture) == (name, architecture) else ""


def save_digest(store: Store, found: RuntimeName) -> None:
    """Remember which image stands behind a name; raises `StoreError`."""
    path = _path(store, found.name, found.architecture)
    with store_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, msgspec.json.encode(found))


def known_names(store: Store) -> tuple[RuntimeName, ...]:
    """Return all names that images were pulled by, sorted."""
    folder = store.root / RUNTIMES
    with store_errors(folder, "read"):
        found = [_read(path) for path in folder.glob("*.json")]
    return tuple(sorted((each for each in found if each), key=lambda each: (each.name, each.architecture)))


def forget_name(store: Store, found: RuntimeName) -> None:
    """Forget which image stands behind a name; raises `StoreError`."""
    path = _path(store, found.name, found.architecture)
    with store_errors(path, "remove"):
        path.unlink(missing_ok=True)


def _path(store: Store, name: str, architecture: str) -> Path:
    return store.root / RUNTIMES / f"{digest_of(name, architecture)}.json"


def _read(path: Path) -> RuntimeName | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RuntimeName)
    except (OSError, msgspec.DecodeError):
        return None
