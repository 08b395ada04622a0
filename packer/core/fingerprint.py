"""Fingerprints: text for cache keys, the same for equal values in every process and version of Python."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time
from json import dumps
from pathlib import PurePath
from typing import Any

from msgspec import Struct

_UNKEYED = "unkeyed"


def fingerprint(*values: object) -> str:
    """Return values as one line of JSON: structs by the name of their class and its fields, mappings and sets sorted.

    Fields that a struct's class names in ``unkeyed`` are left out: they do not affect what is cached. Raises ``TypeError`` for
    anything that is not a value.
    """
    return dumps([_plain(value) for value in values], ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> Any:
    found: Any = value
    if isinstance(value, Struct):
        unkeyed = getattr(value, _UNKEYED, ())
        fields = {name: _plain(getattr(value, name)) for name in value.__struct_fields__ if name not in unkeyed}
        found = {type(value).__name__: fields}
    elif isinstance(value, tuple | list):
        found = [_plain(each) for each in value]
    elif isinstance(value, AbstractSet):
        found = {"set": sorted((_plain(each) for each in value), key=dumps)}
    elif isinstance(value, Mapping):
        found = {"mapping": sorted(([_plain(key), _plain(each)] for key, each in value.items()), key=dumps)}
    elif isinstance(value, PurePath | date | time):  # TOML has dates and times
        found = str(value)
    elif not (value is None or isinstance(value, str | int | float)):
        raise TypeError(f"{type(value).__name__} cannot be part of a key")
    return found
