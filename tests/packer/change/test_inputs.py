"""What a change of each kind affects, in real git repositories: every input counts for its users, and for nobody else."""

import os
from pathlib import Path

import pytest

from packer.change.affected import match_changes
from packer.change.inputs import Change, Inventory
from packer.config.load import Overrides, load_config
from packer.core.errors import ResolveError
from packer.source.git import find_working_tree
from tests.packer.source.test_local_projects import project
from tests.repository import commit, git, make_repository

HANDLER = "def handler(event, context): ...\n"


def put(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with the functions a and b, not a repository yet."""
    root = tmp_path / "repository"
    put(root / "lpack.toml", 'discover = ["services/*"]\n')
    for name in ("a", "b"):
        put(root / "services" / name / "app.py", HANDLER)
    return root


def reasons(
    folder: Path, remembered: dict[str, list[str]] | None = None, config: str = "lpack.toml", names: tuple[str, ...] = ()
) -> dict[str, list[str]]:
    """Say what has changed since the branch main for each function, of all or of these names, that it affects."""
    found = load_config(folder / config, Overrides())
    tree = find_working_tree(folder)
    assert tree is not None
    base = tree.base("main")
    paths = tree.changed(base)
    change = Change(top=tree.top, paths=frozenset(paths), before=lambda path: tree.content(base, path))
    inventory = Inventory(change, found.out, lambda name: (remembered or {}).get(name, ()))
    answer = match_changes(
        {each.name: inventory.of(each) for each in found.functions if not names or each.name in names}, paths
    )
    return {name: [os.path.relpath(path, tree.top) for path in each] for name, each in answer.items()}


def test_source_counts_for_its_function(folder):
    make_repository(folder)
    assert reasons(folder) == {}
    put(folder / "services" / "a" / "deep" / "with space é.json")
    assert reasons(folder) == {"a": ["services/a/deep/with space é.json"]}
    (folder / "services" / "b" / "app.py").rename(folder / "services" / "b" / "main.py")
    assert reasons(folder)["b"] == ["services/b/app.py", "services/b/main.py"]


def test_what_is_no_source_does_not_count(folder):
    put(folder / "services" / "a" / "gone" / "x.pyc")
    put(folder / "services" / "a" / ".lpackignore", "tests/\n")
    put(folder / "services" / "a" / "tests" / "test_app.py")
    make_repository(folder)
    put(folder / "services" / "a" / "tests" / "test_app.py", "else")
    put(folder / "services" / "a" / "tests" / "new.py")
    (folder / "services" / "a" / "gone" / "x.pyc").unlink()
    put(folder / "README.md")
    put(folder / "dist" / "a.zip")
    assert reasons(folder) == {}


def test_rules_count_where_they_change_what_is_packed(folder):
    """What git tracks is packed whatever a .gitignore says."""
    put(folder / "services" / "a" / "tracked.log")
    make_repository(folder)
    put(folder / ".gitignore", "*.log\n")
    put(folder / "services" / "b" / ".lpackignore", "*.log\n")
    assert reasons(folder) == {}
    put(folder / "services" / "a" / "x.log")
    put(folder / ".gitignore", "*.tmp\n*.log\n")
    assert reasons(folder) == {"a": [".gitignore"]}
    commit(folder)
    git(folder, "branch", "-f", "main")
    assert reasons(folder) == {}
    (folder / ".gitignore").unlink()
    assert reasons(folder) == {"a": [".gitignore", "services/a/x.log"]}


def test_what_links_lead_to_counts(folder):
    put(folder / "common" / "x.py")
    put(folder / "one.py")
    (folder / "services" / "a" / "shared").symlink_to("../../common")
    (folder / "services" / "b" / "two.py").symlink_to("../../one.py")
    make_repository(folder)
    put(folder / "common" / "x.py", "else")
    put(folder / "common" / "y.pyc")
    put(folder / "one.py", "else")
    assert reasons(folder) == {"a": ["common/x.py"], "b": ["one.py"]}


def test_requirements_with_all_that_they_include(folder):
    put(folder / "services" / "a" / "requirements.txt", "-r ../../common.txt\n-c ../../limits.txt\n-f ../../wheels\n")
    for name in ("common.txt", "limits.txt", "other.txt", "wheels/x-1-py3-none-any.whl"):
        put(folder / name, "")
    make_repository(folder)
    put(folder / "other.txt", "beta\n")
    assert reasons(folder) == {}
    for name in ("common.txt", "limits.txt"):
        put(folder / name, "beta\n")
    (folder / "wheels" / "x-1-py3-none-any.whl").rename(folder / "wheels" / "x-2-py3-none-any.whl")
    put(folder / "wheels" / "notes.md")
    wheels = ["wheels/x-1-py3-none-any.whl", "wheels/x-2-py3-none-any.whl"]
    assert reasons(folder) == {"a": ["common.txt", "limits.txt", *wheels]}


def test_local_projects_in_requirements_and_those_that_they_need(folder):
    put(folder / "services" / "a" / "requirements.txt", "-e ../../libs/one\n")
    put(folder / "services" / "b" / "requirements.txt", "../../libs/two\n")
    project(folder, "libs/one", "two", tail='[tool.uv.sources]\ntwo = { path = "../two" }\n')
    project(folder, "libs/two")
    project(folder, "libs/three")
    make_repository(folder)
    put(folder / "libs" / "three" / "x.py")
    put(folder / "libs" / "two" / "build" / "left.py")
    assert reasons(folder) == {}
    put(folder / "libs" / "one" / "x.py")
    assert reasons(folder) == {"a": ["libs/one/x.py"]}
    put(folder / "libs" / "two" / "y.py")
    assert reasons(folder) == {"a": ["libs/one/x.py", "libs/two/y.py"], "b": ["libs/two/y.py"]}


def test_what_only_the_last_build_knows(folder):
    put(folder / "services" / "a" / "requirements.txt", "alpha\n")
    put(folder / "libs" / "one" / "setup.py")
    make_repository(folder)
    put(folder / "libs" / "one" / "x.py")
    assert reasons(folder) == {}
    remembered = {"a": [str(folder / "libs" / "one")]}
    assert reasons(folder, remembered) == {"a": ["libs/one/x.py"]}
    put(folder / "pylock.a.toml", LOCK)
    commit(folder)
    git(folder, "branch", "-f", "main")
    put(folder / "libs" / "one" / "x.py", "else")
    assert reasons(folder, remembered) == {}


LOCK = """
lock-version = "1.0"
created-by = "x"
[[packages]]
name = "lib"
directory = { path = "libs/lib" }
[[packages]]
name = "packed"
archive = { path = "packed-1.tar.gz", hashes = { sha256 = "00" } }
"""


def test_locks_and_the_local_projects_in_them(folder):
    put(folder / "pylock.a.toml", LOCK)
    put(folder / "libs" / "lib" / "x.py")
    put(folder / "services" / "b" / "pylock.toml", 'lock-version = "1.0"\ncreated-by = "x"\npackages = []\n')
    make_repository(folder)
    put(folder / "libs" / "lib" / "x.py", "else")
    put(folder / "packed-1.tar.gz")
    assert reasons(folder) == {"a": ["libs/lib/x.py", "packed-1.tar.gz"]}
    put(folder / "services" / "b" / "pylock.toml", LOCK)
    put(folder / "pylock.a.toml", LOCK + "\n")
    assert reasons(folder)["a"] == ["libs/lib/x.py", "packed-1.tar.gz", "pylock.a.toml"]
    assert reasons(folder)["b"] == ["services/b/pylock.toml"]


def test_deleted_lock_counts(folder):
    put(folder / "pylock.a.toml", LOCK)
    put(folder / "services" / "b" / "requirements.txt", "")
    put(folder / "services" / "b" / "poetry.lock", "")
    put(folder / "services" / "b" / "pyproject.toml", '[tool.poetry]\nname = "b"\n')
    make_repository(folder)
    (folder / "pylock.a.toml").unlink()
    (folder / "services" / "b" / "poetry.lock").unlink()
    assert reasons(folder) == {"a": ["pylock.a.toml"], "b": ["services/b/poetry.lock"]}


def test_of_a_project_only_what_says_something_of_its_dependencies(folder):
    path = project(folder, "services/a", "alpha", tail='[tool.ruff]\nx = 1\n[tool.uv]\nindex-url = "u"\n')
    make_repository(folder)
    before = path.read_text()
    path.write_text(before.replace("x = 1", "x = 2"))
    assert reasons(folder) == {}
    for old, new in (("alpha", "beta"), ('"u"', '"v"')):
        path.write_text(before.replace(old, new))
        assert reasons(folder) == {"a": ["services/a/pyproject.toml"]}
    path.write_text(before.replace("[tool", "x = [\n[tool", 1))
    with pytest.raises(Exception, match="not valid TOML"):
        reasons(folder)


def test_dynamic_dependencies_may_come_from_anywhere_in_the_project(folder):
    path = project(folder, "services/a")
    path.write_text(path.read_text().replace("dependencies = []", 'dynamic = ["dependencies"]'))
    put(folder / "services" / "a" / ".lpackignore", "deps.txt\n")
    make_repository(folder)
    put(folder / "services" / "a" / "deps.txt")
    assert reasons(folder) == {}  # its build sees no more of it either
    (folder / "services" / "a" / "deps.in").write_text("alpha")
    assert reasons(folder) == {"a": ["services/a/deps.in"]}


def test_settings_of_uv_in_a_parent_folder_count(folder):
    put(folder / "pyproject.toml", '[tool.uv]\nindex-url = "u"\n[tool.black]\nx = 1\n')
    make_repository(folder)
    put(folder / "pyproject.toml", '[tool.uv]\nindex-url = "u"\n[tool.uv.workspace]\nmembers = ["x"]\n')
    assert reasons(folder) == {}
    put(folder / "pyproject.toml", '[tool.uv]\nindex-url = "v"\n')
    put(folder / "services" / "uv.toml", "")
    both = ["pyproject.toml", "services/uv.toml"]
    assert reasons(folder) == {"a": both, "b": both}


def test_events_and_profiles_count(folder):
    tail = '[functions.a]\nverify = { events = ["events/*.json"] }\ntrim = "max"\n'
    put(folder / "lpack.toml", 'discover = ["services/*"]\n' + tail)
    put(folder / "events" / "one.json", "{}")
    put(folder / "events" / "old.json", "{}")
    make_repository(folder)
    put(folder / "events" / "notes.md")
    put(folder / "lpack-profile.b.toml")  # b is not trimmed by a profile
    assert reasons(folder) == {}
    (folder / "events" / "old.json").unlink()
    for name in ("events/new.json", "events/one.expected.json", "lpack-profile.a.toml"):
        put(folder / name, "{}")
    names = ["events/new.json", "events/old.json", "events/one.expected.json", "lpack-profile.a.toml"]
    assert reasons(folder) == {"a": names}


def test_a_submodule_counts_as_a_whole(folder, tmp_path):
    other = tmp_path / "other"
    put(other / "lib" / "pyproject.toml", '[project]\nname = "lib"\nversion = "1"\n')
    make_repository(other)
    put(folder / "services" / "a" / "requirements.txt", "../../vendored/lib\n")
    make_repository(folder)
    git(folder, "submodule", "add", "-q", str(other), "vendored")
    commit(folder)
    git(folder, "branch", "-f", "main")
    assert reasons(folder) == {}
    put(folder / "vendored" / "lib" / "x.py")
    assert reasons(folder) == {"a": ["vendored"]}


def test_what_lies_elsewhere_always_counts(folder, tmp_path):
    put(folder / "services" / "a" / "requirements.txt", "../../../lib\n")
    project(tmp_path, "lib")
    make_repository(folder)
    assert reasons(folder) == {"a": ["../lib"]}


def test_the_repository_may_reach_above_the_configuration_and_be_reached_by_links(tmp_path):
    root = tmp_path / "all" / "project"
    put(root / "lpack.toml", 'discover = ["services/*"]\n')
    put(root / "services" / "a" / "app.py", HANDLER)
    put(root / "services" / "a" / "requirements.txt", "../../lib\n")
    project(root, "lib")
    make_repository(tmp_path / "all")
    (tmp_path / "link").symlink_to("all/project")
    for path in ("lib/x.py", "services/a/x.py", "services/a/y.py"):
        put(tmp_path / "all" / path)
        put(root / path)
    put(tmp_path / "all" / "uv.toml", "")
    names = ["lib/x.py", "services/a/x.py", "services/a/y.py"]
    expected = {"a": [*(f"project/{name}" for name in names), "uv.toml"]}
    assert reasons(root) == expected
    assert reasons(tmp_path / "link") == expected


def shared(folder: Path) -> None:
    """Make the functions a, b and c, of which c is for another target, share versions; a needs a local project."""
    put(folder / "services" / "c" / "app.py", HANDLER)
    text = 'discover = ["services/*"]\nresolution = "shared"\n[functions.c]\nruntime = "python3.11"\n'
    put(folder / "lpack.toml", text)
    project(folder / "libs", "one", "beta")
    for name, line in (("a", "../../libs/one"), ("b", "beta"), ("c", "beta")):
        put(folder / "services" / name / "requirements.txt", f"{line}\n")


def test_what_decides_the_versions_of_one_counts_for_all_that_share(folder):
    shared(folder)
    make_repository(folder)
    put(folder / "services" / "a" / "more.py")
    put(folder / "libs" / "one" / "one.py")
    source = ["libs/one/one.py", "services/a/more.py"]
    assert reasons(folder) == {"a": source}  # what is no declaration decides no version
    put(folder / "services" / "b" / "requirements.txt", "beta<2\n")
    line = "services/b/requirements.txt"
    assert reasons(folder) == {"a": [*source, line], "b": [line]}
    put(folder / "services" / "b" / "requirements.txt", "beta\n")
    project(folder / "libs", "one", "beta<2")
    declared = "libs/one/pyproject.toml"
    assert reasons(folder) == {"a": [*source[:1], declared, *source[1:]], "b": [declared]}


def test_a_lock_counts_for_those_that_follow_it_and_keeps_its_own_versions(folder):
    shared(folder)
    put(folder / "pylock.a.toml", 'lock-version = "1.0"\n')
    make_repository(folder)
    put(folder / "services" / "b" / "requirements.txt", "beta<2\n")
    assert list(reasons(folder)) == ["b"]
    put(folder / "services" / "b" / "requirements.txt", "beta\n")
    put(folder / "pylock.a.toml", 'lock-version = "1.0"\npackages = []\n')
    assert reasons(folder) == {"a": ["pylock.a.toml"], "b": ["pylock.a.toml"]}


def test_a_peer_that_cannot_be_read_counts_by_its_file(folder):
    shared(folder)
    make_repository(folder)
    put(folder / "services" / "b" / "requirements.txt", "-r missing.txt\n")
    assert reasons(folder, names=("a",)) == {"a": ["services/b/requirements.txt"]}


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("packages = [3]\n", r"packages\[0\] must be a table"),
        ('[[packages]]\nname = "a"\ndirectory = 3\n', r"packages\[0\]\.directory must be a table"),
        ('[[packages]]\nname = "a"\nwheels = 3\n', r"packages\[0\]\.wheels must be a list"),
        ('[[packages]]\nname = "a"\narchive = { path = 3 }\n', r"packages\[0\]\.archive\.path must be a string"),
    ],
)
def test_a_lock_of_a_wrong_form_is_named(folder, lock, said):
    put(folder / "pylock.a.toml", lock)
    make_repository(folder)
    with pytest.raises(ResolveError, match=f"pylock.a.toml: {said}"):
        reasons(folder)
