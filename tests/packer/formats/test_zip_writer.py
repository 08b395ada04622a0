"""ZIP archives: any tree comes back as it went in, and the same tree always gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packer.cache.deflate import Deflater
from packer.cache.local import LocalStore
from packer.cache.store import Store
from packer.core.errors import StoreError
from packer.core.model import EXECUTABLE_MODE, FILE_MODE, STORED, BytesContent, Content, Entry, FileContent, Span, Tree
from packer.formats.wheel import read_wheel
from packer.formats.zip_headers import central_record, end_records, local_header
from packer.formats.zip_reader import read_members
from packer.formats.zip_writer import WrittenArchive, write_zip
from tests.wheels import DEFLATED, make_wheel
from tests.wheels import STORED as AS_IT_IS

GIGABYTE = 1 << 30

# What the tests' own tools can carry: no path part that is too long for a file system, no control characters (unzip shows them
# as other characters), no case where one name is another's folder.
LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn"), exclude_characters="/\\:")
PARTS = st.text(LETTERS, min_size=1, max_size=12).filter(lambda part: part not in (".", ".."))
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
DATA = st.one_of(
    st.binary(max_size=300),
    st.just(b""),
    st.integers(1, 5000).map(lambda count: b"abc def\n" * count),
    st.integers(0, 99).map(lambda seed: random.Random(seed).randbytes(70_000)),  # noqa: S311 no secret
)
Files = dict[str, tuple[bytes, bool]]


def no_file_is_a_folder(files: Files) -> bool:
    folders = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/"}
    return not folders & files.keys()


FILES = st.dictionaries(PATHS, st.tuples(DATA, st.booleans()), max_size=12).filter(no_file_is_a_folder)
thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def entry(path: str, content: Content, *, executable: bool = False) -> Entry:
    return Entry(path=path, mode=EXECUTABLE_MODE if executable else FILE_MODE, content=content, owner="test")


def tree_of(files: Files) -> Tree:
    return Tree.of(entry(path, BytesContent.of(data), executable=executable) for path, (data, executable) in files.items())


def pack(tree: Tree, path: Path, store: Store) -> WrittenArchive:
    with path.open("wb") as file:
        return write_zip(tree, file, Deflater(store).span)


@contextmanager
def folder() -> Iterator[Path]:
    """Give a temporary folder for one example: pytest's own is shared by all examples of a test."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def assert_archive_holds(path: Path, files: Files) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(files, key=str.encode)
        for info in archive.infolist():
            data, executable = files[info.filename]
            assert archive.read(info) == data
            assert stat.S_ISREG(info.external_attr >> 16)
            assert stat.S_IMODE(info.external_attr >> 16) == (0o755 if executable else 0o644)
            assert info.date_time == (1980, 1, 1, 0, 0, 0)


@thorough
@given(FILES)
def test_any_tree_comes_back(files: Files) -> None:
    with folder() as place:
        written = pack(tree_of(files), place / "out.zip", LocalStore(place / "store"))
        data = (place / "out.zip").read_bytes()
        assert (written.sha256, written.length) == (hashlib.sha256(data).hexdigest(), len(data))
        assert_archive_holds(place / "out.zip", files)
        with (place / "out.zip").open("rb") as file:
            assert [member.name for member in read_members(file.fileno())] == sorted(files, key=str.encode)


@pytest.mark.skipif(not shutil.which("unzip"), reason="needs unzip")
@settings(thorough, max_examples=25)
@given(FILES.filter(bool))
def test_unzip_agrees(files: Files) -> None:
    with folder() as place:
        pack(tree_of(files), place / "out.zip", LocalStore(place / "store"))
        unzip = ["unzip", "-q", "-o", "-V"]  # -V: a semicolon is a letter here, not the start of a VMS version number
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        subprocess.run(["unzip", "-tqq", "out.zip"], cwd=place, check=True, env=environment, capture_output=True)
        subprocess.run([*unzip, "out.zip", "-d", "unpacked"], cwd=place, check=True, env=environment, capture_output=True)
        root = place / "unpacked"
        unpacked = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        assert {name: path.read_bytes() for name, path in unpacked.items()} == {name: data for name, (data, _) in files.items()}
        assert {name for name, path in unpacked.items() if os.access(path, os.X_OK)} == {
            name for name, (_, executable) in files.items() if executable
        }


@thorough
@given(FILES, st.randoms(use_true_random=False), st.sampled_from([0o000, 0o022, 0o077]))
def test_order_umask_store_and_place_of_the_content_change_nothing(files: Files, order: random.Random, umask: int) -> None:
    with folder() as place:
        first = pack(tree_of(files), place / "first.zip", LocalStore(place / "store"))
        names = list(files)
        order.shuffle(names)
        again = pack(tree_of({name: files[name] for name in names}), place / "again.zip", LocalStore(place / "store"))
        lying = pack(as_files(files, place, umask), place / "lying.zip", LocalStore(place / "other store"))
        assert first == again == lying
        assert (place / "first.zip").read_bytes() == (place / "lying.zip").read_bytes()


def as_files(files: Files, place: Path, umask: int) -> Tree:
    """Give the same tree with contents that lie in files, of other modes and times."""
    before = os.umask(umask)
    try:
        entries = []
        for number, (name, (data, executable)) in enumerate(files.items()):
            path = place / f"{number}.source"
            path.write_bytes(data)
            os.utime(path, (number * 1e8, number * 1e8))
            content = FileContent(path=path, digest=hashlib.sha256(data).hexdigest(), size=len(data))
            entries.append(entry(name, content, executable=executable))
    finally:
        os.umask(before)
    return Tree.of(entries)


PACK = """
import sys; from pathlib import Path; from tests.packer.formats.test_zip_writer import *
files = {f"pkg/{name}.py": (name.encode() * 500, name == "tool") for name in ("z", "a", "é", "tool", "日本")}
print(pack(tree_of(dict(sorted(files.items(), reverse=len(sys.argv) > 1))), Path("out.zip"), LocalStore(Path("store"))).sha256)
"""


def test_time_zone_locale_hash_seed_and_day_change_nothing(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    found = set()
    for number, variables in enumerate(
        [
            {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
            {"TZ": "America/New_York", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": str(int(time.time()))},
        ]
    ):
        place = tmp_path / str(number)
        place.mkdir()
        command = [sys.executable, "-c", PACK, *["reverse"] * number]
        environment = {**os.environ, "PYTHONPATH": str(root), **variables}
        found.add(subprocess.run(command, cwd=place, env=environment, capture_output=True, check=True).stdout)
    assert len(found) == 1
    assert found != {b""}


def test_the_bytes_of_an_archive_are_pinned(tmp_path: Path) -> None:
    # If this changes, every user's next deploy uploads everything again: change it knowingly, or not at all.
    files: Files = {"app.py": (b"print('hello')\n" * 9, False), "bin/tool": (b"#!/bin/sh\n", True), "ü.txt": (b"", False)}
    written = pack(tree_of(files), tmp_path / "out.zip", LocalStore(tmp_path / "store"))
    assert written.sha256 == "8c1e999cb877446e25c4c9efe655856666364de8edde6bd9d68c9e5a35a7941c"


@settings(thorough, max_examples=40)
@given(
    st.dictionaries(PATHS, DATA, max_size=8).filter(lambda files: no_file_is_a_folder(dict.fromkeys(files, (b"", False)))),
    st.sampled_from([AS_IT_IS, DEFLATED]),
)
def test_a_wheel_is_spliced_without_change(files: Mapping[str, bytes], method: int) -> None:
    placed = {f"demo/{name}": data for name, data in files.items()}
    with folder() as place:
        wheel = make_wheel(place, "demo", "1.0", placed, method=method)
        tree = read_wheel(wheel, wheel.name)
        with (place / "out.zip").open("wb") as file:
            write_zip(tree, file, ready_span)
        with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(place / "out.zip") as copy:
            assert copy.testzip() is None
            assert sorted(copy.namelist()) == sorted(source.namelist())
            for name in source.namelist():
                assert copy.read(name) == source.read(name)
                assert raw_bytes(copy, name, place / "out.zip") == raw_bytes(source, name, wheel)


def ready_span(content: Content) -> Span:
    """Give the span of content that must be ready: splicing compresses nothing."""
    span = content.span()
    assert span is not None
    return span


def raw_bytes(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Give a member's compressed bytes."""
    info = archive.getinfo(name)
    data = path.read_bytes()
    name_length, extra_length = struct.unpack_from("<2H", data, info.header_offset + 26)
    start = info.header_offset + 30 + name_length + extra_length
    return data[start : start + info.compress_size]


def test_wheels_and_new_content_share_an_archive(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo", "1.0", {"demo/__init__.py": b"x = 1\n" * 99})
    spliced = read_wheel(wheel, wheel.name)
    tree = Tree.of([*spliced, entry("app.py", BytesContent.of(b"import demo\n"))])
    pack(tree, tmp_path / "out.zip", LocalStore(tmp_path / "store"))
    assert_archive_holds(tmp_path / "out.zip", {item.path: (item.content.read(), False) for item in tree})


def test_python_imports_from_the_archive(tmp_path: Path) -> None:
    files: Files = {"demo/__init__.py": (b"VALUE = 7\n", False), "demo/sub/__init__.py": (b"from demo import VALUE\n", False)}
    pack(tree_of(files), tmp_path / "out.zip", LocalStore(tmp_path / "store"))
    code = "import sys; sys.path[:0] = ['out.zip']; import demo.sub; print(demo.sub.VALUE)"
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert finished.stdout == "7\n"


def test_more_wheels_than_stay_open(tmp_path: Path) -> None:
    entries = []
    for number in range(150):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(bytes([number]) * 10)
        entries.append(entry(f"{number % 10}/{number}.bin", StoredFile(path)))
    with (tmp_path / "out.zip").open("wb") as file:
        write_zip(Tree.of(entries), file, ready_span)
    expected = {item.path: (item.content.read(), False) for item in entries}
    assert_archive_holds(tmp_path / "out.zip", expected)


class StoredFile:
    """Content that lies uncompressed in a file and can be copied as it is; ``size`` bytes of a hole where given."""

    def __init__(self, path: Path, crc32: int | None = None) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.digest = path.name
        self._crc32 = crc32

    def read(self) -> bytes:
        return self.path.read_bytes()

    def span(self) -> Span:
        crc32 = zlib.crc32(self.read()) if self._crc32 is None else self._crc32
        return Span(path=self.path, offset=0, length=self.size, method=STORED, crc32=crc32, size=self.size)


def test_a_source_that_shrank_or_was_removed_is_no_failure_to_write(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"x" * 100)
    content = StoredFile(path)
    spans = {"one": content.span()}
    path.write_bytes(b"x" * 40)
    with (tmp_path / "out.zip").open("wb") as file, pytest.raises(StoreError, match=rf"{path} became shorter") as caught:
        write_zip(Tree.of([entry("one", content)]), file, lambda _: spans["one"])
    assert "lpack cache verify" in caught.value.remedy
    path.unlink()
    with (tmp_path / "out.zip").open("wb") as file, pytest.raises(StoreError, match=rf"Cannot read {path}: No such file"):
        write_zip(Tree.of([entry("one", content)]), file, lambda _: spans["one"])


def test_more_members_than_16_bits_count(tmp_path: Path) -> None:
    empty = BytesContent.of(b"")
    tree = Tree.of(entry(f"{number // 1000:02}/{number:05}", empty) for number in range(65_540))
    pack(tree, tmp_path / "out.zip", LocalStore(tmp_path / "store"))
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert len(archive.namelist()) == 65_540
    with (tmp_path / "out.zip").open("rb") as file:
        assert len(read_members(file.fileno())) == 65_540


@pytest.mark.parametrize("sizes", [(5 * GIGABYTE, 20, 5), (20, 5 * GIGABYTE, 3 * GIGABYTE), ((1 << 32) - 1, 1, 0)])
def test_sizes_and_offsets_beyond_32_bits_are_written_and_read(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """The headers of an archive of gigabytes, in a file with holes: nothing of that size is ever written."""
    path = tmp_path / "out.zip"
    with path.open("wb") as file:
        records = []
        for number, size in enumerate(sizes):
            name, facts = f"{number}.bin".encode(), (STORED, number, size, size)
            records.append(central_record(name, FILE_MODE, *facts, file.tell()))
            file.write(local_header(name, *facts))
            file.seek(size, io.SEEK_CUR)
        offset, directory = file.tell(), b"".join(records)
        file.write(directory + end_records(len(records), len(directory), offset))
    with zipfile.ZipFile(path) as archive:
        assert [info.file_size for info in archive.infolist()] == list(sizes)
        for info in archive.infolist():
            archive.open(info).close()
    with path.open("rb") as file:
        members = read_members(file.fileno())
    assert [(member.size, member.length) for member in members] == [(size, size) for size in sizes]
    # unzip 6.0 mixes up a size that is truly 0xFFFFFFFF with the mark for "see the ZIP64 field".
    if shutil.which("unzip") and 0xFFFFFFFF not in sizes:
        shown = subprocess.run(["unzip", "-l", str(path)], capture_output=True, text=True, check=True).stdout
        assert [int(line.split()[0]) for line in shown.splitlines() if line.endswith(".bin")] == list(sizes)
