"""Places boxes in columns: an order in which few links cross, and heights close to those of what each box is linked to.

Pure arithmetic on keys: the order of what comes in is irrelevant, and so are dictionaries' and sets' own orders.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from statistics import fmean

Columns = tuple[tuple[str, ...], ...]
Links = Collection[tuple[str, str]]

_SWEEPS = 8
_ROUNDS = 6
_APART = 0.6
"""The part of a column's spare height that goes between its boxes."""


def arrange_columns(columns: Sequence[Collection[str]], links: Links) -> Columns:
    """Order each column so that few links cross; a link goes from a key to one of the next column, and keys are unique.

    Each column is sorted by the mean place of what its boxes are linked to in the column before, then from the other end by
    the one after, a few times over; the best order met is taken (the barycenter method: Sugiyama, Tagawa and Toda,
    "Methods for Visual Understanding of Hierarchical System Structures", 1981).
    """
    near = _neighbors(columns, links)
    by_name: Columns = tuple(tuple(sorted(column)) for column in columns)
    tried = [order for start in (by_name, _walk_boxes(by_name, near)) for order in _sweep_columns(start, near)]
    return min(tried, key=lambda order: count_crossings(order, links))


def count_crossings(columns: Columns, links: Links) -> int:
    """Count the pairs of links that cross."""
    places = {key: (which, at) for which, column in enumerate(columns) for at, key in enumerate(column)}
    seen: dict[int, list[int]] = {}
    found = 0
    for (which, _), (_, at) in sorted((places[start], places[end]) for start, end in links):
        before = seen.setdefault(which, [])
        found += len(before) - bisect_right(before, at)
        insort(before, at)
    return found


def place_boxes(columns: Columns, rooms: Mapping[str, float], links: Links) -> tuple[dict[str, float], float]:
    """Return the top of each box, and the height of all; ``rooms`` are heights with the space that boxes keep between them.

    The fullest column is as high as its boxes; in the others each box lies as near as can be to the mean of its neighbors,
    and part of what is spare goes between them all.
    """
    near = _neighbors(columns, links)
    height = max((sum(rooms[key] for key in column) for column in columns), default=0.0)
    wide: dict[str, float] = {}
    middles: dict[str, float] = {}
    for column in columns:
        spare = (height - sum(rooms[key] for key in column)) / max(len(column), 1)
        wide |= {key: rooms[key] + spare * _APART for key in column}
        ends = accumulate(rooms[key] + spare for key in column)
        middles |= {key: end - (rooms[key] + spare) / 2 for key, end in zip(column, ends, strict=True)}
    for _ in range(_ROUNDS):
        for column in columns:
            wanted = [fmean(middles[other] for other in near[key] or [key]) for key in column]
            middles.update(zip(column, _settle_boxes([wide[key] for key in column], wanted, height), strict=True))
    return {key: middle - rooms[key] / 2 for key, middle in middles.items()}, height


def _neighbors(columns: Sequence[Collection[str]], links: Links) -> dict[str, list[str]]:
    near: dict[str, list[str]] = {key: [] for column in columns for key in column}
    for start, end in sorted(set(links)):
        near[start].append(end)
        near[end].append(start)
    return near


def _walk_boxes(columns: Columns, near: Mapping[str, Sequence[str]]) -> Columns:
    """Order all as a walk along the links meets them: what nothing links lies apart, which sorting by means never brings."""
    met: dict[str, None] = {}
    for start in (key for column in columns for key in column):
        waiting = deque([start])
        while waiting:
            key = waiting.popleft()
            if key not in met:
                met[key] = None
                waiting.extend(near[key])
    at = {key: number for number, key in enumerate(met)}
    return tuple(tuple(sorted(column, key=at.__getitem__)) for column in columns)


def _sweep_columns(start: Columns, near: Mapping[str, Sequence[str]]) -> Iterator[Columns]:
    """Return the order to start from, and one after each sweep over the columns, there and back."""
    yield start
    columns = list(start)
    there = list(pairwise(range(len(columns))))
    back = [(after, before) for before, after in reversed(there)]
    for _ in range(_SWEEPS):
        for direction in (there, back):
            for fixed, moved in direction:
                columns[moved] = _sorted_by_means(columns[moved], columns[fixed], near)
            yield tuple(columns)


def _sorted_by_means(moved: Sequence[str], fixed: Sequence[str], near: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    at = {key: number / len(fixed) for number, key in enumerate(fixed)}
    means = {}
    for number, key in enumerate(moved):
        linked = [at[each] for each in near[key] if each in at]
        means[key] = fmean(linked or [number / len(moved)])
    return tuple(sorted(moved, key=means.__getitem__))


def _settle_boxes(rooms: Sequence[float], wanted: Sequence[float], height: float) -> list[float]:
    """Return middles as near to the wanted ones as can be, in squares, where no box is over another: pool adjacent violators.

    Two boxes with 10 of room that want 20 and 0 touch where both are equally far off: at 5 and 15.
    """
    before = [end - room / 2 for end, room in zip(accumulate(rooms), rooms, strict=True)]
    pools: list[tuple[float, int]] = []  # of boxes that touch: the sum of where each would have the column begin, and how many
    for middle, offset in zip(wanted, before, strict=True):
        total, count = middle - offset, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / count:
            more, boxes = pools.pop()
            total, count = total + more, count + boxes
        pools.append((total, count))
    spare = max(height - sum(rooms), 0.0)
    begins = [min(max(total / count, 0.0), spare) for total, count in pools for _ in range(count)]
    return [begin + offset for begin, offset in zip(begins, before, strict=True)]
