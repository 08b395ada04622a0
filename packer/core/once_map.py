"""Computes each value once, however many threads ask for it at the same time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """A table that fills itself: the first thread that asks for a key computes, the others wait for the same outcome."""

    def __init__(self) -> None:
        self._futures: dict[Key, Future[Value]] = {}
        self._lock = Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Give the key's value; raises what ``make`` raised, to every thread that asked."""
        return self.all((key,), lambda _: {key: make()})[key]

    def all(self, keys: Iterable[Key], make: Callable[[Sequence[Key]], Mapping[Key, Value]]) -> dict[Key, Value]:
        """Give the value of each key; ``make`` gets at once all that no thread has asked for before.

        Raises what ``make`` raised, to every thread that asked for one of its keys.
        """
        mine: dict[Key, Future[Value]] = {}
        with self._lock:
            wanted = dict.fromkeys(keys)
            for key in wanted:
                if key not in self._futures:
                    mine[key] = self._futures[key] = Future()
        if mine:
            try:
                made = make(tuple(mine))
                for key, future in mine.items():
                    future.set_result(made[key])
            except BaseException as error:
                for future in mine.values():
                    if not future.done():
                        future.set_exception(error)
                raise
        return {key: self._futures[key].result() for key in wanted}
