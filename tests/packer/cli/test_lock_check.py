"""`lpack lock --check`: whether locks fit what is required, decided without a network."""

from __future__ import annotations

import pytest


@pytest.fixture
def locked(repo, index):
    """Give a project of two functions with locks, and one without dependencies."""
    repo.function("one", repo.wheel("common"))
    repo.function("two", repo.wheel("alone"))
    repo.function("three")
    (repo.folder / "three" / "requirements.txt").unlink()
    repo.configure("one", "two", "three")
    repo.run("lock")
    return repo


def test_fresh_locks_are_listed(locked, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    finished = locked.run("lock", "--check")
    assert finished.stdout.splitlines() == ["fresh      pylock.one.toml", "fresh      pylock.two.toml"]


def test_stale_and_missing_locks_are_told_together(locked):
    locked.function("one", locked.wheel("common"), locked.wheel("alone"))
    (locked.folder / "pylock.two.toml").unlink()
    before = (locked.folder / "pylock.one.toml").read_bytes()
    finished = locked.run("lock", "--check", status=2)
    assert "pylock.one.toml is stale: what one requires has changed since it was made." in finished.stderr
    assert "two has no lock pylock.two.toml" in finished.stderr
    assert finished.stdout == ""
    assert (locked.folder / "pylock.one.toml").read_bytes() == before
    assert not (locked.folder / "pylock.two.toml").exists()


def test_only_the_named_function_is_looked_at(locked):
    (locked.folder / "pylock.two.toml").unlink()
    locked.run("lock", "--check", "one")


def test_a_lock_for_another_target_is_wrong(locked):
    assert "was made for" in locked.run("lock", "--check", "one", "--arch", "arm64", status=2).stderr


def test_a_lock_that_cannot_be_read_is_wrong(locked):
    (locked.folder / "pylock.one.toml").write_text("lock-version = 7")
    finished = locked.run("lock", "--check", "one", status=1)
    assert "pylock.one.toml" in finished.stderr


def test_a_base_that_is_not_locked_is_wrong(locked):
    locked.configure("one", settings='format = "image"')
    assert "lpack-bases.toml does not have" in locked.run("lock", "--check", status=2).stderr
