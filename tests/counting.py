"""Counts of what code does to values, for tests of costs: how often something is hashed, compared or gone through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest


def count_hashes(monkeypatch: pytest.MonkeyPatch, *types: type) -> Counter[str]:
    """Count from now on how often values of these types are hashed, by the names of the types."""
    counted: Counter[str] = Counter()
    for each in types:
        monkeypatch.setattr(each, "__hash__", _counting(each.__hash__, each.__name__, counted))
    return counted


def count_comparisons(monkeypatch: pytest.MonkeyPatch, *types: type) -> Counter[str]:
    """Count from now on how often values of these types are compared, by the names of the types."""
    counted: Counter[str] = Counter()
    for each in types:
        monkeypatch.setattr(each, "__eq__", _counting(each.__eq__, each.__name__, counted))
    return counted


def _counting(method: Any, name: str, counted: Counter[str]) -> Any:
    def count(*arguments: Any) -> Any:
        counted[name] += 1
        return method(*arguments)

    return count


class Name(str):
    """A name that counts, for all names together, how often one is compared with another."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class Passes(dict[str, Any]):
    """A dictionary that counts, for all of them together, how often one is gone through."""

    gone_through = 0

    def values(self) -> Any:
        Passes.gone_through += 1
        return super().values()

    def items(self) -> Any:
        Passes.gone_through += 1
        return super().items()


class Row(tuple[Any, ...]):
    """A tuple that counts, for all of them together, how often one is gone through or searched."""

    __slots__ = ()
    gone_through = 0

    def __iter__(self) -> Iterator[Any]:
        Row.gone_through += 1
        return super().__iter__()

    def __contains__(self, key: object) -> bool:
        Row.gone_through += 1
        return super().__contains__(key)
