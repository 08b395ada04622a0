"""Work that many threads ask for at the same time: each value is computed once, and each thing has a lock of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from math import inf
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_CHEAP = 1.0
"""Seconds: an error that took less time is not kept, and the next caller tries again."""


class _Attempt(Generic[Value]):
    """One computation of a value; its outcome counts until ``until``, on the table's clock."""

    __slots__ = ("future", "until")

    def __init__(self) -> None:
        self.future: Future[Value] = Future()
        self.until = inf


class Once(Generic[Key, Value]):
    """A table that fills itself: the first thread that asks for a key computes, the others wait for the same outcome.

    A value is kept. An error is raised in every thread that was waiting, and later callers try again: the cause may
    have passed. Only an error that took longer than a second to appear is kept for as long as it took, so that two hundred
    functions that need the same thing do not each wait for the same retries or the same failing build. Hence at most half of
    the time is spent on finding out again what is wrong. ``cheap`` is that second: with infinity, no error is kept.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, cheap: float = _CHEAP) -> None:
        self._cheap = cheap
        self._attempts: dict[Key, _Attempt[Value]] = {}
        self._lock = Lock()
        self._clock = clock

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the key's value; raises what ``make`` raised, in every thread that waited for it."""
        return self.all((key,), lambda _: {key: make()})[key]

    def all(self, keys: Iterable[Key], make: Callable[[Sequence[Key]], Mapping[Key, Value]]) -> dict[Key, Value]:
        """Return the value of each key; ``make`` gets at once all that are neither known nor being computed.

        Raises what ``make`` raised, in every thread that waited for one of its keys.
        """
        mine: dict[Key, _Attempt[Value]] = {}
        wanted: dict[Key, _Attempt[Value]] = {}
        with self._lock:
            for key in dict.fromkeys(keys):
                attempt = self._standing(key)
                if attempt is None:
                    attempt = mine[key] = self._attempts[key] = _Attempt()
                wanted[key] = attempt
        if mine:
            self._fill(mine, make)
        return {key: attempt.future.result() for key, attempt in wanted.items()}

    def submit(self, executor: Executor, key: Key, make: Callable[[], Value]) -> Future[Value]:
        """Return the future of a key's value, which ``executor`` computes unless it is known or being computed already."""
        with self._lock:
            attempt = self._standing(key)
            if attempt is None:
                attempt = _Attempt()
                attempt.future = executor.submit(self._run_timed, attempt, make)
                self._attempts[key] = attempt
        return attempt.future

    def values(self) -> list[Value]:
        """Return the values that are known now."""
        with self._lock:
            futures = [attempt.future for attempt in self._attempts.values()]
        return [each.result() for each in futures if each.done() and not each.cancelled() and each.exception() is None]

    def _standing(self, key: Key) -> _Attempt[Value] | None:
        """Return the attempt whose outcome counts for who asks now; the lock must be held."""
        attempt = self._attempts.get(key)
        if attempt is None or attempt.future.cancelled():
            return None
        return attempt if self._clock() < attempt.until else None

    def _fill(self, mine: Mapping[Key, _Attempt[Value]], make: Callable[[Sequence[Key]], Mapping[Key, Value]]) -> None:
        began = self._clock()
        try:
            made = make(tuple(mine))
            for key, attempt in mine.items():
                attempt.future.set_result(made[key])
        except BaseException as error:
            failed = [attempt for attempt in mine.values() if not attempt.future.done()]
            for attempt in failed:
                attempt.until = self._end(began)  # first, so that who was waiting and asks again tries again
                attempt.future.set_exception(error)
            raise

    def _run_timed(self, attempt: _Attempt[Value], make: Callable[[], Value]) -> Value:
        began = self._clock()
        try:
            return make()
        except BaseException:
            attempt.until = self._end(began)
            raise

    def _end(self, began: float) -> float:
        """Return until when an error counts whose attempt began then."""
        now = self._clock()
        took = now - began
        return now + took if took > self._cheap else now


class Locks(Generic[Key]):
    """A lock for each key, so that who works on one thing does not keep others from theirs."""

    def __init__(self) -> None:
        self._locks: dict[Key, Lock] = {}
        self._lock = Lock()

    def of(self, key: Key) -> Lock:
        """Return the key's lock."""
        with self._lock:
            return self._locks.setdefault(key, Lock())
