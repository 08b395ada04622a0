"""Bisection: find the smallest set of changes that breaks something, in few trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Change = TypeVar("Change")


def find_culprits(changes: Sequence[Change], works: Callable[[frozenset[Change]], bool]) -> tuple[Change, ...] | None:
    """Return the changes that must be undone for it to work; None where it does not work with all of them undone.

    ``works`` tests it without the given changes; undoing more must never break it. Of ``changes`` a b c d, where b and
    d break it: undoing a, then a b c, then … finds d as the first one with which it works when all before it are undone too;
    d is to blame. The same among the changes before d, with d undone, finds b. Each one found takes log2(changes) trials.
    """
    found: frozenset[Change] = frozenset()
    room = list(changes)
    if works(found):
        return ()
    if not works(frozenset(room)):
        return None
    while room:
        low, high = 0, len(room)  # undoing the first ``low`` is too little, the first ``high`` enough
        while high - low > 1:
            middle = (low + high) // 2
            if works(found.union(room[:middle])):
                high = middle
            else:
                low = middle
        found |= {room[high - 1]}
        room = room[: high - 1]
        if works(found):
            return tuple(change for change in changes if change in found)
    return None  # ``works`` contradicts itself
