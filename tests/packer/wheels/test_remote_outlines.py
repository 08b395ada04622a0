"""Wheels that are not in the store: what their directories tell, how little of them is read for that, and what faults do."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from packer.cache.local import LocalStore
from packer.core.events import Reporter
from packer.core.model import Archive, Tree
from packer.formats.wheel import read_wheel
from packer.formats.wheel_outline import DIRECTORY, NOTHING, OUTLINES, SIZE, read_outline
from packer.net.credentials import Credentials
from packer.net.downloads import FetchedArchive, StoreFetcher
from packer.wheels.remote_outlines import OutlineFetcher, _NoRangesError
from tests.index import Fault, LocalIndex
from tests.monorepo import noise
from tests.wheels import make_wheel

FILES = {f"pkg/module_{number}.py": f"VALUE = {number}\n".encode() * number for number in range(900)}


@pytest.fixture
def wheel(index):
    files = {"pkg/__init__.py": b"", "pkg/data.bin": noise("data", 2_000_000), **FILES}
    files |= {"pkg-1.0.data/scripts/run": b"#!python\n", "pkg-1.0.data/data/share/x.txt": b"text"}
    return make_wheel(index.folder, "pkg", "1.0", files)


@pytest.fixture
def fetcher(tmp_path, index):
    fetchers: list[StoreFetcher | OutlineFetcher] = []

    def make(*, offline: bool = False, credentials: Credentials | None = None) -> OutlineFetcher:
        store, login = LocalStore(tmp_path / "store"), credentials or Credentials([], {})
        local = StoreFetcher(store, login, Reporter(), lambda path, archive: None, offline=offline)
        outlines = OutlineFetcher(local, store, login, Reporter(), offline=offline)
        fetchers.extend((local, outlines))
        return outlines

    yield make
    for each in fetchers:
        each.close()


def archive(index: LocalIndex, wheel: Path, **fields: Any) -> Archive:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    known: dict[str, Any] = {
        "filename": wheel.name,
        "location": index.file_url(wheel.name),
        "sha256": digest,
        "size": wheel.stat().st_size,
    }
    return Archive(**{**known, **fields})


def tree(tmp_path: Path, found: FetchedArchive) -> Tree:
    record = LocalStore(tmp_path / "store").load(OUTLINES, found.path.name)
    assert record is not None
    return read_outline(record.payload, "pkg")


def test_the_directory_tells_what_the_wheel_installs(tmp_path, index, wheel, fetcher):
    [found] = fetcher().fetch([archive(index, wheel)])
    assert found.outlined == DIRECTORY
    outlined = {each.path: (each.mode, each.content.size) for each in tree(tmp_path, found)}
    installed = {each.path: (each.mode, each.content.size) for each in read_wheel(wheel, wheel.name)}
    changed = {"bin/run", "pkg-1.0.dist-info/RECORD"}  # whose content depends on where it is installed
    assert set(outlined) == set(installed)
    assert {path: size for path, size in outlined.items() if path not in changed} == {
        path: size for path, size in installed.items() if path not in changed
    }


def test_little_is_read_and_only_once(index, wheel, fetcher):
    outlines = fetcher()
    outlines.fetch([archive(index, wheel), archive(index, wheel)])
    asked = index.requests_for(wheel.name)
    assert asked
    assert all(each.headers.get("range", "").startswith("bytes=") for each in asked)
    assert len(asked) == 2
    fetcher().fetch([archive(index, wheel)])
    assert len(index.requests_for(wheel.name)) == 2  # the store has it by now


def test_offline_nothing_is_asked_for(index, wheel, fetcher):
    before = len(index.requests)
    [found] = fetcher(offline=True).fetch([archive(index, wheel)])
    assert found.outlined == SIZE
    assert len(index.requests) == before
    [again] = fetcher().fetch([archive(index, wheel)])
    assert again.outlined == DIRECTORY


def test_what_the_store_has_is_given_whole(index, wheel, fetcher, tmp_path):
    store = LocalStore(tmp_path / "store")
    with store.temporary() as temporary:
        temporary.write_bytes(wheel.read_bytes())
        store.adopt(temporary, hashlib.sha256(wheel.read_bytes()).hexdigest(), wheel.stat().st_size)
    before = len(index.requests)
    [found] = fetcher().fetch([archive(index, wheel)])
    assert (found.outlined, found.path.read_bytes()) == ("", wheel.read_bytes())
    assert len(index.requests) == before


def test_what_lies_on_this_machine_is_taken_in(index, wheel, fetcher):
    [found] = fetcher(offline=True).fetch([archive(index, wheel, location=str(wheel))])
    assert (found.outlined, found.path.read_bytes()) == ("", wheel.read_bytes())


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(ignore_ranges=True), SIZE),
        (Fault(status=404), SIZE),
        (Fault(status=503, times=1), DIRECTORY),
        (Fault(status=503), SIZE),
        (Fault(drop_after=100), SIZE),
        (Fault(content=b"no archive" * 9000), SIZE),
        (Fault(content=b""), SIZE),
    ],
)
def test_failed_requests_fall_back_to_the_size(tmp_path, index, wheel, fetcher, fault, expected):
    index.fault(wheel.name, fault)
    [found] = fetcher().fetch([archive(index, wheel)])
    assert found.outlined == expected
    if expected == SIZE:
        [guess] = tree(tmp_path, found)
        span = guess.content.span()
        assert span is not None
        assert span.length == wheel.stat().st_size


def test_a_wheel_of_unknown_size_counts_nothing(tmp_path, index, wheel, fetcher):
    [found] = fetcher(offline=True).fetch([archive(index, wheel, size=None)])
    assert tree(tmp_path, found).size == 0
    assert found.outlined == NOTHING


@pytest.mark.parametrize("name", ["main.zip", "pkg.tar.gz", "pkg-1.0.tar.gz"])
def test_an_archive_may_have_any_name(tmp_path, index, wheel, fetcher, name):
    [found] = fetcher(offline=True).fetch([archive(index, wheel, filename=name, location=f"https://none.invalid/{name}")])
    assert (found.outlined, tree(tmp_path, found).size > 0) == (SIZE, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"Content-Length: 1000\r\nContent-Range: bytes 0-999/1000\r\n\r\nsome",
        b"Transfer-Encoding: chunked\r\nContent-Range: bytes 0-999/1000\r\n\r\nno chunk\r\n",
        b"Content-Length: 4\r\nContent-Range: bytes 0-3/" + b"9" * 5000 + b"\r\n\r\nsome",
    ],
)
def test_a_connection_that_breaks_in_the_answer_leaves_the_size(index, wheel, fetcher, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answering() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(9000)
                connection.sendall(b"HTTP/1.1 206 Partial Content\r\n" + answer)
                linger = struct.pack("ii", 1, 0)  # a reset instead of an orderly end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        thread = threading.Thread(target=answering)
        thread.start()
        location = f"http://127.0.0.1:{server.getsockname()[1]}/{wheel.name}"
        [found] = fetcher().fetch([archive(index, wheel, location=location)])
        thread.join()
    assert found.outlined == SIZE


def test_a_fetcher_that_is_closed_asks_for_nothing_again(index, wheel, fetcher):
    outlines = fetcher()
    index.fault(wheel.name, Fault(status=503))
    asked = archive(index, wheel)
    outlines.close()
    with pytest.raises(_NoRangesError, match="interrupted"):
        outlines.ask(asked, "-1")
    assert index.requests_for(wheel.name) == ()
