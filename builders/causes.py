"""Follows an error to what caused it."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def causes(
    error: BaseException, wrapped: Callable[[BaseException], BaseException | None] = lambda _: None
) -> Iterator[BaseException]:
    """Yield an error and what caused it, the outermost first, each once: a chain of causes may lead back to itself.

    ``wrapped`` returns what an error without a cause holds inside, where libraries put it there.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__ or wrapped(current)
