"""Orders with few crossings, and boxes that touch but never overlap."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.report.graph_layout import arrange_columns, count_crossings, place_boxes

SIZES = st.tuples(*[st.integers(min_value=0, max_value=7)] * 3)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[list[str]], list[tuple[str, str]]]:
    columns = [[f"{letter}{number}" for number in range(size)] for letter, size in zip("abc", draw(SIZES), strict=True)]
    possible = [link for left, right in itertools.pairwise(columns) for link in itertools.product(left, right)]
    return columns, draw(st.lists(st.sampled_from(possible), unique=True)) if possible else []


def crossed(columns: tuple[tuple[str, ...], ...], links: list[tuple[str, str]]) -> int:
    """Count by looking at each pair."""
    at = {key: number for column in columns for number, key in enumerate(column)}
    return sum(
        one[0][0] == other[0][0] and (at[one[0]] - at[other[0]]) * (at[one[1]] - at[other[1]]) < 0
        for one, other in itertools.combinations(links, 2)
    )


@given(graphs())
def test_crossings_are_counted_right(graph):
    columns, links = graph
    order = tuple(map(tuple, columns))
    assert count_crossings(order, links) == crossed(order, links)


@given(graphs(), st.randoms())
def test_arranging_keeps_all_crosses_no_more_than_by_name_and_knows_no_order(graph, mixed):
    columns, links = graph
    found = arrange_columns(columns, links)
    assert [sorted(column) for column in found] == columns
    assert count_crossings(found, links) <= count_crossings(tuple(map(tuple, columns)), links)
    other = [mixed.sample(column, len(column)) for column in columns]
    assert arrange_columns(other, mixed.sample(links, len(links))) == found


def test_what_is_tangled_only_by_its_names_is_untangled():
    columns = [["a1", "a2", "a3", "a4"], ["b1", "b2", "b3", "b4"], ["c1", "c2"]]
    links = [("a1", "b3"), ("a3", "b3"), ("a2", "b1"), ("a4", "b1"), ("a1", "b4"), ("b3", "c2"), ("b4", "c2"), ("b1", "c1")]
    assert count_crossings(tuple(map(tuple, columns)), links) > 0
    assert count_crossings(arrange_columns(columns, links), links) == 0


@given(graphs(), st.integers(min_value=1, max_value=50))
def test_no_box_is_over_another(graph, room):
    columns, links = graph
    order = tuple(map(tuple, columns))
    rooms = {key: float(room + number % 3 * 20) for column in columns for number, key in enumerate(column)}
    tops, height = place_boxes(order, rooms, links)
    assert height == max(sum(rooms[key] for key in column) for column in columns)
    for column in columns:
        bottom = 0.0
        for key in column:
            assert tops[key] >= bottom - 1e-6
            bottom = tops[key] + rooms[key]
        assert bottom <= height + 1e-6


def test_a_box_lies_beside_what_it_is_linked_to():
    columns = (("a",), tuple(f"b{number}" for number in range(9)))
    rooms = dict.fromkeys(("a", *columns[1]), 10.0)
    for number in range(9):
        tops, _ = place_boxes(columns, rooms, [("a", f"b{number}")])
        # Part of what is spare is kept on both sides of it, so it lies lower than the first and higher than the last.
        assert tops["a"] == pytest.approx(min(max(number * 10.0, 24.0), 56.0))
