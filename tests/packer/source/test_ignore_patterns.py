"""Plain patterns become one regular expression, which says what pathspec says of every path."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from packer.cache.signatures import Digests
from packer.core.errors import UsageError
from packer.source.function_source import DEFAULT_IGNORE, scan_source
from packer.source.ignore_patterns import compile_patterns

LETTERS = st.sampled_from(["a", "b", ".", "*", "?", "[ab]", "#", "~", "/", "/", "-", "!", "\\", " ", "**", "\n"])
PATTERNS = st.lists(st.lists(LETTERS, min_size=1, max_size=6).map("".join), max_size=4)
SEGMENTS = st.text("ab.#~- !", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)


def verdict_of_pathspec(lines: Iterable[str], path: str) -> bool | None:
    return GitIgnoreSpec.from_lines(lines).check_file(path).include


@given(PATTERNS, PATHS, st.sampled_from(["", "/"]))
def test_plain_patterns_match_as_in_pathspec(lines, path, slash):
    assume(not any(line.rstrip().endswith("/**") for line in lines))
    try:
        expected = verdict_of_pathspec(lines, path + slash)
    except (ValueError, re.error):
        with pytest.raises(UsageError):
            compile_patterns(tuple(lines))
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


@pytest.mark.parametrize(
    "lines", [("sub/**", "!sub/keep.log"), ("a/**", "!a/b/", "!a/b/c"), ("sub/**", "!sub/**/", "!sub/**/*.txt")]
)
def test_what_all_of_a_folder_leaves_out_can_come_back_as_in_git(tmp_path, lines):
    paths = ("sub/keep.log", "sub/x.log", "a/b/c", "a/d", "sub/o.txt", "sub/d/p.txt")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("\n".join(lines))
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    command = ["git", "ls-files", "-o", "--exclude-standard"]
    kept = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    found = scan_source(tmp_path, Digests()).tree
    assert {entry.path for entry in found} == set(kept) - {".gitignore"}


@pytest.mark.parametrize("line", ["!", "foo\\", "[z-a].dat"])
def test_a_line_that_is_no_pattern_is_named_with_its_file(tmp_path, line):
    (tmp_path / ".gitignore").write_text(f"*.log\n{line}\n")
    with pytest.raises(UsageError, match=r"\.gitignore: The ignore pattern .* cannot be read"):
        scan_source(tmp_path, Digests())


def test_a_byte_order_mark_is_no_part_of_a_pattern(tmp_path):
    (tmp_path / ".gitignore").write_bytes(b"\xef\xbb\xbf*.log\n")
    (tmp_path / "a.log").touch()
    assert len(scan_source(tmp_path, Digests()).tree) == 0
