"""Where a registry's blobs are, remembered from one push to the next, so that other repositories can mount them."""

from __future__ import annotations

import json
from threading import Lock

from packer.cache.store import Store, digest_of

_FORM = "1"
_KIND = "blob-homes"
_MOST = 4000
"""Blobs remembered for each registry, the newest ones."""


class BlobLocations:
    """Maps a registry and a blob's digest to a repository that had it; may be used from many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[str, str]] = {}
        self._changed: set[str] = set()
        self._lock = Lock()

    def find(self, registry: str, digest: str) -> str:
        """Return a repository that had the blob when last seen; empty where none is known."""
        with self._lock:
            return self._of(registry).get(digest, "")

    def add(self, registry: str, digest: str, repository: str) -> None:
        """Remember that a repository has a blob, in place of one seen before it; the blob is then the newest one."""
        with self._lock:
            known = self._of(registry)
            known.pop(digest, None)  # a key that is only assigned again keeps its place
            known[digest] = repository
            self._changed.add(registry)

    def keep(self) -> None:
        """Save what is new in the store; raise `StoreError`."""
        with self._lock:
            for registry in self._changed:
                newest = list(self._of(registry).items())[-_MOST:]
                self._store.save(_KIND, digest_of(_FORM, registry), json.dumps(dict(newest)).encode())
            self._changed.clear()

    def _of(self, registry: str) -> dict[str, str]:
        if registry not in self._known:
            record = self._store.load(_KIND, digest_of(_FORM, registry))
            self._known[registry] = dict(json.loads(record.payload)) if record else {}
        return self._known[registry]
