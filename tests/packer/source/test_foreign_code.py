"""Native code of Windows and macOS is known by its content, whatever it is called."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from packer.core.model import BytesContent
from packer.source.foreign_code import is_foreign, read_beginning


def windows(*, subsystem: int = 3, managed: bool = False, wide: bool = True) -> bytes:
    """Give the headers of a program for Windows (Microsoft PE format)."""
    optional = bytearray(240)
    optional[:2] = struct.pack("<H", 0x20B if wide else 0x10B)
    optional[68:70] = struct.pack("<H", subsystem)
    directories = 112 if wide else 96
    optional[directories - 4 : directories] = struct.pack("<I", 16)
    if managed:
        optional[directories + 8 * 14 : directories + 8 * 14 + 8] = struct.pack("<II", 0x2000, 72)
    stub = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    return stub.ljust(0x80, b"\0") + b"PE\0\0" + bytes(20) + bytes(optional)


def mach_o(order: str = "<", magic: int = 0xFEEDFACF) -> bytes:
    return struct.pack(f"{order}7I", magic, 0x0100000C, 0, 6, 10, 1000, 0).ljust(64, b"\0")


def fat(count: int = 2, processor: int = 0x01000007) -> bytes:
    return struct.pack(">7I", 0xCAFEBABE, count, processor, 3, 4096, 1000, 12).ljust(64, b"\0")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (windows(), "a console program"),
        (windows(subsystem=2, wide=False), "a GUI program of 32 bits"),
        (mach_o(), "a library of 64 bits"),
        (mach_o(magic=0xFEEDFACE), "a library of 32 bits"),
        (mach_o(">"), "a library of another byte order"),
        (fat(), "a universal library"),
        (b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0" + bytes(32), "a debug database"),
    ],
)
def test_native_code_of_other_systems_is_foreign(data, why):
    assert is_foreign(data), why


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"HEADER    HYDROLASE" + bytes(64), "a structure of the Protein Data Bank"),
        (windows(managed=True), "an assembly of .NET, which runs on Linux"),
        (windows(managed=True, wide=False), "an assembly of .NET for any processor"),
        (windows(subsystem=10), "a program for EFI"),
        (b"MZ" + bytes(200), "a program for DOS, or a text that begins so"),
        (struct.pack(">IHH", 0xCAFEBABE, 0, 61) + b"\0\x1f\x0a\0\x02" + bytes(40), "a class of Java"),
        (struct.pack(">IHH", 0xCAFEBABE, 3, 45) + bytes(60), "a class of an old Java"),
        (b"\xcf\xfa\xed\xfe" + bytes(60), "what only begins like a library"),
        (b"@echo off\r\n" + bytes(64), "a script"),
        (b"\x7fELF" + bytes(64), "a program for Linux"),
        (b"", "nothing"),
    ],
)
def test_what_only_looks_like_it_is_not(data, why):
    assert not is_foreign(data), why


def test_the_launchers_of_pip_are_programs_for_windows():
    from pip._vendor import distlib

    folder = Path(distlib.__file__).parent
    found = {path.name: is_foreign(read_beginning(BytesContent.of(path.read_bytes()))) for path in folder.glob("*.exe")}
    assert found
    assert all(found.values())


@pytest.mark.skipif(shutil.which("file") is None, reason="file(1) is the oracle")
@pytest.mark.parametrize(("data", "said"), [(windows(), "PE32+"), (fat(), "Mach-O universal"), (mach_o(), "Mach-O 64-bit")])
def test_file_says_the_same(tmp_path, data, said):
    (tmp_path / "one").write_bytes(data)
    told = subprocess.run(["file", "--brief", tmp_path / "one"], capture_output=True, text=True, check=True).stdout
    assert said in told
