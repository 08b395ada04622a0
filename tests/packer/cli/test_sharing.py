"""`lpack build` with a remote store: a second machine fills its cache from there, and writes the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from packer.cache.sharing import KINDS
from tests.conftest import NOWHERE
from tests.packer.cli.test_build import build, project
from tests.packer.cli.test_doctor import findings
from tests.s3 import Fault, error_body


@pytest.fixture
def machines(tmp_path, lpack, index, monkeypatch):
    """Give a function that builds one project with a cache of that name, and gives the archives' bytes and what was said."""
    folder = project(tmp_path / "project", orders="alpha\nnative\ngreeting\n")
    assert lpack("lock", cwd=folder).returncode == 0

    def on(name: str, *flags: str) -> tuple[dict[str, bytes], str]:
        monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / name))
        out = tmp_path / f"out-{name}"
        finished = lpack("build", "-v", "--out", str(out), *flags, cwd=folder)
        assert finished.returncode == 0, finished.stderr
        return {path.name: path.read_bytes() for path in sorted(out.glob("*.zip"))}, finished.stderr

    return on


def downloaded(index) -> list[str]:
    return [each.filename for each in index.requests if each.filename.endswith((".whl", ".tar.gz"))]


def test_a_second_machine_needs_no_index_and_no_builder(machines, index, signed_s3, bucket, monkeypatch, tmp_path):
    alone, _ = machines("alone")
    monkeypatch.setenv("LPACK_REMOTE", bucket)
    first, said = machines("one")
    assert "building greeting" in said
    assert first == alone
    before = len(downloaded(index))
    second, said = machines("two")
    assert second == first
    assert downloaded(index)[before:] == []
    assert "building greeting" not in said
    assert "warning" not in said
    kinds = {path.name for path in (tmp_path / "two" / "derived").iterdir()}
    assert {"built", "bytecode", "sources"} <= kinds <= set(KINDS)


def test_wheels_come_without_any_index(tmp_path, lpack, index, signed_s3, bucket, monkeypatch):
    folder = project(tmp_path / "project")
    assert lpack("lock", cwd=folder).returncode == 0
    monkeypatch.setenv("LPACK_REMOTE", bucket)
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / "one"))
    build(lpack, folder)
    first = (folder / "dist" / "orders.zip").read_bytes()
    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, NOWHERE)
    asked = len(index.requests)
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / "two"))
    build(lpack, folder, "--out", str(tmp_path / "second"))
    assert (tmp_path / "second" / "orders.zip").read_bytes() == first
    assert len(index.requests) == asked


def test_offline_asks_no_remote(machines, signed_s3, bucket, monkeypatch):
    monkeypatch.setenv("LPACK_REMOTE", bucket)
    first, _ = machines("one")
    asked = len(signed_s3.seen)
    second, _ = machines("one", "--offline", "--trim", "none")
    assert second.keys() == first.keys()
    assert len(signed_s3.seen) == asked


def test_a_lying_remote_changes_no_byte(machines, signed_s3, bucket, monkeypatch):
    monkeypatch.setenv("LPACK_REMOTE", bucket)
    first, _ = machines("one")
    signed_s3.break_with(Fault(change=lambda data: data[::-1]))
    second, said = machines("two")
    assert second == first
    assert said.count("warning") == 1
    assert "has a wrong object" in said


def test_a_remote_that_is_away_costs_a_warning(machines, signed_s3, bucket, monkeypatch):
    alone, _ = machines("alone")
    monkeypatch.setenv("LPACK_REMOTE", bucket)
    signed_s3.break_with(Fault(status=403, body=error_body("AccessDenied")))
    with_it, said = machines("one")
    assert with_it == alone
    assert said.count("warning") == 1
    assert "is not used for the rest of this run" in said


def test_configured_folder_is_the_remote_store(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    config = folder / "lpack.toml"
    config.write_text('remote = "../shared"\n' + config.read_text())
    (tmp_path / "shared").mkdir()
    build(lpack, folder)
    assert (tmp_path / "shared" / "wheels").is_dir()


@pytest.mark.parametrize(
    ("remote", "said"),
    [("ftp://host/x", "unknown scheme"), ("s3://", "names no bucket"), ("s3://key:hunter2@bucket", "has credentials")],
)
def test_a_wrong_address_is_wrong_usage(tmp_path, lpack, index, cache, monkeypatch, remote, said):
    monkeypatch.setenv("LPACK_REMOTE", remote)
    finished = lpack("build", cwd=project(tmp_path / "project"))
    assert finished.returncode == 2
    assert said in finished.stderr
    assert "hunter2" not in finished.stderr


def test_without_the_extra_it_says_what_to_install(tmp_path, lpack, index, cache, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "obstore.py").write_text("raise ImportError('not installed')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"), prepend=":")
    monkeypatch.setenv("LPACK_REMOTE", "s3://bucket")
    finished = lpack("build", cwd=project(tmp_path / "project"))
    assert finished.returncode == 2
    assert "pip install 'lambda-lpack[remote]'" in finished.stderr
    monkeypatch.delenv("LPACK_REMOTE")
    assert lpack("build", cwd=tmp_path / "project").returncode == 0


class TestDoctor:
    def look(self, lpack, folder: Path, *flags: str) -> tuple[int, dict[str, dict[str, str]]]:
        finished = lpack("doctor", "--json", *flags, cwd=folder)
        return finished.returncode, findings(finished)

    def test_it_says_whether_the_remote_answers(self, tmp_path, lpack, cache, signed_s3, bucket, monkeypatch):
        monkeypatch.setenv("LPACK_REMOTE", bucket)
        _, found = self.look(lpack, tmp_path)
        assert found["remote"]["verdict"] == "good"
        assert f"{bucket} can be read" in found["remote"]["what"]
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        _, found = self.look(lpack, tmp_path)
        assert found["remote"]["verdict"] == "absent"
        assert "SignatureDoesNotMatch" in found["remote"]["what"]
        asked = len(signed_s3.seen)
        status, found = self.look(lpack, tmp_path, "--offline")
        assert (status, "remote" in found, len(signed_s3.seen)) == (0, False, asked)

    def test_what_no_build_could_use_is_bad(self, tmp_path, lpack, cache, monkeypatch):
        monkeypatch.setenv("LPACK_REMOTE", "ftp://host/x")
        status, found = self.look(lpack, tmp_path)
        assert (status, found["remote"]["verdict"]) == (1, "bad")

    def test_nothing_is_reported_where_none_is_configured(self, tmp_path, lpack, cache):
        assert "remote" not in json.dumps(self.look(lpack, tmp_path)[1])
