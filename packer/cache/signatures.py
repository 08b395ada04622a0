"""Cheap detection of changed files: by their stat, and by their content where the stat does not decide."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Signature = tuple[int, ...]
"""A path's (type, size, mtime, ctime, inode, executable) by stat, times in nanoseconds; () where nothing exists.

A shorter one leaves out the fields that change by themselves.
"""
SIZED = 2
"""The number of leading fields that are type and size."""

# File systems keep times in steps of 10 ms at most, or of 2 s where the nanoseconds are always zero (FAT, HFS+): a file that
# was touched less than one step before it was read may have changed since without a trace.
_STEP, _COARSE_STEP = 10_000_000, 2_000_000_000


def signature(path: str | Path) -> Signature:
    """Return a path's signature, following links."""
    try:
        return signature_from_status(os.stat(path))
    except OSError:
        return ()


def signature_from_status(status: os.stat_result) -> Signature:
    """Return the signature for a stat result."""
    kind = stat.S_IFMT(status.st_mode)
    size = 0 if kind == stat.S_IFDIR else status.st_size
    executable = status.st_mode & stat.S_IXUSR
    return (kind, size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, executable)


def is_settled(known: Signature, seen_at: int) -> bool:
    """Return whether a signature taken at the time ``seen_at`` (nanoseconds) can be trusted to show any later change."""
    if len(known) <= SIZED:
        return True
    newest = max(known[2], known[3])
    step = _STEP if newest % 1_000_000_000 else _COARSE_STEP
    return newest < seen_at - step


def are_unchanged(watched: Iterable[tuple[str, Signature]], seen_at: int) -> bool:
    """Return whether every path still has its signature, and each is settled."""
    return all(is_settled(known, seen_at) and _comparable(known, signature(path)) == known for path, known in watched)


def _comparable(known: Signature, now: Signature) -> Signature:
    return now[:SIZED] if len(known) == SIZED else now


class Digests:
    """Digests of files, remembered from one build to the next by the files' signatures."""

    def __init__(self, remembered: Mapping[str, tuple[Signature, str]] | None = None, seen_at: int = 0) -> None:
        self._remembered = dict(remembered or {})
        self._seen_at = seen_at
        self.current: dict[str, tuple[Signature, str]] = {}

    def digest(self, path: str, status: os.stat_result | None = None) -> str:
        """Return the SHA-256 (hex) of a file's content; ``OSError`` where it cannot be read."""
        now = signature_from_status(status if status is not None else os.stat(path))
        known, digest = self.current.get(path) or self._remembered.get(path) or ((), "")
        if known != now or not is_settled(known, self._seen_at):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.current[path] = (now, digest)
        return digest
