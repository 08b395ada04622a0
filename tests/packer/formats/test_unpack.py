"""Unpacking an archive as Lambda does: zipfile is the oracle for what is in it."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread, current_thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer.cache.local import LocalStore
from packer.core.errors import PackageError, StoreError
from packer.formats import unpack as layout
from packer.formats.unpack import LayerArchive, LayerFolders, open_archive, scratch_folder, unpack
from tests.wheels import DEFLATED, STORED, SYMLINK, RawMember, RawZip, write_members

FILES = {
    "app.py": b"def handler(event, context): ...\n" * 20,
    "pkg/__init__.py": b"",
    "pkg/deep/er/data.bin": bytes(range(256)) * 300,
    "pkg/stra\u00dfe.txt": b"words\n",
    "bin/tool": b"#!/bin/sh\n",
}


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as running:
        yield running


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_files_come_out_as_they_went_in(tmp_path, executor, method):
    archive = write_members(tmp_path / "one.zip", FILES, modes={"bin/tool": 0o755}, method=method)
    unpack(archive, tmp_path / "task", executor)
    with zipfile.ZipFile(archive) as theirs:
        theirs.extractall(tmp_path / "oracle")
    assert found(tmp_path / "task") == found(tmp_path / "oracle") == FILES
    executable = {path for path in FILES if (tmp_path / "task" / path).stat().st_mode & 0o100}
    assert executable == {"bin/tool"}


def test_files_are_readable_by_others_as_lambda_needs_it(tmp_path, executor):
    archive = write_members(tmp_path / "one.zip", FILES, modes={"app.py": 0o600, "bin/tool": 0o700})
    before = os.umask(0o022)
    try:
        unpack(archive, tmp_path / "task", executor)
    finally:
        os.umask(before)
    modes = {path: (tmp_path / "task" / path).stat().st_mode & 0o777 for path in ("app.py", "bin/tool")}
    assert modes == {"app.py": 0o644, "bin/tool": 0o755}


@settings(max_examples=30, deadline=None)
@given(
    files=st.dictionaries(
        st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".txt"),
        st.binary(max_size=500),
        max_size=8,
    )
)
def test_any_files_come_out_as_they_went_in(tmp_path_factory, executor, files):
    folder = tmp_path_factory.mktemp("layout")
    unpack(write_members(folder / "one.zip", files), folder / "task", executor)
    assert found(folder / "task") == files


def test_more_files_than_one_piece_of_work_takes(tmp_path, executor):
    files = {f"pkg/{number % 7}/{number}.py": str(number).encode() for number in range(600)}
    unpack(write_members(tmp_path / "one.zip", files), tmp_path / "task", executor)
    assert found(tmp_path / "task") == files


def test_an_empty_archive_is_an_empty_folder(tmp_path, executor):
    unpack(write_members(tmp_path / "one.zip", {}), tmp_path / "task", executor)
    assert list((tmp_path / "task").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "pkg/../../evil.py"])
def test_nothing_is_written_outside_of_the_folder(tmp_path, executor, name):
    archive = RawZip(members=[RawMember(name=name, data=b"evil")]).write(tmp_path / "one.zip")
    with pytest.raises(PackageError, match="is not a readable archive"):
        unpack(archive, tmp_path / "deep" / "task", executor)
    assert [path.name for path in tmp_path.rglob("*")] == ["one.zip"]


def test_links_are_not_followed_and_not_made(tmp_path, executor):
    link = RawMember(name="link", data=b"/etc/passwd", mode=SYMLINK | 0o777)
    with pytest.raises(PackageError, match="link"):
        unpack(RawZip(members=[link]).write(tmp_path / "one.zip"), tmp_path / "task", executor)


def test_what_is_no_archive_is_named(tmp_path, executor):
    (tmp_path / "one.zip").write_bytes(b"no archive")
    with pytest.raises(PackageError, match=r"one\.zip is not a readable archive") as caught:
        unpack(tmp_path / "one.zip", tmp_path / "task", executor)
    assert caught.value.remedy == "Build again."


def test_a_folder_that_is_there_already_is_not_mixed_with(tmp_path, executor):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "old.py").touch()
    with pytest.raises(StoreError, match="Cannot write to"):
        unpack(write_members(tmp_path / "one.zip", FILES), tmp_path / "task", executor)
    assert found(tmp_path / "task") == {"old.py": b""}


def test_the_size_of_what_an_archive_unpacks_to(tmp_path):
    archive = write_members(tmp_path / "one.zip", FILES)
    with open_archive(archive) as packed:
        assert packed.size == sum(map(len, FILES.values()))
    with pytest.raises(StoreError, match="Cannot read"), open_archive(tmp_path / "none.zip"):
        pass


def test_trouble_of_the_one_who_opens_an_archive_is_not_the_archives(tmp_path):
    with pytest.raises(FileNotFoundError), open_archive(write_members(tmp_path / "one.zip", FILES)):
        (tmp_path / "none").read_bytes()


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a folder of the test's own stand for the file system in memory."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(layout, "_MEMORY", folder)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is free in /proc/meminfo")
def test_there_is_room_in_memory_for_what_is_small_and_it_is_given_back(tmp_path, memory):
    with scratch_folder(1, LocalStore(tmp_path / "store")) as folder:
        assert folder.parent == memory
        (folder / "deep").mkdir()
    assert list(memory.iterdir()) == []


def test_what_is_large_goes_to_the_store_and_so_does_all_where_there_is_no_such_memory(tmp_path, memory, monkeypatch):
    store = LocalStore(tmp_path / "store")
    with scratch_folder(1 << 60, store) as folder:
        assert folder.is_relative_to(store.root)
    assert not folder.exists()
    monkeypatch.setattr(layout, "_MEMORY", memory / "nowhere")
    with scratch_folder(1, store) as folder:
        assert folder.is_relative_to(store.root)


def test_a_broken_stream_is_an_error_of_lpacks(tmp_path, executor):
    archive = RawZip(members=[RawMember(name="a", data=b"x" * 99, stream=b"\xff" * 9)]).write(tmp_path / "one.zip")
    with pytest.raises(PackageError, match="a in the archive is broken"):
        unpack(archive, tmp_path / "task", executor)


class TestLayers:
    """Layers merged in one folder, for many functions at a time."""

    @pytest.fixture
    def make(self, tmp_path) -> Callable[[Mapping[str, bytes]], LayerArchive]:
        def make(files: Mapping[str, bytes]) -> LayerArchive:
            path = write_members(tmp_path / f"layer-{len(list(tmp_path.glob('layer-*')))}.zip", files)
            return LayerArchive(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())

        return make

    @pytest.fixture
    def folders(self, tmp_path, executor) -> Iterator[LayerFolders]:
        made = LayerFolders(LocalStore(tmp_path / "store"), executor)
        yield made
        made.close()

    def test_the_later_one_wins_where_several_have_a_path(self, make, folders):
        first = make({"python/a.py": b"1", "python/b.py": b"1", "lib/x.so": b"1"})
        second = make({"python/b.py": b"2", "python/deep/c.py": b"2"})
        with folders.merged([first, second]) as folder:
            assert found(folder) == {"python/a.py": b"1", "python/b.py": b"2", "lib/x.so": b"1", "python/deep/c.py": b"2"}
        with folders.merged([second, first]) as folder:
            assert found(folder)["python/b.py"] == b"1"
        with folders.merged([second]) as folder:
            assert found(folder) == {"python/b.py": b"2", "python/deep/c.py": b"2"}

    def test_so_it_does_where_the_other_is_a_folder(self, make, folders):
        file, folder = make({"a": b"file", "b": b"other"}), make({"a/b/c": b"below", "a/d": b"beside"})
        with folders.merged([folder, file]) as merged:
            assert found(merged) == {"a": b"file", "b": b"other"}
        with folders.merged([file, folder]) as merged:
            assert found(merged) == {"a/b/c": b"below", "a/d": b"beside", "b": b"other"}

    @settings(max_examples=30, deadline=None)
    @given(
        layers=st.lists(st.dictionaries(st.sampled_from(["a", "b", "c/d", "c/e", "f/g/h"]), st.binary(max_size=9)), min_size=1)
    )
    def test_any_layers_are_merged_as_dictionaries_are(self, tmp_path_factory, executor, layers):
        folder = tmp_path_factory.mktemp("layers")
        archives = []
        for number, files in enumerate(layers):
            path = write_members(folder / f"{number}.zip", files)
            archives.append(LayerArchive(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
        folders = LayerFolders(LocalStore(folder / "store"), executor)
        with folders.merged(archives) as merged:
            assert found(merged) == {path: data for files in layers for path, data in files.items()}
        folders.close()

    def test_each_is_unpacked_once_for_all_that_have_it(self, make, folders):
        shared, one, two = make({"python/shared.py": b"1"}), make({"python/one.py": b"1"}), make({"python/two.py": b"1"})
        with folders.merged([shared, one]) as first:
            pass
        with folders.merged([two, shared]) as second, folders.merged([shared, one]) as again, folders.merged([shared]) as alone:
            assert again == first
            assert len({(each / "python/shared.py").stat().st_ino for each in (first, second, alone)}) == 1

    def test_where_there_are_no_links_they_are_copied(self, make, folders, monkeypatch):
        def refuse(*_: object) -> None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "link", refuse)
        path = write_members(make({}).path, {"bin/tool": b"#!/bin/sh\n", "a": b"1"}, modes={"bin/tool": 0o755})
        tool = LayerArchive(path=path, sha256="1" * 64)
        with folders.merged([tool, make({"a": b"2"})]) as folder:
            assert found(folder) == {"bin/tool": b"#!/bin/sh\n", "a": b"2"}
            assert (folder / "bin/tool").stat().st_mode & 0o777 == 0o755

    def test_no_more_is_kept_than_may_be_and_what_was_used_last_stays(self, tmp_path, executor, make):
        folders = LayerFolders(LocalStore(tmp_path / "store"), executor, most=250)
        layers = [make({f"{number}": bytes(100)}) for number in range(3)]
        places = []
        for layer in (layers[0], layers[1], layers[0], layers[2]):
            with folders.merged([layer]) as folder:
                places.append(folder)
        assert [place.exists() for place in (places[0], places[1], places[3])] == [True, False, True]
        folders.close()
        assert not any(place.exists() for place in places)

    def test_what_is_in_use_stays_until_it_is_not(self, tmp_path, executor, make):
        folders = LayerFolders(LocalStore(tmp_path / "store"), executor, most=0)
        one, two = make({"a": b"1"}), make({"b": b"1"})
        with folders.merged([one, two]) as outer:
            with folders.merged([one, two]) as inner, folders.merged([two]) as part:
                assert inner == outer
            assert not part.exists()
            folders.close()
            assert found(outer) == {"a": b"1", "b": b"1"}
        assert not outer.exists()

    def test_many_threads_share_them(self, tmp_path, executor, make):
        folders = LayerFolders(LocalStore(tmp_path / "store"), executor, most=400)
        layers = [
            make({f"python/{number}.py": bytes([number]) * 100, "python/same.py": bytes([number])}) for number in range(5)
        ]
        sets = [chosen for length in (1, 2, 3) for chosen in itertools.permutations(range(5), length)]

        def use(chosen: Sequence[int]) -> bool:
            with folders.merged([layers[number] for number in chosen]) as folder:
                wanted = {f"python/{number}.py": bytes([number]) * 100 for number in chosen}
                return found(folder) == {**wanted, "python/same.py": bytes([chosen[-1]])}

        with ThreadPoolExecutor(8) as users:
            assert all(users.map(use, [*sets, *reversed(sets)]))
        folders.close()

    def test_one_that_another_thread_takes_meanwhile_is_joined(self, make, folders, monkeypatch):
        one, two = make({"a": b"1"}), make({"b": b"1"})
        taken, over = Event(), Event()

        class Contended(dict):  # type: ignore[type-arg]
            """Lets another thread take an entry out, and put it back, while one is read."""

            def pop(self, *arguments):
                popped = super().pop(*arguments)
                if current_thread() is other:
                    taken.set()
                    over.wait(5)
                return popped

            def __getitem__(self, key):
                other.start()
                taken.wait(1)
                try:
                    return super().__getitem__(key)
                finally:
                    over.set()

        def use():
            with folders.merged([one]):
                pass

        other = Thread(target=use)
        monkeypatch.setattr(folders, "_kept", Contended())
        with folders.merged([one, two]) as folder:
            assert found(folder) == {"a": b"1", "b": b"1"}

    def test_one_that_cannot_be_read_is_tried_anew(self, tmp_path, make, folders):
        good = make({"a": b"1"})
        data = good.path.read_bytes()
        good.path.write_bytes(b"no archive")
        for _ in range(2):
            with pytest.raises(PackageError, match="is not a readable archive"), folders.merged([make({}), good]):
                pass
        good.path.write_bytes(data)
        with folders.merged([good]) as folder:
            assert found(folder) == {"a": b"1"}


def test_batches_that_run_when_another_fails_end_before_the_archive_is_closed(tmp_path, executor, monkeypatch):
    archive = write_members(tmp_path / "one.zip", {f"{number}.txt": b"text" for number in range(8)})
    begun, failed = Event(), Event()
    ended: list[str] = []
    whole = layout.PackedArchive._write

    def write(packed, members, folder):
        if members[0].name == "0.txt":
            assert begun.wait(10)
            failed.set()
            raise PackageError("0.txt in the archive is broken.")
        begun.set()
        assert failed.wait(10)
        time.sleep(0.2)
        whole(packed, members, folder)
        ended.append(members[0].name)

    monkeypatch.setattr(layout, "_BATCH", 1)
    monkeypatch.setattr(layout.PackedArchive, "_write", write)
    with pytest.raises(PackageError, match=r"0\.txt"):
        unpack(archive, tmp_path / "task", executor)
    count = len(ended)
    assert count >= 1
    time.sleep(0.5)
    assert len(ended) == count < 7
