"""Chains of errors, also those that lead back to themselves."""

from __future__ import annotations

import pytest

from builders.causes import causes
from builders.engine.client import _cause
from packer.net.http import is_untrusted, short_reason


def chained(*errors: Exception) -> Exception:
    """Chain errors, each caused by the next, and the last by the first."""
    for error, cause in zip(errors, (*errors[1:], errors[0]), strict=True):
        error.__cause__ = cause
    return errors[0]


def test_causes_are_followed_to_the_innermost():
    inner = OSError("inner")
    try:
        try:
            raise inner
        except OSError as error:
            raise ValueError("middle") from error
    except ValueError as error:
        outer = RuntimeError("outer")
        outer.__context__ = error
    assert [str(each) for each in causes(outer)] == ["outer", "middle", "inner"]


def test_what_an_error_wraps_counts_where_it_has_no_cause():
    inner = ValueError("inner")
    assert list(causes(RuntimeError(inner), lambda each: each.args[0] if each.args[0] is inner else None))[-1] is inner
    assert short_reason(RuntimeError(RuntimeError(inner))) == "ValueError: inner"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_circle_of_causes_ends(count):
    first = chained(*(OSError(f"error {number}") for number in range(count)))
    assert len(list(causes(first))) == count
    assert _cause(first) == f"error {count - 1}"
    assert short_reason(first) == f"OSError: error {count - 1}"
    assert not is_untrusted(first)
