"""Files that lpack made itself (bytecode, stripped libraries), compressed into one derived file of the store."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import deflate
from msgspec import Struct

from packer.cache.deflate import compress, inflate
from packer.cache.store import DerivedFile, Store, store_errors
from packer.core.errors import StoreError
from packer.core.model import DEFLATED, Content, Span

_LENGTH = struct.Struct("<I")


class PackedContent(Struct, frozen=True, kw_only=True):
    """Content that lies compressed in a derived file: ``length`` bytes from ``offset`` on."""

    path: Path
    offset: int
    length: int
    crc32: int
    size: int
    digest: str

    def read(self) -> bytes:
        """Inflate the file; raise `StoreError` where it is gone or broken."""
        with store_errors(self.path, "read"), self.path.open("rb", buffering=0) as file:
            try:
                data = inflate(self.span(), file.fileno())
            except ValueError:
                data = b""
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise StoreError(f"{self.path} is broken.", remedy="Run `lpack cache verify`, and build again.")
        return data

    def span(self) -> Span:
        return Span(path=self.path, offset=self.offset, length=self.length, method=DEFLATED, crc32=self.crc32, size=self.size)


def save_pack(store: Store, kind: str, key: str, files: Iterable[tuple[str, bytes]]) -> dict[str, Content]:
    """Compress files (name, raw bytes) into one derived file, and return their contents by name; raise `StoreError`."""
    table: list[tuple[str, int, int, int, str]] = []
    streams: list[bytes] = []
    for name, data in files:
        streams.append(compress(data))
        table.append((name, len(streams[-1]), deflate.crc32(data), len(data), hashlib.sha256(data).hexdigest()))
    head = json.dumps(table).encode()
    return _read_pack(store.save(kind, key, b"".join([_LENGTH.pack(len(head)), head, *streams])))


def load_pack(store: Store, kind: str, key: str) -> dict[str, Content] | None:
    """Return what `save_pack` wrote; None where it does not exist or is broken."""
    record = store.load(kind, key)
    return None if record is None else _read_pack(record)


def load_packs(store: Store, kind: str, keys: Sequence[str]) -> dict[str, dict[str, Content]]:
    """Return what `save_pack` wrote for keys that are always read together, by those keys that exist."""
    return {key: _read_pack(record) for key, record in store.load_all(kind, keys).items()}


def _read_pack(record: DerivedFile) -> dict[str, Content]:
    (length,) = _LENGTH.unpack_from(record.payload)
    offset = _LENGTH.size + length
    found: dict[str, Content] = {}
    for name, packed, crc32, size, digest in json.loads(record.payload[_LENGTH.size : offset]):
        found[name] = PackedContent(
            path=record.path, offset=record.offset + offset, length=packed, crc32=crc32, size=size, digest=digest
        )
        offset += packed
    return found
