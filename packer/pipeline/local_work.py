"""Does the work on functions that may share layers: prepares them, makes layers, and builds and proves each with its own.

What is asked for, and what is given back, are plain values: whoever plans need not be where the work is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Protocol

from msgspec import Struct

from packer.core.function_tree import check_handler, conflicting_parts
from packer.core.model import OWN_SOURCE, Entry, Function, SourceFolder, Tree
from packer.formats.elf import ElfFile
from packer.formats.metadata import required_names
from packer.formats.zip_writer import WrittenArchive
from packer.layers.assignment import LayerShare, MadeLayer, Need, Needed
from packer.layers.planner import Piece
from packer.layers.shared_libraries import find_entangled
from packer.pipeline.gatherer import Gathered, Gatherer, Tools
from packer.pipeline.layer_maker import Beside, LayerMaker, Version, Wanted, files_of
from packer.pipeline.layer_parts import Variant, own_size, variants_of
from packer.pipeline.results import Result, result_of
from packer.source.function_source import SourceScan
from packer.trim.bytecode_placement import LayerContents
from packer.trim.material import Material
from packer.trim.rules import Unit
from packer.trim.shape import ShapedFunction, TrimmedFunction
from packer.verify.candidates import Candidate
from packer.verify.proof import Proof

Files = Mapping[str, int]
"""The bytes of each file, by its path."""
_LOCAL = 10.0
"""How often a local project is taken to change, in parts of what an index holds: with commits, and not with releases."""


class Settled(Struct, frozen=True, kw_only=True):
    """A function that was built: ``result`` says what came of it, and ``staged`` is its archive.

    ``restored`` is what was left alone when it was trimmed, and ``need`` what it needs then. ``kept`` is what verification
    found to be needed, ``alone`` why it only works without layers, ``cramped`` that sources had to go for their bytecode.
    Where one of these three is news, the plan does not stand.
    """

    result: Result
    staged: Path
    need: Need
    restored: frozenset[Unit]
    kept: frozenset[Unit]
    alone: str
    cramped: bool


class Whole(Struct, frozen=True, kw_only=True):
    """All files of a function, and the names of the distributions that their owners are."""

    tree: Tree
    names: Mapping[str, str]


class Appraised(Struct, frozen=True, kw_only=True):
    """A function as it is going to be, without a proof; ``result`` says so for the manifest.

    ``restored`` is what an earlier repair has left alone when it was trimmed.
    """

    gathered: Gathered
    shaped: ShapedFunction
    restored: frozenset[Unit]
    result: Result
    need: Need


class Work(Protocol):
    """Does the work, here or elsewhere; may be called from many threads."""

    def prepare(self, version: Version) -> tuple[Need, frozenset[Unit]]:
        """Lock a function, fetch what it needs and trim that; give what it needs, and what an earlier repair left alone."""
        ...

    def warm(self, wanted: Sequence[Wanted]) -> None:
        """Compile many distributions at once, which takes less time than one after the other."""
        ...

    def size(self, wanted: Wanted) -> Piece:
        """Give the bytes of a distribution in a layer."""
        ...

    def make(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Make a layer, if it is not there."""
        ...

    def ready(self, todo: Mapping[str, Sequence[MadeLayer]]) -> None:
        """Compile at once what functions have beside these layers, which takes less time than one after the other."""
        ...

    def settle(self, version: Version, layers: Sequence[MadeLayer]) -> Settled:
        """Build a function with its layers, and prove it."""
        ...


class Order(Struct, frozen=True, kw_only=True):
    """A function to work on, with its source as it was found."""

    function: Function
    scan: SourceScan


class _Prepared(Struct, frozen=True, kw_only=True):
    """A function with its parts trimmed."""

    gathered: Gathered
    restored: frozenset[Unit]
    cut: TrimmedFunction
    variants: Mapping[str, Variant]
    need: Need
    seconds: float


class Workshop:
    """Does the work on this machine, for functions of one target that are compiled alike."""

    def __init__(
        self, orders: Sequence[Order], parts: tuple[Tools, Gatherer], staging: Path, maker: Callable[[Workshop], LayerMaker]
    ) -> None:
        self._orders = {order.function.name: order for order in orders}
        self._tools, self._gatherer = parts
        self._staging = staging
        self._locks = {name: Lock() for name in self._orders}
        self._prepared: dict[str, _Prepared] = {}
        self.maker = maker(self)

    def add(self, order: Order) -> None:
        """Take on one function more."""
        self._locks[order.function.name] = Lock()
        self._orders[order.function.name] = order

    def prepare(self, version: Version) -> tuple[Need, frozenset[Unit]]:
        """Lock a function, fetch what it needs and trim that; raises `LpackError`."""
        prepared = self._prepare(version)
        return prepared.need, prepared.restored

    def _need(self, gathered: Gathered, cut: TrimmedFunction, variants: Mapping[str, Variant]) -> Need:
        material, function = gathered.material, gathered.function
        names = {each.name: each.digest for each in material.distributions}
        trees, closed = dict(material.parts), any(layer.closed for layer in function.layers.named)
        local = (each.name for each in gathered.lock.packages if isinstance(each.source, SourceFolder))
        weights = {**dict.fromkeys(local, _LOCAL), **dict(function.layers.releases)}
        tied, stuck = [], frozenset[str]()
        if function.layers.wanted:
            groups = find_entangled(material.parts, self._native(gathered), function.target)
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
            own=own_size(cut),
            options=function.layers,
            stuck=stuck,
            tied=tuple(tied),
            libraries=tuple(sorted(_own_libraries(gathered))),
        )

    def _prepare(self, version: Version) -> _Prepared:
        with self._locks[version.name]:
            known = self._prepared.get(version.name)
            if known is None or (version.kept is not None and version.kept != known.restored):
                started = time.perf_counter()
                order = self._orders[version.name]
                gathered = known.gathered if known else self._gatherer.gather(order.function, order.scan)
                restored = self._tools.prover.restored(gathered.material) if version.kept is None else version.kept
                cut = self._tools.shaper.cut(gathered.material, restored)
                variants = variants_of(gathered, cut, restored)
                known = self._prepared[version.name] = _Prepared(
                    gathered=gathered,
                    restored=restored,
                    cut=cut,
                    variants=variants,
                    need=self._need(gathered, cut, variants),
                    seconds=time.perf_counter() - started,
                )
            return known

    def _native(self, gathered: Gathered) -> dict[str, Sequence[ElfFile]]:
        """Give the native code of a function's source and of its distributions, by their names."""
        native, material = self._tools.native, gathered.material
        source = dict(material.parts)[OWN_SOURCE]
        return {OWN_SOURCE: native.of_source(source), **{each.name: native.of_wheel(each) for each in material.distributions}}

    def warm(self, wanted: Sequence[Wanted]) -> None:
        """Compile many distributions at once; raises `LpackError`."""
        self.maker.warm(wanted)

    def size(self, wanted: Wanted) -> Piece:
        """Give the bytes of a distribution in a layer; raises `LpackError`."""
        return self.maker.size(wanted)

    def make(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Make a layer, if it is not there; raises `LpackError`."""
        return self.maker.make(share, wanted, beside)

    def ready(self, todo: Mapping[str, Sequence[MadeLayer]]) -> None:
        """Compile at once what functions have beside these layers; raises `LpackError`."""
        self._tools.shaper.placer.warm_functions((self._orders[name].function, self._own(name, todo[name])) for name in todo)

    def _own(self, name: str, layers: Sequence[MadeLayer]) -> list[Entry]:
        """Give what a function has beside its layers; of one that was not looked into, its source, which is what counts."""
        prepared = self._prepared.get(name)
        parts = prepared.cut.parts if prepared else ((OWN_SOURCE, self._orders[name].scan.tree),)
        held = _held(prepared, layers) if prepared else frozenset[str]()
        return [entry for part, tree in parts if part == OWN_SOURCE or part not in held for entry in tree]

    def variant(self, digest: str, version: Version) -> Variant:
        """Give what a function needs of a distribution; raises `LpackError`."""
        return self._prepare(version).variants[digest]

    def libraries(self, names: Sequence[str], without: Sequence[str]) -> dict[str, Sequence[ElfFile]]:
        """Give the native code that functions have beside these distributions, by wheels' digests and functions' names."""
        found: dict[str, Sequence[ElfFile]] = {}
        held = frozenset(without)
        for name in names:
            gathered = self._prepare(Version(name=name)).gathered
            native = self._native(gathered)
            found[f"{OWN_SOURCE} {name}"] = native[OWN_SOURCE]
            found |= {each.digest: native[each.name] for each in gathered.material.distributions}
        return {key: files for key, files in found.items() if key not in held}

    def settle(self, version: Version, layers: Sequence[MadeLayer]) -> Settled:
        """Build a function with its layers, and prove it; raises `LpackError`."""
        return self._settle(version, layers)[0]

    def whole(self, version: Version) -> tuple[Settled, Whole]:
        """Build a function that has everything itself, and prove it; raises `LpackError`."""
        settled, proof, material = self._settle(version, ())
        return settled, Whole(tree=proof.candidate.shaped.tree, names=material.owner_names())

    def unproved(self, version: Version) -> tuple[Need, Whole]:
        """Give the files of a function that is not built now, as far as no proof decides them."""
        prepared = self._prepare(version)
        material = prepared.gathered.material
        shaped = self._tools.shaper.finish(material, prepared.cut, prepared.restored)
        return prepared.need, Whole(tree=shaped.tree, names=material.owner_names())

    def appraise(self, version: Version, layers: Sequence[MadeLayer], files: Callable[[MadeLayer], Files]) -> Appraised:
        """Say what a function is going to be with layers that are only outlined, which ``files`` knows; runs nothing of it.

        Raises `LpackError`.
        """
        started = time.perf_counter()
        prepared, shaped = self._finished(version, layers, files)
        length = self._tools.shaper.placer.zipped(shaped.tree)
        written = WrittenArchive(sha256="", length=length)
        candidate = Candidate(shaped=shaped, restored=prepared.restored, path=Path(), written=written)
        seconds = time.perf_counter() - started + prepared.seconds
        result = result_of(prepared.gathered, Proof(candidate=candidate), tuple(layers), seconds)
        return Appraised(
            gathered=prepared.gathered,
            shaped=shaped,
            restored=prepared.restored,
            result=result,
            need=prepared.need,
        )

    def _finished(
        self, version: Version, layers: Sequence[MadeLayer], files: Callable[[MadeLayer], Files]
    ) -> tuple[_Prepared, ShapedFunction]:
        """Merge and compile what no layer holds, and prove that the handler is there."""
        prepared = self._prepare(version)
        layered = LayerContents(
            names=_held(prepared, layers),
            files=lambda: {path: size for layer in layers for path, size in files(layer).items()},
            size=sum(layer.report.unzipped_bytes for layer in layers),
        )
        shaped = self._tools.shaper.finish(prepared.gathered.material, prepared.cut, prepared.restored, layered)
        check_handler(prepared.gathered.function, shaped.tree, layered.files)
        return prepared, shaped

    def _settle(self, version: Version, layers: Sequence[MadeLayer]) -> tuple[Settled, Proof, Material]:
        started = time.perf_counter()
        prepared, shaped = self._finished(version, layers, files_of)
        tools, material = self._tools, prepared.gathered.material
        function = material.function
        path = self._staging / f"{function.name}.zip"
        archives = tuple(layer.archive for layer in layers)
        if function.image.wanted:
            candidate = tools.prover.candidates.of_image(function, shaped, prepared.restored, path)
        else:
            candidate = tools.prover.candidates.of_shaped(shaped, prepared.restored, path, archives)
        proof = tools.prover.prove(material, candidate, partial(self._gatherer.carried, material))
        cramped = bool(layers) and function.bytecode.mode == "auto" and proof.candidate.shaped.bytecode.mode == "only"
        seconds = time.perf_counter() - started + prepared.seconds
        used = () if proof.alone else tuple(layers)
        if not function.layers.wanted:  # nobody else asks for it, and hundreds of them would take much memory
            self._prepared.pop(function.name, None)
        settled = Settled(
            result=result_of(prepared.gathered, proof, used, seconds),
            staged=path,
            need=prepared.need,
            restored=prepared.restored,
            kept=frozenset(proof.kept),
            alone=proof.alone,
            cramped=cramped,
        )
        return settled, proof, material


def _held(prepared: _Prepared, layers: Sequence[MadeLayer]) -> frozenset[str]:
    """Give the names of a function's distributions that these layers hold."""
    held = {digest for layer in layers for digest in layer.pieces}
    return frozenset(each.name for each in prepared.gathered.material.distributions if each.digest in held)


def _own_libraries(gathered: Gathered) -> list[str]:
    """Give the digests of the shared libraries in a function's own source."""
    source = dict(gathered.material.parts)[OWN_SOURCE]
    return [entry.content.digest for entry in source if ".so" in entry.path.rpartition("/")[2]]
