"""Scripts of the standard library alone, for Python 3.9 and newer, that run within the target's interpreter."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def read_script(name: str) -> bytes:
    """Return the text of one of the scripts."""
    return Path(__file__).with_name(name).read_bytes()
