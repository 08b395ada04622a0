"""Copying of compressed bytes from one file to another, hashed on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from packer.core.errors import StoreError
from packer.core.model import Span

_CHUNK = 1 << 20
_REMEDY = "Run `lpack cache verify`, and build again."


class SpanReader:
    """Reads spans, and keeps the last files open: neighbors in a tree mostly share one."""

    _MOST = 64

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    def read(self, span: Span) -> Iterator[bytes]:
        """Yield a span's bytes as they are stored, in chunks; raise `StoreError` where the file is gone or shorter."""
        descriptor = self.descriptor(span.path)
        offset, end = span.offset, span.offset + span.length
        while offset < end:
            try:
                data = os.pread(descriptor, min(_CHUNK, end - offset), offset)
            except OSError as error:
                raise _read_error(span.path, error) from error
            if not data:
                raise StoreError(f"{span.path} became shorter while it was read.", remedy=_REMEDY)
            yield data
            offset += len(data)

    def descriptor(self, path: Path) -> int:
        """Return a file's descriptor, for reading; raise `StoreError`."""
        known = self._open.get(path)
        if known is None:
            if len(self._open) >= self._MOST:
                os.close(self._open.pop(next(iter(self._open))))
            try:
                known = self._open[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except OSError as error:
                raise _read_error(path, error) from error
        return known

    def close(self) -> None:
        """Close all files."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


def _read_error(path: Path, error: OSError) -> StoreError:
    return StoreError(f"Cannot read {path}: {error.strerror or error}.", remedy=_REMEDY)


class HashingWriter:
    """Buffers small writes to a file, and hashes them; ``length`` is the number of bytes written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._pending = 0
        self.length = 0

    def write(self, data: bytes) -> None:
        """Write bytes."""
        self._parts.append(data)
        self._pending += len(data)
        self.length += len(data)
        if self._pending >= _CHUNK:
            self._flush()

    def copy(self, span: Span, sources: SpanReader) -> None:
        """Write a span's bytes as they are stored; raise `StoreError` where they cannot be read, ``OSError`` otherwise."""
        for data in sources.read(span):
            self.write(data)

    def _flush(self) -> None:
        data = b"".join(self._parts)
        self._hash.update(data)
        self._file.write(data)
        self._parts.clear()
        self._pending = 0

    def finish(self) -> str:
        """Write what is buffered, and return the SHA-256 (hex) of everything."""
        self._flush()
        self._file.flush()
        return self._hash.hexdigest()
