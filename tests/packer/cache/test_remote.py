"""The remote store behind real servers and a folder: what one machine makes, another reads, right or not at all."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from threading import Barrier, Thread

import pytest

from packer.cache.local import LocalStore
from packer.cache.remote import open_remote, probe_remote
from packer.cache.sharing import KINDS
from packer.cache.store import digest_of
from packer.core.errors import PackageError, UsageError
from tests.packer.sharing import KEY, KEYS, PAYLOAD, Machine, Told, machine
from tests.s3 import BUCKET, Fault

LARGE = bytes(range(256)) * 45_000
"""More than two parts of an upload."""


@pytest.fixture
def shared(tmp_path) -> str:
    (tmp_path / "shared").mkdir()
    return str(tmp_path / "shared")


def files(folder: str) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def test_another_machine_reads_what_one_has_made(tmp_path, s3, bucket):
    one = machine(tmp_path / "one", bucket)
    digests = [one.adopt(data) for data in (b"a wheel", LARGE)]
    one.store.save("bytecode", KEY, PAYLOAD)
    one.close()
    two = machine(tmp_path / "two", bucket)
    assert [two.wheel(digest) for digest in digests] == [b"a wheel", LARGE]
    assert two.load("bytecode", KEY) == PAYLOAD
    asked = len(s3.seen)
    assert two.wheel(digests[0]) == b"a wheel"
    assert two.load("bytecode", KEY) == PAYLOAD
    two.close()
    assert len(s3.seen) == asked
    assert one.told.warnings == two.told.warnings == []


def test_what_the_remote_has_is_not_written_again(tmp_path, s3, bucket):
    for name in ("one", "two"):
        made = machine(tmp_path / name, bucket)
        made.adopt(LARGE)
        made.close()
        made.close()
    # Parts of the large one go by PUT: the second machine sends none.
    assert s3.count("PUT") == 3
    assert made.told.warnings == []


def test_a_machine_does_not_write_what_it_has_read(tmp_path, s3, bucket):
    one = machine(tmp_path / "one", bucket)
    one.store.save("bytecode", KEY, PAYLOAD)
    one.close()
    written = s3.count("PUT")
    two = machine(tmp_path / "two", bucket)
    assert two.load("bytecode", KEY) == PAYLOAD
    two.store.save("bytecode", KEY, PAYLOAD)
    two.close()
    assert s3.count("PUT") == written == 1


def test_folder_is_a_remote_store(tmp_path, shared):
    one = machine(tmp_path / "one", shared)
    digests = [one.adopt(data) for data in (b"a wheel", LARGE)]
    one.store.save("bytecode", KEY, PAYLOAD)
    one.close()
    two = machine(tmp_path / "two", f"file://{shared}")
    assert [two.wheel(digest) for digest in digests] == [b"a wheel", LARGE]
    assert two.load("bytecode", KEY) == PAYLOAD
    two.close()
    assert one.told.warnings == two.told.warnings == []


def test_a_wheel_from_elsewhere_is_proved_like_any_other(tmp_path, shared):
    one = machine(tmp_path / "one", shared)
    digest = one.adopt(b"not a wheel at all")
    one.close()
    two = machine(tmp_path / "two", shared)

    def refuse(path):
        assert path.read_bytes() == b"not a wheel at all"
        raise PackageError("it is broken")

    assert two.store.wheel(digest, refuse) is None
    assert two.store.wheel(digest) is None
    assert "it is broken" in two.told.warnings[0]


def test_a_wheel_larger_than_its_lock_says_is_not_read(tmp_path, shared):
    one = machine(tmp_path / "one", shared)
    digest = one.adopt(LARGE)
    one.close()
    two = machine(tmp_path / "two", shared)
    assert two.store.wheel(digest, lambda _: pytest.fail("it was read"), len(LARGE) - 1) is None
    assert f"it has more than {len(LARGE) - 1:,} bytes" in two.told.warnings[0]
    assert two.store.wheel(digest, lambda _: None, len(LARGE)) is not None


class TestKinds:
    def test_only_kinds_marked_as_shared_are_written(self, tmp_path, shared):
        one = machine(tmp_path / "one", shared)
        for kind in [*KINDS, "of another version"]:
            one.store.load_all(kind, [KEY])
            one.store.save(kind, KEY, PAYLOAD)
        one.close()
        kinds = {path.relative_to(shared).parts[1] for path in files(shared)}
        assert kinds == {kind for kind, rule in KINDS.items() if rule.shared}
        two = machine(tmp_path / "two", shared)
        assert {kind for kind in KINDS if two.store.load_all(kind, [KEY])} == kinds

    def test_payload_with_this_machines_cache_path_is_not_shared(self, tmp_path, shared):
        one = machine(tmp_path / "ö", shared)
        for number, text in enumerate(
            (f"the log: {tmp_path}/ö/logs", f'"the log: {tmp_path}/\\u00f6/logs"', "the log is long")
        ):
            one.store.save("built", digest_of(str(number)), text.encode())
        one.close()
        assert [path.name for path in files(shared)] == [digest_of("2")]

    def test_replaced_object_is_read_as_written_last(self, tmp_path, s3, bucket):
        one = machine(tmp_path / "one", bucket)
        one.store.save("hooks", KEY, b'["setuptools"]')
        one.close()
        two = machine(tmp_path / "two", bucket)
        assert two.load("hooks", KEY) == b'["setuptools"]'
        two.store.save("hooks", KEY, b'["setuptools", "cython"]')
        two.close()
        assert machine(tmp_path / "three", bucket).load("hooks", KEY) == b'["setuptools", "cython"]'


class TestTogether:
    @pytest.fixture
    def filled(self, tmp_path, signed_s3, bucket):
        one = machine(tmp_path / "one", bucket)
        assert one.store.load_all("stripped", KEYS) == {}
        for key in KEYS:
            one.store.save("stripped", key, key.encode())
        one.close()
        return signed_s3

    def test_many_files_are_one_request(self, tmp_path, filled, bucket):
        assert (filled.count("GET"), filled.count("PUT")) == (1, 1)
        two = machine(tmp_path / "two", bucket)
        found = two.store.load_all("stripped", KEYS[::-1])
        assert {key: record.payload for key, record in found.items()} == {key: key.encode() for key in KEYS}
        assert [two.load("stripped", key) for key in KEYS] == [key.encode() for key in KEYS]
        assert (filled.count("GET"), filled.count("PUT")) == (2, 1)

    def test_local_files_are_not_replaced(self, tmp_path, filled, bucket):
        two = machine(tmp_path / "two", bucket)
        two.store.save("stripped", KEYS[3], b"made here")
        found = two.store.load_all("stripped", KEYS)
        assert len(found) == len(KEYS)
        assert found[KEYS[3]].payload == two.load("stripped", KEYS[3]) == b"made here"

    def test_other_group_of_files_is_another_object(self, tmp_path, filled, bucket):
        two = machine(tmp_path / "two", bucket)
        assert two.store.load_all("stripped", KEYS[:-1]) == {}
        assert two.told.warnings == []

    def test_group_is_written_only_when_complete(self, tmp_path, shared):
        one = machine(tmp_path / "one", shared)
        one.store.load_all("stripped", KEYS)
        for key in KEYS[:-1]:
            one.store.save("stripped", key, b"a library")
        one.close()
        assert files(shared) == []


class TestSecret:
    SECRET, OTHER = "correct horse battery", "staple " * 3

    def test_machines_with_the_same_secret_share(self, tmp_path, shared):
        one = machine(tmp_path / "one", shared, secret=self.SECRET)
        one.store.save("bytecode", KEY, PAYLOAD)
        digest = one.adopt(b"a wheel")
        one.close()
        assert machine(tmp_path / "two", shared, secret=self.SECRET).load("bytecode", KEY) == PAYLOAD
        for name, secret in (("three", ""), ("four", self.OTHER)):
            other = machine(tmp_path / name, shared, secret=secret)
            assert other.load("bytecode", KEY) is None
            assert other.wheel(digest) == b"a wheel"
            assert other.told.warnings == []

    def test_object_sealed_with_another_secret_is_ignored(self, tmp_path, shared):
        one = machine(tmp_path / "one", shared, secret=self.SECRET)
        one.store.save("bytecode", KEY, PAYLOAD)
        one.close()
        [place] = files(shared)
        for number, secret in enumerate(("", self.OTHER)):
            forger = machine(tmp_path / f"forger{number}", shared, secret=secret)
            name = place.relative_to(shared).as_posix()
            place.write_bytes(forger.store._head(name, b"evil") + b"evil")
            reader = machine(tmp_path / f"reader{number}", shared, secret=self.SECRET)
            assert reader.load("bytecode", KEY) is None
            assert "its proof does not match" in reader.told.warnings[0]

    def test_short_secret_is_refused(self, tmp_path, shared, monkeypatch):
        monkeypatch.setenv("LPACK_REMOTE_KEY", "secret")
        with pytest.raises(UsageError, match="guessed"), open_remote(LocalStore(tmp_path / "one"), shared, Told()):
            pass


def _write_all(root: Path, remote: str) -> None:
    made = machine(root, remote)
    for number in range(12):
        made.adopt(digest_of(str(number)).encode() * 500)
        made.store.save("bytecode", digest_of(str(number)), str(number).encode() * 1000)
    made.close()
    assert made.told.warnings == []


def test_many_processes_may_write_the_same(tmp_path, s3, bucket):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_all, args=(tmp_path / str(number), bucket)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    reader = machine(tmp_path / "reader", bucket)
    for number in range(12):
        assert reader.load("bytecode", digest_of(str(number))) == str(number).encode() * 1000
    assert reader.told.warnings == []


_DIFFERENT = (b"one" * 100_000, b"another" * 50_000)


def _write_at_once(root: Path, remote: str, kind: str) -> Machine:
    """Let two machines write different things of one name at the same time, and give a third that may read."""
    writers = [machine(root / str(number), remote) for number in range(2)]
    together = Barrier(2)

    def write(number: int) -> None:
        together.wait()
        writers[number].store.save(kind, KEY, _DIFFERENT[number])

    threads = [Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
        assert writer.told.warnings == []
    return machine(root / "reader", remote)


@pytest.mark.parametrize("kind", ["bytecode", "hooks"])
def test_concurrent_writes_of_different_bytes_leave_one_whole_object(tmp_path, ranged_s3, bucket, kind):
    assert _write_at_once(tmp_path, bucket, kind).load(kind, KEY) in _DIFFERENT


@pytest.mark.parametrize("kind", ["bytecode", "hooks"])
def test_concurrent_writes_to_a_folder_leave_one_whole_object(tmp_path, shared, kind):
    assert _write_at_once(tmp_path, shared, kind).load(kind, KEY) in _DIFFERENT


@pytest.mark.parametrize("kind", ["bytecode", "hooks"])
def test_mixed_answer_of_a_server_is_ignored(tmp_path, signed_s3, bucket, kind):
    # rclone's server sometimes answers with the length that one of them had, and the bytes of the other.
    assert _write_at_once(tmp_path, bucket, kind).load(kind, KEY) in (None, *_DIFFERENT)


class TestClosing:
    @pytest.fixture
    def busy(self, tmp_path, signed_s3, bucket):
        signed_s3.break_with(Fault(method="PUT", hang=True))
        made = machine(tmp_path / "one", bucket)
        for number in range(10):
            made.store.save("bytecode", digest_of(str(number)), PAYLOAD)
        assert signed_s3.hanging.wait(30)
        return made

    def test_closing_waits_for_a_bounded_time(self, busy, signed_s3, bucket):
        busy.close(0.05)
        assert busy.told.notes == [f"writing 10 objects to {bucket}"]
        assert "objects were not written" in busy.told.warnings[0]
        signed_s3.released.set()
        busy.store._pool.shutdown()
        assert signed_s3.count("PUT") <= 4  # what had not begun was dropped

    def test_closing_does_not_wait_when_interrupted(self, busy, signed_s3):
        with pytest.raises(KeyboardInterrupt), busy.store:
            raise KeyboardInterrupt
        assert busy.told.notes == busy.told.warnings == []
        signed_s3.released.set()
        busy.store._pool.shutdown()
        assert signed_s3.count("PUT") <= 4

    def test_a_large_upload_is_given_up(self, tmp_path, signed_s3, bucket):
        signed_s3.break_with(Fault(method="POST", hang=True))
        made = machine(tmp_path / "one", bucket)
        digest = made.adopt(LARGE)
        assert signed_s3.hanging.wait(30)
        made.close(0)
        signed_s3.mend()
        signed_s3.released.set()
        made.store._pool.shutdown()
        assert machine(tmp_path / "two", bucket).wheel(digest) is None

    def test_file_saved_after_closing_stays_local(self, tmp_path, shared):
        made = machine(tmp_path / "one", shared)
        made.close()
        made.store.save("bytecode", KEY, PAYLOAD)
        assert files(shared) == []
        assert made.load("bytecode", KEY) == PAYLOAD


class TestOpening:
    def test_environment_variable_overrides_the_configuration(self, tmp_path, shared, monkeypatch):
        def place() -> str:
            answer = probe_remote(str(tmp_path / "gone"))
            return str(answer.address) if answer else ""

        monkeypatch.delenv("LPACK_REMOTE", raising=False)
        assert place() == str(tmp_path / "gone")
        monkeypatch.setenv("LPACK_REMOTE", shared)
        assert place() == shared
        monkeypatch.setenv("LPACK_REMOTE", "")
        assert place() == ""

    def test_missing_folder_is_a_warning(self, tmp_path):
        told, store = Told(), LocalStore(tmp_path / "one")
        with open_remote(store, str(tmp_path / "gone"), told) as opened:
            assert opened is store
        assert "There is no folder" in told.warnings[0]
        assert not (tmp_path / "gone").exists()

    def test_a_remote_says_whether_it_can_be_read(self, tmp_path, s3, bucket, monkeypatch):
        answer = probe_remote(bucket)
        assert answer is not None
        assert answer.trouble == ""
        missing = probe_remote("s3://no-such-bucket/prefix")
        assert missing is not None
        assert missing.trouble == "the bucket does not exist"
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        away = probe_remote(f"s3://{BUCKET}")
        assert away is not None
        assert away.trouble == "the connection was refused"
