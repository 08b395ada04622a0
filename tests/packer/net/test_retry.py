"""What fails for a moment is tried again, as often and as patiently as a policy says."""

from __future__ import annotations

import time
from threading import Event, Timer

import pytest

from packer.net.retry import RetriesExhausted, RetryPolicy, RetryStopped, TransientError, retry

POLICY = RetryPolicy(attempts=4, first_pause=0.001)


class Failing:
    """Raises the given errors, one a call, and then returns "done"."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def test_transient_errors_are_retried_and_reported():
    attempt, seen = Failing(TransientError("one"), TransientError("two")), list[tuple[str, int]]()
    assert retry(attempt, POLICY, Event(), lambda error, number: seen.append((str(error), number))) == "done"
    assert seen == [("one", 1), ("two", 2)]


def test_last_attempt_ends_it_with_its_error():
    attempt = Failing(*(TransientError(str(number)) for number in range(9)))
    with pytest.raises(RetriesExhausted, match=r"^3 \(4 attempts\)$") as caught:
        retry(attempt, POLICY, Event())
    assert (str(caught.value.error), caught.value.attempts, attempt.calls) == ("3", 4, 4)


def test_error_may_allow_fewer_attempts():
    attempt = Failing(*(TransientError("nobody answers", attempts=2) for _ in range(9)))
    with pytest.raises(RetriesExhausted):
        retry(attempt, POLICY, Event())
    assert attempt.calls == 2


def test_other_errors_are_not_retried():
    attempt = Failing(ValueError("lasting"))
    with pytest.raises(ValueError, match="lasting"):
        retry(attempt, POLICY, Event())
    assert attempt.calls == 1


def test_pause_doubles_and_is_shortened_by_half_at_most():
    policy = RetryPolicy(attempts=9, first_pause=1.0)
    for attempt, longest in ((1, 1.0), (2, 2.0), (5, 16.0)):
        assert longest / 2 <= policy.pause(attempt) <= longest


def test_progress_saves_the_pause():
    error = TransientError("broken off")
    error.progressed = True
    started = time.monotonic()
    assert retry(Failing(error), RetryPolicy(attempts=2, first_pause=20.0), Event()) == "done"
    assert time.monotonic() - started < 5


def test_wait_that_a_server_asks_for_is_bounded(monkeypatch):
    monkeypatch.setattr("packer.net.retry.LONGEST_PAUSE", 0.01)
    started = time.monotonic()
    assert retry(Failing(TransientError("busy", pause=600.0)), POLICY, Event()) == "done"
    assert time.monotonic() - started < 5


def test_stopping_ends_a_wait():
    stopped, attempt = Event(), Failing(*(TransientError("busy", pause=20.0) for _ in range(9)))
    timer = Timer(0.05, stopped.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(RetryStopped):
        retry(attempt, POLICY, stopped)
    timer.join()
    assert (attempt.calls, time.monotonic() - started < 5) == (1, True)


def test_nothing_is_attempted_once_stopped():
    stopped, attempt = Event(), Failing()
    stopped.set()
    with pytest.raises(RetryStopped):
        retry(attempt, POLICY, stopped)
    assert attempt.calls == 0
