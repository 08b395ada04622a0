"""The store: atomic, verified on read, shared by many processes."""

import errno
import hashlib
import multiprocessing
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from builders.files import file_digest
from packer.cache.local import KEY_FILE, LocalStore
from packer.cache.prune import measure_usage, prune_old, verify_store
from packer.cache.store import COMPILER, Store, digest_of
from packer.core.errors import StoreError


def adopt(store: Store, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    with store.temporary() as path:
        path.write_bytes(data)
        store.adopt(path, digest, len(data))
    return digest


def test_what_is_adopted_is_found(tmp_path):
    store = LocalStore(tmp_path)
    digest = adopt(store, b"a wheel")
    found = LocalStore(tmp_path).wheel(digest)
    assert found is not None
    assert found.read_bytes() == b"a wheel"
    assert store.wheel("0" * 64) is None
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_changed_wheel_is_removed_and_not_found(tmp_path):
    store = LocalStore(tmp_path)
    digest = adopt(store, b"a wheel")
    path = store.wheel_path(digest)
    path.write_bytes(b"b wheel")
    assert store.wheel(digest) is None
    assert not path.exists()


@pytest.mark.parametrize("damage", [b"", b"short", b"0" * 64 + b"\nother payload"])
def test_a_broken_derived_file_is_removed_and_not_found(tmp_path, damage):
    store = LocalStore(tmp_path)
    record = store.save("kind", digest_of("key"), b"payload")
    loaded = store.load("kind", digest_of("key"))
    assert loaded == record
    assert record.path.read_bytes()[record.offset :] == b"payload"
    record.path.write_bytes(damage)
    assert store.load("kind", digest_of("key")) is None
    assert not record.path.exists()


def test_derived_file_that_was_sealed_elsewhere_is_not_found(tmp_path):
    """Whatever can write to the cache, and not read the secret, cannot make what a build would take."""
    mine, other = LocalStore(tmp_path / "mine"), LocalStore(tmp_path / "other")
    key, moved = digest_of("key"), digest_of("moved")
    for store in (mine, other):
        store.save("kind", key, b"payload")
    whole = mine.derived_path("kind", key).read_bytes()
    forgeries = (
        hashlib.sha256(b"changed").hexdigest().encode() + b"\nchanged",
        digest_of(b"", "kind", moved, hashlib.sha256(b"changed").digest()).encode() + b"\nchanged",
        whole,
        other.derived_path("kind", key).read_bytes(),
    )
    for forged in forgeries:
        path = mine.derived_path("kind", moved)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(forged)
        assert verify_store(mine) == (2, [path])
        path.write_bytes(forged)
        assert mine.load("kind", moved) is None


@pytest.mark.parametrize("broken", [None, b"", b"short"])
def test_secret_that_is_lost_or_broken_is_made_anew_and_nothing_is_found(tmp_path, broken):
    LocalStore(tmp_path).save("kind", digest_of("key"), b"payload")
    path = tmp_path / KEY_FILE
    path.unlink()
    if broken is not None:
        path.write_bytes(broken)
    store = LocalStore(tmp_path)
    assert store.load("kind", digest_of("key")) is None
    assert (len(path.read_bytes()), path.stat().st_mode & 0o777) == (32, 0o600)
    store.save("kind", digest_of("key"), b"payload")
    assert LocalStore(tmp_path).load("kind", digest_of("key")) is not None


def test_secret_is_kept_where_no_file_can_have_two_names(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no links")))
    LocalStore(tmp_path).save("kind", digest_of("key"), b"payload")
    assert [path.name for path in tmp_path.glob(f"{KEY_FILE}*")] == [KEY_FILE]
    assert LocalStore(tmp_path).load("kind", digest_of("key")) is not None


def test_digests_of_lists_do_not_run_together():
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("a", b"b") == digest_of(b"a", "b")


def test_a_store_that_cannot_be_written_says_where(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=str(tmp_path / "file")) as caught:
        LocalStore(tmp_path / "file").save("kind", "aa", b"")
    assert "LPACK_CACHE_DIR" in str(caught.value)


def _hammer(root: Path, seed: int) -> None:
    store = LocalStore(root)
    for number in range(60):
        key = digest_of(str((number * seed) % 20))
        payload = key.encode() * 500
        record = store.load("kind", key)
        assert record is None or record.payload == payload
        store.save("kind", key, payload)


def test_many_processes_may_write_the_same_keys(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_hammer, args=(tmp_path, seed)) for seed in (1, 3, 7, 9)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert verify_store(LocalStore(tmp_path)) == (20, [])


def test_verify_finds_and_removes_the_broken_ones(tmp_path):
    store = LocalStore(tmp_path)
    good = adopt(store, b"good")
    bad = store.wheel_path(adopt(store, b"bad"))
    bad.write_bytes(b"worse")
    derived = store.save("kind", digest_of("x"), b"payload").path
    derived.write_bytes(derived.read_bytes()[:-1])
    checked, broken = verify_store(store)
    assert checked == 3
    assert sorted(broken) == sorted([bad, derived])
    assert store.wheel(good) is not None


def test_prune_removes_what_is_old_and_measure_counts_the_rest(tmp_path):
    store = LocalStore(tmp_path)
    old, new = store.wheel_path(adopt(store, b"old")), store.wheel_path(adopt(store, b"newer"))
    past = time.time() - 40 * 86_400
    os.utime(old, (past, past))
    assert prune_old(store, timedelta(days=30)) == (1, 3)
    assert not old.exists()
    assert [(each.kind, each.files, each.size) for each in measure_usage(store)] == [("wheels", 1, len(b"newer"))]
    assert new.exists()


def test_use_keeps_a_file_from_being_pruned(tmp_path):
    path = LocalStore(tmp_path).wheel_path(adopt(LocalStore(tmp_path), b"wheel"))
    past = time.time() - 40 * 86_400
    os.utime(path, (past, past))
    assert LocalStore(tmp_path).wheel(path.name) is not None
    assert prune_old(LocalStore(tmp_path), timedelta(days=30)) == (0, 0)


def test_what_a_compiler_keeps_is_pruned_whole_or_not_at_all(tmp_path):
    store, folder = LocalStore(tmp_path), tmp_path / COMPILER
    (folder / "h").mkdir(parents=True)
    old = time.time() - 40 * 86_400
    for name in ("one", "h/two"):
        (folder / name).write_text("kept")
        os.utime(folder / name, (old, old))
    assert prune_old(store, timedelta(days=30)) == (0, 0)
    os.utime(folder, (old, old))
    assert prune_old(store, timedelta(days=30)) == (2, 8)
    assert not folder.exists()


def test_file_that_is_removed_meanwhile_is_not_broken(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    adopt(store, b"good")
    derived = [store.save("kind", digest_of(name), b"payload").path for name in "xy"]

    def digest_while_others_prune(path: Path) -> str:
        derived[0].unlink()
        return file_digest(path)

    monkeypatch.setattr("packer.cache.prune.file_digest", digest_while_others_prune)
    assert verify_store(store) == (3, [])


def test_file_that_may_not_be_read_or_removed_is_an_error(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    path = store.wheel_path(adopt(store, b"good"))
    past = time.time() - 40 * 86_400
    os.utime(path, (past, past))

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("packer.cache.prune.file_digest", deny)
    with pytest.raises(StoreError, match=rf"Cannot verify {path}: Permission denied"):
        verify_store(store)
    monkeypatch.setattr(Path, "unlink", deny)
    with pytest.raises(StoreError, match=rf"Cannot remove {path}: Permission denied"):
        prune_old(store, timedelta(days=30))
