"""Deterministic ZIP archives by splicing: compressed bytes are copied, never compressed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from msgspec import Struct

from packer.core.model import Content, Span, Tree
from packer.formats.splice import HashingWriter, SpanReader
from packer.formats.zip_headers import central_record, end_records, local_header


class WrittenArchive(Struct, frozen=True, kw_only=True):
    """A finished archive: SHA-256 (hex) and length in bytes of the file."""

    sha256: str
    length: int


def write_zip(tree: Tree, file: BinaryIO, spans: Callable[[Content], Span]) -> WrittenArchive:
    """Write the tree's entries in their order, with neutral metadata, to an empty file.

    ``spans`` finds (or makes) each content's compressed bytes. Raises ``OSError`` where the file cannot be written, and an
    `LpackError` where a content cannot be read.
    """
    sink = HashingWriter(file)
    sources = SpanReader()
    records: list[bytes] = []
    try:
        for entry in tree:
            span = spans(entry.content)
            name = entry.path.encode()
            facts = (span.method, span.crc32, span.length, span.size)
            records.append(central_record(name, entry.mode, *facts, sink.length))
            sink.write(local_header(name, *facts))
            sink.copy(span, sources)
    finally:
        sources.close()
    offset = sink.length
    directory = b"".join(records)
    sink.write(directory)
    sink.write(end_records(len(records), len(directory), offset))
    return WrittenArchive(sha256=sink.finish(), length=sink.length)
