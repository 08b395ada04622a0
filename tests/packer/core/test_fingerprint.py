"""Keys made of values: equal values give equal text, and whatever decides a build tells values apart."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from packer.core.fingerprint import fingerprint
from packer.core.options import Budget, LayerOptions, TrimOptions


def test_structs_are_told_apart_by_class_and_fields():
    assert fingerprint(TrimOptions()) == fingerprint(TrimOptions())
    assert fingerprint(TrimOptions()) != fingerprint(replace(TrimOptions(), level="max"))
    assert fingerprint(Budget()) != fingerprint(TrimOptions())


def test_fields_that_decide_nothing_are_left_out():
    assert fingerprint(Budget(init=400.0)) == fingerprint(Budget())
    assert fingerprint(Budget(zip=1)) != fingerprint(Budget())
    assert fingerprint(LayerOptions(budget=Budget(zip=1))) == fingerprint(LayerOptions())


def test_the_order_of_mappings_and_sets_is_irrelevant():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    code = "from packer.core.fingerprint import fingerprint; print(fingerprint(frozenset('abcdef'), {1: ('a', None)}))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


def test_values_that_look_alike_are_told_apart():
    values = ["1", 1, None, "None", ("1",), ("1", "1"), ("11",), frozenset({"1"}), {"1": "1"}, True]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint("a", "b") != fingerprint("ab")
    assert fingerprint("a", "b") != fingerprint(("a", "b"))


def test_paths_and_times_are_values():
    assert fingerprint(Path("/a")) != fingerprint(Path("/b"))
    assert fingerprint(dt.date(2026, 1, 2)) == '["2026-01-02"]'


def test_what_is_no_value_is_refused():
    with pytest.raises(TypeError, match="object cannot be part of a key"):
        fingerprint(object())
