"""Merging: every path once, and who owns it is never a matter of luck."""

from itertools import permutations

import pytest

from packer.core.errors import ManyErrors, PackageError
from packer.core.model import OWN_SOURCE, Tree
from packer.trim.merge import merge_trees, merge_untrimmed, rules_for_layer
from tests.packer.core.test_function_tree import tree, tree_of

PKGUTIL = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
SETUPTOOLS = "__import__('pkg_resources').declare_namespace(__name__)\n"


def texts(merged: Tree) -> dict[str, str]:
    return {entry.path: entry.content.read().decode() for entry in merged}


def test_merges_in_any_order_to_the_same_tree():
    parts = [("a", tree("a", a="1", ns__x="x")), ("b", tree("b", ns__y="y")), (OWN_SOURCE, tree(OWN_SOURCE, app="handler"))]
    merged = {merge_trees(order, ()).entries for order in permutations(parts)}
    assert len(merged) == 1
    assert [entry.path for entry in merged.pop()] == ["a", "app", "ns/x", "ns/y"]


def test_the_same_content_twice_is_kept_once():
    parts = [("a", tree("a", shared="same")), ("b", tree("b", shared="same"))]
    assert texts(merge_trees(parts, ())) == {"shared": "same"}


def test_an_executable_copy_of_the_same_content_stays_executable_in_any_order():
    parts = [("a", tree_of("a", {"run": "x"}, 0o644)), ("b", tree_of("b", {"run": "x"}, 0o755))]
    assert [entry.mode for order in permutations(parts) for entry in merge_trees(order, ())] == [0o755, 0o755]


def test_two_owners_of_one_path_are_both_named():
    parts = [
        ("left", tree_of("left", {"tests/__init__.py": "A = 1"})),
        ("right", tree_of("right", {"tests/__init__.py": "A = 2"})),
    ]
    with pytest.raises(PackageError, match=r"left and right both hold tests/__init__.py") as caught:
        merge_trees(parts, ())
    assert 'overlap = { "tests/__init__.py"' in str(caught.value)


def test_a_rule_decides_whatever_the_order():
    parts = [("left", tree("left", t__a="1")), ("right", tree("right", t__a="2"))]
    for order in permutations(parts):
        assert texts(merge_trees(order, (("t/*", "left"),))) == {"t/a": "1"}
    with pytest.raises(PackageError):
        merge_trees(parts, (("t/*", "other"),))


def test_the_functions_own_source_is_named_as_such():
    parts = [(OWN_SOURCE, tree(OWN_SOURCE, utils="1")), ("lib", tree("lib", utils="2"))]
    with pytest.raises(PackageError, match="the function's own source and lib both hold utils"):
        merge_trees(parts, ())
    assert texts(merge_trees(parts, (("utils", OWN_SOURCE),))) == {"utils": "1"}


def test_a_file_and_a_folder_of_one_name_are_refused():
    parts = [("a", tree_of("a", {"x": "1"})), ("b", tree_of("b", {"x/y/z": "2"}))]
    for order in permutations(parts):
        with pytest.raises(PackageError, match="a has the file x, and b the file x/y/z below it"):
            merge_trees(order, ())


def test_all_that_collides_is_told_at_once_with_rules_that_settle_it():
    parts = [
        ("one", tree_of("one", {"x/a.py": "1", "x/b.txt": "1", **{f"big/{n}[].py": f"A = {n}" for n in range(30)}})),
        ("two", tree_of("two", {"x/a.py": "2", **{f"big/{n}[].py": f"B = {n}" for n in range(30)}})),
        ("three", tree_of("three", {"x/a.py": "3", "x/b.txt": "3"})),
        (OWN_SOURCE, tree_of(OWN_SOURCE, {"x/b.txt": "0"})),
    ]
    with pytest.raises(PackageError) as caught:
        merge_trees(parts, ())
    what, _, remedy = str(caught.value).partition("\n")
    assert "one, two and three all hold x/a.py, with different content." in what
    assert "one, three and the function's own source all hold x/b.txt, with different content." in what
    assert "one and two both hold big/0[].py, big/10[].py, big/11[].py and 27 more, with different content." in what
    assert 'leave out the other: exclude = ["one"]' in remedy
    rules = {"big/*": "two", "x/a.py": "three", "x/b.txt": "source"}
    for pattern, winner in rules.items():
        assert f'"{pattern}" = "{winner}"' in remedy
    taken = tuple((pattern, winner.replace("source", OWN_SOURCE)) for pattern, winner in rules.items())
    merged = texts(merge_trees(parts, taken))
    assert (merged["x/a.py"], merged["x/b.txt"], merged["big/7[].py"]) == ("3", "0", "B = 7")


def test_a_file_and_a_folder_are_told_together_with_other_collisions():
    parts = [("a", tree_of("a", {"x": "1", "same": "1"})), ("b", tree_of("b", {"x/y": "2", "same": "2"}))]
    with pytest.raises(ManyErrors) as caught:
        merge_trees(parts, ())
    assert [error.what.partition(",")[0] for error in caught.value.errors] == ["a and b both hold same", "a has the file x"]


def test_equivalent_namespaces_merge_to_the_same_one_in_any_order():
    parts = [
        ("a", tree_of("a", {"ns/__init__.py": f"# of a\n{PKGUTIL}", "ns/a.py": ""})),
        ("b", tree_of("b", {"ns/__init__.py": SETUPTOOLS})),
        ("c", tree_of("c", {"ns/__init__.py": PKGUTIL})),
        ("d", tree_of("d", {"ns/__init__.py": ""})),
    ]
    merged = {texts(merge_trees(order, ()))["ns/__init__.py"] for order in permutations(parts)}
    assert len(merged) == 1
    assert merged.pop().endswith(PKGUTIL)


def test_texts_about_the_project_are_the_sources_own():
    files = {"README.md": "mine", "LICENSE": "mine", "setup.py": "mine"}
    parts = [(OWN_SOURCE, tree_of(OWN_SOURCE, files)), ("lib", tree_of("lib", dict.fromkeys(files, "theirs")))]
    assert texts(merge_trees(parts, ())) == files
    with pytest.raises(PackageError, match=r"both hold docs/README\.md"):
        merge_trees([(name, tree_of(name, {"docs/README.md": name})) for name in ("a", "b")], ())


def test_untrimmed_trees_take_the_first_of_everything():
    parts = [("a", tree_of("a", {"x": "1", "same": "1"})), ("b", tree_of("b", {"x/y": "2", "same": "2"}))]
    assert texts(merge_untrimmed(parts, ())) == {"same": "1", "x/y": "2"}


def test_bytecode_in_a_layer_is_that_of_the_source_that_is_taken():
    sources = {"a": SETUPTOOLS, "b": PKGUTIL}
    rules = rules_for_layer([(name, tree_of(name, {"ns/__init__.py": text})) for name, text in sources.items()], 12)
    for path in ("ns/__init__.pyc", "ns/__pycache__/__init__.cpython-312.pyc"):
        assert texts(merge_trees([(name, tree_of(name, {path: name})) for name in sources], rules)) == {path: "b"}
