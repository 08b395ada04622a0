"""Outlines: distributions of which only paths and sizes are known, not the content of any file.

Whatever is made of one is an estimate: no source can be scanned or compiled, and no library stripped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from packer.cache.store import digest_of
from packer.core.model import DEFLATED, EXECUTABLE_MODE, FILE_MODE, Content, Entry, Span, Tree
from packer.formats.wheel import installed_path, is_in_data_folder
from packer.formats.zip_reader import ZipMember

DIRECTORY, SIZE, SOURCE, NOTHING = "directory", "size", "source", "nothing"
"""What an outline is made from: the wheel's directory, the size in its lock, its source, or nothing."""
BYTECODE_SIZE, BYTECODE_PACKED = 1.25, 2.0
"""Bytes of bytecode for each byte of source, unpacked and packed, measured over 32 common wheels with CPython 3.12."""
_UNPACKED = 3.4
"""Bytes of files for each byte of a wheel: the median of the same wheels."""
_NOTHING_KNOWN = "unknown"
OUTLINES = "outlines"
"""The kind under which outlines are stored."""


class OutlineContent(Struct, frozen=True, kw_only=True):
    """A file whose sizes are known; the digest only distinguishes it from other outlines."""

    digest: str
    size: int
    packed: int

    def read(self) -> bytes:
        """Return no bytes: the content of the file is not known."""
        return b""

    def span(self) -> Span:
        """Return a span with the right lengths and no file."""
        return Span(path=Path(), offset=0, length=self.packed, method=DEFLATED, crc32=0, size=self.size)


class OutlinedFile(Struct, frozen=True, kw_only=True):
    """One file as it installs; sizes are bytes."""

    path: str
    mode: int
    size: int
    packed: int


def outline_members(members: Iterable[ZipMember], filename: str) -> list[OutlinedFile]:
    """Return the files that a wheel with these members installs."""
    name = filename.partition("-")[0]
    files: dict[str, OutlinedFile] = {}
    for member in members:
        path = installed_path(member.name, name) if is_in_data_folder(member.name) else member.name
        if path is not None:
            mode = EXECUTABLE_MODE if member.mode & 0o111 else FILE_MODE
            files[path] = OutlinedFile(path=path, mode=mode, size=member.size, packed=member.length)
    return list(files.values())


def guess_files(name: str, version: str, packed: int) -> list[OutlinedFile]:
    """Return one file of the size that an archive of ``packed`` bytes is likely to install."""
    path = f"{name}-{version or '0'}.dist-info/{_NOTHING_KNOWN}"
    return [OutlinedFile(path=path, mode=FILE_MODE, size=round(packed * _UNPACKED), packed=packed)]


def write_outline(files: Iterable[OutlinedFile]) -> bytes:
    """Return the stored form of an outline."""
    return json.dumps([[each.path, each.mode, each.size, each.packed] for each in files]).encode()


def read_outline(payload: bytes, owner: str) -> Tree:
    """Return the tree of an outline; ``owner`` is the owner of its entries."""
    return Tree.of(
        Entry(path=path, mode=mode, content=_content(owner, path, size, packed), owner=owner)
        for path, mode, size, packed in json.loads(payload)
    )


def _content(owner: str, path: str, size: int, packed: int) -> OutlineContent:
    return OutlineContent(digest=digest_of("outline", owner, path, str(size), str(packed)), size=size, packed=packed)


def expected_bytecode(entries: Iterable[Entry]) -> Mapping[str, Content]:
    """Return outlines of the bytecode of outlined sources, by the sources' paths."""
    return dict(_expected(entries))


def _expected(entries: Iterable[Entry]) -> Iterator[tuple[str, Content]]:
    for entry in entries:
        known = entry.content
        if isinstance(known, OutlineContent) and known.size:
            sizes = round(known.size * BYTECODE_SIZE), round(known.packed * BYTECODE_PACKED)
            yield entry.path, _content(f"{entry.owner} compiled", entry.path, *sizes)
