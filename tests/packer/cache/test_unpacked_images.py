"""Unpacked images are part of the store: counted, verified in full, and pruned as a whole."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from builders.rootfs.record import RECORD, ROOT, describe_root
from packer.cache.local import LocalStore
from packer.cache.prune import measure_usage, prune_old, verify_store
from packer.cache.runtime_names import RuntimeName, find_digest, forget_name, known_names, save_digest
from packer.cache.unpacked_images import find_unpacked, image_folder

DIGEST = "sha256:" + "a" * 64
LONG_AGO = time.time() - timedelta(days=60).total_seconds()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Give a store with an unpacked image, whose files are old and whose links lead to this machine's own."""
    made = LocalStore(tmp_path / "store")
    folder = image_folder(made, DIGEST)
    (folder / ROOT / "usr").mkdir(parents=True)
    (folder / ROOT / "usr/old").write_bytes(b"12345")
    os.utime(folder / ROOT / "usr/old", (1, 1))
    (folder / ROOT / "usr/link").symlink_to("/etc/passwd")
    (folder / RECORD).write_bytes(describe_root(folder / ROOT, DIGEST, "x86_64", {}).encode())
    return made


def test_an_image_is_counted_without_following_its_links(store):
    [usage] = measure_usage(store)
    record = (image_folder(store, DIGEST) / RECORD).stat().st_size
    assert (usage.kind, usage.files, usage.size) == ("runtimes", 3, 5 + len("/etc/passwd") + record)


def test_a_changed_image_is_removed_by_verify_and_a_whole_one_stays(store):
    assert verify_store(store)[1] == []
    changed = image_folder(store, DIGEST) / ROOT / "usr/old"
    changed.write_bytes(b"54321")
    os.utime(changed, (1, 1))
    assert verify_store(store)[1] == [image_folder(store, DIGEST)]
    assert not image_folder(store, DIGEST).exists()
    assert Path("/etc/passwd").exists()


def test_an_image_is_pruned_by_its_use_and_not_by_the_times_of_its_files(store):
    assert prune_old(store, timedelta(days=30)) == (0, 0)
    record = image_folder(store, DIGEST) / RECORD
    os.utime(record, (LONG_AGO, LONG_AGO))
    assert find_unpacked(store, DIGEST)  # its use is recorded
    assert prune_old(store, timedelta(days=30)) == (0, 0)
    os.utime(record, (LONG_AGO, LONG_AGO))
    assert prune_old(store, timedelta(days=30))[0] == 3
    assert not image_folder(store, DIGEST).exists()


def test_what_is_being_unpacked_is_not_pruned_by_the_times_of_its_files(store):
    with store.workspace() as work:
        (work / "old").write_bytes(b"x")
        os.utime(work / "old", (1, 1))
        prune_old(store, timedelta(days=30))
        assert (work / "old").exists()
        os.utime(work, (LONG_AGO, LONG_AGO))  # a killed process has left it
        assert prune_old(store, timedelta(days=30)) == (1, 1)
        assert not work.exists()


def test_half_an_image_is_not_found(store):
    (image_folder(store, DIGEST) / RECORD).unlink()
    assert find_unpacked(store, DIGEST) is None


def test_a_name_leads_to_what_was_last_pulled_by_it_for_the_architecture(store):
    first, second = (RuntimeName(name="a/b:1", architecture=each, digest=DIGEST) for each in ("x86_64", "arm64"))
    save_digest(store, first)
    assert find_digest(store, "a/b:1", "x86_64") == DIGEST
    assert find_digest(store, "a/b:1", "arm64") == find_digest(store, "a/b:2", "x86_64") == ""
    save_digest(store, second)
    assert known_names(store) == (second, first)
    forget_name(store, first)
    assert known_names(store) == (second,)


def test_what_a_killed_process_has_left_is_pruned_whatever_its_modes():
    with tempfile.TemporaryDirectory() as name, as_another_user(Path(name)) as folder:
        left = folder / "tmp" / "left"
        (left / "closed").mkdir(parents=True)
        (left / "closed" / "file").write_bytes(b"x")
        (left / "closed").chmod(0)
        left.chmod(0o500)
        os.utime(left, (LONG_AGO, LONG_AGO))
        assert prune_old(LocalStore(folder), timedelta(days=30)) == (1, 1)
        assert not left.exists()


@contextmanager
def as_another_user(folder: Path) -> Iterator[Path]:
    """Give a folder of a user without rights, who this process is meanwhile."""
    folder.chmod(0o777)
    if os.geteuid() != 0:
        yield folder
        return
    os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(0)
