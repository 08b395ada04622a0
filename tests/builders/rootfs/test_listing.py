"""Listings of root folders: any change but those of owners makes another digest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.rootfs.listing import list_tree, tree_size


def make(root: Path) -> Path:
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/a").write_bytes(b"one")
    (root / "lib").symlink_to("/nowhere")
    os.utime(root / "usr/bin/a", (5, 5))
    return root


def test_equal_trees_have_equal_digests_and_links_are_not_followed(tmp_path):
    first, second = (list_tree(make(tmp_path / name)) for name in ("one", "two"))
    assert first == second
    assert (first.entries, first.size) == (4, 3)
    assert tree_size(tmp_path / "one") == (2, 3 + len("/nowhere"))


def rewrite(root: Path) -> None:
    (root / "usr/bin/a").write_bytes(b"two")
    os.utime(root / "usr/bin/a", (5, 5))


def relink(root: Path) -> None:
    (root / "lib").unlink()
    (root / "lib").symlink_to("/else")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content of the same size and time": rewrite,
    "a mode": lambda root: (root / "usr/bin/a").chmod(0o755),
    "a time": lambda root: os.utime(root / "usr/bin/a", (6, 6)),
    "a new file": lambda root: (root / "new").touch(),
    "a new folder": lambda root: (root / "new").mkdir(),
    "a removed file": lambda root: (root / "usr/bin/a").unlink(),
    "another name": lambda root: (root / "usr").rename(root / "usb"),
    "a link's target": relink,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_makes_another_digest(tmp_path, change):
    root = make(tmp_path / "root")
    before = list_tree(root).digest
    change(root)
    assert list_tree(root).digest != before
