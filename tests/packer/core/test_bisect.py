"""Finding what is to blame: the right changes, no others, in a bounded number of trials."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.core.bisect import find_culprits

Changes = frozenset[int]


class Trials:
    """Counts trials, and holds each to what may be tried."""

    def __init__(self, works: Callable[[Changes], bool], count: int) -> None:
        self._works = works
        self._all = frozenset(range(count))
        self.asked: list[Changes] = []

    def __call__(self, undone: Changes) -> bool:
        assert undone <= self._all
        self.asked.append(undone)
        return self._works(undone)


def most(changes: int, found: int) -> int:
    """Give the trials that finding so many may take: two to begin with, a search and a look for each."""
    return 2 + found * ((ceil(log2(changes)) if changes > 1 else 0) + 1)


def test_the_worked_example():
    trials: list[str] = []

    def works(undone: frozenset[str]) -> bool:
        trials.append("".join(sorted(undone)))
        return undone >= {"b", "d"}

    assert find_culprits("abcd", works) == ("b", "d")
    assert trials[:2] == ["", "abcd"]
    assert len(trials) <= most(4, 2)


def test_nothing_is_to_blame_where_it_works():
    trials = Trials(lambda _undone: True, 5)
    assert find_culprits(range(5), trials) == ()
    assert trials.asked == [frozenset()]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_no_change_is_to_blame_where_it_fails_without_them_all(count):
    trials = Trials(lambda _undone: False, count)
    assert find_culprits(range(count), trials) is None
    assert len(trials.asked) == 2


sets = st.integers(1, 40).flatmap(lambda count: st.tuples(st.just(count), st.frozensets(st.integers(0, count - 1), min_size=1)))


@given(given_set=sets)
def test_the_one_set_that_breaks_it_is_found_in_the_order_of_the_changes(given_set):
    count, guilty = given_set
    trials = Trials(lambda undone: undone >= guilty, count)
    assert find_culprits(range(count), trials) == tuple(sorted(guilty))
    assert len(trials.asked) <= most(count, len(guilty))


@given(given_set=sets)
def test_the_order_of_the_changes_does_not_matter_where_one_set_is_to_blame(given_set):
    count, guilty = given_set
    backwards = range(count - 1, -1, -1)
    assert find_culprits(backwards, Trials(lambda undone: undone >= guilty, count)) == tuple(sorted(guilty, reverse=True))


families = st.integers(1, 12).flatmap(
    lambda count: st.tuples(
        st.just(count), st.lists(st.frozensets(st.integers(0, count - 1), min_size=1), min_size=1, max_size=5)
    )
)


@given(family=families)
def test_where_several_sets_would_do_the_one_that_is_found_has_nothing_too_much(family):
    """Undoing more never breaks it: it works as soon as all of any of the sets is undone."""
    count, ways = family

    def works(undone: Changes) -> bool:
        return any(undone >= way for way in ways)

    trials = Trials(works, count)
    found = find_culprits(range(count), trials)
    assert found is not None
    assert works(frozenset(found))
    assert not any(works(frozenset(found) - {each}) for each in found)
    assert list(found) == sorted(set(found))
    assert len(trials.asked) <= most(count, len(found))


def test_a_single_culprit_among_many_takes_few_trials():
    for guilty in (0, 1, 511, 512, 1023):
        trials = Trials(lambda undone, guilty=guilty: guilty in undone, 1024)  # type: ignore[misc]
        assert find_culprits(range(1024), trials) == (guilty,)
        assert len(trials.asked) <= 13


def test_flaky_function_does_not_end_in_an_index_error():
    answers = iter([False, True, False])  # fails as it is, works with everything undone, fails the next time
    find_culprits("a", lambda _undone: next(answers))
