"""Random functions and distributions for the layer planner; the same seed gives the same ones."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

from builders.runtimes import LAYERS_LIMIT
from packer.layers.planner import Demand, Piece

SPARSE, DENSE, ZIPF = "sparse", "dense", "Zipf"
MODELS = (SPARSE, DENSE, ZIPF)
"""How functions share: each needs each distribution with a small or a large probability, or takes some by popularity."""
_SMALLEST, _LARGEST = 10_000, 60_000_000
_MEDIAN, _SPREAD = 700_000, 1.8  # of the log-normal distribution of sizes


class Instance(Struct, frozen=True, kw_only=True):
    """One planning problem."""

    model: str
    demands: dict[str, Demand]
    pieces: dict[str, Piece]

    @property
    def hard(self) -> bool:
        """Whether some function shares more classes than it has slots; one layer for each class is best otherwise."""
        users: dict[str, frozenset[str]] = {
            key: frozenset(name for name, demand in self.demands.items() if key in demand.pieces) for key in self.pieces
        }
        return any(
            len({users[key] for key in demand.pieces if len(users[key]) > 1}) > demand.slots for demand in self.demands.values()
        )

    @property
    def distinct(self) -> int:
        """ZIP bytes of everything that is needed, once."""
        needed = {key for demand in self.demands.values() for key in demand.pieces}
        return sum(self.pieces[key].zipped for key in needed)

    @property
    def apart(self) -> int:
        """ZIP bytes of all functions without layers."""
        return sum(self.pieces[key].zipped for demand in self.demands.values() for key in demand.pieces)


def small(seed: int) -> Instance:
    """Give up to 12 functions and 40 distributions; a fifth of the functions has less than five slots."""
    source = random.Random(seed)
    model = MODELS[seed % len(MODELS)]
    functions, distributions = source.randint(4, 12), source.randint(10, 40)
    sizes = [_size(source) for _ in range(distributions)]
    if model == ZIPF:
        popularity = _popularity(distributions, source.uniform(0.6, 1.2))
        needs = [_popular(source, popularity, source.randint(3, min(20, distributions))) for _ in range(functions)]
    else:
        chance = source.uniform(0.1, 0.3) if model == SPARSE else source.uniform(0.3, 0.7)
        needs = [{number for number in range(distributions) if source.random() < chance} for _ in range(functions)]
    slots = [LAYERS_LIMIT if source.random() < 0.8 else source.randint(2, LAYERS_LIMIT - 1) for _ in range(functions)]
    return _instance(model, sizes, needs, slots)


def large(seed: int, functions: int = 1000, distributions: int = 2000, exponent: float = 1.0) -> Instance:
    """Give many functions of 5 to 30 distributions each, by their popularity."""
    source = random.Random(seed)
    sizes = [_size(source) for _ in range(distributions)]
    popularity = _popularity(distributions, exponent)
    needs = [_popular(source, popularity, source.randint(5, 30)) for _ in range(functions)]
    return _instance(ZIPF, sizes, needs, [LAYERS_LIMIT] * functions)


def _instance(model: str, sizes: Sequence[int], needs: Sequence[set[int]], slots: Sequence[int]) -> Instance:
    keys = [f"distribution-{number}" for number in range(len(sizes))]
    return Instance(
        model=model,
        demands={
            f"function-{number:04}": Demand(pieces=frozenset(keys[each] for each in needed), slots=most)
            for number, (needed, most) in enumerate(zip(needs, slots, strict=True))
        },
        # A function above the unzipped limit would get no layer, and everything shall take part here.
        pieces={key: Piece(zipped=size, unzipped=0) for key, size in zip(keys, sizes, strict=True)},
    )


def _size(source: random.Random) -> int:
    return min(_LARGEST, max(_SMALLEST, int(source.lognormvariate(math.log(_MEDIAN), _SPREAD))))


def _popularity(distributions: int, exponent: float) -> list[float]:
    return list(accumulate(1 / (rank + 1) ** exponent for rank in range(distributions)))


def _popular(source: random.Random, popularity: Sequence[float], count: int) -> set[int]:
    taken: set[int] = set()
    while len(taken) < count:
        taken.add(source.choices(range(len(popularity)), cum_weights=popularity)[0])
    return taken
