"""Shared libraries and programs (ELF files), as far as it matters whether a machine can load them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import SEEK_END
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"
# e_machine as pyelftools names it to the names that wheel tags use.
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}
_DYNAMIC_TYPES = ("ET_DYN", "ET_EXEC")
_VERSION_RECORD = 16
"""Bytes of each record of a section of needed versions (Linux Standard Base, "Symbol Versioning")."""


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

    broken = (ELFError, ConstructError, AttributeError, LookupError, TypeError, ValueError, OSError)
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
    for tag in dynamic.iter_tags():
        kind = tag.entry.d_tag
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
        versions=tuple(sorted({(library, version) for library, version, _ in _needed_versions(elf)})),
    )


def _needed_versions(elf: ELFFile) -> Iterator[tuple[str, str, int]]:
    """Give (soname, version, number in the symbol version table) of what other libraries must define."""
    from elftools.elf.gnuversions import GNUVerNeedSection

    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            # Each record says itself where the next one is, and a damaged one may lead back to where it stands.
            room = iter(range(section["sh_size"] // _VERSION_RECORD))
            for library, versions in section.iter_versions():
                _take(room)
                for version in versions:
                    _take(room)
                    yield str(library.name), str(version.name), version["vna_other"]


def _take(room: Iterator[int]) -> None:
    if next(room, None) is None:
        raise ValueError("it has more needed versions than room for them")


def symbols_of_version(file: BinaryIO, path: str, version: str) -> tuple[str, ...]:
    """Give the sorted names of the undefined symbols that ask for a version; ``ValueError`` where the file is broken."""
    from elftools.elf.gnuversions import GNUVerSymSection

    found = set()
    with _opened(file, path) as elf:
        numbers = {number for _, name, number in _needed_versions(elf) if name == version}
        for section in elf.iter_sections():
            if isinstance(section, GNUVerSymSection):
                found |= {symbol.name for symbol in section.iter_symbols() if symbol["ndx"] in numbers and symbol.name}
    return tuple(sorted(found))
