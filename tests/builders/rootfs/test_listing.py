"""Listings of root folders: any change but those of owners makes another digest."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.rootfs.listing import list_tree, make_removable, tree_size


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


def test_folders_within_each_other_beyond_the_limit_of_recursion_are_made_removable(tmp_path):
    deepest = tmp_path / "/".join("a" * 1500)
    subprocess.run(["mkdir", "-p", str(deepest)], check=True)  # pathlib calls itself for each
    deepest.chmod(0)
    make_removable(tmp_path / "a")
    assert stat.S_IMODE(deepest.stat().st_mode) == 0o700
    subprocess.run(["rm", "-r", str(tmp_path / "a")], check=True)  # as rmtree does


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
