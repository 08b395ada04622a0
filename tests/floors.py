"""The table of floors, and who imports whom: read by the test of the floors and by the picture of the house.

Standard library only, as the picture is drawn where nothing else may be installed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The one table of floors, the lowest first: a package may import those of the rows above it, and nothing beside or below.
FLOORS = (
    ("builders", "builders.inside"),
    ("builders.rootfs",),
    ("builders.sandbox",),
    ("builders.engine", "builders.host"),
    ("packer",),
    ("packer.core",),
    ("packer.cache", "packer.sam"),
    ("packer.formats", "packer.net"),
    ("packer.registry", "packer.locks"),
    ("packer.source",),
    ("packer.resolve", "packer.trim"),
    ("packer.wheels", "packer.config"),
    ("packer.layers",),
    ("packer.images",),
    ("packer.verify",),
    ("packer.manifest",),
    ("packer.pipeline",),
    ("packer.cluster", "packer.change", "packer.inspect"),
    ("packer.report",),
    ("packer.cli", "packer.cli.commands"),
)
FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
ONE_ROOM = (frozenset({"packer.cli", "packer.cli.commands"}), frozenset({"builders", "builders.inside"}))
"""Packages that may import each other."""


def modules() -> Iterator[tuple[str, Path]]:
    """Give every module of both import packages with its file."""
    for package in ("packer", "builders"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())
PACKAGES = frozenset(name for name, path in MODULES.items() if path.name == "__init__.py")


def package_of(name: str) -> str:
    """Return the package that a module lies in; a package lies in itself, and what has no modules of its own in its parent."""
    while name not in FLOOR:
        name = name.rpartition(".")[0]
    return name


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Give what a module imports, wherever in it the import stands; a name may be a module or an object in one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imported_neighbors(name: str) -> Iterator[str]:
    """Give the modules of this project that a module imports."""
    package = name if name in PACKAGES else name.rpartition(".")[0]
    for found in imported_names(parsed(MODULES[name]), package):
        if found.partition(".")[0] in ("packer", "builders"):
            yield found if found in MODULES else found.rpartition(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
