"""ELF files (shared libraries and programs): what decides whether a machine can load them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from os import SEEK_END
from struct import calcsize, unpack
from struct import error as struct_error
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"
# e_machine as pyelftools names it to the names that wheel tags use.
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}
EXTENSION_MODULE = re.compile(r"\.(cpython-3[0-9]+[a-z]*(-[\w-]+)?|abi3)\.so$")
"""Names of extension modules that are for one machine (PEP 3149), and for any Python from 3.2 on (PEP 384)."""
_DYNAMIC_TYPES = ("ET_DYN", "ET_EXEC")
_VERSION_RECORD = 16
"""Bytes of each record of needed versions (Linux Standard Base, "Symbol Versioning")."""
_MOST_RECORDS = 10_000
_LONGEST_NAME = 4096
_MOST_LIBRARIES = 64
"""Libraries whose symbol versions are searched for a message, at most."""


class ElfFile(Struct, frozen=True, kw_only=True):
    """One dynamically linked file; a ``module`` is one that Python imports.

    ``machine`` is a wheel tag's name for it, or ELF's where tags have none. ``needed`` are the sonames that it
    links to, ``run_paths`` where it looks for them first; ``versions`` are (soname, symbol version) that these must define.
    """

    path: str
    machine: str
    soname: str = ""
    needed: tuple[str, ...] = ()
    run_paths: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    module: bool = False


def read_elf(file: BinaryIO, path: str) -> ElfFile | None:
    """Return an ELF file's facts; None for another file, and for one that is not loaded dynamically.

    Raises ``ValueError`` where it begins like an ELF file and is broken.
    """
    file.seek(0)
    if file.read(4) != MAGIC:
        return None
    with _open_elf(file, path) as elf:
        return _describe(elf, path) if elf["e_type"] in _DYNAMIC_TYPES else None


@contextmanager
def _open_elf(file: BinaryIO, path: str) -> Iterator[ELFFile]:
    """Open an ELF file; turn whatever the library raises for a broken one into a ``ValueError``."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile

    broken = (ELFError, ConstructError, AttributeError, LookupError, TypeError, ValueError, OSError, struct_error)
    try:
        elf = ELFFile(file)
        _check_counts(elf, file)
        yield elf
    except (*broken, ArithmeticError, AssertionError) as error:
        raise ValueError(f"{path} is not a readable ELF file ({error or type(error).__name__})") from None


def _check_counts(elf: ELFFile, file: BinaryIO) -> None:
    """Check that a file has room for the headers it declares: all of them are read, however many."""
    room = file.seek(0, SEEK_END)
    headers = elf.num_segments() * elf.structs.Elf_Phdr.sizeof() + elf.num_sections() * elf.structs.Elf_Shdr.sizeof()
    if headers > room:
        raise ValueError(f"its headers alone need {headers} bytes")


def _describe(elf: ELFFile, path: str) -> ElfFile | None:
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
    if "" in found["DT_NEEDED"]:
        raise ValueError("it links to a library without a name")
    image = _LoadedElf(elf)
    run_paths = found["DT_RUNPATH"] or found["DT_RPATH"]  # the loader ignores the older kind where both are there (ld.so(8))
    machine = elf["e_machine"]
    return ElfFile(
        path=path,
        machine=_MACHINES.get(machine, str(machine).removeprefix("EM_")) if elf.elfclass == 64 else f"{machine} 32 bit",
        soname=next(iter(found["DT_SONAME"]), ""),
        needed=tuple(found["DT_NEEDED"]),
        run_paths=tuple(each for text in run_paths for each in text.split(":") if each),
        versions=tuple(sorted(set(_needed_versions(image, places)))),
        module=_is_module(image, path, places),
    )


def _needed_versions(image: _LoadedElf, places: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield (soname, version) of what other libraries must define.

    Like the loader, this follows the dynamic section's ``places``: a file loads without section headers, too.
    """
    if "DT_VERNEED" not in places:
        return
    names, at = places["DT_STRTAB"], places["DT_VERNEED"]
    while True:
        _, count, library, each, following = image.record("HHIII", at)
        each += at
        for _ in range(count):
            _, _, _, version, next_one = image.record("IHHII", each)
            yield image.text(names + library), image.text(names + version)
            each += next_one
        if not following:  # the loader ends here, too, and not by a count
            return
        at += following


def _is_module(image: _LoadedElf, path: str, places: Mapping[str, int]) -> bool:
    """Return whether a file is an extension module: by its name, or by the function that Python calls when it imports it."""
    name = path.rpartition("/")[2]
    if EXTENSION_MODULE.search(name):
        return True
    if not name.endswith(".so") or "DT_STRTAB" not in places:
        return False
    strings = image.read(places["DT_STRTAB"], places.get("DT_STRSZ", 0))
    return b"\0PyInit_%s\0" % name.partition(".")[0].encode("utf-8", "replace") in strings


class _LoadedElf:
    """An ELF file as it is loaded into memory: bytes by virtual address."""

    def __init__(self, elf: ELFFile) -> None:
        self._stream = elf.stream
        self._order = "<" if elf.little_endian else ">"
        size = elf.stream.seek(0, SEEK_END)
        self._parts = [
            (segment["p_vaddr"], segment["p_vaddr"] + segment["p_filesz"], segment["p_offset"])
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD"
        ]
        # Each record holds the offset of the next one, and a damaged one may point back to itself.
        self._room = min(size // _VERSION_RECORD, _MOST_RECORDS)

    def record(self, form: str, address: int) -> tuple[int, ...]:
        """Unpack one record; count them, as a damaged list may lead in a circle."""
        self._room -= 1
        if self._room < 0:
            raise ValueError("it has more needed versions than it has room for")
        found: tuple[int, ...] = unpack(self._order + form, self.read(address, calcsize(self._order + form)))
        return found

    def text(self, address: int) -> str:
        """Read a string up to its zero byte."""
        return self.read(address, _LONGEST_NAME).partition(b"\0")[0].decode()

    def read(self, address: int, length: int) -> bytes:
        """Read bytes, fewer where the file ends before."""
        for start, end, offset in self._parts:
            if start <= address < end:
                self._stream.seek(offset + address - start)
                return bytes(self._stream.read(min(length, end - address)))
        raise ValueError(f"nothing is loaded at the address {address:#x}")


def symbols_of_version(file: BinaryIO, path: str, version: str) -> tuple[str, ...]:
    """Return the sorted names of the undefined symbols of a version; raise ``ValueError`` where the file is broken.

    For messages only: a file without section headers has none.
    """
    from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection

    found = set()
    with _open_elf(file, path) as elf:
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
