"""Plans which distributions functions share through layers. Pure arithmetic: the same input gives the same plan.

A function sees each distribution that it needs once: in one of its layers, or in its own package. A layer goes only to
functions that need all of it, for what a function sees must not depend on its neighbors. Of all such plans one is wanted that
is small by, in this order,

1. the ZIP bytes stored and uploaded, of layers and of what stays in functions;
2. the bytes uploaded again when one distribution is updated, expected over all of them by how often they are released;
3. the number of layers.

Four functions that may have three layers each need these wheels (Python 3.13, x86_64; bytes of the wheels):

    numpy 2.3.4          16,636,543    orders  report  thumb
    pandas 2.3.3         12,306,371    orders  report
    pillow 12.0.0         7,037,729            report  thumb
    cryptography 46.0.3   4,482,541    orders                 users
    sqlalchemy 2.0.44     3,260,222    orders  report         users

Apart they come to 107,343,577 bytes, and each wheel once to 43,723,406. Five layers of one wheel each would be that, but orders
and report need four of them. The least that gives way is sqlalchemy, stored twice: 46,983,628 bytes. Two plans have so many.
With sqlalchemy in a layer beside pandas, for orders and report, and in the package of users, an update uploads 12,510,044 bytes
again on average. The other one makes it 10,945,278, because what is large changes alone:

    numpy                        for orders, report, thumb
    pandas                       for orders, report
    pillow                       for report, thumb
    cryptography, sqlalchemy     for orders, users
    sqlalchemy                   in the package of report

How it goes about it: distributions with the same users are one from here on, a class. Functions that share nothing, directly or
by way of others, are planned apart, so that neither can move the other's layers. Where each class can have a layer of its own,
that is the plan, for nothing is stored twice. Elsewhere `packer.layers.search` looks for layers that save much; slots
left over then split layers, so that an update uploads less again, and last of all classes: what is released more often than
the rest of its class gets a layer of its own.

It is a search and may miss the best plan; ``bench/planner.py`` measures by how much. Ties depend on the names of functions and
on sizes, never on the keys of pieces, which change with each update.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from math import fsum

from msgspec import Struct
from msgspec.structs import replace

from builders.runtimes import LAYERS_LIMIT, UNZIPPED_LIMIT

SMALLEST = 16 * 1024
"""ZIP bytes below which nothing becomes a layer: a slot and one more upload for each update are not worth so little."""


class Piece(Struct, frozen=True, kw_only=True):
    """A distribution as it would be packed; a mapping's key, such as its digest, identifies it.

    ``zipped`` is its bytes in an archive, ``weight`` how often it is released, relative to others.
    """

    zipped: int
    unzipped: int
    weight: float = 1.0


class Demand(Struct, frozen=True, kw_only=True):
    """What one function needs: the keys of its pieces.

    ``slots`` are the layers that it may have, less those that the user attaches; ``own`` the unzipped bytes that it has beside
    the pieces.
    """

    pieces: frozenset[str]
    slots: int = LAYERS_LIMIT
    own: int = 0


class PlannedLayer(Struct, frozen=True, kw_only=True):
    """Pieces that several functions share, both sorted; every user needs every piece."""

    pieces: tuple[str, ...]
    users: tuple[str, ...]


class LayerPlan(Struct, frozen=True, kw_only=True):
    """The layers, and for each function those that it has and the pieces that stay in its package.

    ``stored`` is the ZIP bytes of all that is written, each artifact once; ``uploaded_again`` the bytes of the artifacts that
    an update of one piece changes, as expected over all pieces by their weights.
    """

    layers: tuple[PlannedLayer, ...]
    attached: Mapping[str, tuple[PlannedLayer, ...]]
    packed: Mapping[str, frozenset[str]]
    stored: int
    uploaded_again: float

    def inside(self, function: str) -> frozenset[str]:
        """Return the pieces that stay in a function's package; raises `KeyError` where it was not planned."""
        return self.packed[function]


class _Class(Struct, frozen=True, kw_only=True):
    """Pieces with the same users; ``weight`` is that of all of them."""

    users: tuple[str, ...]
    pieces: tuple[str, ...]
    zipped: int
    weight: float

    def parts(self, pieces: Mapping[str, Piece]) -> list[_Class]:
        """Part it by how often its pieces are released, what is released least often first."""
        weights = sorted({pieces[key].weight for key in self.pieces})
        found = []
        for weight in weights:
            keys = tuple(key for key in self.pieces if pieces[key].weight == weight)
            size, often = _sum(keys, pieces)
            found.append(_Class(users=self.users, pieces=keys, zipped=size, weight=often))
        return found


def plan_layers(
    demands: Mapping[str, Demand],
    pieces: Mapping[str, Piece],
    *,
    smallest: int = SMALLEST,
    limit: int = UNZIPPED_LIMIT,
) -> LayerPlan:
    """Plan the layers of functions, by their names.

    A class of less than ``smallest`` ZIP bytes stays in its functions, and so does all that a function needs that is above
    ``limit`` unzipped, or that has no slot. No plan makes such a function smaller, and the check of sizes reports what it is
    made of. A layer is within the limit because each of its users is. Raises ``KeyError`` for an unknown piece.
    """
    able = {name: demand for name, demand in demands.items() if demand.slots > 0 and _unzipped_size(demand, pieces) <= limit}
    shared = [found for found in _classes(able, pieces) if len(found.users) > 1 and found.zipped >= max(smallest, 1)]
    planned = [layer for linked in _linked_groups(shared) for layer in _plan_linked(linked, able, pieces)]
    # Their order must not depend on the pieces' keys: no two layers have the same classes, and no two classes the same users,
    # but for the parts of one that are released more and less often.
    planned.sort(key=lambda layer: (layer[0], [(found.users, found.weight / len(found.pieces)) for found in layer[1]]))
    layers = (
        PlannedLayer(pieces=tuple(sorted(key for found in classes for key in found.pieces)), users=users)
        for users, classes in planned
    )
    return _describe_plan(tuple(layers), demands, pieces)


def _unzipped_size(demand: Demand, pieces: Mapping[str, Piece]) -> int:
    return demand.own + sum(pieces[key].unzipped for key in demand.pieces)


def _classes(demands: Mapping[str, Demand], pieces: Mapping[str, Piece]) -> list[_Class]:
    """Group pieces by the functions that need them, in the order of these."""
    users: dict[str, list[str]] = {}
    for name in sorted(demands):
        for key in demands[name].pieces:
            users.setdefault(key, []).append(name)
    keys: dict[tuple[str, ...], list[str]] = {}
    for key in sorted(users):
        keys.setdefault(tuple(users[key]), []).append(key)
    sums = {names: _sum(keys[names], pieces) for names in keys}
    return [
        _Class(users=names, pieces=tuple(keys[names]), zipped=sums[names][0], weight=sums[names][1]) for names in sorted(keys)
    ]


def _linked_groups(classes: Sequence[_Class]) -> Iterable[list[_Class]]:
    """Part classes into those that functions link, each part in the order of the classes."""
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while (above := leader.setdefault(name, name)) != name:
            leader[name] = leader[above]
            name = above
        return name

    for found in classes:
        for name in found.users:
            leader[lead(name)] = lead(found.users[0])
    parts: dict[str, list[_Class]] = {}
    for found in classes:
        parts.setdefault(lead(found.users[0]), []).append(found)
    return parts.values()


def _plan_linked(
    classes: Sequence[_Class], demands: Mapping[str, Demand], pieces: Mapping[str, Piece]
) -> list[tuple[tuple[str, ...], list[_Class]]]:
    """Return the layers of classes that functions link, as their users and classes."""
    from packer.layers.search import LayerProblem, search_layers, split_layers

    names = sorted({name for found in classes for name in found.users})
    numbers = {name: number for number, name in enumerate(names)}
    linked = {key for found in classes for key in found.pieces}
    alone = [demands[name].pieces - linked for name in names]
    problem = LayerProblem(
        sizes=[found.zipped for found in classes],
        weights=[found.weight for found in classes],
        holders=[[numbers[name] for name in found.users] for found in classes],
        slots=[demands[name].slots for name in names],
        alone=[_sum(keys, pieces) for keys in alone],
    )
    layers = search_layers(problem)
    divided = [found.parts(pieces) for found in classes]
    parts = [part for each in divided for part in each]
    if len(parts) > len(classes):
        ends = list(accumulate(len(each) for each in divided))
        numbered = [range(end - len(each), end) for end, each in zip(ends, divided, strict=True)]
        layers = [(tuple(part for number in held for part in numbered[number]), users) for held, users in layers]
        sizes, weights = [part.zipped for part in parts], [part.weight for part in parts]
        layers = split_layers(layers, replace(problem, sizes=sizes, weights=weights))
    return [(tuple(names[number] for number in users), [parts[number] for number in held]) for held, users in layers]


def _sum(keys: Collection[str], pieces: Mapping[str, Piece]) -> tuple[int, float]:
    """Return the ZIP bytes of pieces and their weight, whatever the order of the keys."""
    return sum(pieces[key].zipped for key in keys), fsum(pieces[key].weight for key in keys)


def _describe_plan(layers: tuple[PlannedLayer, ...], demands: Mapping[str, Demand], pieces: Mapping[str, Piece]) -> LayerPlan:
    """Add to layers what each function has of them and what they leave inside, and the sizes."""
    attached: dict[str, list[PlannedLayer]] = {name: [] for name in sorted(demands)}
    for layer in layers:
        for name in layer.users:
            attached[name].append(layer)
    packed = {name: demands[name].pieces.difference(*(layer.pieces for layer in held)) for name, held in attached.items()}
    artifacts = [*(layer.pieces for layer in layers), *packed.values()]
    sums = [_sum(artifact, pieces) for artifact in artifacts]
    _, total = _sum({key for demand in demands.values() for key in demand.pieces}, pieces)
    return LayerPlan(
        layers=layers,
        attached={name: tuple(held) for name, held in attached.items()},
        packed=packed,
        stored=sum(size for size, _ in sums),
        uploaded_again=fsum(size * weight for size, weight in sums) / total if total else 0.0,
    )
