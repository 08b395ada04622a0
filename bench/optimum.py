"""Finds the fewest bytes that any plan of layers stores, by integer programming (HiGHS by way of SciPy)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from msgspec import Struct, field
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from packer.layers.planner import Demand, Piece

_MEGABYTE = 1e6  # the solver's tolerances suit numbers of this size


class Optimum(Struct, frozen=True, kw_only=True):
    """The bytes of the best plan; ``bound`` is what no plan can be below, the same where ``proved``."""

    stored: int | None
    bound: int
    proved: bool


class _Model(Struct):
    """Binary variables with what each adds to the bytes, and rows whose sum may not exceed a constant."""

    costs: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    entries: list[tuple[int, int, int]] = field(default_factory=list)

    def variable(self, cost: float = 0) -> int:
        self.costs.append(cost / _MEGABYTE)
        return len(self.costs) - 1

    def row(self, most: int) -> int:
        self.most.append(most)
        return len(self.most) - 1

    def put(self, row: int, variable: int, factor: int = 1) -> None:
        self.entries.append((row, variable, factor))

    def only_with(self, variable: int, other: int) -> None:
        """Allow a variable to be one only where another is."""
        row = self.row(0)
        self.put(row, variable)
        self.put(row, other, -1)

    def solve(self, seconds: float) -> Any:
        rows, columns, factors = zip(*self.entries, strict=True)
        matrix = csr_array((factors, (rows, columns)), shape=(len(self.most), len(self.costs)))
        return milp(
            np.array(self.costs),
            constraints=LinearConstraint(matrix, -np.inf, np.array(self.most)),
            bounds=Bounds(0, 1),
            integrality=np.ones(len(self.costs)),
            options={"time_limit": seconds, "mip_rel_gap": 0},
        )


def optimum(demands: Mapping[str, Demand], pieces: Mapping[str, Piece], *, seconds: float) -> Optimum:
    """Give the fewest bytes, with nothing too small to share and no unzipped limit; stops after ``seconds``.

    Pieces with the same users are one class: what is best for one of them is best for all. Without layers each function has its
    own copies. A class saves a copy for each user but one, by set of users:

    - a layer for exactly the functions S (at least two) takes a slot of each, and each class that they all need may be in it;
    - a layer of one class alone needs no such set: it is there once, and any of its users may choose it.

    So sets that fewer than two classes have in common are left out. A function gets a class at most once, and no more layers
    than it has slots.
    """
    names = sorted(demands)
    classes = _classes(names, demands, pieces)
    apart = sum(size * users.bit_count() for users, size in classes.items())
    shared = {users: size for users, size in classes.items() if users.bit_count() > 1}
    if not shared:
        return Optimum(stored=apart, bound=apart, proved=True)
    model = _Model()
    slots = [model.row(demands[name].slots) for name in names]
    once = {(users, function): model.row(1) for users in shared for function in _functions(users)}
    for users, size in shared.items():
        _add_own_layer(model, users, size, slots, once)
    for users in sorted({part for each in shared for part in _parts(each)}):
        held = {each: size for each, size in shared.items() if each & users == users}
        if len(held) > 1:
            _add_layer(model, users, held, slots, once)
    result = model.solve(seconds)
    bound = apart + round(result.mip_dual_bound * _MEGABYTE) if result.mip_dual_bound is not None else sum(classes.values())
    stored = None if result.x is None else apart + round(result.fun * _MEGABYTE)
    return Optimum(
        stored=stored, bound=stored if stored is not None and result.status == 0 else bound, proved=result.status == 0
    )


def _add_own_layer(model: _Model, users: int, size: int, slots: list[int], once: Mapping[tuple[int, int], int]) -> None:
    layer = model.variable(size)
    for function in _functions(users):
        chosen = model.variable(-size)
        model.only_with(chosen, layer)
        model.put(slots[function], chosen)
        model.put(once[users, function], chosen)


def _add_layer(
    model: _Model, users: int, held: Mapping[int, int], slots: list[int], once: Mapping[tuple[int, int], int]
) -> None:
    layer = model.variable()
    for function in _functions(users):
        model.put(slots[function], layer)
    for each, size in held.items():
        stored = model.variable(-size * (users.bit_count() - 1))
        model.only_with(stored, layer)
        for function in _functions(users):
            model.put(once[each, function], stored)


def _classes(names: list[str], demands: Mapping[str, Demand], pieces: Mapping[str, Piece]) -> dict[int, int]:
    """Give the bytes of each class by its users, an integer with a bit for each function."""
    classes: dict[int, int] = {}
    for key, piece in pieces.items():
        users = sum(1 << number for number, name in enumerate(names) if key in demands[name].pieces)
        if users:
            classes[users] = classes.get(users, 0) + piece.zipped
    return classes


def _functions(users: int) -> Iterator[int]:
    return (number for number in range(users.bit_length()) if users >> number & 1)


def _parts(users: int) -> Iterator[int]:
    """Give every subset of at least two functions."""
    part = users
    while part:
        if part.bit_count() > 1:
            yield part
        part = (part - 1) & users
