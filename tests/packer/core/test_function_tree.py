"""Merging: every path once, and who owns it is never a matter of luck."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from builders.runtimes import Target
from packer.core.errors import PackageError, UsageError
from packer.core.function_tree import locate_handler, merge_trees, part_sizes
from packer.core.model import OWN_SOURCE, BytesContent, Entry, Function, Tree
from packer.core.options import AttachedLayer, ExecutionSettings, LayerOptions, VerifyOptions


def tree(owner: str, **files: str) -> Tree:
    return tree_of(owner, {name.replace("__", "/"): text for name, text in files.items()})


def tree_of(owner: str, files: dict[str, str], mode: int = 0o644) -> Tree:
    entries = (Entry(path=path, mode=mode, content=BytesContent.of(text.encode()), owner=owner) for path, text in files.items())
    return Tree.of(entries)


def function(handler: str) -> Function:
    return Function(
        name="orders",
        source=Path("/project/orders"),
        handler=handler,
        target=Target.of("python3.12", "x86_64"),
        requirements=None,
        lock_path=Path("/project/pylock.orders.toml"),
        verify=VerifyOptions(level="import"),
    )


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
    parts = [("left", tree_of("left", {"tests/__init__.py": "1"})), ("right", tree_of("right", {"tests/__init__.py": "2"}))]
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


@pytest.mark.parametrize(
    ("handler", "path"),
    [
        ("app.handler", "app.py"),
        ("app.handler", "app/__init__.py"),
        ("api.v1.app.handler", "api/v1/app.py"),
        ("api/app.handler", "api/app.py"),
        ("app.handler", "app.cpython-312-x86_64-linux-gnu.so"),
    ],
)
def test_handlers_are_found_in_every_form(handler, path):
    locate_handler(function(handler), tree_of(OWN_SOURCE, {path: ""}))


ATTACHED = AttachedLayer(arn="arn:aws:lambda:eu-west-1:111122223333:layer:LambdaAdapterLayerX86:25")
WRAPPER = ExecutionSettings(environment=(("AWS_LAMBDA_EXEC_WRAPPER", "/opt/bootstrap"),))
PLACES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a module": ("app.handler", {}, "module"),
    "a file of the source": ("run.sh", {}, "script"),
    "a file in a folder": ("./bin/run", {}, "script"),
    "something that a layer may hold": ("instana.lambda_handler", {"layers": LayerOptions(attached=(ATTACHED,))}, "layer"),
    "something for a wrapper": ("serve", {"execution": WRAPPER}, "script"),
    "anything that is not verified": ("serve", {"verify": VerifyOptions()}, "module"),
}


@pytest.mark.parametrize(("handler", "settings", "place"), PLACES.values(), ids=PLACES)
def test_a_handler_is_located_by_what_can_hold_it(handler, settings, place):
    tree = tree_of(OWN_SOURCE, {"app.py": "", "run.sh": "", "bin/run": ""})
    assert locate_handler(replace(function(handler), **settings), tree) == place


def test_a_missing_handler_is_refused_where_each_layer_is_known():
    layers = LayerOptions(attached=(replace(ATTACHED, content=Path("/layer"), complete=True),))
    with pytest.raises(UsageError, match=r"has no app\.py"):
        locate_handler(
            replace(function("app.handler"), layers=layers), tree_of(OWN_SOURCE, {"main.py": ""}), lambda: ["tool.py"]
        )


def test_a_missing_handler_names_the_modules_that_are_there():
    with pytest.raises(UsageError, match=r"has no app\.py") as caught:
        locate_handler(function("app.handler"), tree_of(OWN_SOURCE, {"main.py": "", "lib/app.py": "", "data.json": ""}))
    assert "Its modules are: main.py." in str(caught.value)


def test_shares_add_up_to_the_tree():
    parts = [("a", tree("a", one="12345", shared="same")), ("b", tree("b", two="12", shared="same"))]
    merged = merge_trees(parts, ())
    owners = {entry.owner: name for name, part in parts for entry in part}
    found = part_sizes(owners, {"a": "1.0", "b": "2.0"}, merged)
    assert [(share.name, share.version, share.files, share.unzipped) for share in found] == [
        ("a", "1.0", 2, 9),
        ("b", "2.0", 1, 2),
    ]
    assert sum(share.unzipped for share in found) == merged.size
