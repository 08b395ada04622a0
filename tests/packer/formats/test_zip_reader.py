"""The archive below a wheel: whatever two programs could read in two ways is refused, whatever is legal is read."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from packer.core.model import EXECUTABLE_MODE, FILE_MODE
from packer.formats.wheel import check_wheel, read_wheel
from tests.packer.demo import DATA, FILENAME, INFO, INIT, added, contents, demo_members, init, raw_wheel, refusal
from tests.wheels import DESCRIPTOR, ENCRYPTED, FOLDER, REGULAR, STORED, SYMLINK, UTF8, RawMember, RawZip, deflated, record_rows

GIGABYTE = 1 << 30

BAD_NAMES = {
    "parent": "../evil.py",
    "parent inside": "demo/../../evil.py",
    "hidden parent": "demo/..",
    "absolute": "/etc/cron.d/evil",
    "drive": "C:/evil.py",
    "drive relative": "c:evil.py",
    "backslash": "demo\\evil.py",
    "backslash parent": "..\\evil.py",
    "share": "\\\\host\\share\\evil.py",
    "nul": "demo/evil.py\0.txt",
    "dot": "demo/./evil.py",
    "empty part": "demo//evil.py",
    "only a dot": ".",
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    error = refusal(added(name)().write(tmp_path / "wheel"))
    assert f"refused, member {name}: the name " in str(error)


HEADERS: dict[str, tuple[Callable[[], RawZip], str, str]] = {
    "other local name": (init(local_name="demo/__main__.py"), INIT, "another name"),
    "other local name length": (init(local_name="demo/__init__.pyc"), INIT, "another name"),
    "other local size": (init(local_size=5), INIT, "another size"),
    "other local length": (init(local_length=5), INIT, "another size"),
    "other local checksum": (init(local_crc32=5), INIT, "checksum"),
    "zero sizes without a descriptor": (init(local_crc32=0, local_length=0, local_size=0), INIT, "another size"),
    "lying sizes before a descriptor": (init(descriptor=True, local_size=7), INIT, "another size"),
    "other local method": (init(local_method=STORED), INIT, "another method"),
    "encrypted by the local header alone": (init(local_flags=ENCRYPTED), INIT, "other flags"),
    "descriptor in the local header alone": (init(local_flags=DESCRIPTOR), INIT, "other flags"),
    "encrypted": (init(flags=ENCRYPTED), INIT, "encrypted"),
    "strongly encrypted": (init(flags=0x0041), INIT, "encrypted"),
    "masked headers": (init(flags=0x2000), INIT, "encrypted"),
    "bzip2": (init(method=12), INIT, "compression method 12"),
    "lzma": (init(method=14), INIT, "compression method 14"),
    "zstandard": (init(method=93, stream=b"x"), INIT, "compression method 93"),
    "symbolic link": (added("demo/link.py", mode=SYMLINK | 0o777, data=b"/etc/passwd"), "demo/link.py", "symbolic link"),
    "device": (added("demo/null", mode=0o020666), "demo/null", "device"),
    "named pipe": (added("demo/pipe", mode=0o010666), "demo/pipe", "device"),
    "a folder's name on a file": (added("demo/data/", mode=REGULAR | 0o644, data=b""), "demo/data/", "folder"),
    "a folder's mode on a file": (added("demo/data", mode=FOLDER | 0o755, data=b""), "demo/data", "folder"),
    "a folder with content": (added("demo/data/", mode=FOLDER | 0o755), "demo/data/", "folder with content"),
    "the same name twice": (added(INIT), INIT, "twice"),
    "a file under a file": (added(f"{INIT}/evil.py"), INIT, "also the folder"),
    "a name that is no UTF-8": (added(b"demo/\xff.py", flags=UTF8), r"\xff", "UTF-8"),
    "no local header there": (init(offset=3), INIT, "no local header"),
    "a header past the end": (init(offset=GIGABYTE), INIT, "no local header"),
    "stored with two sizes": (init(method=STORED, size=3), INIT, "two sizes"),
    "a ZIP64 field that is too short": (
        init(length=0xFFFFFFFF, size=0xFFFFFFFF, extra=struct.pack("<2HQ", 1, 8, 5)),
        INIT,
        "ZIP64 extra field is too short",
    ),
    "data into the next member": (init(length=100_000, local_length=100_000), INIT, "overlaps"),
}


@pytest.mark.parametrize(("make", "member", "reason"), HEADERS.values(), ids=HEADERS)
def test_lying_headers_are_refused(tmp_path: Path, make: Callable[[], RawZip], member: str, reason: str) -> None:
    text = str(refusal(make().write(tmp_path / "wheel")))
    assert member in text
    assert reason in text


def unicode_path_field(name: bytes, other: bytes) -> bytes:
    return struct.pack("<HHBI", 0x7075, 5 + len(other), 1, zlib.crc32(name)) + other


AMBIGUOUS = [
    pytest.param(lambda: raw_wheel(comment=b"PK\x05\x06" + bytes(18)), id="an end record in the comment"),
    pytest.param(lambda: raw_wheel(comment=b"PK\x05\x06" + bytes(30)), id="its signature in the comment"),
    # Info-ZIP believes this field, the standard library does not look at it (APPNOTE.TXT 4.6.9).
    pytest.param(init(extra=unicode_path_field(INIT.encode(), b"demo/evil.py")), id="another name in the Unicode field"),
]


@pytest.mark.parametrize("make", AMBIGUOUS)
def test_what_two_readers_read_differently_is_refused(tmp_path: Path, make: Callable[[], RawZip]) -> None:
    refusal(make().write(tmp_path / "wheel"))


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    archive = raw_wheel()
    first = len(archive.members[0].local())
    inner = RawMember(name="inner.py", data=b"x")
    outer = RawMember(name="outer.py", data=inner.local() + b"tail", method=STORED)
    # The inner member's header lies within the stored bytes of the outer one: two readers, two archives.
    offset = 30 + len(outer.raw_name) + first
    archive.members[1:1] = [outer, replace(inner, offset=offset, absent=True)]
    assert "overlaps" in str(refusal(archive.write(tmp_path / "wheel")))


def test_many_members_on_one_stream_are_refused(tmp_path: Path) -> None:
    bomb = RawMember(name="kernel", data=bytes(1_000_000))
    again = [replace(bomb, offset=0, absent=True) for _ in range(50)]
    archive = raw_wheel()
    archive.members[:0] = [bomb, *again]
    assert "overlaps" in str(refusal(archive.write(tmp_path / "wheel")))


STREAMS: dict[str, tuple[Callable[[], RawZip], str]] = {
    "more than it declares": (init(size=10), "more than the 10 bytes"),
    "less than it declares": (init(size=len(DATA) + 1), "size or checksum"),
    "another checksum": (init(crc32=1), "size or checksum"),
    "cut short": (init(stream=deflated(DATA)[:-3]), "cut short"),
    "bytes after the end": (init(stream=deflated(DATA) + b"tail"), "after its end"),
    "no deflate stream": (init(stream=b"\xff" * 20), "cannot be read"),
    "an empty stream": (init(stream=b""), "cut short"),
    "other stored bytes": (init(method=STORED, stream=DATA[::-1]), "size or checksum"),
}


@pytest.mark.parametrize(("make", "reason"), STREAMS.values(), ids=STREAMS)
def test_lying_streams_are_refused(tmp_path: Path, make: Callable[[], RawZip], reason: str) -> None:
    archive = make()
    (lying,) = (member for member in archive.members if member.name == INIT)
    rows = record_rows(demo_members(), INFO)
    # RECORD agrees with the lie about the size, so that only the bytes themselves can give it away.
    rows = [row.rpartition(",")[0] + f",{lying.facts[2]}" if row.startswith(INIT) else row for row in rows]
    record = RawMember(name=f"{INFO}/RECORD", data="".join(row + "\n" for row in rows).encode())
    archive.members = [record if member.name == record.name else member for member in archive.members]
    text = str(refusal(archive.write(tmp_path / "wheel")))
    assert INIT in text
    assert reason in text


def test_a_bomb_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    parts = [RawMember(name=f"demo/{n}.bin", data=b"x", size=(1 << 32) - 2) for n in range(4)]
    archive = raw_wheel()
    names = [f"{part.raw_name.decode()},sha256=AAAA," for part in parts]
    rows = "\n".join([*record_rows(demo_members(), INFO), *names, ""])
    archive.members[-1] = RawMember(name=f"{INFO}/RECORD", data=rows.encode())
    archive.members += parts
    assert "unpacks to 17," in str(refusal(archive.write(tmp_path / "wheel")))


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "wheel"
    zeros = bytes(200_000_000)
    raw_wheel(RawMember(name="demo/zeros.bin", data=zeros, size=len(zeros) - 1)).write(bomb)
    del zeros
    tracemalloc.start()
    try:
        assert "demo/zeros.bin" in str(refusal(bomb))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


STRUCTURES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty file": (lambda _: b"", "no end of central directory"),
    "no ZIP at all": (lambda _: b"<html>not found</html>" * 9, "no end of central directory"),
    "truncated by one": (lambda data: data[:-1], "no end of central directory"),
    "truncated in the middle": (lambda data: data[: len(data) // 2], "no end of central directory"),
    "start is missing": (lambda data: data[40:], "not where the archive says"),
    "junk before": (lambda data: b"#!/bin/sh\n" + data, "not where the archive says"),
    "junk after": (lambda data: data + b"junk", "no end of central directory"),
    "another archive after": (lambda data: data + RawZip.of({"a": b"b"}).build(), "not where the archive says"),
}


@pytest.mark.parametrize(("change", "reason"), STRUCTURES.values(), ids=STRUCTURES)
def test_broken_structures_are_refused(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    path = tmp_path / "wheel"
    path.write_bytes(change(raw_wheel().build()))
    assert reason in str(refusal(path))


ENDS: dict[str, tuple[dict[str, Any], str]] = {
    "fewer records than it says": ({"count": 9}, "fewer records"),
    "more records than it says": ({"count": 2}, "more records"),
    "several disks": ({"disk": 1}, "several disks"),
    "a directory elsewhere": ({"directory_offset": 10}, "not where"),
    "a directory of another length": ({"directory_length": 10}, "not where"),
    "ZIP64: several disks": ({"disk": 1, "zip64": True}, "several disks"),
    "ZIP64: fewer records than it says": ({"count": 9, "zip64": True}, "fewer records"),
    "ZIP64: a directory past the end": ({"directory_offset": 1 << 62, "zip64": True}, "not where"),
    "ZIP64: a directory longer than the world": ({"directory_length": 1 << 62, "zip64": True}, "not where"),
}


@pytest.mark.parametrize(("values", "reason"), ENDS.values(), ids=ENDS)
def test_lying_ends_are_refused(tmp_path: Path, values: dict[str, Any], reason: str) -> None:
    assert reason in str(refusal(raw_wheel(**values).write(tmp_path / "wheel")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"PK\x06\x06", b"PK\x06\x00", id="missing"),
        pytest.param(struct.pack("<4sQ", b"PK\x06\x06", 44), struct.pack("<4sQ", b"PK\x06\x06", 40), id="of another length"),
    ],
)
def test_a_zip64_end_that_is_not_there_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "wheel"
    data = raw_wheel(zip64=True).build()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    assert "the ZIP64 end of central directory is " in str(refusal(path))


def test_a_last_member_that_runs_into_the_directory_is_refused(tmp_path: Path) -> None:
    archive = raw_wheel()
    last = archive.members[-1]
    archive.members[-1] = replace(last, length=len(last.raw_stream) + 30)
    assert "overlaps the central directory" in str(refusal(archive.write(tmp_path / "wheel")))


@pytest.mark.parametrize("cut", range(1, 12))
def test_every_truncation_is_refused(tmp_path: Path, cut: int) -> None:
    data = raw_wheel().build()
    path = tmp_path / "wheel"
    path.write_bytes(data[: len(data) * cut // 12])
    refusal(path)


LEGAL: dict[str, Callable[[], RawZip]] = {
    "plain": raw_wheel,
    "data descriptor": init(descriptor=True),
    "data descriptors with ZIP64": init(descriptor=True, zip64=True),
    "ZIP64 member": init(zip64=True),
    "stored": init(method=STORED),
    "no Unix attributes": init(system=0),
    "extra field": init(extra=b"UT\x05\x00\x03abcd"),
    "executable": init(mode=REGULAR | 0o755),
    "setuid": init(mode=REGULAR | 0o4755),
    "mode without a kind": init(mode=0o644),
    "level 9": init(stream=deflated(DATA, 9)),
    "stored within deflate": init(stream=deflated(DATA, 0)),
    "compression options in the flags": init(flags=0x0006),
    "a folder": lambda: RawZip(members=[RawMember(name="demo/", mode=FOLDER | 0o755, method=STORED), *raw_wheel().members]),
    "a comment": lambda: raw_wheel(comment=b"by hand"),
    "ZIP64 end": lambda: raw_wheel(zip64=True),
}


@pytest.mark.parametrize("make", LEGAL.values(), ids=LEGAL)
def test_odd_but_legal_archives_are_read(tmp_path: Path, make: Callable[[], RawZip]) -> None:
    path = make().write(tmp_path / "wheel")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read(INIT) == DATA
    check_wheel(path, FILENAME)
    tree = read_wheel(path, FILENAME)
    assert contents(tree) == demo_members()
    assert {entry.mode for entry in tree} <= {FILE_MODE, EXECUTABLE_MODE}


def hidden(place: int) -> RawZip:
    """A correct wheel with a member that its directory does not list."""
    archive = raw_wheel()
    archive.members.insert(place, RawMember(name="demo/evil.py", data=DATA, hidden=True))
    return archive


HIDING: dict[str, tuple[Callable[[], RawZip], str]] = {
    "a member before the first": (lambda: hidden(0), "bytes before the member"),
    "a member between two": (lambda: hidden(1), "bytes before the member"),
    "a member after the last": (lambda: hidden(len(raw_wheel().members)), "bytes before the central directory"),
    "a script before the first": (lambda: replace(raw_wheel(), prefix=b"#!/bin/sh\nexit\n"), "bytes before the member"),
}


@pytest.mark.parametrize(("make", "reason"), HIDING.values(), ids=HIDING)
def test_bytes_that_belong_to_no_member_are_refused(tmp_path: Path, make: Callable[[], RawZip], reason: str) -> None:
    assert reason in str(refusal(make().write(tmp_path / "wheel")))


@pytest.mark.parametrize("name", ["demo/\n.py", "demo/\x01.py", "demo/\x7f.py"])
def test_control_characters_in_names_are_refused(tmp_path: Path, name: str) -> None:
    assert "control character" in str(refusal(added(name)().write(tmp_path / "wheel")))


def test_two_ends_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    data = raw_wheel(zip64=True).build()
    # The plain end record says one member less, which readers that look there first believe.
    at = data.rindex(b"PK\x05\x06")
    count = len(raw_wheel().members) - 1
    plain = struct.pack("<4s4H", b"PK\x05\x06", 0, 0, count, count)
    (tmp_path / "wheel").write_bytes(data[:at] + plain + data[at + len(plain) :])
    assert "contradict" in str(refusal(tmp_path / "wheel"))
