"""Does the work on functions that may share layers: prepares them, makes layers, and builds and proves each with its own.

What is asked for, and what is given back, are plain values: whoever plans need not be where the work is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from packer.core.function_tree import HandlerPlace, locate_handler
from packer.core.model import OWN_SOURCE, Entry, Tree
from packer.formats.zip_writer import WrittenArchive
from packer.layers.assignment import LayerShare, MadeLayer, Need
from packer.layers.planner import Piece
from packer.pipeline.gatherer import GatheredFunction
from packer.pipeline.layer_maker import Beside, LayerMaker, Version, Wanted, read_layer_files
from packer.pipeline.preparation import Preparation, PreparedFunction
from packer.pipeline.results import Result, make_result
from packer.source.layer_content import list_modules
from packer.trim.bytecode_placement import LayerContents
from packer.trim.material import Material
from packer.trim.rules import Unit
from packer.trim.shape import ShapedFunction, Shaper
from packer.verify.candidates import Candidate
from packer.verify.proof import Proof, Prover
from packer.verify.surroundings import Surroundings

Files = Mapping[str, int]
"""The bytes of each file, by its path."""


class SettledFunction(Struct, frozen=True, kw_only=True):
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


class WholeFunction(Struct, frozen=True, kw_only=True):
    """All files of a function, and the names of the distributions that their owners are."""

    tree: Tree
    names: Mapping[str, str]


class AppraisedFunction(Struct, frozen=True, kw_only=True):
    """A function as it is going to be, without a proof; ``result`` says so for the manifest.

    ``restored`` is what an earlier repair has left alone when it was trimmed.
    """

    gathered: GatheredFunction
    shaped: ShapedFunction
    restored: frozenset[Unit]
    result: Result
    need: Need


class Work(Protocol):
    """Does the work, here or elsewhere; may be called from many threads."""

    def prepare(self, version: Version) -> tuple[Need, frozenset[Unit]]:
        """Lock a function, fetch what it needs and trim that; return what it needs, and what an earlier repair left alone."""
        ...

    def warm(self, wanted: Sequence[Wanted]) -> None:
        """Compile many distributions at once, which takes less time than one after the other."""
        ...

    def size(self, wanted: Wanted) -> Piece:
        """Return the bytes of a distribution in a layer."""
        ...

    def make(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Make a layer unless it exists."""
        ...

    def ready(self, todo: Mapping[str, Sequence[MadeLayer]]) -> None:
        """Compile at once what functions have beside these layers, which takes less time than one after the other."""
        ...

    def settle(self, version: Version, layers: Sequence[MadeLayer]) -> SettledFunction:
        """Build a function with its layers, and prove it."""
        ...


class LocalWork:
    """Does the work on this machine, for functions of one target that are compiled alike.

    ``surroundings`` returns what lies around a function where it runs; ``staging`` is the folder that archives are written to.
    """

    def __init__(
        self,
        preparation: Preparation,
        maker: LayerMaker,
        shaper: Shaper,
        prover: Prover,
        surroundings: Callable[[Material], Surroundings],
        staging: Path,
    ) -> None:
        self._preparation = preparation
        self._shaper = shaper
        self._prover = prover
        self._find_surroundings = surroundings
        self._staging = staging
        self.maker = maker

    def prepare(self, version: Version) -> tuple[Need, frozenset[Unit]]:
        """Lock a function, fetch what it needs and trim that; raises `LpackError`."""
        prepared = self._preparation.prepare(version)
        return prepared.need, prepared.restored

    def warm(self, wanted: Sequence[Wanted]) -> None:
        """Compile many distributions at once; raises `LpackError`."""
        self.maker.warm(wanted)

    def size(self, wanted: Wanted) -> Piece:
        """Return the bytes of a distribution in a layer; raises `LpackError`."""
        return self.maker.size(wanted)

    def make(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Make a layer unless it exists; raises `LpackError`."""
        return self.maker.make(share, wanted, beside)

    def ready(self, todo: Mapping[str, Sequence[MadeLayer]]) -> None:
        """Compile at once what functions have beside these layers; raises `LpackError`."""
        orders = {name: self._preparation.order(name) for name in todo}
        self._shaper.placer.warm_functions((orders[name].function, self._list_own_entries(name, todo[name])) for name in todo)

    def _list_own_entries(self, name: str, layers: Sequence[MadeLayer]) -> list[Entry]:
        """Return what a function has beside its layers; of one that was not looked into, its source, which is what counts."""
        prepared = self._preparation.known(name)
        parts = prepared.cut.parts if prepared else ((OWN_SOURCE, self._preparation.order(name).scan.tree),)
        held = prepared.names_in(layers) if prepared else frozenset[str]()
        return [entry for part, tree in parts if part == OWN_SOURCE or part not in held for entry in tree]

    def settle(self, version: Version, layers: Sequence[MadeLayer]) -> SettledFunction:
        """Build a function with its layers, and prove it; raises `LpackError`."""
        return self._settle(version, layers)[0]

    def settle_whole(self, version: Version) -> tuple[SettledFunction, WholeFunction]:
        """Build a function that has everything itself, and prove it; raises `LpackError`."""
        settled, proof, material = self._settle(version, ())
        return settled, WholeFunction(tree=proof.candidate.shaped.tree, names=material.owner_names())

    def prepare_whole(self, version: Version) -> tuple[Need, WholeFunction]:
        """Return the files of a function that is not built now, as far as no proof decides them."""
        prepared = self._preparation.prepare(version)
        material = prepared.gathered.material
        shaped = self._shaper.finish(material, prepared.cut, prepared.restored)
        return prepared.need, WholeFunction(tree=shaped.tree, names=material.owner_names())

    def appraise(self, version: Version, layers: Sequence[MadeLayer], files: Callable[[MadeLayer], Files]) -> AppraisedFunction:
        """Return a function as it would be with outlined layers, whose files ``files`` returns; its code never runs.

        Raises `LpackError`.
        """
        started = time.perf_counter()
        prepared, shaped, _ = self._finish(version, layers, files)
        length = self._shaper.placer.zipped(shaped.tree)
        written = WrittenArchive(sha256="", length=length)
        candidate = Candidate(shaped=shaped, restored=prepared.restored, path=Path(), written=written)
        seconds = time.perf_counter() - started + prepared.seconds
        result = make_result(prepared.gathered, Proof(candidate=candidate), tuple(layers), seconds)
        return AppraisedFunction(
            gathered=prepared.gathered,
            shaped=shaped,
            restored=prepared.restored,
            result=result,
            need=prepared.need,
        )

    def _finish(
        self, version: Version, layers: Sequence[MadeLayer], files: Callable[[MadeLayer], Files]
    ) -> tuple[PreparedFunction, ShapedFunction, HandlerPlace]:
        """Merge and compile what no layer holds, and find the handler."""
        prepared = self._preparation.prepare(version)
        layered = LayerContents(
            names=prepared.names_in(layers),
            files=lambda: {path: size for layer in layers for path, size in files(layer).items()},
            size=prepared.gathered.attached_bytes + sum(layer.report.unzipped_bytes for layer in layers),
        )
        shaped = self._shaper.finish(prepared.gathered.material, prepared.cut, prepared.restored, layered)
        return prepared, shaped, self._locate_handler(prepared, shaped, layered)

    def _locate_handler(self, prepared: PreparedFunction, shaped: ShapedFunction, layered: LayerContents) -> HandlerPlace:
        """Return where the handler is, in the function, its layers, or elsewhere; raises `UsageError` where it is nowhere."""
        around = self._find_surroundings(prepared.gathered.material)
        return locate_handler(
            prepared.gathered.function, shaped.tree, lambda: {*layered.files(), *list_modules(around.layers())}
        )

    def _settle(self, version: Version, layers: Sequence[MadeLayer]) -> tuple[SettledFunction, Proof, Material]:
        started = time.perf_counter()
        prepared, shaped, place = self._finish(version, layers, read_layer_files)
        material = prepared.gathered.material
        function = material.function
        path = self._staging / f"{function.name}.zip"
        archives = tuple(layer.archive for layer in layers)
        if function.image.wanted:
            candidate = self._prover.candidates.of_image(function, shaped, prepared.restored, path)
        else:
            candidate = self._prover.candidates.of_shaped(shaped, prepared.restored, path, archives)
        proof = self._prover.prove(material, candidate, self._find_surroundings(material), place)
        cramped = bool(layers) and function.bytecode.mode == "auto" and proof.candidate.shaped.bytecode.is_cramped
        seconds = time.perf_counter() - started + prepared.seconds
        used = () if proof.alone else tuple(layers)
        if not function.layers.wanted:  # nobody else asks for it, and hundreds of them would take much memory
            self._preparation.forget(function.name)
        settled = SettledFunction(
            result=make_result(prepared.gathered, proof, used, seconds),
            staged=proof.candidate.path,  # another file than `path` where the function is packed whole after all
            need=prepared.need,
            restored=prepared.restored,
            kept=frozenset(proof.kept),
            alone=proof.alone,
            cramped=cramped,
        )
        return settled, proof, material
