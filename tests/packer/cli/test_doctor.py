"""`lpack doctor`: every line says what is there, or what would bring it, and the status says whether a build could succeed."""

from __future__ import annotations

import json
import os

import pytest

from tests.conftest import NOWHERE
from tests.engine import BUILD_IMAGE, bundled_pip, need_engine
from tests.packer.cli.test_build import CONFIG, project

CHECKS = {
    "sandbox",
    "runtime",
    "emulator",
    "strip",
    "lpack",
    "cache",
    "index",
    "engine",
    "image",
    "emulation",
    "python",
    "cross",
}


def findings(finished) -> dict[str, dict[str, str]]:
    return {each["check"]: each for each in json.loads(finished.stdout)}


@pytest.fixture
def indexed(index):
    os.link(bundled_pip(), index.folder / bundled_pip().name)
    return index


def test_missing_engine_is_no_failure(tmp_path, lpack, cache, indexed, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    finished = lpack("doctor", "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    found = findings(finished)
    assert set(found) <= CHECKS
    assert found["index"]["verdict"] == "good"
    assert "pip==" in found["index"]["what"]
    assert found["engine"]["verdict"] == "absent"
    assert "nobody.sock" in found["engine"]["what"]
    assert "DOCKER_HOST" in found["engine"]["remedy"]
    assert all(each["remedy"] for each in found.values() if each["verdict"] != "good")


def test_an_index_that_does_not_answer_fails(tmp_path, lpack, cache, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", NOWHERE.replace("://", "://deploy:s3cret@"))
    finished = lpack("doctor", cwd=tmp_path)
    assert finished.returncode == 1
    assert "bad     index" in finished.stdout
    assert "s3cret" not in finished.stdout + finished.stderr
    offline = lpack("doctor", "--offline", cwd=tmp_path)
    assert offline.returncode == 0
    assert "bad" not in offline.stdout


def test_a_cache_that_cannot_be_written_fails(tmp_path, lpack, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / "file" / "cache"))
    finished = lpack("doctor", "--offline", cwd=tmp_path)
    assert finished.returncode == 1
    assert "bad     cache" in finished.stdout


def test_the_projects_own_targets_are_looked_at(tmp_path, lpack, cache):
    folder = project(tmp_path / "project")
    finished = lpack("doctor", "--offline", "--json", cwd=folder)
    assert "3.12" in findings(finished)["python"]["what"]
    (folder / "lpack.toml").write_text(CONFIG.replace("handler", "handeler"))
    assert lpack("doctor", "--offline", cwd=folder).returncode == 2


def test_a_builder_that_is_configured_must_be_there(tmp_path, lpack, cache, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    folder = project(tmp_path / "project")
    (folder / "lpack.toml").write_text(f'{CONFIG}[packages.alpha]\nbuilder = "container"\n')
    finished = lpack("doctor", "--offline", "--json", cwd=folder)
    assert finished.returncode == 1
    assert findings(finished)["engine"]["verdict"] == "bad"
    assert "the configuration says" in findings(finished)["engine"]["what"]


def test_an_engine_by_ssh_without_what_reaches_it(tmp_path, lpack, cache, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "ssh://nobody@127.0.0.1:1")
    found = findings(lpack("doctor", "--offline", "--json", cwd=tmp_path))
    assert "paramiko" in found["engine"]["what"]
    assert "docker[ssh]" in found["engine"]["remedy"]


@pytest.mark.docker
def test_engine_and_its_images_are_reported(tmp_path, lpack, cache):
    need_engine(BUILD_IMAGE)
    folder = project(tmp_path / "project")
    (folder / "lpack.toml").write_text(f'image = "{BUILD_IMAGE}"\n{CONFIG}')
    found = findings(lpack("doctor", "--offline", "--json", cwd=folder))
    assert found["engine"]["verdict"] == found["disk"]["verdict"] == "good"
    assert "free" in found["disk"]["what"]
    assert BUILD_IMAGE in found["image"]["what"]
    (folder / "lpack.toml").write_text(f'image = "nobody/nothing:1"\n{CONFIG}')
    found = findings(lpack("doctor", "--offline", "--json", cwd=folder))
    assert found["image"]["verdict"] == "absent"
    assert "docker pull --platform linux/amd64 nobody/nothing:1" in found["image"]["remedy"]
