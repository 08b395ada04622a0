"""Remembers the sizes of the last builds of an output folder, for who wants to see where they go."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from packer.cache.store import Store, digest_of
from packer.core.records import FunctionRecords

_FORM = "1"
_KIND = "history"
_MOST = 60
"""Builds that are remembered; older ones are forgotten."""


class PastBuild(Struct, frozen=True, kw_only=True):
    """A build: when it began (seconds since the epoch), and the bytes of each function with its layers, packed and unpacked."""

    at: int
    functions: dict[str, tuple[int, int]]


def save_history(store: Store, key: str, at: int, functions: FunctionRecords) -> None:
    """Add a build to those that are remembered for a state's key; ``at`` is its start in nanoseconds."""
    sizes = {name: (each.packed_with_layers, each.unpacked_with_layers) for name, each in sorted(functions.items())}
    before = load_history(store, key)
    if before and before[-1].functions == sizes:
        return
    found = [*before, PastBuild(at=at // 1_000_000_000, functions=sizes)]
    store.save(_KIND, digest_of(_FORM, key), msgspec.json.encode(found[-_MOST:]))


def load_history(store: Store, key: str) -> list[PastBuild]:
    """Return the builds that are remembered, the oldest first."""
    record = store.load(_KIND, digest_of(_FORM, key))
    return msgspec.json.decode(record.payload, type=list[PastBuild]) if record else []
