"""A distribution of which only the directory is known: paths and sizes, without a byte of what is in its files.

What is made of one is an estimate: no source can be scanned or compiled, and no library stripped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from packer.cache.store import digest_of
from packer.core.model import DEFLATED, EXECUTABLE_MODE, FILE_MODE, Content, Entry, Span, Tree
from packer.formats.wheel import installed_path
from packer.formats.zip_reader import ZipMember

DIRECTORY, SIZE, SOURCE, NOTHING = "directory", "size", "source", "nothing"
"""How a distribution is known: by its wheel's directory, by the size that its lock tells, by its source, or not at all."""
BYTECODE_SIZE, BYTECODE_PACKED = 1.25, 2.0
"""Bytes of bytecode for each byte of source, unpacked and packed, seen over 32 common wheels with CPython 3.12."""
_UNPACKED = 3.4
"""Bytes of files for each byte of a wheel: the median of the same."""
_NOTHING_KNOWN = "unknown"
OUTLINES = "outlines"
"""The kind of derived files that outlines are."""


class OutlineContent(Struct, frozen=True, kw_only=True):
    """A file of which the sizes are known; the digest only tells it from other outlines."""

    digest: str
    size: int
    packed: int

    def read(self) -> bytes:
        """Give nothing: what is in the file is not known."""
        return b""

    def span(self) -> Span:
        """Give a span that has the right lengths and no place."""
        return Span(path=Path(), offset=0, length=self.packed, method=DEFLATED, crc32=0, size=self.size)


class OutlinedFile(Struct, frozen=True, kw_only=True):
    """One file as it installs; sizes are bytes."""

    path: str
    mode: int
    size: int
    packed: int


def outline_members(members: Iterable[ZipMember], filename: str) -> list[OutlinedFile]:
    """Say what a wheel with these members installs."""
    name, version = filename.split("-")[:2]
    data = f"{name}-{version}.data/"
    files: dict[str, OutlinedFile] = {}
    for member in members:
        path = installed_path(member.name, name) if member.name.startswith(data) else member.name
        if path is not None:
            mode = EXECUTABLE_MODE if member.mode & 0o111 else FILE_MODE
            files[path] = OutlinedFile(path=path, mode=mode, size=member.size, packed=member.length)
    return list(files.values())


def guess_files(name: str, version: str, packed: int) -> list[OutlinedFile]:
    """Say what an archive of so many bytes may install."""
    path = f"{name}-{version or '0'}.dist-info/{_NOTHING_KNOWN}"
    return [OutlinedFile(path=path, mode=FILE_MODE, size=round(packed * _UNPACKED), packed=packed)]


def write_outline(files: Iterable[OutlinedFile]) -> bytes:
    """Give the form in which the store keeps an outline."""
    return json.dumps([[each.path, each.mode, each.size, each.packed] for each in files]).encode()


def read_outline(payload: bytes, owner: str) -> Tree:
    """Give the tree of an outline; ``owner`` is what its entries are said to come from."""
    return Tree.of(
        Entry(path=path, mode=mode, content=_content(owner, path, size, packed), owner=owner)
        for path, mode, size, packed in json.loads(payload)
    )


def _content(owner: str, path: str, size: int, packed: int) -> OutlineContent:
    return OutlineContent(digest=digest_of("outline", owner, path, str(size), str(packed)), size=size, packed=packed)


def expected_bytecode(entries: Iterable[Entry]) -> Mapping[str, Content]:
    """Say how large the bytecode of outlined sources is going to be, by their paths."""
    return dict(_expected(entries))


def _expected(entries: Iterable[Entry]) -> Iterator[tuple[str, Content]]:
    for entry in entries:
        known = entry.content
        if isinstance(known, OutlineContent) and known.size:
            sizes = round(known.size * BYTECODE_SIZE), round(known.packed * BYTECODE_PACKED)
            yield entry.path, _content(f"{entry.owner} compiled", entry.path, *sizes)
