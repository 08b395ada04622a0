"""A function's source: what is packed, what is left out, and that nothing goes missing in silence."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import packer.source.git
from packer.cache.signatures import Digests
from packer.core.errors import UsageError
from packer.source.function_source import SourceScan, scan_outline, scan_source
from tests.repository import git, make_repository


def scan(folder: Path, **options) -> SourceScan:
    return scan_source(folder, Digests(), **options)


def paths(folder: Path, **options) -> list[str]:
    return [entry.path for entry in scan(folder, **options).tree]


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_data_and_shared_libraries_are_packed(tmp_path):
    write(
        tmp_path, "app.py", "model.bin", "lib/libx.so", "lib/liby.so.1.2", "pkg/data.json", "empty/.keep", "tests/test_app.py"
    )
    expected = ["app.py", "empty/.keep", "lib/libx.so", "lib/liby.so.1.2", "model.bin", "pkg/data.json", "tests/test_app.py"]
    assert paths(tmp_path) == expected


def test_defaults_leave_out_what_tools_leave_behind(tmp_path):
    write(tmp_path, "app.py", ".git/config", "__pycache__/app.cpython-312.pyc", "x.pyc", ".mypy_cache/a", "node_modules/a/b.js")
    write(
        tmp_path, "myenv/pyvenv.cfg", "myenv/lib/x.py", "pkg.egg-info/PKG-INFO", "pylock.a.toml", ".DS_Store", "sub/.DS_Store"
    )
    assert paths(tmp_path) == ["app.py"]


def test_gitignore_counts_nested_negated_and_from_above(tmp_path):
    write(tmp_path, ".git/config")
    (tmp_path / ".gitignore").write_text("*.log\n/services/orders/secret\n")
    source = tmp_path / "services" / "orders"
    write(source, "app.py", "a.log", "secret/key", "keep/b.log", "keep/c.tmp")
    (source / "keep" / ".gitignore").write_text("!b.log\n*.tmp\n")
    found = scan(source)
    assert [entry.path for entry in found.tree] == ["app.py", "keep/b.log"]
    assert found.left_out == ("a.log", "keep/c.tmp", "secret/")


def test_gitignore_outside_of_a_repository_has_no_say_from_above(tmp_path):
    (tmp_path / ".gitignore").write_text("*.py\n")
    source = tmp_path / "orders"
    write(source, "app.py")
    assert paths(source) == ["app.py"]


def make_tracked(folder: Path) -> Path:
    """Make a repository in which files are tracked that its .gitignore files name, and others are not."""
    write(folder, "fn/app.py", "fn/lib/rates.py", "fn/lib/deep/er.py", "fn/a.log", "fn/data/in.csv", "fn/sub/dist/x.js")
    (folder / ".gitignore").write_text("lib/\n*.log\ndist\n")
    (folder / "fn" / "data" / ".gitignore").write_text("*\n")
    make_repository(folder)
    git(folder, "add", "--force", ".")
    git(folder, "commit", "-q", "-m", "all of it")
    write(folder, "fn/lib/new.py", "fn/b.log", "fn/new.py", "fn/data/more.csv", "fn/dist/y.js", "fn/lib/other/z.py")
    return folder / "fn"


def test_what_git_tracks_is_packed_whatever_gitignore_says(tmp_path):
    source = make_tracked(tmp_path)
    found = scan(source)
    kept = git(source, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    assert [entry.path for entry in found.tree] == sorted(set(kept) - {"data/.gitignore"})
    assert {"lib/rates.py", "lib/deep/er.py", "a.log", "data/in.csv", "sub/dist/x.js", "new.py"} <= set(kept)
    assert found.left_out == ("b.log", "data/more.csv", "dist/", "lib/new.py", "lib/other/")
    assert str(tmp_path / ".git/index") in found.watched
    git(tmp_path, "add", "--force", "fn/b.log")
    assert "b.log" in paths(source)
    git(tmp_path, "rm", "--quiet", "--cached", "fn/a.log")
    assert "a.log" not in paths(source)


def test_rules_of_lpack_leave_out_what_git_tracks(tmp_path):
    source = make_tracked(tmp_path)
    (source / ".lpackignore").write_text("deep/\n")
    assert not {"lib/deep/er.py", "a.log"} & set(paths(source, ignore=("a.log",)))


def test_links_and_submodules_that_git_tracks_are_packed_whole(tmp_path):
    other = make_tracked(tmp_path / "other").parent
    folder = tmp_path / "project"
    write(folder, "common/x.py", "fn/app.py")
    (folder / "fn" / "lib").symlink_to("../common")
    (folder / ".gitignore").write_text("lib\nvendor/\n")
    make_repository(folder)
    git(folder, "submodule", "--quiet", "add", "--force", str(other), "fn/vendor/other")
    git(folder, "add", "--force", "fn/lib")
    found = paths(folder / "fn")
    assert {"lib/x.py", "vendor/other/fn/app.py", "vendor/other/fn/lib/rates.py"} <= set(found)


@pytest.mark.parametrize("what", ["a linked working tree", "a repository of somebody else's"])
def test_the_index_is_read_where_git_keeps_it_elsewhere_or_does_not_trust_it(tmp_path, what):
    source = make_tracked(tmp_path / "repository")
    if what == "a linked working tree":
        git(source, "worktree", "add", "--quiet", str(tmp_path / "linked"), "HEAD")
        source = tmp_path / "linked" / "fn"
    elif os.getuid():
        pytest.skip("only root gives files away")
    else:
        for path in (source.parent, *source.parent.rglob("*")):
            os.chown(path, 12345, 12345, follow_symlinks=False)
    assert "lib/rates.py" in paths(source)


def test_without_git_its_rules_alone_count(tmp_path, monkeypatch):
    source = make_tracked(tmp_path)
    monkeypatch.setenv("PATH", "")
    list_tracked_afresh(monkeypatch)
    assert paths(source) == ["app.py", "new.py"]


def list_tracked_afresh(monkeypatch) -> None:
    """Forget what git has said of the same index."""
    monkeypatch.setattr("packer.source.git._list_tracked", packer.source.git._list_tracked.__wrapped__)


def test_an_outline_holds_what_git_tracked_before_it_was_deleted(tmp_path):
    source = make_tracked(tmp_path)
    outline = scan_outline(source)
    assert outline.files == set(paths(source))
    assert outline.holds("lib/rates.py")
    assert not outline.holds("lib/new.py")
    git(tmp_path, "rm", "--quiet", "--force", "fn/lib/rates.py")
    assert scan_outline(source).holds("lib/rates.py")


def test_gitignore_never_leaves_out_a_shared_library(tmp_path):
    write(tmp_path, ".git/config", "native.so", "x.dat")
    (tmp_path / ".gitignore").write_text("*.so\n*.dat\n")
    found = scan(tmp_path)
    assert [entry.path for entry in found.tree] == ["native.so"]
    assert found.left_out == ("x.dat",)


def test_lpackignore_and_configuration_come_first(tmp_path):
    write(tmp_path, ".git/config", "app.py", "data.bin", "big.so", "notes/x.md", "tests/t.py")
    (tmp_path / ".gitignore").write_text("data.bin\n")
    (tmp_path / ".lpackignore").write_text("!data.bin\nbig.so\nnotes/\n")
    found = scan(tmp_path, ignore=("tests/",))
    assert [entry.path for entry in found.tree] == ["app.py", "data.bin"]
    assert found.left_out == ()


def test_the_output_folder_is_no_source(tmp_path):
    write(tmp_path, "app.py", "dist/app.zip")
    assert paths(tmp_path, skip=[tmp_path / "dist"]) == ["app.py"]


def test_a_skipped_file_is_source_where_the_users_own_rules_keep_it(tmp_path):
    write(tmp_path, "app.py", "requirements.txt", "dist/app.zip")
    skip = [tmp_path / "requirements.txt", tmp_path / "dist"]
    assert paths(tmp_path, skip=skip) == ["app.py"]
    assert paths(tmp_path, skip=skip, ignore=("!requirements.txt",)) == ["app.py", "requirements.txt"]
    (tmp_path / ".lpackignore").write_text("!requirements.txt\n!dist/\n")
    assert paths(tmp_path, skip=skip) == ["app.py", "requirements.txt"]
    assert scan_outline(tmp_path, skip=skip).holds("requirements.txt")


def test_what_links_have_packed_more_than_once_is_counted(tmp_path):
    write(tmp_path, "app.py", "lib/libx.so.1.2", "data/big/one.bin", "outside/y")
    (tmp_path / "lib/libx.so.1").symlink_to("libx.so.1.2")
    (tmp_path / "lib/libx.so").symlink_to("libx.so.1")
    (tmp_path / "more").symlink_to("data/big")
    (tmp_path / "alone").symlink_to("outside/y")
    found = scan(tmp_path, ignore=("outside/",))
    assert {frozenset(copies.paths): copies.bytes for copies in found.copies} == {
        frozenset({"lib/libx.so", "lib/libx.so.1", "lib/libx.so.1.2"}): 2 * len("lib/libx.so.1.2"),
        frozenset({"more/one.bin", "data/big/one.bin"}): len("data/big/one.bin"),
    }


def test_modes_depend_on_the_owners_bit_alone(tmp_path):
    write(tmp_path, "run.sh", "group.sh", "app.py")
    (tmp_path / "run.sh").chmod(0o700)
    (tmp_path / "group.sh").chmod(0o674)
    (tmp_path / "app.py").chmod(0o600)
    assert {entry.path: entry.mode for entry in scan(tmp_path).tree} == {"run.sh": 0o755, "group.sh": 0o644, "app.py": 0o644}


def test_links_are_followed_and_loops_refused(tmp_path):
    write(tmp_path, "shared/util.py", "orders/app.py")
    (tmp_path / "orders" / "util.py").symlink_to("../shared/util.py")
    (tmp_path / "orders" / "shared").symlink_to("../shared")
    assert paths(tmp_path / "orders", root=tmp_path) == ["app.py", "shared/util.py", "util.py"]
    (tmp_path / "orders" / "loop").symlink_to(".")
    with pytest.raises(UsageError, match="leads back"):
        scan(tmp_path / "orders", root=tmp_path)


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"a\\b.txt"])
def test_names_that_no_archive_can_hold_are_refused(tmp_path, name):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("x")
    with pytest.raises(UsageError, match="Rename the file"):
        scan(tmp_path)


def test_broken_links_are_refused_by_name(tmp_path):
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    with pytest.raises(UsageError, match=r"gone\.py \(a link to nowhere\.py\): No such file") as caught:
        scan(tmp_path)
    assert ".lpackignore" in caught.value.remedy


@pytest.mark.parametrize("rule", ["*.log", "gone/", "*"])
def test_broken_links_that_are_left_out_are_not_looked_at(tmp_path, rule):
    write(tmp_path, "app.py")
    for name in (".#app.py", "gone", "x.log"):
        (tmp_path / name).symlink_to("me@host.1234")
    (tmp_path / ".lpackignore").write_text(f".#*\ngone/\n*.log\n{rule}\n!app.py\n")
    assert paths(tmp_path) == ["app.py"]


def test_what_editors_leave_beside_a_file_is_left_out_by_default(tmp_path):
    write(tmp_path, "app.py", "#app.py#")
    (tmp_path / ".#app.py").symlink_to("me@host.1234")
    assert paths(tmp_path) == ["app.py"]


def test_names_that_no_archive_can_hold_may_be_left_out(tmp_path):
    write(tmp_path, "app.py", "a\\b.log")
    (tmp_path / ".lpackignore").write_text("*.log\n")
    assert paths(tmp_path) == ["app.py"]


def test_a_link_that_rules_for_folders_leave_out_is_left_out_where_it_leads_to_one(tmp_path):
    write(tmp_path, "app.py", ".git/config", "real/x.py", "file.py")
    (tmp_path / ".gitignore").write_text("folder/\nfile/\n")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "file").symlink_to("file.py")
    found = scan(tmp_path)
    assert [entry.path for entry in found.tree] == ["app.py", "file", "file.py", "real/x.py"]
    assert found.left_out == ("folder/",)


@st.composite
def ruled(draw) -> dict[str, str]:
    """Give files by path, some of which are rules."""
    names = st.sampled_from(["a", "b", "c.log", "x.so", "build", "__pycache__"])
    paths = draw(st.sets(st.lists(names, min_size=1, max_size=3).map("/".join), max_size=8))
    files = {path: "content" for path in paths if not any(other.startswith(path + "/") for other in paths)}
    lines = st.lists(st.sampled_from(["*.log", "a/", "!a/b", "/b", "build", "!__pycache__/", "*.so"]), max_size=3).map(
        "\n".join
    )
    for place in ("", "a/", "b/"):
        for name in (".gitignore", ".lpackignore"):
            if draw(st.booleans()) and place[:-1] not in files:
                files[place + name] = draw(lines)
    return files


@given(files=ruled(), git=st.booleans())
def test_an_outline_is_what_a_scan_finds(tmp_path_factory, files, git):
    folder = tmp_path_factory.mktemp("source")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    found = {entry.path for entry in scan_source(folder, Digests(), git=git).tree}
    outline = scan_outline(folder, git=git)
    assert outline.files == found
    assert {path for path in files if outline.holds(path)} == found
    for path in files:
        (folder / path).unlink() if "ignore" not in path else None
    gone = scan_outline(folder, git=git)
    assert {path for path in files if gone.holds(path)} == found


def test_an_outline_follows_links_and_knows_their_ends(tmp_path):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "x.py").touch()
    (tmp_path / "one.py").touch()
    source = tmp_path / "source"
    source.mkdir()
    (source / "shared").symlink_to("../common")
    (source / "two.py").symlink_to("../one.py")
    outline = scan_outline(source, root=tmp_path)
    assert outline.files == {"shared/x.py", "two.py"}
    assert outline.links == {"": str(source), "shared/": str(tmp_path / "common"), "two.py": str(tmp_path / "one.py")}


def test_an_outline_with_other_rules(tmp_path):
    (tmp_path / ".lpackignore").write_text("*.log\n")
    (tmp_path / "a.log").touch()
    assert scan_outline(tmp_path).files == set()
    path = str(tmp_path / ".lpackignore")
    assert path in scan_outline(tmp_path).rules
    assert scan_outline(tmp_path, replaced={path: None}).files == {"a.log"}
    assert scan_outline(tmp_path, replaced={path: b"*.txt\r\n"}).files == {"a.log"}
    assert scan_outline(tmp_path, skip=[tmp_path / "a.log"], replaced={path: None}).holds("a.log") is False


@pytest.mark.parametrize("name", [".lpackignore", ".gitignore"])
def test_unreadable_ignore_rules_are_an_error(tmp_path, name):
    (tmp_path / ".git").mkdir()
    write(tmp_path, "fn/app.py")
    (tmp_path / "fn" / name).symlink_to(name)  # cannot be opened, whoever opens it
    with pytest.raises(UsageError, match=rf"Cannot read the ignore rules of .*fn/{name}: Too many levels"):
        scan(tmp_path / "fn")


@pytest.mark.parametrize("name", [".lpackignore", ".gitignore"])
def test_folder_named_like_ignore_rules_has_none(tmp_path, name):
    (tmp_path / ".git").mkdir()
    write(tmp_path, "fn/app.py", f"fn/{name}/file")
    assert paths(tmp_path / "fn") == ["app.py"]
