"""Results of work that is done side by side."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import TypeVar

from builders.errors import LpackError
from packer.core.errors import raise_any

Key = TypeVar("Key")
Value = TypeVar("Value")


def collect_results(futures: Mapping[Key, Future[Value]]) -> dict[Key, Value]:
    """Return the results, by their keys; raises the one error, or `ManyErrors`, when all have ended."""
    errors: list[LpackError] = []
    found: dict[Key, Value] = {}
    try:
        for key, future in futures.items():
            try:
                found[key] = future.result()
            except LpackError as error:
                errors.append(error)
    finally:
        for future in futures.values():
            future.cancel()  # has no effect unless the loop was interrupted
    raise_any(errors)
    return found
