"""The hooks of .pre-commit-hooks.yaml, run by pre-commit itself from a repository of lpack's own sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from packer.cli.app import COMMANDS
from tests.repository import commit, git, make_repository

pytestmark = [pytest.mark.network, pytest.mark.slow]
_ROOT = Path(__file__).resolve().parent.parent
_PARTS = ("packer", "builders", "pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml")
_CONFIG = """
repos:
  - repo: {repository}
    rev: {revision}
    hooks:
      - id: lpack-lock-fresh
      - id: lpack-check
"""
_LPACK = """
runtime = "python3.12"
[functions.hello]
source = "hello"
handler = "app.handler"
budget = {{ zip = "{budget}" }}
"""


@pytest.fixture(scope="module")
def hooks(tmp_path_factory) -> tuple[Path, str]:
    """Give a repository of what lpack is installed from, and its commit."""
    folder = tmp_path_factory.mktemp("lpack")
    for name in _PARTS:
        copy = shutil.copytree if (_ROOT / name).is_dir() else shutil.copy2
        copy(_ROOT / name, folder / name)
    make_repository(folder)
    return folder, git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pre-commit")
    return folder


@pytest.fixture
def project(tmp_path, hooks, home, monkeypatch) -> Path:
    """Give a repository with one function, which the hooks watch over."""
    monkeypatch.setenv("PRE_COMMIT_HOME", str(home))
    folder = tmp_path / "project"
    (folder / "hello").mkdir(parents=True)
    (folder / "hello" / "app.py").write_text("import six\n\ndef handler(event, context):\n    return six.__version__\n")
    (folder / "hello" / "requirements.txt").write_text("six==1.17.0\n")
    (folder / "lpack.toml").write_text(_LPACK.format(budget="1 MB"))
    repository, revision = hooks
    (folder / ".pre-commit-config.yaml").write_text(_CONFIG.format(repository=repository, revision=revision))
    subprocess.run([sys.executable, "-m", "packer.cli", "lock", "-q"], cwd=folder, check=True, capture_output=True)
    return make_repository(folder)


def attempt(project: Path) -> subprocess.CompletedProcess[str]:
    """Commit everything as a user would whose pre-commit is installed, and give what was told."""
    who = {f"GIT_{name}_{what}": "test@example.com" for name in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run([sys.executable, "-m", "pre_commit", "install"], cwd=project, check=True, capture_output=True)
    git(project, "add", "--all")
    command = ["git", "commit", "-m", "change"]
    return subprocess.run(command, cwd=project, env={**os.environ, **who}, capture_output=True, text=True, check=False)


def test_a_commit_within_the_budget_goes_through(project):
    (project / "hello" / "more.py").write_text("VALUE = 1\n")
    finished = attempt(project)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "lpack check" in finished.stderr + finished.stdout
    assert (finished.stdout + finished.stderr).count("Passed") >= 1
    assert git(project, "log", "--format=%s", "-1") == "change"


def test_a_size_regression_is_stopped_at_the_commit(project):
    before = git(project, "rev-parse", "HEAD")
    (project / "hello" / "data.bin").write_bytes(os.urandom(1 << 20))
    finished = attempt(project)
    told = finished.stdout + finished.stderr
    assert finished.returncode != 0
    assert "over its budget for the ZIP of 1.0 MB" in told
    assert "Largest, unzipped: the function's own source 1.0 MB" in told
    assert "exit code: 3" in told
    assert git(project, "rev-parse", "HEAD") == before


def test_a_stale_lock_is_stopped_at_the_commit(project):
    (project / "hello" / "requirements.txt").write_text("six==1.16.0\n")
    finished = attempt(project)
    assert finished.returncode != 0
    assert "pylock.hello.toml is stale: what hello requires has changed since it was made." in finished.stdout + finished.stderr


def test_every_hook_is_a_command(hooks):
    folder, _ = hooks
    entries = [line.split() for line in (folder / ".pre-commit-hooks.yaml").read_text().splitlines() if "entry:" in line]
    assert [each[2] for each in entries] == ["check", "lock"]
    assert {each[2] for each in entries} <= set(COMMANDS)
    assert commit(folder)
