"""The one way that requests are tried again: a policy, errors that may pass by themselves, and a loop over both."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from threading import Event
from typing import TypeVar

from msgspec import Struct

LONGEST_PAUSE = 30.0
"""Seconds to wait before another attempt, at most, whatever a server asks for."""
Value = TypeVar("Value")


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How many attempts are made, and the seconds to wait after the first that fails; the wait doubles with each further one.

    Waits are randomly shortened by up to a half, so that clients that failed together do not return together.
    """

    attempts: int
    first_pause: float = 0.4

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait after a number of failed attempts."""
        return self.first_pause * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311 no secret


class TransientError(Exception):
    """An attempt failed in a way that another may not.

    ``pause`` is the least number of seconds to wait; ``attempts``, unless 0, replaces the policy's number. ``progressed`` says
    that the attempt got further than the one before it, and no more wait is needed than ``pause``.
    """

    def __init__(self, reason: str, pause: float = 0.0, *, attempts: int = 0, remedy: str = "") -> None:
        super().__init__(reason)
        self.pause = pause
        self.attempts = attempts
        self.remedy = remedy
        self.progressed = False


class RetriesExhausted(Exception):
    """The last of ``attempts`` failed with ``error``."""

    def __init__(self, error: TransientError, attempts: int) -> None:
        super().__init__(f"{error} ({attempts} attempts)")
        self.error = error
        self.attempts = attempts


class RetryStopped(Exception):
    """Somebody set the event that ends all attempts."""


def ignore_failure(_error: TransientError, _attempt: int) -> None:
    """Report nothing of a failed attempt."""


def retry(
    attempt: Callable[[], Value],
    policy: RetryPolicy,
    stopped: Event,
    failed: Callable[[TransientError, int], None] = ignore_failure,
) -> Value:
    """Call ``attempt`` until it raises no `TransientError`, and return its result.

    ``failed`` is called with each error that another attempt follows, and its number from 1. Raises `RetriesExhausted`, and
    `RetryStopped` where ``stopped`` is set before an attempt or during a wait.
    """
    for number in count(1):
        if stopped.is_set():
            break
        try:
            return attempt()
        except TransientError as error:
            if number >= (error.attempts or policy.attempts):
                raise RetriesExhausted(error, number) from error
            failed(error, number)
            pause = 0.0 if error.progressed else policy.pause(number)
            stopped.wait(min(max(pause, error.pause), LONGEST_PAUSE))
    raise RetryStopped
