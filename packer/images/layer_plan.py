"""Plans the layers of container images. Pure arithmetic: the same input gives the same plan.

An image has no limit of five layers, but engines and registries know a layer by the chain below it, and stack no more than 127.
So functions that have much in common should begin alike: what most of them share comes first, what changes least before what
changes more, and a function's own source last, where a changed line moves nothing else. How pieces are shared is what
`packer.layers.planner` finds for layers of Lambda, with more room; what is left of that goes to large pieces, which lie alone,
so that an update uploads little again.

Three functions need these pieces (bytes in thousands, all released alike):

    numpy      16,637    orders  report  thumb
    pandas     12,306    orders  report
    pyarrow    42,000    orders  report
    requests       65    orders  report  thumb
    pillow      7,038                    thumb

    orders, report    numpy | requests | pyarrow | pandas | source
    thumb             numpy | requests | pillow | source
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from packer.layers.planner import Demand, Piece, plan_layers

MOST_OWN = 20
"""Layers that lpack puts upon a base, the source's among them."""
_SHARED = 12
"""Of these, how many the planner may give a function; the rest are for what is large."""
_LARGE = 1 << 20
"""Bytes of an archive from which on a piece may lie in a layer of its own."""
_NO_LIMIT = 1 << 62

Keys = tuple[str, ...]


class _Layer(Struct, frozen=True):
    keys: Keys
    users: tuple[str, ...]


def plan_images(needs: Mapping[str, frozenset[str]], pieces: Mapping[str, Piece]) -> dict[str, tuple[Keys, ...]]:
    """Plan the images of functions, by their names, of the keys of what each needs.

    Gives the layers of each, lowest first: the keys of what a layer holds, sorted. The source is not among them. Raises
    ``KeyError`` for an unknown piece.
    """
    demands = {name: Demand(pieces=keys, slots=_SHARED) for name, keys in needs.items() if keys}
    plan = plan_layers(demands, pieces, smallest=1, limit=_NO_LIMIT)
    layers = [_Layer(each.pieces, each.users) for each in plan.layers]
    layers += [_Layer(tuple(sorted(plan.inside(name))), (name,)) for name in sorted(demands) if plan.inside(name)]
    found: dict[str, list[_Layer]] = {name: [] for name in needs}
    for layer in sorted(_divide_layers(layers, pieces), key=lambda each: _order(each, pieces)):
        for name in layer.users:
            found[name].append(layer)
    return {name: tuple(layer.keys for layer in held) for name, held in found.items()}


def _divide_layers(layers: list[_Layer], pieces: Mapping[str, Piece]) -> list[_Layer]:
    """Put large pieces into layers of their own, the largest first, as long as all users of their layer have room."""
    room = Counter({name: MOST_OWN - 1 for layer in layers for name in layer.users})
    room.subtract(name for layer in layers for name in layer.users)
    left = [set(layer.keys) for layer in layers]
    apart: list[_Layer] = []
    large = [
        (pieces[key].zipped, key, layer.users, place)
        for place, layer in enumerate(layers)
        for key in layer.keys
        if pieces[key].zipped >= _LARGE
    ]
    for _, key, users, place in sorted(large, key=lambda each: (-each[0], *each[1:])):
        if len(left[place]) > 1 and all(room[name] > 0 for name in users):
            left[place].discard(key)
            apart.append(_Layer((key,), users))
            room.subtract(users)
    return [*apart, *(_Layer(tuple(sorted(keys)), layer.users) for layer, keys in zip(layers, left, strict=True))]


def _order(layer: _Layer, pieces: Mapping[str, Piece]) -> tuple[int, float, int, Keys]:
    """Return where a layer comes: what is most widely shared first, then what is released least, then what is largest."""
    rate = max(pieces[key].weight for key in layer.keys)
    return -len(layer.users), rate, -sum(pieces[key].zipped for key in layer.keys), layer.keys
