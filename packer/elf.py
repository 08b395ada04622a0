"""Shared libraries and programs (ELF files), as far as it matters whether a machine can load them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"
# e_machine as pyelftools names it to the names that wheel tags use.
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}
_DYNAMIC_TYPES = ("ET_DYN", "ET_EXEC")


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
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(file)
        if elf["e_type"] not in _DYNAMIC_TYPES:
            return None
        return _described(elf, path)
    except (ELFError, ConstructError, AttributeError, LookupError, TypeError, OSError, AssertionError) as error:
        raise ValueError(f"{path} is no ELF file that can be read ({error or type(error).__name__})") from None


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
            for library, versions in section.iter_versions():
                for version in versions:
                    yield str(library.name), str(version.name), version["vna_other"]


def symbols_of_version(file: BinaryIO, version: str) -> tuple[str, ...]:
    """Give the names of the undefined symbols of an ELF file that ask for a version, sorted."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerSymSection

    elf = ELFFile(file)
    numbers = {number for _, name, number in _needed_versions(elf) if name == version}
    found = set()
    for section in elf.iter_sections():
        if isinstance(section, GNUVerSymSection):
            found |= {symbol.name for symbol in section.iter_symbols() if symbol["ndx"] in numbers and symbol.name}
    return tuple(sorted(found))
