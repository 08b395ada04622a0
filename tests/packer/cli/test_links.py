"""Links in sources that lead to nothing, or out of the repository, as whoever builds meets them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.packer.cli.test_build import build, names, project
from tests.repository import make_repository


@pytest.fixture
def folder(tmp_path: Path, index, cache) -> Path:
    return project(tmp_path / "project")


def test_a_lock_of_an_editor_is_no_source(folder, lpack):
    (folder / "orders" / ".#app.py").symlink_to("me@host.1234:1700000000")
    build(lpack, folder)
    assert not any("#" in name for name in names(folder / "dist" / "orders.zip"))


@pytest.mark.parametrize("command", ["build", "check", "affected"])
def test_a_link_to_a_key_of_the_machine_is_wrong_usage(folder, lpack, tmp_path, command):
    make_repository(folder)
    (tmp_path / "id_rsa").write_text("a key")
    link = folder / "orders" / "data.txt"
    link.symlink_to("../../id_rsa")
    finished = lpack(command, *(("--since", "HEAD") if command == "affected" else ()), cwd=folder)
    assert finished.returncode == 2, finished.stderr
    assert f"The link {link} leads out of the files of {folder}, to {tmp_path / 'id_rsa'}" in finished.stderr
    assert ".lpackignore" in finished.stderr
    assert not (folder / "dist" / "orders.zip").exists()
    (folder / "orders" / ".lpackignore").write_text("data.txt\n")
    build(lpack, folder)
    assert "data.txt" not in names(folder / "dist" / "orders.zip")


def test_a_link_that_is_put_in_the_place_of_a_file_is_seen(folder, lpack, tmp_path):
    make_repository(folder)
    (tmp_path / "id_rsa").write_text("a key")
    (folder / "orders" / "data.txt").write_text("data")
    build(lpack, folder)
    (folder / "orders" / "data.txt").unlink()
    (folder / "orders" / "data.txt").symlink_to(tmp_path / "id_rsa")
    assert lpack("build", cwd=folder).returncode == 2


def test_links_of_a_local_project_out_of_the_repository_are_refused(folder, lpack, tmp_path):
    (folder / "lib" / "lib").mkdir(parents=True)
    (folder / "lib" / "pyproject.toml").write_text('[project]\nname = "lib"\nversion = "1"\n')
    (folder / "lib" / "lib" / "__init__.py").touch()
    (folder / "orders" / "requirements.txt").write_text("../lib\n")
    (tmp_path / "id_rsa").write_text("a key")
    (folder / "lib" / "lib" / "key.py").symlink_to(tmp_path / "id_rsa")
    make_repository(folder)
    finished = lpack("build", "orders", cwd=folder)
    assert finished.returncode == 2, finished.stderr
    assert f"The link {folder / 'lib' / 'lib' / 'key.py'} leads out" in finished.stderr


def test_links_into_the_rest_of_the_repository_are_followed_in_an_earlier_commit_too(folder, lpack):
    deep = folder / "deep"
    deep.mkdir()
    for name in ("lpack.toml", "orders", "users"):
        (folder / name).rename(deep / name)
    (folder / "shared").mkdir()
    (folder / "shared" / "util.py").write_text("x = 1\n")
    (deep / "orders" / "util.py").symlink_to("../../shared/util.py")
    make_repository(folder)
    finished = lpack("check", "--baseline", "git:HEAD", "--json", cwd=deep)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["problems"] == []
    assert subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True).stdout == ""
