"""Trees of wheels in the store are read once, and are then what they were."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from packer.cache.local import LocalStore
from packer.core.model import Tree
from packer.formats import stored_wheel
from packer.formats.stored_wheel import read_stored_wheel
from packer.formats.wheel import read_wheel
from tests.wheels import make_wheel


def read(store: LocalStore, wheel: Path) -> Tree:
    return read_stored_wheel(store, wheel, wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest())


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def counted(path: Path, filename: str) -> Tree:
        names.append(filename)
        return read_wheel(path, filename)

    monkeypatch.setattr(stored_wheel, "read_wheel", counted)
    return names


def test_a_tree_is_kept_as_it_was_read(tmp_path, monkeypatch):
    store, names = LocalStore(tmp_path / "store"), count_reads(monkeypatch)
    files = {"a/__init__.py": b"x = 1\n" * 99, "a/data.bin": bytes(range(256)), "a/empty.py": b""}
    wheel = make_wheel(tmp_path, "a", "1.0", files=files)
    expected = read_wheel(wheel, wheel.name)
    assert read(store, wheel) == expected
    assert read(store, wheel) == expected
    assert names == [wheel.name]
    found = {entry.path: entry.content.read() for entry in read(store, wheel)}
    assert {path: found[path] for path in files} == files


def test_a_wheel_that_is_not_installed_as_it_is_is_read_each_time(tmp_path, monkeypatch):
    store, names = LocalStore(tmp_path / "store"), count_reads(monkeypatch)
    wheel = make_wheel(tmp_path, "a", "1.0", files={"a.py": b"", "a-1.0.data/scripts/tool": b"#!python\npass\n"})
    expected = read_wheel(wheel, wheel.name)
    assert [read(store, wheel) for _ in range(2)] == [expected, expected]
    assert names == [wheel.name] * 2
