"""Plain patterns become one regular expression, which says what pathspec says of every path."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from packer.source.function_source import DEFAULT_IGNORE
from packer.source.ignore_patterns import compile_patterns

LETTERS = st.sampled_from(["a", "b", ".", "*", "?", "[ab]", "#", "~", "/", "/", "-", "!", "\\", " ", "**", "\n"])
PATTERNS = st.lists(st.lists(LETTERS, min_size=1, max_size=6).map("".join), max_size=4)
SEGMENTS = st.text("ab.#~- !", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)


def verdict_of_pathspec(lines: Iterable[str], path: str) -> bool | None:
    return GitIgnoreSpec.from_lines(lines).check_file(path).include


@given(PATTERNS, PATHS, st.sampled_from(["", "/"]))
def test_plain_patterns_match_as_in_pathspec(lines, path, slash):
    try:
        expected = verdict_of_pathspec(lines, path + slash)
    except ValueError:
        return
    assert compile_patterns(tuple(lines)).verdict(path + slash) == expected


@pytest.mark.parametrize(
    "path", ["a.pyc", "a/b.pyo", "x.egg-info/", "x.egg-info", "lpack.toml", "a/lpack.toml", "#a#", ".#a", "a#"]
)
def test_defaults_match_as_in_pathspec(path):
    assert compile_patterns(DEFAULT_IGNORE).verdict(path) == verdict_of_pathspec(DEFAULT_IGNORE, path)


def test_plain_patterns_need_no_pathspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "pathspec", None)
    lines = ("# a comment\n", "\n", "build/\n", "/docs/_build/\n", "*.log\n", "tests/data/*\n", *DEFAULT_IGNORE)
    rules = compile_patterns(lines)
    assert [rules.verdict(path) for path in ("a/build/", "docs/_build/x", "b.log", "tests/data/c", "a.py")] == [True] * 4 + [
        None
    ]


@pytest.mark.parametrize("line", ["!kept.log", "a/**/b", r"\*literal", "*", "*/"])
def test_other_patterns_are_left_to_pathspec(monkeypatch, line):
    monkeypatch.setitem(sys.modules, "pathspec", None)
    with pytest.raises(ImportError):
        compile_patterns(("only-here-" + line[:1], line, f"{line}x"))
