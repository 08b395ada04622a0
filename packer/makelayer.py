"""Makes layers: what their users need of each distribution, merged, with bytecode, under python/, in one archive."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from builders.recipes import BuilderUnavailable
from builders.runtimes import Target
from packer.assemble import Part, merge, shares
from packer.budget import check_layer
from packer.compress import CODEC
from packer.gather import Gatherer, Tools
from packer.layering import MadeLayer, Share
from packer.layers import Piece
from packer.layout import LayerArchive
from packer.manifest import describe_distribution
from packer.model import Tree
from packer.once import Once
from packer.options import BytecodeOptions
from packer.origin import tree_digest
from packer.pieces import Pieces, Variant, Way, combine
from packer.store import digest_of

_FORM = "1"
_KIND = "layers"
_PYTHON = "python/"
_LABELLED, _LONGEST = 2, 60
"""How many of a layer's distributions its name has, the largest first, and how many letters of them."""
_DIGITS = 12
"""Digits of a tree's digest in a layer's name."""


Overlap = Sequence[tuple[str, str]]
"""Patterns of paths with the distribution that wins there (`packer.assemble.merge`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A distribution as a layer is to hold it: its ``key``, and a way to the variants that its users need."""

    key: str
    only: bool
    variants: Callable[[], Sequence[Variant]]


class LayerMaker:
    """Makes the layers of functions that are built alike; may be used from many threads.

    ``placed`` says whether a path below the output folder still holds what lpack wrote there.
    """

    def __init__(
        self,
        tools: Tools,
        gatherer: Gatherer,
        staging: Path,
        out: Path,
        like: tuple[Target, BytecodeOptions],
        placed: Callable[[str], bool],
    ) -> None:
        self._tools = tools
        self._gatherer = gatherer
        self._staging = staging
        self._out = out
        self._target, options = like
        self._placed = placed
        self._way = _way(tools, self._target, options)
        self._pieces = Pieces(tools.store, tools.shaper.placer)
        self._combined: Once[str, Variant] = Once()
        self._trees: Once[str, Tree] = Once()
        self._merged: Once[tuple[str, ...], Tree] = Once()

    def key(self, digest: str, variants: Iterable[str], *, only: bool) -> str:
        """Name what a layer holds of a distribution."""
        return self._way.key(digest, variants, only=only)

    def known(self, key: str) -> bool:
        """Say whether the sizes of a distribution are known without its files."""
        return self._pieces.known(key)

    def compile(self, wanted: Sequence[Wanted]) -> None:
        """Compile many distributions at once, which takes less time than one after the other."""
        trees = [self._combine(each).tree for each in wanted]
        self._tools.shaper.placer.warm(trees, self._target, self._way.options)

    def sizes(self, wanted: Wanted) -> Piece:
        """Give the bytes of a distribution in a layer."""
        return self._pieces.sizes(wanted.key, lambda: self._tree(wanted))

    def make(self, share: Share, wanted: Mapping[str, Wanted], overlap: Overlap) -> MadeLayer:
        """Give a layer, written only where it does not lie in the output folder already; raises `packer.errors.LpackError`."""
        pieces = [wanted[digest] for digest in share.pieces]
        tree = partial(self._tree_of, pieces, overlap)
        key = digest_of(_FORM, CODEC, share.name, repr(overlap), *sorted(each.key for each in pieces))
        record = self._tools.store.load(_KIND, key)
        report: dict[str, Any] = json.loads(record.payload) if record else {}
        staged = None
        if not report or not self._placed(report["path"]):
            report, staged = self._written(share, pieces, tree())
            self._tools.store.save(_KIND, key, json.dumps(report).encode())
        check_layer(
            Path(report["path"]).stem,
            report["zip_bytes"],
            report["unzipped_bytes"],
            {each["name"]: each["unzipped_bytes"] for each in report["distributions"]},
        )
        return MadeLayer(
            name=Path(report["path"]).stem,
            pieces=share.pieces,
            report=report,
            archive=LayerArchive(path=staged or self._out / report["path"], sha256=report["sha256"]),
            staged=staged,
            tree=tree,
        )

    def _written(self, share: Share, pieces: Sequence[Wanted], tree: Tree) -> tuple[dict[str, Any], Path]:
        """Write a layer's archive, and describe it."""
        variants = [self._combine(each) for each in pieces]
        held = [each.distribution for each in variants]
        sizes = shares({each.filename: each.name for each in held}, {each.name: each.version for each in held}, tree)
        whole = Tree.of(replace(entry, path=_PYTHON + entry.path) for entry in tree)
        name = f"{share.name or label([each.name for each in sizes])}-{tree_digest(whole)[:_DIGITS]}"
        path = self._staging / "layers" / f"{name}.zip"
        path.parent.mkdir(exist_ok=True)
        written = self._tools.prover.write(whole, path)
        files = {each.name: each for each in sizes}
        report = {
            "path": f"layers/{name}.zip",
            "sha256": written.sha256,
            "zip_bytes": written.length,
            "unzipped_bytes": whole.size,
            "files": len(whole),
            "distributions": [
                describe_distribution(each, files.get(each.name)) for each in sorted(held, key=lambda each: each.name)
            ],
        }
        return report, path

    def _tree_of(self, pieces: Sequence[Wanted], overlap: Overlap) -> Tree:
        def merged() -> Tree:
            parts: list[Part] = [(self._combine(each).distribution.name, self._tree(each)) for each in pieces]
            return merge(sorted(parts), overlap)

        return self._merged.get(tuple(each.key for each in pieces), merged)

    def _tree(self, wanted: Wanted) -> Tree:
        def placed() -> Tree:
            combined = self._combine(wanted)
            place = self._tools.shaper.placer.of_layer
            return place(combined.tree, combined.stays, self._target, self._way.options, only=wanted.only)

        return self._trees.get(wanted.key, placed)

    def _combine(self, wanted: Wanted) -> Variant:
        def combined() -> Variant:
            variants = wanted.variants()
            return combine(variants, self._gatherer.tree(variants[0].distribution))

        return self._combined.get(wanted.key, combined)


def _way(tools: Tools, target: Target, options: BytecodeOptions) -> Way:
    """Say how the distributions of a layer are compiled: not at all where nothing here can, of which functions are told."""
    if options.mode == "off":
        return Way(options=options, python="")
    try:
        return Way(options=options, python=tools.shaper.placer.python(target).identity)
    except BuilderUnavailable:
        return Way(options=replace(options, mode="off"), python="")


def label(names: Sequence[str]) -> str:
    """Name a layer by the largest of its distributions."""
    return "-".join(names[:_LABELLED])[:_LONGEST].rstrip("-") or "empty"
