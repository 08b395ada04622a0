"""Paths within a root folder: what a link says begins there, and nothing leads out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.rootfs.paths import RootPathError, resolve_within


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a root folder with links of all kinds, beside a secret that none may reach."""
    found = tmp_path / "root"
    (found / "usr/lib/python3.12").mkdir(parents=True)
    (found / "usr/lib/python3.12/os.py").write_text("")
    (found / "lib").symlink_to("usr/lib")
    (found / "usr/absolute").symlink_to("/lib/python3.12")
    (found / "above").symlink_to("../../../../usr")
    (found / "secret").symlink_to(tmp_path / "secret")
    (found / "circle").symlink_to("circle")
    (tmp_path / "secret").write_text("x")
    return found


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("lib/python3.12/os.py", "usr/lib/python3.12/os.py"),
        ("/usr/absolute/os.py", "usr/lib/python3.12/os.py"),
        ("above/lib", "usr/lib"),
        ("usr/../../../lib", "usr/lib"),
        ("./lib//python3.12/", "usr/lib/python3.12"),
        ("", ""),
    ],
)
def test_a_path_is_followed_as_if_the_folder_were_the_root(root, path, real):
    assert Path(resolve_within(str(root), path)) == root / real


@pytest.mark.parametrize("path", ["secret", "../secret", "lib/absent"])
def test_a_path_to_what_only_lies_outside_is_missing(root, path):
    with pytest.raises(FileNotFoundError):
        resolve_within(str(root), path)


@pytest.mark.parametrize(
    ("path", "told"), [("circle", "more than 40 symbolic links"), ("lib/python3.12/os.py/x", "which is not a folder")]
)
def test_a_path_that_cannot_be_followed_is_refused(root, path, told):
    with pytest.raises(RootPathError, match=told):
        resolve_within(str(root), path)


def test_missing_folders_are_made_where_a_link_leads(root):
    (root / "run").symlink_to("/var/run")
    made = resolve_within(str(root), "run/lock", lambda path: Path(path).mkdir())
    assert Path(made) == root / "var/run/lock"
    assert (root / "var/run/lock").is_dir()
