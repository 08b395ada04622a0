"""Values are computed once; errors are shared by who waited for them, and found out again by who asks later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from math import inf
from threading import Barrier, Event, Lock

import pytest

from builders.once import Once


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Counted:
    """Fails so many times, then returns its number of calls; each failure takes ``seconds`` on the clock."""

    def __init__(self, failures: int, clock: Clock | None = None, seconds: float = 0.0) -> None:
        self.calls = 0
        self._failures = failures
        self._clock = clock
        self._seconds = seconds

    def __call__(self) -> int:
        self.calls += 1
        if self._clock:
            self._clock.now += self._seconds
        if self.calls <= self._failures:
            raise OSError(f"failure {self.calls}")
        return self.calls


def ask(once: Once[str, int], make: Callable[[], int], how: str) -> int:
    if how == "get":
        return once.get("key", make)
    with ThreadPoolExecutor(1) as executor:
        return once.submit(executor, "key", make).result()


@pytest.mark.parametrize("how", ["get", "submit"])
def test_value_is_computed_once(how):
    once: Once[str, int] = Once()
    make = Counted(0)
    assert [ask(once, make, how) for _ in range(3)] == [1, 1, 1]
    assert once.values() == [1]


@pytest.mark.parametrize("how", ["get", "submit"])
def test_later_callers_try_again_after_an_error(how):
    once: Once[str, int] = Once()
    make = Counted(2)
    for number in (1, 2):
        with pytest.raises(OSError, match=f"failure {number}"):
            ask(once, make, how)
    assert once.values() == []
    assert ask(once, make, how) == 3


@pytest.mark.parametrize("how", ["get", "submit"])
def test_costly_error_is_kept_for_as_long_as_it_took(how):
    clock = Clock()
    once: Once[str, int] = Once(clock)
    make = Counted(1, clock, 60.0)
    for _ in range(200):
        with pytest.raises(OSError, match="failure 1"):
            ask(once, make, how)
    clock.now += 59.0
    with pytest.raises(OSError, match="failure 1"):
        ask(once, make, how)
    clock.now += 1.0
    assert ask(once, make, how) == 2


def test_no_error_is_kept_where_none_is_to_be():
    clock = Clock()
    once: Once[str, int] = Once(clock, cheap=inf)
    make = Counted(1, clock, 60.0)
    with pytest.raises(OSError, match="failure 1"):
        once.get("key", make)
    assert once.get("key", make) == 2


def test_threads_that_wait_share_an_error_and_then_try_again():
    once: Once[str, int] = Once()
    begun, waiting = Event(), Event()
    calls: list[int] = []
    lock = Lock()

    def make() -> int:
        with lock:
            calls.append(1)
        begun.set()
        assert waiting.wait(10)
        raise OSError("away")

    with ThreadPoolExecutor(8) as executor:
        first = executor.submit(once.get, "key", make)
        assert begun.wait(10)
        started = Barrier(8)

        def wait_for_it() -> int:
            started.wait(10)
            return once.get("key", make)

        others = [executor.submit(wait_for_it) for _ in range(7)]
        started.wait(10)
        while not all(each.running() for each in others):
            pass
        # All others have called `get` or are about to; the first ends only when they had time to.
        Event().wait(0.2)
        waiting.set()
        for each in (first, *others):
            with pytest.raises(OSError, match="away"):
                each.result()
    assert len(calls) == 1
    assert once.get("key", lambda: 5) == 5


def test_keys_asked_for_together_are_tried_again_alone():
    once: Once[str, str] = Once()
    asked: list[tuple[str, ...]] = []

    def make(keys: Sequence[str]) -> dict[str, str]:
        asked.append(tuple(keys))
        return {key: key.upper() for key in keys if key != "lost" or len(asked) > 1}

    with pytest.raises(KeyError):
        once.all(("one", "lost", "two"), make)
    assert once.all(("one", "lost", "two"), make) == {"one": "ONE", "lost": "LOST", "two": "TWO"}
    assert asked == [("one", "lost", "two"), ("lost", "two")]


def test_executor_that_takes_nothing_leaves_no_trace():
    once: Once[str, int] = Once()
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        once.submit(executor, "key", Counted(0))
    assert once.get("key", Counted(0)) == 1


def test_cancelled_attempt_has_no_value_and_is_made_again():
    once: Once[str, int] = Once()
    release = Event()
    with ThreadPoolExecutor(1) as executor:
        busy: Future[bool] = executor.submit(release.wait, 10)
        future = once.submit(executor, "key", Counted(0))
        assert future.cancel()
        release.set()
        assert busy.result()
    with pytest.raises(CancelledError):
        future.result()
    assert once.values() == []
    assert once.get("key", Counted(0)) == 1
