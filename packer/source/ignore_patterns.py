"""Patterns in the language of .gitignore files, ready to be matched.

Sets of plain patterns, as nearly all are, become one regular expression. What negates, crosses folders (``**``) or escapes is
for `pathspec`, which knows all of gitignore(5) and takes much longer to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Protocol

from msgspec import Struct

from packer.core.errors import UsageError

# The characters of names, one-letter wildcards, stars that do not meet, and sets of letters. A first "#" is escaped.
_SEGMENT = r"(?:[A-Za-z0-9_.~+@,#?-]|\*(?!\*)|\[[A-Za-z0-9]+\])+"
_PLAIN = re.compile(rf"/?(?![#!])(?:\\#)?(?:{_SEGMENT}/)*{_SEGMENT}/?")
_PART = re.compile(r"\\?(?P<letter>[^*?\[])|(?P<star>\*)|(?P<any>\?)|(?P<set>\[[A-Za-z0-9]+\])")
_ALL = frozenset({"*", "*/"})
"""Plain in form, but with a meaning of their own."""


class IgnorePatterns(Protocol):
    """The patterns of one file, or of one setting."""

    def verdict(self, path: str) -> bool | None:
        """Return whether a path is left out (True), kept (False), or not spoken of (None).

        ``path`` is relative to the folder that the patterns stand in; a folder's ends in a slash.
        """
        ...


class _PlainPatterns(Struct, frozen=True, kw_only=True):
    """Patterns that leave something out, as the one regular expression of the paths that they do."""

    expression: re.Pattern[str] | None

    def verdict(self, path: str) -> bool | None:
        return True if self.expression and self.expression.match(path) else None


class _SpecPatterns:
    """Any patterns, matched by pathspec as git does."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        """Raise `UsageError` that names the first line which is no pattern."""
        from pathspec import GitIgnoreSpec

        try:
            self._spec = GitIgnoreSpec.from_lines(map(_with_inner_star, lines))
        except (ValueError, re.error) as error:
            if len(lines) > 1:
                for line in lines:
                    _SpecPatterns((line,))
            what = f"The ignore pattern {lines[0].strip()!r} cannot be read."
            raise UsageError(what, remedy="Fix it, or remove it: see gitignore(5).") from error

    def verdict(self, path: str) -> bool | None:
        return self._spec.check_file(path).include


def _with_inner_star(line: str) -> str:
    """Return a pattern of all that is in a folder so that it does not match the folder too, whose files could not come back."""
    pattern = line.rstrip()
    return f"{pattern}/*" if pattern.endswith("/**") else line


@cache
def compile_patterns(lines: tuple[str, ...]) -> IgnorePatterns:
    """Return patterns ready to be matched, of lines with or without their ends: hundreds of functions share the same ones.

    Raises `UsageError` for a line that is no pattern.
    """
    patterns = tuple(_patterns_in(lines))
    if not all(_PLAIN.fullmatch(pattern) and pattern not in _ALL for pattern in patterns):
        return _SpecPatterns(lines)
    expression = re.compile("|".join(map(_expression, patterns))) if patterns else None
    return _PlainPatterns(expression=expression)


def _patterns_in(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        pattern = line.rstrip()
        if pattern and pattern != "/" and not pattern.startswith("#"):
            yield pattern


def _expression(pattern: str) -> str:
    """Return the regular expression of the paths that a plain pattern matches, and of all below them."""
    body = pattern.removesuffix("/")
    # With a slash before or within it, a pattern starts from its own folder; otherwise from any below.
    start = "^" if "/" in body else "^(?:.+/)?"
    middle = "/".join("[^/]+" if segment == "*" else _PART.sub(_translated, segment) for segment in body.lstrip("/").split("/"))
    return f"{start}{middle}{'/.*$' if pattern.endswith('/') else '(?:/.*)?$'}"


def _translated(match: re.Match[str]) -> str:
    if match["letter"]:
        return re.escape(match["letter"])
    return match["set"] or ("[^/]*" if match["star"] else "[^/]")
