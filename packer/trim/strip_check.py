"""Checks a stripped library against its original: what is loaded of it must be the same, byte for byte.

It looks at hundreds of whole files in a build, and at nothing but three tables of fixed form (System V ABI, "Object Files").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct

from packer.formats.elf import MAGIC

_64_BIT_LITTLE_ENDIAN = b"\2\1"
_HEADER = struct.Struct("<32sQQIHHHHHH")
"""What it begins with, where the tables are, flags, and for each table the size of an entry and how many there are."""
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_LOAD, _NO_BITS = 1, 8
"""A segment that is loaded (PT_LOAD), and a section without bytes in the file (SHT_NOBITS)."""
_ALLOCATED = 2
"""The flag of a section that is loaded (SHF_ALLOC)."""


class _Segment(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    size: int
    memory: int
    alignment: int

    @property
    def end(self) -> int:
        return self.offset + self.size


class _Layout(Struct, frozen=True, kw_only=True):
    """What the tables of a file say. ``header`` is all of it but where the sections' headers are, which no loader reads.

    ``end`` is where all ends that the tables speak of, ``unloaded`` are the bytes of sections that are not loaded.
    """

    header: tuple[bytes | int, ...]
    header_size: int
    segments: tuple[_Segment, ...]
    end: int
    unloaded: int


def unloaded_size(data: bytes) -> int:
    """Return the bytes in sections of a file that are not loaded: stripping saves no more. Raises ``ValueError``."""
    return _layout(data).unloaded


def find_difference(before: bytes, after: bytes) -> str:
    """Return what a loader would see differently in a stripped file; empty where there is nothing.

    The headers of the program, its alignment, its dynamic section, symbols and all else lie in what is loaded.
    """
    try:
        old, new = _layout(before), _layout(after)
        _check(old, before)
        _check(new, after)
    except ValueError as error:
        return str(error)
    if len(before) > old.end:
        return "data follows its end, which stripping would drop"
    if old.header != new.header:
        return "its header differs"
    if old.segments != new.segments:
        return "its program headers differ"
    if any(one != other for one, other in zip(_contents(old, before), _contents(new, after), strict=True)):
        return "what is loaded of it differs"
    return ""


def _layout(data: bytes) -> _Layout:
    """Read the tables; ``ValueError`` where the file is none, or has no room for them."""
    if data[:4] != MAGIC or data[4:6] != _64_BIT_LITTLE_ENDIAN or len(data) < _HEADER.size:
        raise ValueError("the file is not a readable ELF file (64-bit, little-endian)")
    start, segments_at, sections_at, flags, header_size, *sizes = _HEADER.unpack_from(data)
    segment_size, segment_count, section_size, section_count, _ = sizes
    segments = tuple(map(_Segment._make, _table(data, _SEGMENT, segments_at, segment_size, segment_count)))
    end, unloaded = sections_at + section_count * section_size, 0
    for _, kind, how, _, offset, size, *_ in _table(data, _SECTION, sections_at, section_size, section_count):
        if kind != _NO_BITS:
            end = max(end, offset + size)
            unloaded += 0 if how & _ALLOCATED else size
    return _Layout(
        header=(start, segments_at, flags, header_size, segment_size, segment_count),
        header_size=header_size,
        segments=segments,
        end=max([end, *(segment.end for segment in segments)]),
        unloaded=unloaded,
    )


def _table(data: bytes, entry: struct.Struct, offset: int, size: int, count: int) -> Iterator[tuple[int, ...]]:
    if not count:
        return iter(())
    if size != entry.size or offset + size * count > len(data):
        raise ValueError("the file is not a readable ELF file (a table of its headers is missing)")
    return entry.iter_unpack(data[offset : offset + size * count])


def _check(layout: _Layout, data: bytes) -> None:
    """Prove that a file is laid out as a loader needs it, or raise ``ValueError``."""
    for segment in layout.segments:
        if segment.end > len(data):
            raise ValueError("a segment goes beyond its end")
        if segment.kind == _LOAD and segment.alignment > 1 and (segment.offset - segment.address) % segment.alignment:
            raise ValueError("a segment is not aligned")


def _contents(layout: _Layout, data: bytes) -> Iterator[bytes]:
    """Return what is loaded, but for the header, which is compared by its fields."""
    for segment in layout.segments:
        if segment.kind == _LOAD:
            yield data[max(segment.offset, layout.header_size) : segment.end]
