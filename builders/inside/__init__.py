"""Scripts of the standard library alone, for Python 3.9 and newer, that run within the target's interpreter."""

from __future__ import annotations

from importlib.resources import files


def read_script(name: str) -> bytes:
    """Return the text of one of the scripts."""
    return files("builders.inside").joinpath(name).read_bytes()
