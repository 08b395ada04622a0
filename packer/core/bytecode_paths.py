"""Paths where Python looks for bytecode (PEP 3147)."""

from __future__ import annotations


def pycache_path(path: str, minor: int) -> str:
    """Return the path of a source's bytecode beside it, without an optimization tag (PEP 3147)."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}__pycache__/{name.removesuffix('.py')}.cpython-3{minor}.pyc"


def sourceless_path(path: str) -> str:
    """Return the path of bytecode that replaces its source (PEP 3147)."""
    return path + "c"
