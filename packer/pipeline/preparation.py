"""Functions locked, fetched and trimmed, each once: what their layers and packages are made of."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from threading import Lock

from msgspec import Struct

from packer.core.model import OWN_SOURCE, Function, SourceFolder
from packer.formats.elf import ElfFile
from packer.formats.metadata import required_names
from packer.formats.native_code import NativeCode
from packer.layers.assignment import MadeLayer, Need, Needed
from packer.layers.shared_libraries import find_entangled
from packer.pipeline.gatherer import GatheredFunction, Gatherer
from packer.pipeline.layer_maker import Version
from packer.pipeline.layer_parts import Variant, collect_variants, measure_own_source
from packer.source.function_source import SourceScan
from packer.trim.merge import conflicting_parts
from packer.trim.rules import Unit
from packer.trim.shape import Shaper, TrimmedFunction
from packer.verify.proof import Prover

_LOCAL = 10.0
"""How often a local project is taken to change, in parts of what an index holds: with commits, and not with releases."""


class Order(Struct, frozen=True, kw_only=True):
    """A function to work on, with its source as it was found."""

    function: Function
    scan: SourceScan


class PreparedFunction(Struct, frozen=True, kw_only=True):
    """A function with its parts trimmed."""

    gathered: GatheredFunction
    restored: frozenset[Unit]
    cut: TrimmedFunction
    variants: Mapping[str, Variant]
    need: Need
    seconds: float

    def names_in(self, layers: Sequence[MadeLayer]) -> frozenset[str]:
        """Return the names of the function's distributions that these layers hold."""
        digests = {digest for layer in layers for digest in layer.pieces}
        return frozenset(each.name for each in self.gathered.material.distributions if each.digest in digests)


class Preparation:
    """Prepares functions that are compiled alike, each once for each way to trim it; may be used from many threads."""

    def __init__(self, orders: Sequence[Order], gatherer: Gatherer, shaper: Shaper, prover: Prover, native: NativeCode) -> None:
        self._orders = {order.function.name: order for order in orders}
        self._gatherer = gatherer
        self._shaper = shaper
        self._prover = prover
        self._native = native
        self._locks = {name: Lock() for name in self._orders}
        self._prepared: dict[str, PreparedFunction] = {}

    def add(self, order: Order) -> None:
        """Add a function."""
        self._locks[order.function.name] = Lock()
        self._orders[order.function.name] = order

    def order(self, name: str) -> Order:
        """Return a function with its source."""
        return self._orders[name]

    def known(self, name: str) -> PreparedFunction | None:
        """Return a function as it was prepared last; None where it was not."""
        return self._prepared.get(name)

    def forget(self, name: str) -> None:
        """Forget a function that nobody needs any more, to free its memory."""
        self._prepared.pop(name, None)

    def prepare(self, version: Version) -> PreparedFunction:
        """Lock a function, fetch what it needs and trim that; raises `LpackError`."""
        with self._locks[version.name]:
            known = self._prepared.get(version.name)
            if known is None or (version.kept is not None and version.kept != known.restored):
                started = time.perf_counter()
                order = self._orders[version.name]
                gathered = known.gathered if known else self._gatherer.gather(order.function, order.scan)
                restored = self._prover.restored(gathered.material) if version.kept is None else version.kept
                cut = self._shaper.cut(gathered.material, restored)
                variants = collect_variants(gathered, cut, restored)
                known = self._prepared[version.name] = PreparedFunction(
                    gathered=gathered,
                    restored=restored,
                    cut=cut,
                    variants=variants,
                    need=self._make_need(gathered, cut, variants),
                    seconds=time.perf_counter() - started,
                )
            return known

    def _make_need(self, gathered: GatheredFunction, cut: TrimmedFunction, variants: Mapping[str, Variant]) -> Need:
        material, function = gathered.material, gathered.function
        names = {each.name: each.digest for each in material.distributions}
        trees, closed = dict(material.parts), any(layer.closed for layer in function.layers.named)
        local = (each.name for each in gathered.lock.packages if isinstance(each.source, SourceFolder))
        weights = {**dict.fromkeys(local, _LOCAL), **dict(function.layers.releases)}
        tied, stuck = [], frozenset[str]()
        if function.layers.wanted:
            groups = find_entangled(material.parts, self._native_code(gathered), function.target)
            beside_source = {name for group in groups if OWN_SOURCE in group for name in group}
            # Only the function's own rules say which of them wins, and other functions may have others.
            ruled = conflicting_parts(material.parts) if function.overlap else frozenset[str]()
            stuck = frozenset(digest for name, digest in names.items() if name in beside_source | ruled)
            tied = [frozenset(names[name] for name in group) for group in groups if OWN_SOURCE not in group]
        return Need(
            distributions={
                each.digest: Needed(
                    name=each.name,
                    version=each.version,
                    variant=variants[each.digest].digest,
                    size=variants[each.digest].tree.size,
                    weight=weights.get(each.name, 1.0),
                    requires=required_names(trees[each.name]) if closed else (),
                )
                for each in material.distributions
            },
            own=measure_own_source(cut) + gathered.attached_bytes,
            options=function.layers,
            stuck=stuck,
            tied=tuple(tied),
            libraries=tuple(sorted(_find_own_libraries(gathered))),
        )

    def _native_code(self, gathered: GatheredFunction) -> dict[str, Sequence[ElfFile]]:
        """Return the native code of a function's source and of its distributions, by their names."""
        native, material = self._native, gathered.material
        source = dict(material.parts)[OWN_SOURCE]
        return {OWN_SOURCE: native.of_source(source), **{each.name: native.of_wheel(each) for each in material.distributions}}

    def variant(self, digest: str, version: Version) -> Variant:
        """Return what a function needs of a distribution; raises `LpackError`."""
        return self.prepare(version).variants[digest]

    def libraries(self, names: Sequence[str], without: Sequence[str]) -> dict[str, Sequence[ElfFile]]:
        """Return the native code that functions have beside these distributions, by wheels' digests and functions' names."""
        found: dict[str, Sequence[ElfFile]] = {}
        held = frozenset(without)
        for name in names:
            gathered = self.prepare(Version(name=name)).gathered
            native = self._native_code(gathered)
            found[f"{OWN_SOURCE} {name}"] = native[OWN_SOURCE]
            found |= {each.digest: native[each.name] for each in gathered.material.distributions}
        return {key: files for key, files in found.items() if key not in held}


def _find_own_libraries(gathered: GatheredFunction) -> list[str]:
    """Return the digests of the shared libraries in a function's own source."""
    source = dict(gathered.material.parts)[OWN_SOURCE]
    return [entry.content.digest for entry in source if ".so" in entry.path.rpartition("/")[2]]
