"""Holds a stripped library against its original: what is loaded of it must be the same, byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from packer.elf import opened_elf

# Fields of the ELF header that say where the section headers are; no loader reads these (ELF specification, "ELF Header").
_SECTION_FIELDS = ("e_shoff", "e_shnum", "e_shstrndx", "e_shentsize")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """What a loader sees of a file, and where in it all ends that its headers speak of."""

    header: tuple[tuple[str, Any], ...]
    segments: tuple[tuple[tuple[str, Any], ...], ...]
    contents: tuple[bytes, ...]
    end: int


def difference(before: bytes, after: bytes) -> str:
    """Say what a loader would see differently in a stripped file; empty where there is nothing.

    The headers of the program, its alignment, its dynamic section, symbols and all else lie in what is loaded.
    """
    try:
        old, new = _loaded(before), _loaded(after)
    except ValueError as error:
        return str(error)
    if len(before) > old.end:
        return "data follows its end, which stripping would drop"
    if old.header != new.header:
        return "its header differs"
    if old.segments != new.segments:
        return "its program headers differ"
    if old.contents != new.contents:
        return "what is loaded of it differs"
    return ""


def _loaded(data: bytes) -> _Loaded:
    """Read a file; ``ValueError`` where it is broken, or not laid out as a loader needs it."""
    with opened_elf(BytesIO(data), "the file") as elf:
        header = tuple((name, value) for name, value in elf.header.items() if name not in _SECTION_FIELDS)
        segments = [dict(segment.header) for segment in elf.iter_segments()]
        header_size = elf["e_ehsize"]
        last = elf["e_shoff"] + elf["e_shnum"] * elf["e_shentsize"]
        kept = [each["sh_offset"] + each["sh_size"] for each in elf.iter_sections() if each["sh_type"] != "SHT_NOBITS"]
    contents = []
    for each in segments:
        start, end = each["p_offset"], each["p_offset"] + each["p_filesz"]
        if end > len(data):
            raise ValueError("a segment goes beyond its end")
        if each["p_type"] == "PT_LOAD":
            if each["p_align"] > 1 and (each["p_offset"] - each["p_vaddr"]) % each["p_align"]:
                raise ValueError("a segment is not aligned")
            contents.append(data[max(start, header_size) : end])
    return _Loaded(
        header=header,
        segments=tuple(tuple(each.items()) for each in segments),
        contents=tuple(contents),
        end=max([last, *kept, *(each["p_offset"] + each["p_filesz"] for each in segments)]),
    )
