"""Files, and endings of files, that strings in sources name: code may read them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

_LAST_PART = re.compile(rb"[\"'/]([\w.+*?%{}\[\]()-]{1,100})(?=[\"'])")
"""The last part of a path that stands in a string, patterns and placeholders included."""
_SUFFIX = re.compile(r"(?:^|[*?%{}\[\]()][\w-]*)((?:\.\w+)+)$")
"""An ending by itself, or after a placeholder: ``.h``, ``*.h``, ``%s.exe``, ``{name}-64.exe``."""


class NamedFiles(Struct, frozen=True, kw_only=True):
    """The last parts of paths that stand in strings, and the endings of files that do, with their dots."""

    names: frozenset[str]
    suffixes: frozenset[str]


def find_named_files(sources: Iterable[bytes]) -> NamedFiles:
    """Return the files that the strings of sources name, in code or in comments."""
    found = {part for data in sources for part in set(_LAST_PART.findall(data))}
    names = frozenset(part.decode("utf-8", "replace") for part in found)
    suffixes = {suffix[1] for name in names if (suffix := _SUFFIX.search(name))}
    return NamedFiles(names=names, suffixes=frozenset(suffixes))
