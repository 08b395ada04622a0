"""Compression of whatever no wheel holds compressed already, once: libdeflate's raw deflate streams, kept in the store.

libdeflate has zlib's compression at a multiple of its speed, and a version of it gives the same bytes everywhere (its author
says so in ebiggers/libdeflate issue 400), so its version is pinned and part of the key. ISA-L and zlib-ng, which are as fast or
faster, were seen to write other bytes on other processors. bench/codecs.py measures them all.
"""

from __future__ import annotations

import os
import struct

import deflate

from packer.cache.store import DerivedFile, Store, digest_of
from packer.core.model import DEFLATED, Content, Span

_LEVEL = 6
CODEC = f"libdeflate {deflate.__version__} level {_LEVEL}"
_META = struct.Struct("<IQ")


def compress(data: bytes | bytearray) -> bytes:
    """Return the raw deflate stream that `CODEC` names."""
    return bytes(deflate.deflate_compress(data, _LEVEL))


def inflate(span: Span, descriptor: int) -> bytes:
    """Return the raw bytes of a span of an open file; raise ``ValueError`` where size or checksum do not match."""
    data = os.pread(descriptor, span.length, span.offset)
    if len(data) != span.length:
        raise ValueError("it is cut short")
    if span.method == DEFLATED:
        try:
            data = bytes(deflate.deflate_decompress(data, span.size)) if span.size else b""
        except deflate.DeflateError:
            raise ValueError("its compressed data is broken") from None
    if len(data) != span.size or deflate.crc32(data) != span.crc32:
        raise ValueError("its size or checksum differs from the declared one")
    return data


class Deflater:
    """Finds the compressed bytes of any content, or compresses it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def span(self, content: Content) -> Span:
        """Return where the content lies compressed; raise `StoreError` and whatever reading it raises."""
        ready = content.span()
        if ready is not None:
            return ready
        key = digest_of(CODEC, content.digest)
        record = self._store.load("deflated", key) or self._compress(content, key)
        crc32, size = _META.unpack_from(record.payload)
        return Span(
            path=record.path,
            offset=record.offset + _META.size,
            length=len(record.payload) - _META.size,
            method=DEFLATED,
            crc32=crc32,
            size=size,
        )

    def _compress(self, content: Content, key: str) -> DerivedFile:
        data = content.read()
        stream = compress(data)
        return self._store.save("deflated", key, _META.pack(deflate.crc32(data), len(data)) + stream)
