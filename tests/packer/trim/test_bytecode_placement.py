"""Which sources bytecode may not replace: what no import finds by its name, and under ``auto`` what is the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.runtimes import Target
from packer.core.bytecode_paths import importable_sources
from packer.core.model import OWN_SOURCE, Distribution, Function, Tree
from packer.core.options import BytecodeMode, BytecodeOptions
from packer.source.facts import FactScan
from packer.trim.bytecode_placement import kept_sources
from packer.trim.material import Material
from tests.packer.trim.test_rules import tree_of

WHEEL = "one-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    "path",
    [
        "one/migrations/versions/0001_first.py",
        "one/migrations/versions/first.py",  # no package: its folder has no __init__.py
        "one/data/module.py",
        "one/0001_first.py",
        "one/my-script.py",
        "one/{{ app }}/module.py",
        "one/templates/app/models.py",
        "one/project_template/app.py",
        "bin/run.py",
        "my-folder/module.py",
    ],
)
def test_what_cannot_be_imported_by_its_name_is_no_module(path):
    tree = tree_of("one/__init__.py", "one/migrations/__init__.py", "one/templates/__init__.py", path)
    assert path not in importable_sources(tree)


@pytest.mark.parametrize("path", ["module.py", "one/__init__.py", "one/deep/core.py", "google/cloud/storage/client.py"])
def test_what_can_be_imported_is_one(path):
    tree = tree_of(*{"one/__init__.py", "one/deep/__init__.py", "google/cloud/storage/__init__.py", path})
    assert path in importable_sources(tree)


def kept(
    tree: Tree, mode: BytecodeMode, *, scan: FactScan | None = None, own: FactScan | None = None, local: bool = False
) -> set[str]:
    function = Function(
        name="orders",
        source=Path("orders"),
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=None,
        lock_path=Path("lock"),
        bytecode=BytecodeOptions(mode=mode),
    )
    material = Material(
        function=function,
        parts=(),
        distributions=(Distribution(name="one", version="1.0", filename=WHEEL, digest="", path=Path(WHEEL)),),
        scans={"one": scan or FactScan(), OWN_SOURCE: own or FactScan()},
        native={},
        profile=None,
        services=None,
        local=frozenset({"one"} if local else ()),
    )
    return set(kept_sources(material, tree, frozenset()))


ONE = tree_of("one/__init__.py", "one/core.py", "one/versions/0001.py", owner=WHEEL)
OWN = tree_of("app.py", "jobs/2024_clean.py", owner=OWN_SOURCE)
BOTH = Tree.of((*ONE, *OWN))
UNNAMED = {"one/versions/0001.py", "jobs/2024_clean.py"}


def test_auto_keeps_the_functions_own_sources_and_only_does_not():
    assert kept(BOTH, "auto") == {*UNNAMED, "app.py"}
    assert kept(BOTH, "only") == UNNAMED


def test_auto_keeps_local_projects():
    assert kept(ONE, "auto", local=True) == {entry.path for entry in ONE}
    assert kept(ONE, "only", local=True) == {"one/versions/0001.py"}


@pytest.mark.parametrize("scan", [FactScan(reads_sources=True), FactScan(suffixes=(".py",))])
def test_auto_keeps_what_reads_sources(scan):
    assert kept(ONE, "auto", scan=scan) == {entry.path for entry in ONE}
    assert kept(ONE, "only", scan=scan) == {"one/versions/0001.py"}


def test_a_source_that_is_named_as_a_file_stays():
    named = FactScan(named=("core.py",))
    for found in (kept(ONE, "only", scan=named), kept(ONE, "only", own=named)):
        assert found == {"one/core.py", "one/versions/0001.py"}
