"""A store around another: whatever adds to a store derives from this, and overrides only what it changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from packer.cache.store import DerivedFile, Store


class StoreWrapper:
    """A `Store` that passes every call to the store it wraps."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    @property
    def root(self) -> Path:
        return self._inner.root

    def wheel_path(self, digest: str) -> Path:
        return self._inner.wheel_path(digest)

    def derived_path(self, kind: str, key: str) -> Path:
        return self._inner.derived_path(kind, key)

    def blob_path(self, digest: str) -> Path:
        return self._inner.blob_path(digest)

    def wheel(self, digest: str, prove: Callable[[Path], None] | None = None, size: int | None = None) -> Path | None:
        return self._inner.wheel(digest, prove, size)

    def adopt(self, temporary: Path, digest: str, size: int) -> Path:
        return self._inner.adopt(temporary, digest, size)

    def blob(self, digest: str) -> Path | None:
        return self._inner.blob(digest)

    def adopt_blob(self, temporary: Path, digest: str, size: int) -> Path:
        return self._inner.adopt_blob(temporary, digest, size)

    def load(self, kind: str, key: str) -> DerivedFile | None:
        return self._inner.load(kind, key)

    def load_all(self, kind: str, keys: Sequence[str]) -> dict[str, DerivedFile]:
        return self._inner.load_all(kind, keys)

    def save(self, kind: str, key: str, payload: bytes) -> DerivedFile:
        return self._inner.save(kind, key, payload)

    def keep_log(self, name: str, text: str) -> Path:
        return self._inner.keep_log(name, text)

    def temporary(self) -> AbstractContextManager[Path]:
        return self._inner.temporary()

    def workspace(self) -> AbstractContextManager[Path]:
        return self._inner.workspace()
