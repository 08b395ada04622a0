"""Profiles: read and written, applied to distributions, and stubs that say who is to blame; Python itself is the oracle."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.core.errors import UsageError
from packer.core.function_tree import Part
from packer.core.model import OWN_SOURCE, Tree
from packer.trim.engine import RemovedFile
from packer.trim.merge import merge_trees
from packer.trim.profile import Profile, apply_profile, profile_text, read_profile
from packer.trim.rules import PROFILE
from tests.packer.trim.test_rules import tree_of

INFO = ("one-1.0.dist-info/METADATA", "one-1.0.dist-info/licenses/LICENSE")
OPENED = ("one/__init__.py", "one/used.py", "one/words.txt")
FILES = (
    *(*INFO, *OPENED, "one/unused.py", "one/unused.txt", "one/deep/__init__.py", "one/deep/er.py"),
    *("one/fast.cpython-312-x86_64-linux-gnu.so", "one/COPYING", "one/not-a-module.py"),
)


def profile(
    opened: dict[str, tuple[str, ...]], versions: dict[str, str] | None = None, read: dict[str, tuple[str, ...]] | None = None
) -> Profile:
    return Profile(
        function="orders",
        runtime="python3.12",
        architecture="x86_64",
        opened={name: frozenset(paths) for name, paths in opened.items()},
        versions=versions or dict.fromkeys(opened, "1.0"),
        read={name: frozenset(paths) for name, paths in (read or {}).items()},
    )


def applied(*parts: Part, given: Profile, held: tuple[str, ...] = ()) -> tuple[dict[str, Tree], tuple[RemovedFile, ...]]:
    versions = {name: "1.0" for name, _ in parts if name != OWN_SOURCE}
    found, removed = apply_profile(parts, given, versions, held)
    assert [name for name, _ in found] == [name for name, _ in parts]
    return dict(found), removed


def texts(tree: Tree) -> dict[str, str]:
    return {entry.path: entry.content.read().decode() for entry in tree}


names = st.text("abcxyz-._09", min_size=1)
files = st.frozensets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10), max_size=4)


@given(opened=st.dictionaries(names, st.tuples(files, files), max_size=4), versions=st.lists(st.text("0123.+abc"), min_size=4))
def test_what_is_written_is_read_again(tmp_path_factory, opened, versions):
    path = tmp_path_factory.getbasetemp() / "lpack-profile.orders.toml"
    given = Profile(
        function="orders",
        runtime="python3.12",
        architecture="x86_64",
        opened={name: found for name, (found, _) in opened.items()},
        versions=dict(zip(opened, versions, strict=False)),
        read={name: found for name, (_, found) in opened.items()},
    )
    path.write_bytes(profile_text(given))
    assert read_profile(path) == given


def test_the_file_is_made_to_be_reviewed_and_always_the_same():
    first = profile({"two": ("two/b.py", "two/a.py"), "one": ()}, read={"two": ("two/a.py",), "one": ()})
    again = profile({"one": (), "two": ("two/a.py", "two/b.py")}, read={"two": ("two/a.py",)})
    assert profile_text(first) == profile_text(again)
    text = profile_text(first).decode()
    assert text.startswith("# What orders opened")
    assert "`lpack profile orders`" in text
    assert tomllib.loads(text) == {
        "profile": 1,
        "function": "orders",
        "runtime": "python3.12",
        "architecture": "x86_64",
        "distributions": {
            "one": {"version": "1.0", "opened": []},
            "two": {"version": "1.0", "opened": ["two/a.py", "two/b.py"], "read": ["two/a.py"]},
        },
    }


def test_a_profile_that_is_not_there_is_none(tmp_path):
    assert read_profile(tmp_path / "lpack-profile.orders.toml") is None


def test_paths_and_sources_are_those_of_all_distributions():
    found = profile({"one": ("one/a.py", "one/b.py"), "two": ("two/a.py",)}, read={"one": ("one/b.py",), "two": ("two/a.py",)})
    assert found.paths() == {"one/a.py", "one/b.py", "two/a.py"}
    assert found.sources() == {"one/b.py", "two/a.py"}


GOOD = 'profile = 1\nfunction = "orders"\nruntime = "python3.12"\narchitecture = "x86_64"\n'


def test_a_profile_without_distributions_is_one(tmp_path):
    (tmp_path / "profile.toml").write_text(GOOD)
    assert read_profile(tmp_path / "profile.toml") == profile({})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "'profile' is missing"),
        (GOOD.replace("profile = 1", "profile = 2"), "its form is 2, and this lpack reads 1"),
        (GOOD.replace('function = "orders"\n', ""), "'function' is missing"),
        (GOOD.replace('runtime = "python3.12"\n', ""), "'runtime' is missing"),
        (GOOD + "distributions = 3\n", ""),
        (GOOD + "[distributions]\none = 3\n", ""),
        (GOOD + '[distributions.one]\nversion = "1.0"\n', "'opened' is missing"),
        (GOOD + "[distributions.one]\nopened = []\n", "'version' is missing"),
        (GOOD + '[distributions.one]\nversion = "1.0"\nopened = 3\n', ""),
        (GOOD + '[distributions.one]\nversion = "1.0"\nopened = [[]]\n', ""),
        ("profile = \n", "line 1"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_file_that_is_no_profile_is_named_with_its_trouble(tmp_path, data, reason):
    path = tmp_path / "lpack-profile.orders.toml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(UsageError) as caught:
        read_profile(path)
    assert caught.value.what.startswith(f"{path} is no profile: ")
    assert reason in caught.value.what
    assert "lpack profile" in caught.value.remedy


def test_a_folder_in_its_place_is_no_profile(tmp_path):
    with pytest.raises(UsageError, match="is no profile"):
        read_profile(tmp_path)


def test_what_was_not_opened_goes_but_for_metadata_and_licences():
    found, removed = applied(("one", tree_of(*FILES)), given=profile({"one": OPENED}))
    tree = texts(found["one"])
    assert {path for path, text in tree.items() if text == path} == {*INFO, *OPENED, "one/COPYING"}
    assert {each.path for each in removed} == set(FILES) - {*INFO, *OPENED, "one/COPYING"}
    assert {(each.rule, each.owner) for each in removed} == {(PROFILE, "one")}
    assert sum(each.size for each in removed) == sum(len(each.path) for each in removed)


def test_stubs_stand_for_modules_and_once_for_a_package_that_is_gone_whole():
    found, _ = applied(("one", tree_of(*FILES)), given=profile({"one": OPENED}))
    stubs = {path for path, text in texts(found["one"]).items() if text != path}
    assert stubs == {"one/unused.py", "one/deep/__init__.py", "one/fast.py"}


def test_a_distribution_of_which_nothing_was_opened_leaves_one_stub():
    found, _ = applied(("one", tree_of(*INFO, "one/__init__.py", "one/a.py", "one/deep/b.py")), given=profile({"one": ()}))
    assert set(texts(found["one"])) == {*INFO, "one/__init__.py"}
    single, _ = applied(("one", tree_of(*INFO, "single.py", "words.txt")), given=profile({"one": ()}))
    assert set(texts(single["one"])) == {*INFO, "single.py"}


def test_a_module_that_is_there_in_another_form_gets_no_stub():
    native = "one/fast.cpython-312-x86_64-linux-gnu.so"
    tree = tree_of("one/__init__.py", "one/fast.py", native)
    for opened in ("one/fast.py", native):
        found, _ = applied(("one", tree), given=profile({"one": ("one/__init__.py", opened)}))
        assert texts(found["one"]) == {path: path for path in ("one/__init__.py", opened)}


def test_all_that_was_opened_leaves_nothing_to_do():
    tree = tree_of(*FILES)
    assert applied(("one", tree), given=profile({"one": FILES})) == ({"one": tree}, ())


def laid_out(folder: Path, tree: Tree) -> Path:
    for entry in tree:
        path = folder / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.content.read() if entry.path != entry.content.read().decode() else b"")
    return folder


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("one.unused", "one/unused.py"),
        ("one.deep", "one/deep/__init__.py"),
        ("one.deep.er", "one/deep/__init__.py"),
        ("one.fast", "one/fast.py"),
    ],
)
def test_importing_what_is_gone_fails_loudly_even_where_an_import_error_is_expected(tmp_path, module, path):
    found, _ = applied(("one", tree_of(*FILES)), given=profile({"one": OPENED}))
    code = f"import one.used\ntry:\n    import {module}\nexcept ImportError:\n    print('swallowed')\n"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(laid_out(tmp_path, found['one']))!r})\n{code}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 1
    assert finished.stdout == ""
    last = finished.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: lpack removed the module one.")
    assert module.startswith(last.removeprefix("RuntimeError: lpack removed the module ").partition(" ")[0])
    assert "the profile of the function orders" in last
    assert "Run `lpack profile orders`" in last
    assert f'trim = {{ level = "max", keep = ["{path}"] }}' in last


def test_the_functions_own_source_stays_whole():
    own = tree_of("app.py", "unused.py", owner=OWN_SOURCE)
    assert applied((OWN_SOURCE, own), given=profile({OWN_SOURCE: ()})) == ({OWN_SOURCE: own}, ())


def test_a_distribution_of_another_version_stays_whole_and_others_do_not():
    parts = (("one", tree_of("one/a.py", "one/b.py")), ("two", tree_of("two/a.py", "two/b.py")))
    given = profile({"one": ("one/a.py",), "two": ("two/a.py",)}, versions={"one": "1.1", "two": "1.0"})
    found, removed = applied(*parts, given=given)
    assert found["one"] == parts[0][1]
    assert [each.path for each in removed] == ["two/b.py"]


def test_what_is_held_back_stays_whole():
    parts = (("one", tree_of("one/a.py", "one/b.py")), ("two", tree_of("two/a.py", "two/b.py")))
    given = profile({"one": ("one/a.py",), "two": ("two/a.py",)})
    found, removed = applied(*parts, given=given, held=("one",))
    assert found["one"] == parts[0][1]
    assert {each.owner for each in removed} == {"two"}


def test_a_stub_does_not_break_a_namespace_package(tmp_path):
    parts = [("one", tree_of("ns/one/__init__.py")), ("two", tree_of("ns/two/__init__.py"))]
    given = profile({"one": (), "two": ("ns/two/__init__.py",)})
    found, _ = apply_profile(parts, given, {"one": "1.0", "two": "1.0"}, ())
    folder = laid_out(tmp_path, merge_trees(found, ()))
    subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); import ns.two"], check=True)


def test_a_stub_does_not_clash_with_another_distributions_package():
    parts = [("one", tree_of("ns/one/__init__.py")), ("two", tree_of("ns/__init__.py", "ns/two/__init__.py"))]
    given = profile({"one": (), "two": ("ns/__init__.py", "ns/two/__init__.py")})
    found, _ = apply_profile(parts, given, {"one": "1.0", "two": "1.0"}, ())
    merge_trees(found, ())


@pytest.mark.parametrize("line", ['opened = "one.py"', "opened = [3]", 'opened = []\nread = "one.py"'])
def test_a_profile_with_wrong_types_is_refused(tmp_path, line):
    (tmp_path / "p.toml").write_text(GOOD + f'[distributions.one]\nversion = "1.0"\n{line}\n')
    with pytest.raises(UsageError):
        read_profile(tmp_path / "p.toml")
