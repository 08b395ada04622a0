"""Downloads against a real HTTP server that misbehaves: resumed, retried, verified, and silent about secrets."""

import errno
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

from packer.cache.local import LocalStore
from packer.cache.store import Store
from packer.core.errors import FetchError, PackageError, StoreError, UsageError
from packer.core.events import Reporter
from packer.core.model import Archive
from packer.formats.wheel import check_wheel
from packer.net.credentials import Credentials
from packer.net.downloads import StoreFetcher
from packer.net.retry import RetryPolicy
from tests.endless import EndlessServer
from tests.index import Fault, LocalIndex
from tests.wheels import make_wheel

NAME = "thing-1.0-py3-none-any.whl"


class Recorder(Reporter):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.transfers: list[tuple[str, int]] = []

    def debug(self, message: str) -> None:
        self.lines.append(message)

    def transfer_advanced(self, name: str, received: int) -> None:
        self.transfers.append((name, received))


@pytest.fixture
def index(tmp_path) -> Iterator[LocalIndex]:
    folder = tmp_path / "served"
    folder.mkdir()
    # Bytes that do not compress, so that the wheel is large enough to be cut.
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(20_000))
    make_wheel(folder, "thing", "1.0", {"thing/data.bin": noise, "thing/__init__.py": b""})
    with LocalIndex(folder) as running:
        yield running


def archive(index: LocalIndex, **changes) -> Archive:
    facts = {"filename": NAME, "location": index.file_url(NAME), "sha256": index.sha256(NAME)}
    return Archive(**{**facts, **changes})


def fetch(tmp_path: Path, *archives: Archive, reporter: Reporter | None = None, offline: bool = False, urls=()) -> Store:
    store = LocalStore(tmp_path / "cache")
    credentials = Credentials(urls, {})
    fetcher = StoreFetcher(
        store, credentials, reporter or Reporter(), lambda path, file: check_wheel(path, file.filename), offline=offline
    )
    try:
        for found, asked in zip(fetcher.fetch(archives), archives, strict=True):
            assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256
            assert asked.sha256 in ("", found.sha256)
    finally:
        fetcher.close()
    assert not list((store.root / "tmp").iterdir())
    return store


def test_a_file_is_fetched_once_for_all_who_ask(tmp_path, index):
    store = fetch(tmp_path, *[archive(index)] * 5)
    assert store.wheel(index.sha256(NAME)) is not None
    fetch(tmp_path, archive(index))
    assert len(index.requests_for(NAME)) == 1


def test_a_dropped_connection_is_resumed_where_it_ended(tmp_path, index):
    index.fault(NAME, Fault(times=2, drop_after=200_000))
    reporter = Recorder()
    fetch(tmp_path, archive(index), reporter=reporter)
    ranges = [request.headers.get("range") for request in index.requests_for(NAME)]
    assert ranges == [None, "bytes=200000-", "bytes=400000-"]
    assert "trying again from byte 200,000" in reporter.lines[0]


def test_a_server_without_ranges_is_asked_again_from_the_start(tmp_path, index):
    index.fault(NAME, Fault(times=1, drop_after=200_000))
    store = LocalStore(tmp_path / "cache")
    index.fault(NAME, Fault(times=2, drop_after=300_000, ignore_ranges=True))
    fetch(tmp_path, archive(index))
    assert store.wheel(index.sha256(NAME)) is not None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(tmp_path, index, status):
    index.fault(NAME, Fault(times=2, status=status, retry_after=0.01))
    fetch(tmp_path, archive(index))
    assert [request.status for request in index.requests_for(NAME)] == [status, status, 200]


def test_a_server_that_stays_broken_is_given_up_with_its_address(tmp_path, index):
    index.fault(NAME, Fault(status=503, retry_after=0.0))
    with pytest.raises(FetchError, match=r"answered 503 .* \(5 attempts\)") as caught:
        fetch(tmp_path, archive(index))
    assert index.file_url(NAME) in str(caught.value)


def test_unreachable_server_is_an_error(tmp_path, index):
    gone = archive(index, location="http://127.0.0.1:1/files/" + NAME)
    with pytest.raises(FetchError, match="Cannot download"):
        fetch(tmp_path, gone)


def test_wrong_bytes_never_enter_the_store(tmp_path, index):
    index.fault(NAME, Fault(content=b"something else"))
    with pytest.raises(FetchError, match="does not match its lock") as caught:
        fetch(tmp_path, archive(index))
    assert index.sha256(NAME) in str(caught.value)
    assert not (tmp_path / "cache" / "wheels").exists()


def test_a_wheel_cut_short_at_its_source_is_a_hash_mismatch(tmp_path, index):
    index.fault(NAME, Fault(truncate_to=1000))
    with pytest.raises(FetchError, match="does not match its lock"):
        fetch(tmp_path, archive(index))


def test_a_broken_wheel_with_the_right_hash_is_refused(tmp_path, index):
    path = index.folder / NAME
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(PackageError, match=NAME):
        fetch(tmp_path, archive(index))
    assert not (tmp_path / "cache" / "wheels").exists()


def test_a_file_that_is_gone_says_to_lock_again(tmp_path, index):
    gone = archive(index, location=index.file_url("other-1.0-py3-none-any.whl"))
    with pytest.raises(FetchError, match="404") as caught:
        fetch(tmp_path, gone)
    assert "Lock again" in str(caught.value)


def test_offline_never_asks(tmp_path, index):
    with pytest.raises(FetchError, match="--offline"):
        fetch(tmp_path, archive(index), offline=True)
    assert index.requests == ()


def test_local_files_are_taken_by_path_and_by_url(tmp_path, index):
    path = index.folder / NAME
    fetch(tmp_path, archive(index, location=str(path)), archive(index, location=path.as_uri(), sha256=""))
    with pytest.raises(FetchError, match="Cannot read"):
        fetch(tmp_path, archive(index, location=str(path) + "x", sha256=""))


def test_progress_is_told(tmp_path, index):
    reporter = Recorder()
    fetch(tmp_path, archive(index), reporter=reporter)
    received = [size for _, size in reporter.transfers]
    assert received == sorted(received)
    assert received[-1] == (index.folder / NAME).stat().st_size


def test_credentials_open_a_private_index_and_stay_secret(tmp_path, index):
    with LocalIndex(index.folder, user="me", password="p@ss:wörd") as private:
        wanted = archive(private)
        with pytest.raises(FetchError, match="401") as caught:
            fetch(tmp_path, wanted)
        assert "netrc" in str(caught.value)
        private.fault(NAME, Fault(times=1, status=500))
        reporter = Recorder()
        fetch(tmp_path, wanted, urls=[private.url_with_login], reporter=reporter)
        assert private.requests_for(NAME)[-1].authorised
        assert "p@ss" not in "".join(reporter.lines)


def test_each_lock_is_held_against_its_own_hash(tmp_path, index):
    with pytest.raises(FetchError, match="does not match its lock"):
        fetch(tmp_path, archive(index), archive(index, sha256="0" * 64))


def test_a_digest_that_is_none_never_becomes_a_path(tmp_path, index):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    with pytest.raises(StoreError, match="not a SHA-256 digest"):
        fetch(tmp_path, archive(index, sha256=str(victim)))
    assert victim.read_text() == "precious"


def test_download_that_failed_is_tried_again_by_who_asks_later(tmp_path, index):
    index.fault(NAME, Fault(times=1, status=404))
    fetcher = StoreFetcher(LocalStore(tmp_path / "cache"), Credentials((), {}), Reporter(), lambda *_: None)
    try:
        with pytest.raises(FetchError, match="404"):
            fetcher.fetch([archive(index)])
        assert [each.sha256 for each in fetcher.fetch([archive(index)])] == [index.sha256(NAME)]
    finally:
        fetcher.close()


def test_private_index_asks_the_keyring_once_for_many_files(tmp_path, index, monkeypatch):
    asked: list[str] = []

    def prompt(host: str, _user: None) -> object:
        asked.append(host)
        time.sleep(0.2)  # as long as the user takes
        return SimpleNamespace(username="me", password="pass")

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_credential=prompt))
    for number in range(8):
        make_wheel(index.folder, f"part{number}", "1.0", {f"part{number}/__init__.py": b""})
    names = [f"part{number}-1.0-py3-none-any.whl" for number in range(8)]
    with LocalIndex(index.folder, user="me", password="pass") as private:
        fetch(
            tmp_path,
            *(Archive(filename=name, location=private.file_url(name), sha256=private.sha256(name)) for name in names),
        )
    assert len(asked) == 1


def test_keyring_that_is_locked_is_told_instead_of_a_traceback(tmp_path, index, monkeypatch):
    def locked(_host: str, _user: None) -> object:
        raise RuntimeError("the collection is locked")

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_credential=locked))
    with (
        LocalIndex(index.folder, user="me", password="pass") as private,
        pytest.raises(FetchError, match="the keyring cannot be queried for one: RuntimeError: the collection is locked"),
    ):
        fetch(tmp_path, archive(private))


class Waiting(Reporter):
    """Tells when a download is about to wait for its next attempt."""

    def __init__(self) -> None:
        self.begun = Event()

    def debug(self, message: str) -> None:
        if "trying again" in message:
            self.begun.set()


def opened(tmp_path: Path, reporter: Reporter) -> StoreFetcher:
    return StoreFetcher(LocalStore(tmp_path / "cache"), Credentials((), {}), reporter, lambda *_: None)


def test_closing_ends_the_wait_for_another_attempt(tmp_path, index):
    index.fault(NAME, Fault(status=503, retry_after=60.0))
    reporter = Waiting()
    fetcher = opened(tmp_path, reporter)
    with ThreadPoolExecutor(1) as executor:
        fetching = executor.submit(fetcher.fetch, [archive(index)])
        assert reporter.begun.wait(10)
        started = time.monotonic()
        fetcher.close()
        with pytest.raises(FetchError, match="interrupted"):
            fetching.result()
    assert time.monotonic() - started < 5


def test_failed_download_is_told_while_another_waits(tmp_path, index):
    index.fault(NAME, Fault(status=503, retry_after=60.0))
    fetcher = opened(tmp_path, Reporter())
    gone = archive(index, location=index.file_url("gone-1.0-py3-none-any.whl"))
    started = time.monotonic()
    try:
        with pytest.raises(FetchError, match="404"):
            fetcher.fetch([archive(index), gone])
    finally:
        fetcher.close()
    assert time.monotonic() - started < 5


def test_nothing_is_waited_for_after_the_last_attempt(tmp_path, index, monkeypatch):
    monkeypatch.setattr("packer.net.downloads._RETRIES", RetryPolicy(attempts=1))
    index.fault(NAME, Fault(status=503, retry_after=60.0))
    started = time.monotonic()
    with pytest.raises(FetchError, match="answered 503"):
        fetch(tmp_path, archive(index))
    assert time.monotonic() - started < 5


def test_file_that_is_announced_larger_than_its_lock_says_is_not_read(tmp_path, index):
    reporter = Recorder()
    with pytest.raises(FetchError, match="larger than the 1,000 bytes of its lock"):
        fetch(tmp_path, archive(index, size=1000), reporter=reporter)
    assert reporter.transfers == []
    assert len(index.requests_for(NAME)) == 1


def test_stream_without_a_length_ends_at_the_size_of_the_lock(tmp_path, index):
    reporter = Recorder()
    with EndlessServer() as server, pytest.raises(FetchError, match="larger than the 1,000,000 bytes of its lock"):
        fetch(tmp_path, archive(index, location=f"{server.url}/{NAME}", size=1_000_000), reporter=reporter)
    assert max(size for _, size in reporter.transfers) <= 1_000_000


def test_stream_without_any_size_ends_at_a_bound(tmp_path, index, monkeypatch):
    monkeypatch.setattr("packer.net.downloads._LARGEST", 1_000_000)
    with EndlessServer() as server, pytest.raises(FetchError, match="1,000,000 bytes, which is the most that lpack downloads"):
        fetch(tmp_path, archive(index, location=f"{server.url}/{NAME}"))


def test_announced_length_beyond_the_bound_is_not_read(tmp_path, index, monkeypatch):
    monkeypatch.setattr("packer.net.downloads._LARGEST", 1000)
    reporter = Recorder()
    with pytest.raises(FetchError, match="1,000 bytes, which is the most that lpack downloads"):
        fetch(tmp_path, archive(index), reporter=reporter)
    assert reporter.transfers == []


def test_file_of_the_size_of_its_lock_arrives_also_in_parts(tmp_path, index):
    index.fault(NAME, Fault(times=2, drop_after=200_000))
    fetch(tmp_path, archive(index, size=(index.folder / NAME).stat().st_size))


def test_remote_store_is_held_to_the_size_of_the_lock(tmp_path, index):
    sizes: list[int | None] = []

    class Remote(LocalStore):
        def wheel(self, digest: str, prove: Callable[[Path], None] | None = None, size: int | None = None) -> Path | None:
            sizes.append(size)
            return super().wheel(digest, prove, size)

    size = (index.folder / NAME).stat().st_size
    fetcher = StoreFetcher(Remote(tmp_path / "cache"), Credentials((), {}), Reporter(), lambda *_: None)
    fetcher.fetch([archive(index, size=size)])
    fetcher.close()
    assert set(sizes) == {size}


def test_error_of_the_network_is_not_taken_for_one_of_the_disk(tmp_path, index, monkeypatch):
    def ask(*_: object) -> None:
        raise OSError("the proxy is away")

    monkeypatch.setattr(StoreFetcher, "_ask", ask)
    with pytest.raises(FetchError, match=r"Cannot download .*: the proxy is away"):
        fetch(tmp_path, archive(index))


def test_full_disk_is_not_taken_for_an_error_of_the_network(tmp_path, index, monkeypatch):
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("packer.net.partial_file.write_whole", write)
    with pytest.raises(StoreError, match=r"Cannot write .*: No space left on device"):
        fetch(tmp_path, archive(index))
    assert len(index.requests_for(NAME)) == 1


def test_wrong_bundle_of_certificates_is_reported_by_its_variable(tmp_path, index, monkeypatch):
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(UsageError, match="SSL_CERT_FILE names"):
        fetch(tmp_path, archive(index))


def test_local_file_that_cannot_be_read_is_no_failure_to_write(tmp_path):
    unreadable = Archive(filename=NAME, location="/proc/self/mem", sha256="0" * 64)  # reading it from its start fails
    with pytest.raises(FetchError, match=r"Cannot read /proc/self/mem: Input/output error"):
        fetch(tmp_path, unreadable)
