"""Wheels: what does not hold together is refused by name, odd but legal ones are read, and trees are what installers make."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from packer.core.errors import PackageError
from packer.core.model import DEFLATED, EXECUTABLE_MODE
from packer.formats.wheel import MemberContent, check_wheel, read_members_as_tree, read_wheel
from packer.formats.wheel_outline import outline_members
from packer.formats.zip_reader import read_members
from tests.packages import module
from tests.packer.demo import DATA, FILENAME, FILES, INFO, INIT, contents, demo_members, init, raw_wheel, refusal
from tests.wheels import (
    RawMember,
    deflated,
    generator_text,
    make_wheel,
    metadata_text,
    record_row,
    record_rows,
    wheel_members,
    write_members,
)


def rows_with(change: Callable[[list[str]], list[str]]) -> Callable[[], dict[str, bytes]]:
    return lambda: wheel_members("demo", "1.0", FILES, record=change(record_rows(demo_members(), INFO)))


def without(name: str) -> Callable[[list[str]], list[str]]:
    return lambda rows: [row for row in rows if not row.startswith(name)]


def in_place(name: str, row: str) -> Callable[[list[str]], list[str]]:
    return lambda rows: [row if old.startswith(name) else old for old in rows]


RECORDS: dict[str, tuple[Callable[[list[str]], list[str]], str, str]] = {
    "a file is missing": (without(INIT), INIT, "does not list it"),
    "METADATA is missing": (without(f"{INFO}/METADATA"), f"{INFO}/METADATA", "does not list it"),
    "a file that is not there": (lambda rows: [*rows, record_row("demo/gone.py", b"")], "demo/gone.py", "does not have it"),
    "another hash": (in_place(INIT, f"{record_row(INIT, b'other').rpartition(',')[0]},{len(DATA)}"), INIT, "its bytes are not"),
    "another hash, SHA-512": (
        in_place(INIT, f"{record_row(INIT, b'other', 'sha512').rpartition(',')[0]},{len(DATA)}"),
        INIT,
        "its bytes are not",
    ),
    "another size": (in_place(INIT, record_row(INIT, DATA).rpartition(",")[0] + ",7"), INIT, "RECORD says 7 bytes"),
    "no hash": (in_place(INIT, f"{INIT},,"), INIT, "with a hash"),
    "md5": (in_place(INIT, record_row(INIT, DATA, "md5")), INIT, "weak or unknown hash: md5"),
    "sha1": (in_place(INIT, record_row(INIT, DATA, "sha1")), INIT, "weak or unknown hash: sha1"),
    "an unknown hash": (in_place(INIT, f"{INIT},crc=abcd,"), INIT, "weak or unknown hash: crc"),
    "a hash that is no base64": (in_place(INIT, f"{INIT},sha256=ä,"), INIT, "cannot be read"),
    "a hash that is too short": (in_place(INIT, f"{INIT},sha256=AAAA,{len(DATA)}"), INIT, ""),
    "a size that is no number": (in_place(INIT, record_row(INIT, DATA).rpartition(",")[0] + ",many"), INIT, "cannot be read"),
    "a line twice": (lambda rows: [rows[0], *rows], INIT, "twice"),
    "a line twice with other hashes": (lambda rows: [*rows, record_row(INIT, b"")], INIT, "twice"),
    "too few fields": (in_place(INIT, INIT), INIT, "not path,hash,size"),
    "too many fields": (lambda rows: [rows[0] + ",x", *rows[1:]], INIT, "not path,hash,size"),
    "a path that leads outside": (lambda rows: [*rows, record_row("../evil.py", b"")], "../evil.py", "not path,hash,size"),
}


@pytest.mark.parametrize(("change", "member", "reason"), RECORDS.values(), ids=RECORDS)
def test_records_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[list[str]], list[str]], member: str, reason: str
) -> None:
    text = str(refusal(write_members(tmp_path / "wheel", rows_with(change)())))
    assert member in text
    assert reason in text


def test_a_file_with_a_strong_hash_that_cannot_be_inflated_is_refused(tmp_path: Path) -> None:
    archive = init(stream=b"\xff" * 20)()
    rows = [record_row(INIT, DATA, "sha512") if row.startswith(INIT) else row for row in record_rows(demo_members(), INFO)]
    archive.members[-1] = RawMember(name=f"{INFO}/RECORD", data="".join(row + "\n" for row in rows).encode())
    error = refusal(archive.write(tmp_path / "wheel"))
    assert f"member {INIT}: it cannot be read" in str(error)


@pytest.mark.parametrize("name", ["RECORD", "WHEEL", "METADATA"])
@pytest.mark.parametrize("values", [{"stream": b"\xff" * 20}, {"size": 3}], ids=["no deflate stream", "another size"])
def test_metadata_that_cannot_be_inflated_is_refused(tmp_path: Path, name: str, values: dict[str, Any]) -> None:
    archive = raw_wheel()
    path = f"{INFO}/{name}"
    archive.members = [replace(member, **values) if member.name == path else member for member in archive.members]
    assert f"member {path}: " in str(refusal(archive.write(tmp_path / "wheel")))


def test_a_record_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    members = demo_members()
    members[f"{INFO}/RECORD"] = b"\xff\xfe"
    assert f"member {INFO}/RECORD: it cannot be read" in str(refusal(write_members(tmp_path / "wheel", members)))


def test_content_of_a_wheel_that_was_cut_short_since_is_no_content(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "demo", "1.0", FILES)
    tree = read_wheel(path, FILENAME)
    path.write_bytes(path.read_bytes()[:40])
    for entry in tree:
        with pytest.raises(PackageError, match=rf"{path}: it is cut short") as caught:
            entry.content.read()
        assert str(caught.value).startswith(entry.path)
        assert "lpack cache verify" in caught.value.remedy


def test_content_of_a_wheel_that_was_removed_since_cannot_be_read(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "demo", "1.0", FILES)
    content = next(entry.content for entry in read_wheel(path, FILENAME))
    assert isinstance(content, MemberContent)
    path.unlink()
    with pytest.raises(PackageError, match=rf"cannot be read from {path}: No such file"):
        content.read()
    with pytest.raises(PackageError, match=rf"cannot be read from {path}: No such file"):
        next(content.chunks())


METADATA: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "no METADATA": (lambda: wheel_members("demo", "1.0", FILES, replace={"METADATA": None}), "METADATA"),
    "no WHEEL": (lambda: wheel_members("demo", "1.0", FILES, replace={"WHEEL": None}), "WHEEL"),
    "no RECORD": (lambda: wheel_members("demo", "1.0", FILES, replace={"RECORD": None}), "RECORD"),
    "no dist-info": (lambda: dict(FILES), "0 dist-info folders"),
    "two dist-info": (lambda: demo_members() | {"other-2.dist-info/METADATA": b""}, "2 dist-info folders"),
    "another dist-info": (lambda: wheel_members("other", "1.0", FILES), "another package's"),
    "another version's dist-info": (lambda: wheel_members("demo", "1.1", FILES), "another package's"),
    "dist-info without a version": (lambda: {"demo.dist-info/RECORD": b""}, "another package's"),
    "Wheel-Version 2.0": (
        lambda: wheel_members("demo", "1.0", FILES, replace={"WHEEL": generator_text("py3-none-any", version="2.0")}),
        "Wheel-Version 2.0",
    ),
    "no Wheel-Version": (lambda: wheel_members("demo", "1.0", FILES, replace={"WHEEL": "Generator: x\n"}), "Wheel-Version"),
    "another name": (
        lambda: wheel_members("demo", "1.0", FILES, replace={"METADATA": metadata_text("other", "1.0")}),
        "that of other 1.0",
    ),
    "another version": (
        lambda: wheel_members("demo", "1.0", FILES, replace={"METADATA": metadata_text("demo", "1.1")}),
        "that of demo 1.1",
    ),
    "no version": (lambda: wheel_members("demo", "1.0", FILES, replace={"METADATA": "Name: demo\n"}), "METADATA"),
    "no scheme of the format": (lambda: wheel_members("demo", "1.0", FILES | {"demo-1.0.data/etc/passwd": b""}), "etc"),
    "no scheme of the format in a folder of another name": (
        lambda: wheel_members("demo", "1.0", FILES | {"Demo-1.0.data/etc/passwd": b""}),
        "etc",
    ),
    "a file where schemes stand": (lambda: wheel_members("demo", "1.0", FILES | {"demo-1.0.data/scripts": b""}), "scripts"),
}


@pytest.mark.parametrize(("make", "reason"), METADATA.values(), ids=METADATA)
def test_metadata_that_does_not_fit_is_refused(tmp_path: Path, make: Callable[[], dict[str, bytes]], reason: str) -> None:
    assert reason in str(refusal(write_members(tmp_path / "wheel", make())))


@pytest.mark.parametrize("filename", ["demo.whl", "demo-1.0.whl", "demo-1.0-py3-none-any.zip", "demo-x-py3-none-any.whl"])
def test_a_file_name_that_is_no_wheels_is_refused(tmp_path: Path, filename: str) -> None:
    refusal(write_members(tmp_path / "wheel", demo_members()), filename)


@pytest.mark.parametrize("scheme", ["purelib", "platlib", "data"])
def test_two_files_for_one_place_are_refused(tmp_path: Path, scheme: str) -> None:
    path = make_wheel(tmp_path, "demo", "1.0", FILES | {f"demo-1.0.data/{scheme}/demo/words.txt": b"others\n"})
    assert "demo/words.txt" in str(refusal(path))


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_wheel(tmp_path / "absent", FILENAME)


def test_a_wheel_with_the_most_common_signature_files_is_read(tmp_path: Path) -> None:
    members = demo_members()
    members |= {f"{INFO}/RECORD.jws": b"{}", f"{INFO}/RECORD.p7s": b"x"}
    check_wheel(write_members(tmp_path / "wheel", members), FILENAME)


def test_stronger_hashes_and_missing_sizes_are_read(tmp_path: Path) -> None:
    rows = record_rows(demo_members(), INFO)
    rows = [record_row(INIT, DATA, "sha512").rpartition(",")[0] + "," if row.startswith(INIT) else row for row in rows]
    path = make_wheel(tmp_path, "demo", "1.0", FILES, record=rows)
    check_wheel(path, FILENAME)
    (entry,) = (entry for entry in read_wheel(path, FILENAME) if entry.path == INIT)
    plain = make_wheel(tmp_path / "plain", "demo", "1.0", FILES)
    (same,) = (entry for entry in read_wheel(plain, FILENAME) if entry.path == INIT)
    assert entry.content.digest == same.content.digest


@pytest.mark.parametrize(
    ("folder", "version", "filename"),
    [
        ("Demo_Pkg", "1.0", "demo_pkg-1.0-py3-none-any.whl"),
        ("demo.pkg", "1.0", "demo_pkg-1.0-py2.py3-none-any.whl"),
        ("demo_pkg", "1.0.0", "Demo.Pkg-1.0-py3-none-any.whl"),
        ("demo_pkg", "1.0", "demo_pkg-1.0-7local-py3-none-any.whl"),
        ("demo_pkg", "1!2.0+local.1", "demo_pkg-1!2.0+local.1-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"),
    ],
)
def test_spellings_of_one_name_and_version_are_one(tmp_path: Path, folder: str, version: str, filename: str) -> None:
    path = write_members(tmp_path / "wheel", wheel_members(folder, version, FILES))
    check_wheel(path, filename)


def test_names_with_commas_quotes_and_letters_of_the_world_are_read(tmp_path: Path) -> None:
    files = {'demo/a,b"c.txt': b"1", "demo/grüße/日本語.txt": b"2", "demo/with space.txt": b"3", "demo/.hidden": b""}
    path = make_wheel(tmp_path, "demo", "1.0", FILES | files)
    check_wheel(path, FILENAME)
    assert contents(read_wheel(path, FILENAME)).items() >= files.items()


def schemes_wheel(folder: Path, data: str = "demo-1.0.data") -> Path:
    files = {
        f"{data}/purelib/demo/pure.py": b"pure",
        f"{data}/platlib/demo/plat.so": b"plat",
        f"{data}/scripts/tool": b"#!python -E\nprint(1)\n",
        f"{data}/scripts/graphical": b"#!pythonw\nprint(1)\n",
        f"{data}/scripts/shell": b"#!/bin/sh\necho\n",
        f"{data}/headers/demo.h": b"int demo;",
        f"{data}/data/share/demo.txt": b"data",
    }
    return make_wheel(folder, "demo", "1.0", FILES | files, modes={"demo/words.txt": 0o755})


@pytest.mark.parametrize("data", ["demo-1.0.data", "Demo-1.0.data", "demo-1.0.0.data", "demo.data", "other-2.data"])
def test_schemes_go_where_pip_puts_them_whatever_their_folder_is_called(tmp_path: Path, data: str) -> None:
    wheel = schemes_wheel(tmp_path, data).rename(tmp_path / FILENAME)
    tree = read_wheel(wheel, FILENAME)
    site = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    installed = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    packed = {entry.path for entry in tree}
    own = {f"{INFO}/{name}" for name in ("INSTALLER", "REQUESTED", "direct_url.json")}
    headers = {path for path in packed | installed if path.startswith("include/")}  # pip's have the Python's name in their path
    assert packed - headers == installed - headers - own
    assert len(headers) == 2
    with wheel.open("rb") as file:
        assert {each.path for each in outline_members(read_members(file.fileno()), FILENAME)} == packed


def test_schemes_keep_their_contents_and_modes(tmp_path: Path) -> None:
    tree = read_wheel(schemes_wheel(tmp_path), FILENAME)
    found = contents(tree)
    expected = {
        "demo/pure.py": b"pure",
        "demo/plat.so": b"plat",
        "share/demo.txt": b"data",
        "bin/shell": b"#!/bin/sh\necho\n",
        **FILES,
    }
    assert found.items() >= expected.items()
    assert not [path for path in found if ".data/" in path]
    assert [data for path, data in found.items() if path.startswith("include/")] == [b"int demo;"]
    for script in ("bin/tool", "bin/graphical"):
        shebang, rest = found[script].split(b"\n", 1)
        assert shebang.startswith(b"#!/usr/bin/env python3")
        assert rest == b"print(1)\n"
    executables = {entry.path for entry in tree if entry.mode == EXECUTABLE_MODE}
    assert executables == {"bin/tool", "bin/graphical", "bin/shell", "demo/words.txt"}


def test_record_is_rewritten_for_what_moved(tmp_path: Path) -> None:
    found = contents(read_wheel(schemes_wheel(tmp_path), FILENAME))
    record = found[f"{INFO}/RECORD"].decode()
    listed = {row[0]: row for row in csv.reader(io.StringIO(record))}
    assert listed.keys() == found.keys()
    for path, data in found.items():
        expected = f"{path},," if path == f"{INFO}/RECORD" else record_row(path, data)
        assert ",".join(listed[path]) == expected


def test_members_as_they_lie_are_given_for_rebuilding(tmp_path: Path) -> None:
    path = schemes_wheel(tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert contents(read_members_as_tree(path, FILENAME)) == {name: archive.read(name) for name in archive.namelist()}


def test_pip_lays_the_same_tree(tmp_path: Path) -> None:
    path = schemes_wheel(tmp_path)
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--no-index", "--target", str(site)]
    subprocess.run([*command, str(path)], check=True)
    installed = {file.relative_to(site).as_posix(): file for file in site.rglob("*") if file.is_file()}
    ours = read_wheel(path, FILENAME)
    by_pip_alone = {f"{INFO}/{name}" for name in ("INSTALLER", "REQUESTED", "direct_url.json")}
    # Where pip puts headers depends on the Python that runs it.
    by_pip_alone |= {path for path in installed if path.startswith("include/")}
    assert {entry.path for entry in ours if not entry.path.startswith("include/")} == installed.keys() - by_pip_alone
    for entry in ours:
        if entry.path.startswith(("demo/", "share/")):
            assert entry.content.read() == installed[entry.path].read_bytes()
            assert (entry.mode == EXECUTABLE_MODE) == os.access(installed[entry.path], os.X_OK)


def test_reading_names_spans_within_the_wheel(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "demo", "1.0", module("demo"))
    data = path.read_bytes()
    for entry in read_wheel(path, FILENAME):
        span = entry.content.span()
        assert span is not None
        assert (span.path, span.method) == (path, DEFLATED)
        assert deflated(entry.content.read()) == data[span.offset : span.offset + span.length]


def test_metadata_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    padding = RawMember(name=f"{INFO}/METADATA", data=bytes(20 * 1024 * 1024))
    text = str(refusal(raw_wheel(change={f"{INFO}/METADATA": padding}).write(tmp_path / "wheel")))
    assert "too many for a metadata file" in text


def test_a_record_that_no_csv_reader_takes_is_refused(tmp_path: Path) -> None:
    rows = f"{'x' * 200_000},sha256=abc,1\n"
    record = RawMember(name=f"{INFO}/RECORD", data=rows.encode())
    assert "RECORD cannot be read" in str(refusal(raw_wheel(change={f"{INFO}/RECORD": record}).write(tmp_path / "wheel")))
