"""A stripped library against its original: whatever is loaded of it differently is seen."""

from __future__ import annotations

import ctypes
import io
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from packer.trim.strip_check import find_difference
from tests.native import compile_library, strip_file

HEADER = 64
"""Bytes of a 64-bit ELF header."""
E_PHOFF, E_SHOFF, E_SHNUM, PHENTSIZE, P_ALIGN = 32, 40, 60, 56, 48
"""Offsets in a 64-bit ELF header and in a program header, and the size of the latter (ELF-64 object file format)."""
SECTION_FIELDS = frozenset((*range(40, 48), *range(58, 64)))
"""Bytes of the header that say where the section headers are."""
PADDING = frozenset(range(9, 16))

_HELPERS = [f"helper_{number}_{'of_a_long_name_' * 60}" for number in range(300)]
MANY = "".join(f"static int {name}(int x) {{ return x * {number}; }}\n" for number, name in enumerate(_HELPERS)) + (
    "static int (*volatile table[])(int) = {" + ", ".join(_HELPERS) + "};\n"
    "int lpack_test(int number) { return table[number](2); }\n"
)
"""Source of a library with much that stripping takes: lpack_test(n) is 2n."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elfcheck")


@pytest.fixture(scope="module", params=["x86_64-linux-gnu.2.17", "aarch64-linux-gnu.2.17"])
def pair(request, folder) -> tuple[bytes, bytes]:
    """Give a library with debug sections, and what eu-strip makes of it."""
    path = compile_library(folder / request.param / "libmany.so", MANY, target=request.param, options=("-g",))
    strip_file(path, path.with_suffix(".stripped"))
    return path.read_bytes(), path.with_suffix(".stripped").read_bytes()


@pytest.fixture(scope="module")
def library(folder) -> bytes:
    return compile_library(folder / "libsmall.so").read_bytes()


def changed(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def loads(data: bytes) -> list[tuple[int, int, int]]:
    """Give (number, offset, end) of each loaded segment with bytes in the file."""
    found = enumerate(ELFFile(io.BytesIO(data)).iter_segments())
    return [
        (number, each["p_offset"], each["p_offset"] + each["p_filesz"])
        for number, each in found
        if each["p_type"] == "PT_LOAD" and each["p_filesz"]
    ]


def without_sections(data: bytes) -> bytes:
    return changed(changed(data, E_SHOFF, b"\0" * 8), E_SHNUM, b"\0" * 4)


def test_stripping_takes_much_and_changes_nothing_that_is_loaded(pair):
    before, after = pair
    assert len(after) < len(before) - 100_000
    assert find_difference(before, after) == ""
    for (_, start, end), (_, new_start, new_end) in zip(loads(before), loads(after), strict=True):
        assert before[max(start, HEADER) : end] == after[max(new_start, HEADER) : new_end]


def test_readelf_sees_the_same_segments_dynamic_section_and_symbols(pair, tmp_path):
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("needs readelf (binutils)")
    said = []
    for data in pair:
        (tmp_path / "library.so").write_bytes(data)
        command = [readelf, "--segments", "--dynamic", "--dyn-syms", "--relocs", "--wide", "library.so"]
        finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        text = finished.stdout.partition("Section to Segment mapping")
        said.append(text[0] + text[2].partition("Dynamic section")[2])
    assert "LOAD" in said[0]
    assert "lpack_test" in said[0]
    assert said[0] == said[1]


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="loads a library for Linux on x86_64 into this process"
)
def test_a_stripped_library_loads_and_works(folder, tmp_path):
    path = compile_library(folder / "libloaded.so", MANY, options=("-g",))
    strip_file(path, tmp_path / "libloaded.so")
    assert find_difference(path.read_bytes(), (tmp_path / "libloaded.so").read_bytes()) == ""
    assert [ctypes.CDLL(str(tmp_path / "libloaded.so")).lpack_test(number) for number in (0, 7, 299)] == [0, 14, 598]


def test_a_file_is_no_different_from_itself_and_from_itself_without_section_headers(library):
    assert find_difference(library, library) == ""
    assert find_difference(library, without_sections(library)) == ""


@settings(max_examples=200, deadline=None)
@given(where=st.floats(0, 1), mask=st.integers(1, 255))
def test_one_changed_byte_of_what_is_loaded_is_seen(library, where, mask):
    places = [at for _, start, end in loads(library) for at in range(start, end) if at not in SECTION_FIELDS | PADDING]
    at = places[int(where * (len(places) - 1))]
    assert find_difference(library, changed(library, at, bytes([library[at] ^ mask])))


@pytest.mark.parametrize("at", [at for at in range(HEADER) if at not in SECTION_FIELDS | PADDING])
def test_one_changed_byte_of_the_header_is_seen(library, at):
    assert find_difference(library, changed(library, at, bytes([library[at] ^ 1])))


def test_what_differs_is_named(library):
    _, start, end = loads(library)[-1]
    assert find_difference(library, changed(library, end - 1, bytes([library[end - 1] ^ 1]))) == "what is loaded of it differs"
    assert start < end
    entry = struct.unpack_from("<Q", library, 24)[0]
    assert find_difference(library, changed(library, 24, struct.pack("<Q", entry + 16))) == "its header differs"
    headers = struct.unpack_from("<Q", library, E_PHOFF)[0]
    assert find_difference(library, changed(library, headers + 4, b"\7")) == "its program headers differ"  # p_flags: all rights


def test_a_misaligned_segment_is_refused_even_where_both_files_have_it(library):
    """No loader could map it: the page that its bytes are on is not the one of its addresses (elf(5), p_align)."""
    elf = ELFFile(io.BytesIO(library))
    number = next(n for n, _, _ in loads(library) if elf.get_segment(n)["p_offset"] != elf.get_segment(n)["p_vaddr"])
    at = struct.unpack_from("<Q", library, E_PHOFF)[0] + number * PHENTSIZE + P_ALIGN
    misaligned = changed(library, at, struct.pack("<Q", 1 << 40))
    assert find_difference(misaligned, misaligned) == "a segment is not aligned"


def test_a_segment_beyond_the_end_is_refused(library):
    cut = without_sections(library)[: loads(library)[-1][2] - 1]
    assert find_difference(library, cut) == "a segment goes beyond its end"
    assert find_difference(cut, cut) == "a segment goes beyond its end"


@pytest.mark.parametrize("broken", [b"", b"\x7fELF", b"\x7fELF" + b"\x02" * 60, b"#!/bin/sh\n"])
def test_what_is_no_elf_file_is_refused_on_either_side(library, broken):
    assert find_difference(library, broken).startswith("the file is not a readable ELF file")
    assert find_difference(broken, library).startswith("the file is not a readable ELF file")


@settings(max_examples=100, deadline=None)
@given(cut=st.floats(0, 1), at=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_broken_file_is_different_unless_all_that_is_loaded_is_there(library, cut, at, byte):
    data = bytearray(library[: int(len(library) * cut)])
    if data:
        data[int((len(data) - 1) * at)] = byte
    if not find_difference(library, bytes(data)):
        for _, start, end in loads(library):
            assert library[max(start, HEADER) : end] == data[max(start, HEADER) : end]


def test_appended_data_is_not_lost(tmp_path):
    path = compile_library(tmp_path / "lib.so", MANY, options=("-g",))
    path.write_bytes(path.read_bytes() + b"PAYLOAD" * 1000)
    strip_file(path, tmp_path / "after")
    assert find_difference(path.read_bytes(), (tmp_path / "after").read_bytes())
