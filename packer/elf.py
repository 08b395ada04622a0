"""Shared libraries and programs (ELF files), as far as it matters whether a machine can load them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from os import SEEK_END
from struct import calcsize, unpack
from struct import error as struct_error
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"
# e_machine as pyelftools names it to the names that wheel tags use.
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}
_DYNAMIC_TYPES = ("ET_DYN", "ET_EXEC")
_VERSION_RECORD = 16
"""Bytes of each record of needed versions (Linux Standard Base, "Symbol Versioning")."""
_LONGEST_NAME = 4096
_MOST_LIBRARIES = 64
"""Libraries whose versions a message looks through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElfFile:
    """One dynamically linked file.

    ``machine`` is named as wheel tags do, or as ELF does where they have no name for it. ``needed`` are the sonames that it
    links to, ``run_paths`` where it looks for them first; ``versions`` are (soname, symbol version) that these must define.
    """

    path: str
    machine: str
    soname: str = ""
    needed: tuple[str, ...] = ()
    run_paths: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()


def read_elf(file: BinaryIO, path: str) -> ElfFile | None:
    """Read a file; None where it is no ELF file, or nothing that is loaded dynamically.

    ``ValueError`` where it begins like an ELF file and is broken.
    """
    file.seek(0)
    if file.read(4) != MAGIC:
        return None
    with _opened(file, path) as elf:
        return _described(elf, path) if elf["e_type"] in _DYNAMIC_TYPES else None


@contextmanager
def _opened(file: BinaryIO, path: str) -> Iterator[ELFFile]:
    """Give an ELF file to look at; whatever the library raises where it is broken becomes a ``ValueError``."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile

    broken = (ELFError, ConstructError, AttributeError, LookupError, TypeError, ValueError, OSError, struct_error)
    try:
        elf = ELFFile(file)
        _check_counts(elf, file)
        yield elf
    except (*broken, ArithmeticError, AssertionError) as error:
        raise ValueError(f"{path} is no ELF file that can be read ({error or type(error).__name__})") from None


def _check_counts(elf: ELFFile, file: BinaryIO) -> None:
    """Prove that a file has room for the headers that it claims to have: they are walked through, however many."""
    room = file.seek(0, SEEK_END)
    headers = elf.num_segments() * elf.structs.Elf_Phdr.sizeof() + elf.num_sections() * elf.structs.Elf_Shdr.sizeof()
    if headers > room:
        raise ValueError(f"its headers alone would take {headers} bytes")


def _described(elf: ELFFile, path: str) -> ElfFile | None:
    from elftools.elf.dynamic import DynamicSegment

    dynamic = next((segment for segment in elf.iter_segments() if isinstance(segment, DynamicSegment)), None)
    if dynamic is None:
        return None
    found: dict[str, list[str]] = {"DT_NEEDED": [], "DT_SONAME": [], "DT_RPATH": [], "DT_RUNPATH": []}
    names = {"DT_NEEDED": "needed", "DT_SONAME": "soname", "DT_RPATH": "rpath", "DT_RUNPATH": "runpath"}
    places: dict[str, int] = {}
    for tag in dynamic.iter_tags():
        kind = tag.entry.d_tag
        places[kind] = tag.entry.d_val
        if kind in names:
            found[kind].append(getattr(tag, names[kind]))
    run_paths = found["DT_RUNPATH"] or found["DT_RPATH"]  # the loader ignores the older kind where both are there (ld.so(8))
    machine = elf["e_machine"]
    return ElfFile(
        path=path,
        machine=_MACHINES.get(machine, str(machine).removeprefix("EM_")) if elf.elfclass == 64 else f"{machine} 32 bit",
        soname=next(iter(found["DT_SONAME"]), ""),
        needed=tuple(found["DT_NEEDED"]),
        run_paths=tuple(each for text in run_paths for each in text.split(":") if each),
        versions=tuple(sorted({(library, version) for library, version, _ in _needed_versions(elf, places)})),
    )


def _needed_versions(elf: ELFFile, places: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Give (soname, version, number in the symbol version table) of what other libraries must define.

    Read as the loader does, by way of the dynamic section's ``places``: a file loads as well without section headers.
    """
    if "DT_VERNEED" not in places:
        return
    image = _Image(elf)
    names, at = places["DT_STRTAB"], places["DT_VERNEED"]
    for _ in range(places["DT_VERNEEDNUM"]):
        _, count, library, first, following = image.record("HHIII", at)
        each = at + first
        for _ in range(count):
            _, _, number, version, next_one = image.record("IHHII", each)
            yield image.text(names + library), image.text(names + version), number
            each += next_one
        at += following


class _Image:
    """An ELF file as it lies in memory once it is loaded: bytes by their virtual addresses."""

    def __init__(self, elf: ELFFile) -> None:
        self._elf = elf
        self._order = "<" if elf.little_endian else ">"
        # Each record says itself where the next one is, and a damaged one may lead back to where it stands.
        self._room = elf.stream.seek(0, SEEK_END) // _VERSION_RECORD

    def record(self, form: str, address: int) -> tuple[int, ...]:
        """Read numbers, one record of a list that a damaged file may lead in a circle."""
        self._room -= 1
        if self._room < 0:
            raise ValueError("it has more needed versions than room for them")
        found: tuple[int, ...] = unpack(self._order + form, self._read(address, calcsize(self._order + form)))
        return found

    def text(self, address: int) -> str:
        """Read a string up to its zero byte."""
        return self._read(address, _LONGEST_NAME).partition(b"\0")[0].decode()

    def _read(self, address: int, length: int) -> bytes:
        for offset in self._elf.address_offsets(address):
            self._elf.stream.seek(offset)
            return bytes(self._elf.stream.read(length))
        raise ValueError(f"nothing is loaded at the address {address:#x}")


def symbols_of_version(file: BinaryIO, path: str, version: str) -> tuple[str, ...]:
    """Give the sorted names of the undefined symbols that ask for a version; ``ValueError`` where the file is broken.

    They are there for messages only, and none are found where a file has no section headers.
    """
    from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection

    found = set()
    with _opened(file, path) as elf:
        sections = tuple(elf.iter_sections())
        numbers = {
            each["vna_other"]
            for section in sections
            if isinstance(section, GNUVerNeedSection)
            for _, versions in islice(section.iter_versions(), _MOST_LIBRARIES)
            for each in versions
            if each.name == version
        }
        for section in sections:
            if isinstance(section, GNUVerSymSection):
                found |= {symbol.name for symbol in section.iter_symbols() if symbol["ndx"] in numbers and symbol.name}
    return tuple(sorted(found))
