"""The house holds: imports go down, packages have no circles, files and functions stay small, and start-up stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from docs.house import PICTURE, house_picture, needed_arrows
from tests.floors import FLOOR, MODULES, ONE_ROOM, ROOT, imported_names, imported_neighbors, package_of, parsed

LONGEST_FILE = 600
LONGEST_FUNCTION = 50
MOST_MODULES = 15
TABLES = frozenset({"packer.cli.commands"})
"""Packages with one module for each row of a table, which may be as long as it is."""

HEAVY = frozenset(
    (
        *("requests", "rich", "ruamel", "uv", "docker", "packaging", "pathspec", "deflate", "elftools"),
        *("obstore", "boto3", "distributed", "zstandard"),
    )
)


def tilted(name: str) -> Iterator[str]:
    """Give the imports of a module that do not go down."""
    own = package_of(name)
    for found in imported_neighbors(name):
        other = package_of(found)
        together = other == own or any({own, other} <= room for room in ONE_ROOM)
        if not together and FLOOR[other] >= FLOOR[own]:
            yield found


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return one circle of a graph, as graphlib finds it; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_imports_go_strictly_down():
    found = {name: sorted(set(tilted(name))) for name in MODULES}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize("package", FLOOR)
def test_a_package_has_no_circle(package):
    own = {name for name in MODULES if package_of(name) == package}
    assert circle({name: {found for found in imported_neighbors(name) if found in own and found != name} for name in own}) == []


def test_a_circle_is_found():
    assert circle({"a": ["b"], "b": ["c"], "c": []}) == []
    assert set(circle({"a": ["b"], "b": ["c"], "c": ["b"]})) == {"b", "c"}


def test_the_picture_of_the_house_is_current():
    assert PICTURE.read_text(encoding="utf-8") == house_picture(), "Draw it again: python -m docs.house"


def test_an_arrow_that_others_imply_is_not_drawn():
    imports = {"top": frozenset({"middle", "base"}), "middle": frozenset({"base"}), "base": frozenset[str]()}
    assert needed_arrows(imports)["top"] == {"middle"}


@pytest.mark.parametrize("package", sorted(FLOOR.keys() - TABLES))
def test_a_package_is_small_enough_to_be_known(package):
    own = [name for name in MODULES if package_of(name) == package and name not in FLOOR]
    assert len(own) <= MOST_MODULES


@pytest.mark.parametrize("package", sorted(FLOOR.keys() - {"packer", "builders.inside"}))
def test_a_package_says_what_it_is_for_what_it_imports_and_how_it_grows(package):
    lines = (ast.get_docstring(parsed(MODULES[package])) or "").split("\n")
    assert len([line for line in lines if line]) == 3, package
    assert lines[2].startswith("May import")


def test_the_import_reader_sees_every_form():
    source = "import packer.ui\ndef late():\n    from . import pipeline\n    from .cli import app\nfrom packer.ui import x\n"
    found = set(imported_names(ast.parse(source), "packer"))
    assert found == {"packer.ui", "packer.pipeline", "packer.cli.app", "packer.ui.x"}
    assert set(imported_names(ast.parse("from ..ui import y"), "packer.cli")) == {"packer.ui.y"}


def long_parts(path: Path) -> Iterator[str]:
    """Give the functions that are longer than one screen, and the file itself where it is longer than a concept takes."""
    if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE:
        yield path.name
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > LONGEST_FUNCTION:
            yield f"{path.name}: {node.name}"


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


@pytest.mark.parametrize("room", ["packer", "builders", "tests", "bench"])
def test_files_and_functions_stay_small(room):
    assert [part for path in sorted((ROOT / room).rglob("*.py")) for part in long_parts(path)] == []


def imported_by(code: str) -> set[str]:
    """Run code in a Python of its own and give the names of all modules that it imported."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, stdin=subprocess.DEVNULL)
    lines = [line for line in finished.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def heavy_imports(code: str) -> set[str]:
    """Run code in a Python of its own and give the libraries of weight that it imported."""
    return {name.partition(".")[0] for name in imported_by(code)} & HEAVY


def test_imported_by_sees_an_import():
    assert {"json.decoder", "deflate"} <= imported_by("import json, deflate")


@pytest.mark.parametrize(
    "code",
    [
        "import packer.cli",
        "import sys; sys.argv = ['lpack', '--help']; import packer.cli; packer.cli.main()",
        "import packer.cli.app",
        "import packer.core.model, packer.core.errors, packer.core.events",
        "import packer.cli.commands.build, packer.cli.common",
        "import packer.cache.signatures, packer.pipeline.state",
    ],
)
def test_starting_up_stays_light(code):
    assert not heavy_imports(code)


def test_the_help_page_needs_no_click():
    assert "click" not in imported_by("import sys; sys.argv = ['lpack', '--help']; import packer.cli; packer.cli.main()")


def class_names(tree: ast.AST) -> Iterator[str]:
    """Return the names of the classes that a module defines, nested ones too."""
    return (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def test_class_names_are_unique_in_the_house():
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for name in class_names(parsed(path)):
            places.setdefault(name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_nested_classes_are_found():
    source = "class A:\n    class B: ...\ndef make():\n    class A: ...\n"
    assert sorted(class_names(ast.parse(source))) == ["A", "A", "B"]


MOST_IMPORTED = 330
"""Modules, of the standard library too, that a build with something to do may import before it knows what."""


def test_a_build_imports_what_it_uses_and_no_more():
    found = imported_by("import packer.cli.commands.build, packer.cli.wiring, packer.pipeline.build")
    unused = (HEAVY - {"deflate"}) | {"tarfile", "zipfile", "configparser", "difflib", "cyclonedx", "email"}
    assert not {name.partition(".")[0] for name in found} & unused
    rooms = ("packer.images.", "packer.registry.", "packer.cluster.", "packer.report.", "builders.engine.")
    assert [name for name in found if name.startswith(rooms)] == []
    assert len(found) <= MOST_IMPORTED
