"""Remembers the sizes of the last builds of an output folder, for who wants to see where they go."""

from __future__ import annotations

import json
from typing import Any

from packer.cache.store import Store, digest_of
from packer.manifest.records import Report, Reports, packed_with_layers, unpacked_with_layers

_FORM = "1"
_KIND = "history"
_MOST = 60
"""Builds that are remembered; older ones are forgotten."""


def remember(store: Store, key: str, at: int, reports: Reports) -> None:
    """Add a build to those that are remembered for a state's key; ``at`` is its start in nanoseconds."""
    sizes = {name: _sizes(report) for name, report in sorted(reports.items())}
    before = recall(store, key)
    if before and before[-1]["functions"] == sizes:
        return
    found = [*before, {"at": at // 1_000_000_000, "functions": sizes}]
    store.save(_KIND, digest_of(_FORM, key), json.dumps(found[-_MOST:]).encode())


def recall(store: Store, key: str) -> list[dict[str, Any]]:
    """Give the builds that are remembered, the oldest first: when (seconds), and each function's bytes zipped and unzipped.

    Both are with layers.
    """
    record = store.load(_KIND, digest_of(_FORM, key))
    found: list[dict[str, Any]] = json.loads(record.payload) if record else []
    return found


def _sizes(report: Report) -> list[int]:
    return [packed_with_layers(report), unpacked_with_layers(report)]
