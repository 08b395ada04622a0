"""Writes a tree as a deterministic ZIP archive by splicing: ready-compressed bytes are copied, never compressed again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from packer.model import Content, Span, Tree
from packer.zipformat import central_record, end_records, local_header

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A finished archive: SHA-256 (hex) and length in bytes of the file."""

    sha256: str
    length: int


def write_zip(tree: Tree, file: BinaryIO, spans: Callable[[Content], Span]) -> Written:
    """Write the tree's entries in their order, with neutral metadata, to an empty file.

    ``spans`` finds (or makes) each content's compressed bytes. Raises ``OSError`` as reading and writing do.
    """
    sink = _Sink(file)
    sources = _Sources()
    records: list[bytes] = []
    try:
        for entry in tree:
            span = spans(entry.content)
            name = entry.path.encode()
            facts = (span.method, span.crc32, span.length, span.size)
            records.append(central_record(name, entry.mode, *facts, sink.length))
            sink.write(local_header(name, *facts))
            sources.copy(span, sink)
    finally:
        sources.close()
    offset = sink.length
    directory = b"".join(records)
    sink.write(directory)
    sink.write(end_records(len(records), len(directory), offset))
    return sink.finish()


class _Sink:
    """Gathers small writes, and hashes what goes out."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._pending = 0
        self.length = 0

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._pending += len(data)
        self.length += len(data)
        if self._pending >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._parts)
        self._hash.update(data)
        self._file.write(data)
        self._parts.clear()
        self._pending = 0

    def finish(self) -> Written:
        self._flush()
        self._file.flush()
        return Written(sha256=self._hash.hexdigest(), length=self.length)


class _Sources:
    """Keeps the last files open that spans are copied from; neighbours in a tree mostly share one."""

    _MOST = 64

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    def copy(self, span: Span, sink: _Sink) -> None:
        descriptor = self._descriptor(span.path)
        offset, end = span.offset, span.offset + span.length
        while offset < end:
            data = os.pread(descriptor, min(_CHUNK, end - offset), offset)
            if not data:
                raise OSError(f"{span.path} became shorter while it was read")
            sink.write(data)
            offset += len(data)

    def _descriptor(self, path: Path) -> int:
        known = self._open.get(path)
        if known is None:
            if len(self._open) >= self._MOST:
                os.close(self._open.pop(next(iter(self._open))))
            known = self._open[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        return known

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
