"""Searches for the layers that save most bytes; `packer.layers.planner` says what for, with an example.

A class is a set of distributions with the same users. Here classes and functions are numbers, and a set of classes is an
integer with a bit for each (``Classes``), which makes intersections cheap. A layer is known by its set of classes, for two
layers of the same classes are better as one; each function chooses at most as many layers as it has slots, no two of which
share a class.

A layer of ``b`` bytes that ``n`` functions choose saves ``b * (n - 1)`` bytes: they would have it inside otherwise.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from math import fsum, inf

from msgspec import Struct

Classes = int
Joins = Sequence[tuple[int, tuple[Classes, ...]]]
"""The functions that choose a layer, each with the layers that it leaves for it."""
Choice = tuple[Classes, Classes, tuple[Classes, ...]]
"""What a function has chosen: the classes of all its layers, the layer that it leaves for one that overlaps with none (the
smallest; 0 where it has a slot left), and its layers, the largest first: the sooner a loss is seen to be too large."""
Found = tuple[tuple[int, ...], tuple[int, ...]]
"""A layer: its classes and the functions that choose it."""

EFFORT = 300_000
"""Choices of functions that trying may weigh up, well under a second; a count and no time, so that plans can be repeated."""
MOST_TRIED = 200
"""Functions above which nothing is tried after climbing: the tries that `EFFORT` allows would be lost among so many."""
_NEIGHBORS = 10  # looking for what is next to a function's layers takes about as long as weighing up so many choices


class LayerProblem(Struct, frozen=True, kw_only=True):
    """What is to be shared: by class its bytes, how often it changes and the functions that need it; by function its slots.

    No two classes have the same holders. Number classes and functions by something that lasts: ties go to the lower number.
    ``alone`` is by function the bytes, and how often they change, of what stays inside in any case.
    """

    sizes: Sequence[int]
    weights: Sequence[float]
    holders: Sequence[Sequence[int]]
    slots: Sequence[int]
    alone: Sequence[tuple[int, float]]


def search_layers(problem: LayerProblem) -> list[Found]:
    """Return layers that save many bytes, in an order that depends on the input alone."""
    needed = Counter(function for users in problem.holders for function in users)
    if all(count <= problem.slots[function] for function, count in needed.items()):
        return [((number,), tuple(users)) for number, users in enumerate(problem.holders)]
    found = _PlanSearch(problem)
    found.climb(1 << number for number in range(len(problem.sizes)))
    found.settle()
    if len(problem.slots) <= MOST_TRIED:
        found.try_all()
        other = _PlanSearch(problem)
        other.take_largest()
        other.settle()
        other.try_all()
        found = max(found, other, key=_PlanSearch.worth)  # the first one where they are equal
    return split_layers(found.layers(), problem)


def split_layers(layers: Sequence[Found], problem: LayerProblem) -> list[Found]:
    """Split layers in two for as long as all users of one have a slot left, first where it spares most.

    An update of any class uploads all of its layer again. What changes often goes to one side, and what is large for how often
    it changes to the other.
    """
    left = list(problem.slots)
    waiting: list[tuple[float, tuple[int, ...], tuple[int, ...], int]] = []
    whole: list[Found] = []

    def add(classes: Iterable[int], users: tuple[int, ...]) -> None:
        order = sorted(classes, key=lambda number: (problem.weights[number] / max(1, problem.sizes[number]), number))
        spared, cut = max(((_saved_bytes(order, cut, problem), -cut) for cut in range(1, len(order))), default=(0.0, 0))
        heappush(waiting, (-spared, tuple(order), users, -cut))
        for user in users:
            left[user] -= 1

    for classes, users in layers:
        add(classes, users)
    while waiting:
        spared, order, users, cut = heappop(waiting)
        if spared and all(left[user] for user in users):
            for user in users:
                left[user] += 1
            add(order[:cut], users)
            add(order[cut:], users)
        else:
            whole.append((tuple(sorted(order)), users))
    return sorted(whole)


def _saved_bytes(order: Sequence[int], cut: int, problem: LayerProblem) -> float:
    """Return what a layer cut in two no longer uploads again: each side when the other changes."""
    first, second = order[:cut], order[cut:]
    size, often = problem.sizes, problem.weights
    return fsum(often[number] for number in first) * sum(size[number] for number in second) + fsum(
        often[number] for number in second
    ) * sum(size[number] for number in first)


def iterate_bits(classes: Classes) -> Iterator[Classes]:
    """Return each class of a set as a set of its own, the lowest number first."""
    while classes:
        lowest = classes & -classes
        yield lowest
        classes ^= lowest


class _PlanSearch:
    """Which layers each function has chosen, what that saves, and the moves from there."""

    def __init__(self, problem: LayerProblem) -> None:
        self._problem = problem
        self._sizes: dict[Classes, int] = {0: 0} | {1 << number: size for number, size in enumerate(problem.sizes)}
        self._users: dict[Classes, frozenset[int]] = {
            1 << number: frozenset(users) for number, users in enumerate(problem.holders)
        }
        self._slots = problem.slots
        self._needs = [0] * len(problem.slots)
        for number, users in enumerate(problem.holders):
            for function in users:
                self._needs[function] |= 1 << number
        self._choices: list[Choice] = [(0, 0, ())] * len(problem.slots)
        self._count: dict[Classes, int] = {}  # the functions that choose each layer: at least two
        self._saved = 0
        self._banned: Classes = 0
        self._effort = 0

    def layers(self) -> list[Found]:
        """Return the layers that functions have chosen."""
        users: dict[Classes, list[int]] = {}
        for function, (_, _, chosen) in enumerate(self._choices):
            for layer in chosen:
                users.setdefault(layer, []).append(function)
        return [(tuple(one.bit_length() - 1 for one in iterate_bits(layer)), tuple(users[layer])) for layer in sorted(users)]

    def worth(self) -> tuple[int, float, int]:
        """Return what plans are compared by, more is better: the bytes saved, then few uploaded again, then few layers."""
        again, layers = self._change(self._choices)
        return self._saved, -again, -layers

    def take_largest(self) -> None:
        """Give each function its largest classes as layers, which is another place to climb from."""
        for layer in sorted(self._sizes.keys() - {0}, key=lambda layer: (self._sizes[layer], layer)):
            gain, joins = self._weigh(layer, at_a_loss=True)
            if len(joins) > 1:
                self._move(layer, gain, joins)

    def climb(self, candidates: Iterable[Classes]) -> set[int]:
        """Make the layers that save most, one after the other, while one saves anything; return the functions that moved.

        A move opens others, and they are weighed up as well. Savings are kept in a heap although each move changes those of its
        neighbors: what comes out on top is weighed up again, and goes back if something else has become better.
        """
        heap: list[tuple[int, Classes]] = []
        waiting: set[Classes] = set()
        moved: set[int] = set()

        def push(candidates: Iterable[Classes]) -> None:
            for layer in candidates:
                if layer not in waiting and layer != self._banned and (gain := self._weigh(layer)[0]) > 0:
                    heappush(heap, (-gain, layer))
                    waiting.add(layer)

        push(candidates)
        while heap:
            _, layer = heappop(heap)
            waiting.discard(layer)
            gain, joins = self._weigh(layer)
            if gain > 0 and heap and gain < -heap[0][0]:
                heappush(heap, (-gain, layer))
                waiting.add(layer)
            elif gain > 0:
                touched = self._move(layer, gain, joins)
                moved.update(touched)
                push(self._promising(touched))
        return moved

    def settle(self) -> None:
        """Climb until no function's neighboring layers save anything more."""
        while self.climb(self._promising(range(len(self._slots)))):
            pass

    def try_all(self) -> None:
        """Close each layer, and make each one nearby even at a loss; climb from there, and go back where that was no better.

        This is what gets out of the places where no single move saves anything.
        """
        self._effort = 0
        better = True
        while better and self._effort <= EFFORT:
            better = False
            for layer in sorted(self._count, key=self._saving):
                better |= layer in self._count and self._try(layer, close=True)
            for layer in self._nearby():
                better |= self._try(layer, close=False)

    def _try(self, layer: Classes, *, close: bool) -> bool:
        """Close or make a layer, climb, and say whether that was better; all is as it was otherwise."""
        if self._effort > EFFORT:
            return False
        choices, count, saved = list(self._choices), dict(self._count), self._saved
        if close:
            self._close(layer)
            self._banned = layer
            self.settle()
            self._banned = 0
        else:
            gain, joins = self._weigh(layer, at_a_loss=True)
            if len(joins) + self._count.get(layer, 0) < 2:
                return False
            self._move(layer, gain, joins)
        self.settle()
        if self._saved > saved or (
            self._saved == saved and self._choices != choices and self._change(self._choices) < self._change(choices)
        ):
            return True
        self._choices, self._count, self._saved = choices, count, saved
        return False

    def _change(self, choices: Sequence[Choice]) -> tuple[float, int]:
        """Return what updates upload again, times the sum of all weights, and the number of layers."""
        layers = {layer for _, _, chosen in choices for layer in chosen}
        parts = [(self._size(layer), self._often(layer)) for layer in layers]
        for needs, (held, _, _), (size, often) in zip(self._needs, choices, self._problem.alone, strict=True):
            loose = needs & ~held
            parts.append((size + self._size(loose), often + self._often(loose)))
        return fsum(size * often for size, often in parts), len(layers)

    def _often(self, classes: Classes) -> float:
        return fsum(self._problem.weights[one.bit_length() - 1] for one in iterate_bits(classes))

    def _saving(self, layer: Classes) -> tuple[int, Classes]:
        return self._sizes[layer] * (self._count[layer] - 1), layer

    def _size(self, classes: Classes) -> int:
        if (known := self._sizes.get(classes)) is None:
            lowest = classes & -classes
            known = self._sizes[classes] = self._sizes[lowest] + self._size(classes ^ lowest)
        return known

    def _users_of(self, classes: Classes) -> frozenset[int]:
        """Return the functions that need all of some classes."""
        if (known := self._users.get(classes)) is None:
            lowest = classes & -classes
            known = self._users[classes] = self._users[lowest] & self._users_of(classes ^ lowest)
        return known

    def _weigh(self, layer: Classes, *, at_a_loss: bool = False) -> tuple[int, Joins]:
        """Return what a layer would save, and who would choose it: each function that gains, or every one that can.

        A function leaves the layers that overlap with it. Where none does, it leaves its smallest one if it has no slot left.
        """
        size, users, sizes, choices = self._size(layer), self._users_of(layer), self._sizes, self._choices
        self._effort += len(users)
        if len(users) < 2:
            return 0, ()
        saved = 0 if layer in self._count else -size
        most = inf if at_a_loss else size
        joins: list[tuple[int, tuple[Classes, ...]]] = []
        leaving: list[Classes] = []
        left: tuple[Classes, ...]
        for function in users:  # where the plans of many functions take most of their time; most functions gain nothing
            held, smallest, chosen = choices[function]
            if not held & layer:
                lost, left = sizes[smallest], (smallest,) if smallest else ()
            else:
                lost, left = 0, ()
                for each in chosen:
                    if each & layer:
                        lost += sizes[each]
                        if lost >= most:
                            break
                        left += (each,)
            if lost < most and layer not in left:
                saved += size - lost
                joins.append((function, left))
                leaving += left
        return saved + sum(sizes[each] for each, count in Counter(leaving).items() if count == self._count[each]), joins

    def _choose(self, function: int, layers: Iterable[Classes]) -> None:
        """Let a function use these layers, no two of which share a class."""
        chosen = tuple(sorted(layers, key=lambda each: (self._sizes[each], each), reverse=True))
        leaves = chosen[-1] if len(chosen) >= self._slots[function] else 0
        self._choices[function] = (sum(chosen), leaves, chosen)

    def _move(self, layer: Classes, gain: int, joins: Joins) -> set[int]:
        """Let functions choose a layer; give those that have changed, with the last users of what the others left."""
        self._saved += gain
        touched = set()
        gone: dict[Classes, None] = {}
        for function, left in joins:
            for held in left:
                self._count[held] -= 1
                gone[held] = None
            self._choose(function, (layer, *(held for held in self._choices[function][2] if held not in left)))
            touched.add(function)
        self._count[layer] = self._count.get(layer, 0) + len(joins)
        for held in gone:
            if self._count[held] < 2:
                touched |= self._close(held)
        return touched

    def _close(self, layer: Classes) -> set[int]:
        """Take a layer from those that chose it, and give them."""
        touched = {function for function in self._users_of(layer) if layer in self._choices[function][2]}
        for function in touched:
            self._choose(function, (held for held in self._choices[function][2] if held != layer))
        self._saved -= self._sizes[layer] * max(0, self._count.pop(layer) - 1)
        return touched

    def _loose(self, function: int) -> Classes:
        """Return the classes that a function has inside; no two of its layers share a class."""
        return self._needs[function] & ~self._choices[function][0]

    def _promising(self, functions: Iterable[int]) -> list[Classes]:
        """Return the layers next to what functions have chosen that might save something.

        These are a class that is inside, alone or together with a chosen layer. What it may save is at most its bytes in each
        function, and those of the layer that it takes the place of; a layer that is new costs its bytes.
        """
        hoped: defaultdict[Classes, int] = defaultdict(int)
        for function in functions:
            self._effort += _NEIGHBORS
            shares = [(layer, self._sizes[layer] // self._count[layer] + 1) for layer in self._choices[function][2]]
            for one in iterate_bits(self._loose(function)):
                size = self._sizes[one]
                hoped[one] += size
                for layer, share in shares:
                    hoped[layer | one] += size + share
        return [layer for layer, hope in hoped.items() if layer in self._count or hope > self._size(layer)]

    def _nearby(self) -> list[Classes]:
        """Return the layers next to the chosen ones, first what saves most: two as one, with one class more, with one less."""
        found: set[Classes] = set()
        for function, (_, _, chosen) in enumerate(self._choices):
            loose = self._loose(function)
            for place, layer in enumerate(chosen):
                found.update(layer | other for other in chosen[:place])
                found.update(layer | one for one in iterate_bits(loose))
                found.update(layer ^ one for one in iterate_bits(layer))
        found -= {0, *self._count}
        several = [layer for layer in found if len(self._users_of(layer)) > 1]
        return sorted(several, key=lambda layer: (-self._weigh(layer)[0], -self._size(layer), layer))
