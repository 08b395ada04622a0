"""Paths where Python looks for bytecode (PEP 3147), and the sources that it can be in the place of."""

from __future__ import annotations

import re

from packer.core.model import Tree

_TEMPLATES = re.compile(r"templat|skeleton|scaffold|boilerplate|cookiecutter|\{\{", re.IGNORECASE)


def is_template(path: str) -> bool:
    """Return whether a file lies in a folder that is named for templates of projects: code copies them as they are."""
    return _TEMPLATES.search(path.rpartition("/")[0]) is not None


def importable_sources(tree: Tree) -> frozenset[str]:
    """Return the sources that can be imported by their names alone, and that nothing but imports is known to open.

    Others are read as files, as Alembic does with ``versions/0001_first.py``: their names are no identifiers, or a folder
    below a package has no ``__init__.py``, or they are templates. Folders above the first package may be of a namespace
    (PEP 420).
    """
    packages = {entry.path.rpartition("/")[0] for entry in tree if entry.path.endswith("/__init__.py")}
    return frozenset(entry.path for entry in tree if entry.path.endswith(".py") and _is_importable(entry.path, packages))


def _is_importable(path: str, packages: set[str]) -> bool:
    *folders, name = path.removesuffix(".py").split("/")
    if is_template(path) or not all(map(str.isidentifier, (*folders, name))):
        return False
    if not folders:
        return True
    above = ["/".join(folders[: number + 1]) in packages for number in range(len(folders))]
    first = above.index(True) if True in above else len(above)
    return first < len(above) and all(above[first:])


def pycache_path(path: str, minor: int) -> str:
    """Return the path of a source's bytecode beside it, without an optimization tag (PEP 3147)."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}__pycache__/{name.removesuffix('.py')}.cpython-3{minor}.pyc"


def sourceless_path(path: str) -> str:
    """Return the path of bytecode that replaces its source (PEP 3147)."""
    return path + "c"
