"""Where Python looks for the bytecode of a source (PEP 3147)."""

from __future__ import annotations


def pycache_path(path: str, minor: int) -> str:
    """Give where Python looks for the bytecode of a source (PEP 3147), at any optimisation level that it is not asked for."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}__pycache__/{name.removesuffix('.py')}.cpython-3{minor}.pyc"


def sourceless_path(path: str) -> str:
    """Give where Python looks for bytecode that has no source (PEP 3147)."""
    return path + "c"
