"""What git says of real repositories, in full and shallow clones, and what is said where it cannot say it."""

import os
from pathlib import Path

import pytest

from packer.core.errors import UsageError
from packer.source.git import WorkingTree, find_working_tree, list_tracked
from tests.repository import commit, git, make_repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "a").mkdir(parents=True)
    for name in ("a/one", "a/two", "three"):
        (folder / name).write_text(f"this is {name}\n" * 20)
    return make_repository(folder)


def tree(folder: Path) -> WorkingTree:
    found = find_working_tree(folder)
    assert found is not None
    return found


def changed(folder: Path, ref: str = "main") -> list[str]:
    found = tree(folder)
    return [os.path.relpath(path, found.top) for path in found.changed(found.base(ref))]


def refusal(folder: Path, ref: str) -> str:
    with pytest.raises(UsageError) as caught:
        tree(folder).base(ref)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_the_working_tree_is_found_from_below_and_through_links(repository, tmp_path):
    assert tree(repository / "a").top == repository
    (tmp_path / "link").symlink_to("repository/a")
    assert tree(tmp_path / "link").top == repository
    assert find_working_tree(tmp_path) is None


def test_clean_working_tree_has_no_changes(repository):
    assert changed(repository) == []


def test_commits_the_index_the_working_tree_and_untracked_files_count(repository):
    (repository / "a" / "one").write_text("committed")
    commit(repository)
    (repository / "a" / "two").write_text("staged")
    git(repository, "add", "a/two")
    (repository / "three").write_text("only written")
    (repository / "a" / "new").write_text("untracked")
    (repository / ".gitignore").write_text("*.log\n")
    (repository / "a" / "x.log").write_text("ignored")
    assert changed(repository / "a") == [".gitignore", "a/new", "a/one", "a/two", "three"]


def test_what_was_undone_does_not_count(repository):
    before = (repository / "three").read_text()
    (repository / "three").write_text("else")
    commit(repository)
    (repository / "three").write_text(before)
    assert changed(repository) == []


def test_both_names_of_a_renamed_file_count_and_deleted_ones_too(repository):
    git(repository, "mv", "a/one", "moved")
    commit(repository)
    (repository / "three").unlink()
    assert changed(repository) == ["a/one", "moved", "three"]


def test_file_names_of_every_kind_are_found(repository):
    names = ["with space", 'quote"d', "ümläut", "new\nline", "tab\t", "-dash", "日本"]
    for name in names[::2]:
        (repository / name).write_text("x")
    commit(repository)
    for name in names[1::2]:
        (repository / name).write_text("x")
    assert changed(repository) == sorted(names)


def test_what_happened_on_the_other_branch_does_not_count(repository):
    git(repository, "checkout", "-q", "main")
    (repository / "three").write_text("by others")
    commit(repository)
    git(repository, "checkout", "-q", "work")
    (repository / "a" / "one").write_text("by me")
    commit(repository)
    assert changed(repository) == ["a/one"]


def test_content_of_a_file_in_a_commit_is_read(repository):
    found = tree(repository)
    base = found.base("main")
    before = (repository / "three").read_bytes()
    (repository / "three").write_text("now")
    assert found.content(base, str(repository / "three")) == before
    assert found.content(base, str(repository / "four")) is None
    assert found.content(base, str(repository / "a")) is None
    assert found.content(base, str(repository / "a" / "one" / "more")) is None
    assert found.content(base, str(repository)) is None
    assert found.content(base, str(repository.parent / "three")) is None


def test_content_that_git_cannot_read_is_an_error(repository):
    found = tree(repository)
    base, blob = found.base("main"), git(repository, "rev-parse", "main:a/one")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UsageError, match=rf"git cannot read a/one of {base[:12]}") as caught:
        found.content(base, str(repository / "a" / "one"))
    assert caught.value.detail


def test_a_submodule_is_one_path(repository, tmp_path):
    other = make_repository(tmp_path / "other")
    git(repository, "submodule", "add", "-q", str(other), "vendored")
    commit(repository)
    git(repository, "branch", "-f", "main")
    assert changed(repository) == []
    (repository / "vendored" / "file").write_text("x")
    assert changed(repository) == ["vendored"]
    commit(repository / "vendored")
    assert changed(repository) == ["vendored"]
    commit(repository)
    assert changed(repository) == ["vendored"]


def test_a_repository_of_its_own_inside_is_one_path(repository):
    make_repository(repository / "inner")
    assert changed(repository) == ["inner"]


def test_variables_that_git_sets_for_its_hooks_do_not_mislead(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert tree(repository / "a").top == repository
    (repository / "three").write_text("else")
    assert [Path(path).name for path in tree(repository).changed("HEAD")] == ["three"]


@pytest.mark.parametrize("ref", ["nobody", "", "--help", "main..work", "HEAD~7", "HEAD:three", "v1 x"])
def test_unknown_ref_is_refused(repository, ref):
    text = refusal(repository, ref)
    assert f"git knows no commit {ref!r}" in text
    assert "git branch --all" in text


def test_repository_without_a_commit_is_an_error(tmp_path):
    git(tmp_path, "init", "-q")
    assert "has no commit yet" in refusal(tmp_path, "main")


def test_histories_without_a_common_commit_are_an_error(repository):
    git(repository, "checkout", "-q", "--orphan", "apart")
    (repository / "three").write_text("of another kind")
    commit(repository)
    assert "HEAD and main have no commit in common" in refusal(repository, "main")


@pytest.fixture
def shallow(repository: Path, tmp_path: Path) -> Path:
    """Give a clone with one commit of the branch work, which parted from main two commits ago."""
    for number in range(2):
        (repository / "three").write_text(str(number))
        commit(repository)
    git(tmp_path, "clone", "-q", "--depth", "1", "--branch", "work", repository.as_uri(), "shallow")
    return tmp_path / "shallow"


@pytest.mark.parametrize(("ref", "command"), [("origin/main", "main:refs/remotes/origin/main"), ("main", "main:main")])
def test_a_ref_that_was_not_fetched_and_then_a_history_that_was_not(shallow, ref, command):
    text = refusal(shallow, ref)
    assert f"git knows no commit {ref!r}" in text
    assert f"`git fetch origin {command}`" in text
    git(shallow, "fetch", "-q", "--depth", "1", "origin", command)
    text = refusal(shallow, ref)
    assert "shallow clone" in text
    assert "git fetch --unshallow" in text
    assert "fetch-depth: 0" in text
    git(shallow, "fetch", "-q", "--unshallow")
    assert changed(shallow, ref) == ["three"]


def test_commit_that_was_not_fetched_is_an_error(shallow, repository):
    sha = git(repository, "rev-parse", "main")
    assert f"`git fetch origin {sha}`" in refusal(shallow, sha)
    assert "git fetch --unshallow" in refusal(shallow, "HEAD~1")


def test_a_repository_that_git_does_not_want_to_read(repository):
    (repository / ".git" / "HEAD").write_text("nonsense")
    with pytest.raises(UsageError, match="git cannot read the repository") as caught:
        find_working_tree(repository)
    assert "not a git repository" in caught.value.detail


def test_missing_git_is_an_error(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="git is not installed"):
        find_working_tree(repository)


def test_missing_folder_is_not_a_missing_git(tmp_path):
    with pytest.raises(UsageError, match=r"git cannot be run in .*gone: No such file"):
        find_working_tree(tmp_path / "gone")


def test_an_exported_commit_tracks_its_files(tmp_path, repository):
    (repository / ".gitignore").write_text("three\n")
    at = commit(repository)
    folder = tmp_path / "exported"
    folder.mkdir()
    tree(repository).export(at, folder)
    tracked = list_tracked(folder)
    assert tracked is not None
    assert tracked.paths == {".gitignore", "a/one", "a/two", "three"}
    assert (folder / "three").read_text() == (repository / "three").read_text()
    assert git(repository, "status", "--porcelain") == ""


def test_a_broken_repository_is_not_that_above_it(repository):
    (repository / "a" / ".git").mkdir()
    assert list_tracked(repository / "a") is None
