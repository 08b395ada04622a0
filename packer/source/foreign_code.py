"""Programs and libraries of other systems than Linux, known by their content: a name such as one.pdb may be anything's."""

from __future__ import annotations

from packer.core.model import Content, FileContent
from packer.formats.elf import MAGIC
from packer.formats.wheel import MemberContent

_SHORTEST = 32
"""Bytes of the shortest header that is looked at, a thin Mach-O file's."""
# Microsoft PE format, "Optional Header Windows-Specific Fields": native, Windows GUI and Windows console. EFI's differ.
_WINDOWS_SUBSYSTEMS = (1, 2, 3)
# Offsets in the optional header of PE32 and PE32+: where the data directories begin, by the header's magic number.
_DIRECTORIES = {b"\x0b\x01": 96, b"\x0b\x02": 112}
_CLR_DIRECTORY = 14
# Apple, mach-o/loader.h and mach-o/fat.h.
_THIN_MACH_O = {
    b"\xce\xfa\xed\xfe": "little",
    b"\xcf\xfa\xed\xfe": "little",
    b"\xfe\xed\xfa\xce": "big",
    b"\xfe\xed\xfa\xcf": "big",
}
_FAT_MACH_O = (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")
_LAST_FILE_TYPE = 12
_MOST_ARCHITECTURES = 30
_PROCESSORS = frozenset((7, 12, 18, 0x01000007, 0x0100000C, 0x0200000C, 0x01000012))
"""Apple, mach/machine.h: x86, ARM and PowerPC, with 32 and 64 bits."""
# LLVM, "The MSF File Format"; the second is that of Visual C++ 2.
_DEBUG_DATABASES = (b"Microsoft C/C++ MSF 7.00\r\n\x1aDS", b"Microsoft C/C++ program database 2.00\r\n\x1aJG")


def read_beginning(content: Content) -> bytes:
    """Return the first bytes of a content, enough for its headers; raise an `LpackError` where they cannot be read."""
    if isinstance(content, MemberContent):
        return next(content.chunks(), b"")
    return content.beginning(1 << 16) if isinstance(content, FileContent) else content.read()


def is_elf(beginning: bytes) -> bool:
    """Return whether a file's first bytes are those of an ELF file."""
    return beginning.startswith(MAGIC)


def is_foreign(beginning: bytes) -> bool:
    """Return whether a file's first bytes are those of native code, or its debug database, for Windows or macOS.

    Assemblies of .NET are no native code, for Mono and .NET run them on Linux, and neither are programs for EFI.
    """
    return len(beginning) >= _SHORTEST and (
        _is_windows_code(beginning) or _is_mach_o(beginning) or beginning.startswith(_DEBUG_DATABASES)
    )


def _is_windows_code(data: bytes) -> bool:
    if not data.startswith(b"MZ"):
        return False
    header = int.from_bytes(data[0x3C:0x40], "little")
    if data[header : header + 4] != b"PE\0\0":
        return False
    optional = header + 24
    directories = _DIRECTORIES.get(data[optional : optional + 2])
    if directories is None:
        return False
    subsystem = int.from_bytes(data[optional + 68 : optional + 70], "little")
    count = int.from_bytes(data[optional + directories - 4 : optional + directories], "little")
    managed = optional + directories + 8 * _CLR_DIRECTORY
    return subsystem in _WINDOWS_SUBSYSTEMS and not (count > _CLR_DIRECTORY and any(data[managed : managed + 4]))


def _is_mach_o(data: bytes) -> bool:
    order = _THIN_MACH_O.get(data[:4])
    if order is not None:
        little = order == "little"
        processor, file_type = _number(data, 4, little=little), _number(data, 12, little=little)
        return processor in _PROCESSORS and 0 < file_type <= _LAST_FILE_TYPE
    # A class file of Java begins alike; the version that follows is no number of architectures (JVM specification, 4.1).
    return (
        data[:4] in _FAT_MACH_O
        and 0 < _number(data, 4, little=False) <= _MOST_ARCHITECTURES
        and _number(data, 8, little=False) in _PROCESSORS
    )


def _number(data: bytes, offset: int, *, little: bool) -> int:
    return int.from_bytes(data[offset : offset + 4], "little" if little else "big")
