"""Reading ELF files: against readelf's idea of the same files, and for what is broken."""

from __future__ import annotations

import io
import shutil
import subprocess
from contextlib import suppress

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from packer.formats.elf import read_elf, symbols_of_version
from tests.native import NEW_SYMBOL, compile_library


def test_what_a_library_needs(tmp_path):
    other = compile_library(tmp_path / "libother.so.1", options=("-Wl,-soname,libother.so.1",))
    path = compile_library(
        tmp_path / "libone.so",
        "#include <stdlib.h>\nint lpack_test(void);\nint one(void) { return lpack_test() + (int)arc4random(); }\n",
        target="x86_64-linux-gnu.2.36",
        options=(str(other), "-Wl,-soname,libone.so.3", "-Wl,-rpath,$ORIGIN/libs:/opt/lib"),
    )
    with path.open("rb") as file:
        found = read_elf(file, "pkg/libone.so")
        symbols = symbols_of_version(file, "lib.so", "GLIBC_2.36")
    assert found is not None
    assert (found.path, found.machine, found.soname) == ("pkg/libone.so", "x86_64", "libone.so.3")
    assert "libother.so.1" in found.needed
    assert found.run_paths == ("$ORIGIN/libs", "/opt/lib")
    assert ("libc.so.6", "GLIBC_2.36") in found.versions
    assert "arc4random" in symbols
    assert "lpack_test" not in symbols


def test_readelf_agrees(tmp_path):
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("needs readelf (binutils)")
    path = compile_library(tmp_path / "libone.so", NEW_SYMBOL, target="aarch64-linux-gnu.2.36")
    said = subprocess.run([readelf, "-dVhW", str(path)], capture_output=True, text=True, check=True).stdout
    with path.open("rb") as file:
        found = read_elf(file, "libone.so")
    assert found is not None
    assert "AArch64" in said
    assert found.machine == "aarch64"
    for name in found.needed:
        assert f"Shared library: [{name}]" in said
    assert said.count("(NEEDED)") == len(found.needed)
    for _, version in found.versions:
        assert f"Name: {version} " in said


def test_what_is_no_shared_library(tmp_path):
    assert read_elf(io.BytesIO(b"#!/bin/sh\n"), "script") is None
    assert read_elf(io.BytesIO(b""), "empty") is None
    compile_library(tmp_path / "object.o", options=("-c",))
    with (tmp_path / "object.o").open("rb") as file:
        assert read_elf(file, "object.o") is None


def test_a_library_of_32_bit_is_for_no_target(tmp_path):
    path = compile_library(tmp_path / "libold.so", target="x86-linux-gnu.2.17")
    with path.open("rb") as file:
        found = read_elf(file, "libold.so")
    assert found is not None
    assert found.machine not in ("x86_64", "aarch64")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return compile_library(tmp_path_factory.mktemp("elf") / "lib.so", NEW_SYMBOL, target="x86_64-linux-gnu.2.36").read_bytes()


@settings(max_examples=150, deadline=None)
@given(cut=st.floats(0, 1), at=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_broken_file_is_a_value_error_or_nothing(library, cut, at, byte):
    data = bytearray(library[: max(4, int(len(library) * cut))])
    if len(data) > 64:
        data[4 + int((len(data) - 5) * at)] = byte
    with suppress(ValueError):
        read_elf(io.BytesIO(bytes(data)), "lib.so")


def damaged(library: bytes, at: int, value: bytes) -> io.BytesIO:
    return io.BytesIO(library[:at] + value + library[at + len(value) :])


@pytest.mark.parametrize("at", [32, 40], ids=["program headers", "section headers"])  # e_phoff and e_shoff of a 64-bit header
def test_headers_that_no_file_can_have(library, at):
    with pytest.raises(ValueError, match=r"lib\.so is not a readable ELF file"):
        read_elf(damaged(library, at, b"\xff" * 8), "lib.so")


def test_more_headers_than_the_file_has_room_for(library):
    with pytest.raises(ValueError, match="headers alone"):
        read_elf(damaged(library, 56, b"\xfe\xff"), "lib.so")  # e_phnum


def test_needed_versions_that_lead_in_a_circle(library):
    section = ELFFile(io.BytesIO(library)).get_section_by_name(".gnu.version_r")
    assert section is not None
    broken = damaged(library, section["sh_offset"] + 2, b"\xff\xff")  # one library, and 65,535 versions of it
    with pytest.raises(ValueError, match="room"):
        read_elf(broken, "lib.so")
    assert symbols_of_version(broken, "lib.so", "GLIBC_2.36") == ("arc4random",)


def test_versions_are_found_where_the_loader_finds_them(library):
    """Without section headers, too: it does not need them."""
    stripped = damaged(damaged(library, 40, b"\0" * 8).getvalue(), 60, b"\0" * 4)  # e_shoff; e_shnum and e_shstrndx
    found = read_elf(stripped, "lib.so")
    assert found is not None
    assert ("libc.so.6", "GLIBC_2.36") in found.versions
    assert symbols_of_version(stripped, "lib.so", "GLIBC_2.36") == ()
