"""Values that were computed before are read back by their type, or computed anew."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from packer.cache.derived_values import derive
from packer.cache.local import LocalStore


class Found(Struct, frozen=True, kw_only=True):
    place: Path
    sizes: dict[str, int]


FOUND = Found(place=Path("/a/b"), sizes={"x": 1})


def fail() -> Found:
    raise AssertionError("it was computed before")


def test_a_value_is_computed_once(tmp_path):
    assert derive(LocalStore(tmp_path), "things", "a" * 64, Found, lambda: FOUND) == FOUND
    assert derive(LocalStore(tmp_path), "things", "a" * 64, Found, fail) == FOUND


def test_a_value_in_another_form_is_computed_anew(tmp_path):
    store = LocalStore(tmp_path)
    for payload in (b"not JSON", b'{"place": 3}'):
        store.save("things", "a" * 64, payload)
        assert derive(store, "things", "a" * 64, Found, lambda: FOUND) == FOUND
        assert derive(store, "things", "a" * 64, Found, fail) == FOUND
