"""A distribution as several functions share it: what any of them needs of it, with its bytecode, as a layer holds it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, field

from builders.inside import read_script
from packer import __version__
from packer.cache.deflate import CODEC
from packer.cache.store import Store, digest_of
from packer.core.model import OWN_SOURCE, Distribution, Entry, Tree
from packer.core.options import BytecodeOptions
from packer.core.records import RemovedFiles
from packer.layers.planner import Piece
from packer.pipeline.gatherer import GatheredFunction
from packer.trim.bytecode import SCRIPT
from packer.trim.bytecode_placement import BytecodePlacer, kept_sources
from packer.trim.rules import DROP, SOURCES, STRIP, Unit
from packer.trim.shape import TrimmedFunction

_FORM = "2"
_KIND = "pieces"


class Variant(Struct, frozen=True, kw_only=True):
    """What one function's trimming leaves of a distribution; ``stays`` are sources that no bytecode may replace.

    ``built`` says that lpack built it, and may have copied libraries into it. ``rules`` are those that removed files, by their
    paths.
    """

    distribution: Distribution
    tree: Tree
    stays: frozenset[str]
    built: bool = False
    rules: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return the digest of all that a layer may hold of it."""
        listed = (part for entry in self.tree for part in (entry.path, str(entry.mode), entry.content.digest))
        return digest_of(self.distribution.digest, *listed, "", *sorted(self.stays))


def collect_variants(gathered: GatheredFunction, cut: TrimmedFunction, restored: frozenset[Unit]) -> dict[str, Variant]:
    """Return what trimming leaves of each of a function's distributions, by their digests."""
    trees = dict(cut.parts)
    rules: dict[str, dict[str, str]] = {}
    for file in cut.removed:
        rules.setdefault(file.owner, {})[file.path] = file.rule
    return {
        each.digest: Variant(
            distribution=each,
            tree=trees[each.name],
            stays=kept_sources(gathered.material, trees[each.name], restored),
            built=bool(made.record),
            rules=rules.get(each.name, {}),
        )
        for made in gathered.made
        for each in (made.distribution,)
    }


def measure_own_source(cut: TrimmedFunction) -> int:
    """Return the bytes of a function's own source."""
    return sum(tree.size for name, tree in cut.parts if name == OWN_SOURCE)


def combine_variants(variants: Sequence[Variant], original: Tree) -> Variant:
    """Return what all users of a distribution need: what any of them keeps, and unchanged where one needs it so.

    ``original`` is the distribution as it was published.
    """
    untouched = {entry.path: entry.content.digest for entry in original}
    merged: dict[str, Entry] = {}
    ordered = sorted(variants, key=lambda each: each.digest)
    for variant in ordered:
        for entry in variant.tree:
            held = merged.get(entry.path)
            if held is None or (
                held.content.digest != untouched.get(entry.path) and entry.content.digest == untouched.get(entry.path)
            ):
                merged[entry.path] = entry
    stays = frozenset(path for variant in variants for path in variant.stays)
    return Variant(
        distribution=variants[0].distribution,
        tree=Tree.of(merged.values()),
        stays=stays,
        built=variants[0].built,
        rules={path: rule for variant in ordered for path, rule in variant.rules.items()},
    )


def list_removed(combined: Variant, original: Tree, placed: Tree) -> tuple[RemovedFiles, ...]:
    """Return what is gone of a distribution as a layer has it, by rule; ``placed`` is that with its bytecode."""
    kept = {entry.path: entry.content.size for entry in combined.tree}
    packed = {entry.path for entry in placed}
    gone: dict[str, list[int]] = {}
    for entry in original:
        if entry.path not in kept:
            gone.setdefault(combined.rules.get(entry.path, DROP), []).append(entry.content.size)
        elif entry.path not in packed:
            gone.setdefault(SOURCES, []).append(kept[entry.path])
        elif kept[entry.path] != entry.content.size:
            saved = entry.content.size - kept[entry.path]
            gone.setdefault(combined.rules.get(entry.path, STRIP), []).append(saved)
    name = combined.distribution.name
    return tuple(
        RemovedFiles(rule=rule, distribution=name, files=len(sizes), bytes=sum(sizes)) for rule, sizes in sorted(gone.items())
    )


class LayerCompilation(Struct, frozen=True, kw_only=True):
    """How a group of functions has its distributions compiled; ``python`` is the version that does it, or empty."""

    options: BytecodeOptions
    python: str

    def key(self, distribution: str, variants: Iterable[str], *, only: bool) -> str:
        """Return the digest of all that decides the bytes of a distribution in a layer."""
        how = (self.options.mode, str(self.options.optimize), self.python, str(only))
        return digest_of(__version__, _FORM, CODEC, read_script(SCRIPT), distribution, *how, *sorted(set(variants)))

    def is_known(self, store: Store, key: str) -> bool:
        """Return whether the sizes that belong to a key are known."""
        return store.load(_KIND, key) is not None


class PieceSizes:
    """Remembers the sizes of pieces by their keys; may be used from many threads."""

    def __init__(self, store: Store, placer: BytecodePlacer) -> None:
        self._store = store
        self._placer = placer

    def sizes(self, key: str, make: Callable[[], Tree]) -> Piece:
        """Return the sizes of a piece; ``make`` gives its tree where they are not known."""
        record = self._store.load(_KIND, key)
        if record is None:
            tree = make()
            piece = Piece(zipped=self._placer.zipped(tree), unzipped=tree.size)
            self.keep(key, piece)
            return piece
        found: Mapping[str, int] = json.loads(record.payload)
        return Piece(zipped=found["zipped"], unzipped=found["unzipped"])

    def keep(self, key: str, piece: Piece) -> None:
        """Remember the sizes of a piece."""
        sizes = {"zipped": piece.zipped, "unzipped": piece.unzipped}
        self._store.save(_KIND, key, json.dumps(sizes).encode())
