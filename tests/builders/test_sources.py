"""Sources before they are built: commits that are fetched, and what a pyproject.toml says."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from builders.errors import BuildError
from builders.sources import check_out, read_build_system
from tests.repository import commit, git, make_repository


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """Give the reference of a commit of a repository that holds one file."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\n")
    make_repository(folder)
    return f"git+{folder.as_uri()}@{commit(folder)}"


def test_commit_is_fetched_beside_a_running_hook(repository, tmp_path, monkeypatch):
    own, linked = make_repository(tmp_path / "own"), tmp_path / "linked"
    git(own, "worktree", "add", "-q", str(linked))
    (linked / "app.py").write_text("pass\n")
    git(linked, "add", "app.py")
    folder = Path(git(linked, "rev-parse", "--absolute-git-dir"))
    before = {path: path.read_bytes() for path in (own / ".git").rglob("*") if path.is_file()}
    monkeypatch.setenv("GIT_DIR", str(folder))
    monkeypatch.setenv("GIT_INDEX_FILE", str(folder / "index"))
    found = check_out(repository, tmp_path / "source")
    assert (found / "pyproject.toml").read_text() == "[project]\n"
    assert {path: path.read_bytes() for path in (own / ".git").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in linked.iterdir()) == [".git", "app.py"]


def test_missing_git_is_to_be_installed(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(BuildError, match="git is not installed") as caught:
        check_out(repository, tmp_path / "source")
    assert caught.value.remedy == "Install git."


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_project_file_too_large_to_read_is_refused(tmp_path, kind):
    path, data = tmp_path / f"one-1.0.{kind}", b"#" * ((1 << 20) + 1)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("one-1.0/pyproject.toml", data)
    else:
        with tarfile.open(path, "w") as packed:
            member = tarfile.TarInfo("one-1.0/pyproject.toml")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    with pytest.raises(BuildError, match=r"its pyproject\.toml has 1,048,577 bytes, more than the 1,048,576"):
        read_build_system(path)


def test_project_file_of_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "pyproject.toml").symlink_to("/proc/self/mem")  # reading it from its start fails, whoever reads
    with pytest.raises(BuildError, match=r"cannot be read \(.*Input/output error"):
        read_build_system(tmp_path)
