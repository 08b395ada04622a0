"""Makes the bills of materials of what a build has made, and says in the reports where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from packaging.requirements import Requirement

from packer.cache.store import Store
from packer.core.model import Function, Tree
from packer.formats.wheel import read_wheel
from packer.manifest.sbom import SUFFIX, Listed, Sboms
from packer.pipeline.layer_parts import required_names
from packer.pipeline.state import SBOM, FunctionState
from packer.resolve.requirement_graph import needs_of, requirements_of

_GONE = Tree(())
"""Stands for a wheel that is not in the store any more."""


def with_bills(
    states: Mapping[str, FunctionState], functions: Mapping[str, Function], fresh: Callable[[FunctionState], bool], store: Store
) -> tuple[dict[str, FunctionState], dict[str, bytes]]:
    """Give states whose reports name their bills, and the bills to write, by their paths below the output folder.

    ``fresh`` says whether a function, or one of its layers, is new; of any other the bill is there. Raises `LpackError`.
    """
    found: dict[str, FunctionState] = {}
    files: dict[str, bytes] = {}
    sboms, wheels = Sboms(store), _Wheels(store)
    for name, state in states.items():
        report = dict(state.report)
        if report.get(SBOM) and not fresh(state):
            found[name] = state
            continue
        path = f"{name}{SUFFIX}"
        files[path] = sboms.make(name, report["artifact"]["sha256"], list(_listed(functions[name], report, wheels)))
        layers = {}
        for layer, each in report.get("layers", {}).items():
            own = f"{Path(each['path']).with_suffix('')}{SUFFIX}"
            if own not in files:
                files[own] = sboms.make(layer, each["sha256"], list(_of_layer(each, wheels)))
            layers[layer] = {**each, SBOM: own}
        report |= {SBOM: path, **({"layers": layers} if layers else {})}
        found[name] = replace(state, report=report)
    return found, files


class _Wheels:
    """Reads wheels, each once, and what is in their metadata."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trees: dict[str, Tree | None] = {}
        self._requirements: dict[int, tuple[Requirement, ...] | None] = {}

    def tree(self, digest: str, filename: str) -> Tree | None:
        """Give what a wheel installs; None where it is not in the store any more."""
        if digest not in self._trees:
            path = self._store.wheel(digest)
            self._trees[digest] = read_wheel(path, filename) if path else None
        return self._trees[digest]

    def requirements(self, tree: Tree) -> tuple[Requirement, ...] | None:
        """Give what a distribution requires, of one of these trees, which stay as long as this does."""
        if id(tree) not in self._requirements:
            self._requirements[id(tree)] = requirements_of(tree)
        return self._requirements[id(tree)]


def _listed(function: Function, report: Mapping[str, Any], wheels: _Wheels) -> Iterator[Listed]:
    trees = {each["name"]: wheels.tree(each["sha256"], each["wheel"]) for each in report["distributions"]}
    needs = needs_of(function, {name: tree or _GONE for name, tree in trees.items()}, wheels.requirements)
    for each in report["distributions"]:
        requires = tuple(step.name for step in needs.edges.get(each["name"], ()))
        yield Listed(report=each, tree=trees[each["name"]], requires=requires)


def _of_layer(layer: Mapping[str, Any], wheels: _Wheels) -> Iterator[Listed]:
    """Give what a layer holds; some of its functions need not all of it, so that only the wheels say who requires what."""
    for each in layer["distributions"]:
        tree = wheels.tree(each["sha256"], each["wheel"])
        yield Listed(report=each, tree=tree, requires=required_names(tree) if tree else ())
