"""A function's tree: where its handler is, and what its parts add."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from builders.runtimes import Target
from packer.core.errors import UsageError
from packer.core.function_tree import locate_handler, part_sizes
from packer.core.model import OWN_SOURCE, BytesContent, Entry, Function, Tree
from packer.core.options import AttachedLayer, ExecutionSettings, LayerOptions, VerifyOptions
from packer.trim.merge import merge_trees


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
