"""Makes layers: what their users need of each distribution, merged, with bytecode, under python/, in one archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from builders.errors import UnavailableError
from builders.once import Once
from builders.runtimes import Target
from packer import __version__
from packer.cache.deflate import CODEC
from packer.cache.store import Store, digest_of, store_errors
from packer.core.function_tree import part_sizes
from packer.core.model import Distribution, Tree
from packer.core.names import LAYERS_FOLDER
from packer.core.options import BytecodeOptions
from packer.core.records import LayerRecord, RemovedFiles
from packer.formats.elf import ElfFile
from packer.formats.unpack import LayerArchive, open_archive
from packer.formats.zip_writer import WrittenArchive
from packer.layers.assignment import LayerShare, MadeLayer
from packer.layers.planner import Piece
from packer.layers.shared_libraries import gather_libraries
from packer.manifest.document import record_distribution
from packer.pipeline.gatherer import Shaping
from packer.pipeline.layer_parts import LayerCompilation, PieceSizes, Variant, combine_variants, list_removed
from packer.source.package_source import tree_digest
from packer.trim.bytecode_placement import BytecodePlacer
from packer.trim.installed_record import PackedParts, record_packed
from packer.trim.launchers import LauncherStyle, make_launchers
from packer.trim.merge import merge_trees, rules_for_layer
from packer.trim.rules import Unit

_FORM = "2"
_KIND = "layers"
PYTHON = "python/"
"""The folder of a layer that modules lie in (AWS "Packaging your layer content")."""
_LABELLED, _LONGEST = 2, 60
"""How many of a layer's distributions its name has, the largest first, and how many letters of them."""
_DIGITS = 12
"""Digits of a tree's digest in a layer's name."""


class Version(Struct, frozen=True, kw_only=True):
    """A function, with what its trimming leaves alone; None for what an earlier repair has found."""

    name: str
    kept: frozenset[Unit] | None = None


class Wanted(Struct, frozen=True, kw_only=True):
    """A distribution as a layer is to hold it: what any of these versions of functions needs of it.

    ``key`` names what comes of it; ``only`` says that bytecode takes the place of sources.
    """

    digest: str
    key: str
    only: bool
    versions: tuple[Version, ...]


class Beside(Struct, frozen=True, kw_only=True):
    """What the users of a layer have beside it: digests of that, and their names."""

    digests: tuple[str, ...]
    users: tuple[str, ...]


class Folders(Struct, frozen=True, kw_only=True):
    """Where artifacts are written (``staging``), and the output folder that they are meant for (``out``)."""

    staging: Path
    out: Path


class Source(Protocol):
    """Gives what functions need, and the native code that they have beside some distributions."""

    def variant(self, digest: str, version: Version) -> Variant: ...
    def libraries(self, names: Sequence[str], without: Sequence[str]) -> Mapping[str, Sequence[ElfFile]]: ...


class _KeptLayer(LayerRecord, frozen=True, kw_only=True, omit_defaults=True):
    """A layer as the store remembers it; ``moves`` says that what else its users have decides what may move in it."""

    moves: bool


class LayerMaker:
    """Makes the layers of functions that are built alike; may be used from many threads.

    ``tree`` gives what a distribution installs; ``placed`` says whether a path below the output folder still holds what lpack
    wrote there.
    """

    def __init__(
        self,
        source: Source,
        shaping: Shaping,
        store: Store,
        tree: Callable[[Distribution], Tree],
        folders: Folders,
        target: Target,
        options: BytecodeOptions,
        placed: Callable[[str], bool],
    ) -> None:
        self._source = source
        self._placer = shaping.shaper.placer
        self._native = shaping.native
        self._write = shaping.prover.candidates.write
        self._store = store
        self._tree_of = tree
        self._staging, self._out = folders.staging, folders.out
        self._target = target
        self._is_placed = placed
        self.compilation = choose_compilation(self._placer, target, options)
        self._pieces = PieceSizes(store, self._placer)
        self._combined: Once[str, Variant] = Once()
        self._trees: Once[str, Tree] = Once()

    def warm(self, wanted: Sequence[Wanted]) -> None:
        """Compile many distributions at once, which takes less time than one after the other."""
        trees = [self._combine(each).tree for each in wanted]
        self._placer.warm(trees, self._target, self.compilation.options)

    def size(self, wanted: Wanted) -> Piece:
        """Return the bytes of a distribution in a layer."""
        return self._pieces.sizes(wanted.key, lambda: self._place_tree(wanted))

    def is_known(self, key: str) -> bool:
        """Return whether the bytes of what a key stands for are known."""
        return self.compilation.is_known(self._store, key)

    def keep_size(self, wanted: Wanted, piece: Piece) -> None:
        """Remember what somebody else has found to be the bytes of a distribution in a layer."""
        if not self.is_known(wanted.key):
            self._pieces.keep(wanted.key, piece)

    def make(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Return a layer, written only where it does not lie in the output folder already; raises `LpackError`."""
        found = self.find(share, wanted, beside)
        if found is not None:
            return found
        pieces = [wanted[digest] for digest in share.pieces]
        whole, moves = self._merge_pieces(pieces, beside)
        report, staged = self._write_layer(share, pieces, whole, moves=moves)
        first, second = _layer_keys(self._target, share, wanted, beside)
        for key in (first, second) if report.moves else (first,):
            self._store.save(_KIND, key, msgspec.json.encode(report))
        return self._to_made_layer(share, report, staged)

    def find(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer | None:
        """Return a layer that lies in the output folder; None where it does not."""
        first, second = _layer_keys(self._target, share, wanted, beside)
        report = self._load_report(first)
        if report and report.moves:  # then what else its users have decides what may move
            report = self._load_report(second)
        return self._to_made_layer(share, report, None) if report and self._is_placed(report.path) else None

    def outline(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Return a layer as it would be made, without writing it; raises `LpackError`."""
        first, second = _layer_keys(self._target, share, wanted, beside)
        report = self._load_report(first)
        if report and report.moves:
            report = self._load_report(second)
        if not report:
            pieces = [wanted[digest] for digest in share.pieces]
            whole, moves = self._merge_pieces(pieces, beside)
            zipped = self._placer.zipped(whole)
            report = self._describe(share, pieces, whole, WrittenArchive(sha256="", length=zipped), moves=moves)
        return self._to_made_layer(share, report, None)

    def files(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> dict[str, int]:
        """Return what is going to lie in the python folder of a layer, with its bytes; raises `LpackError`."""
        whole, _ = self._merge_pieces([wanted[digest] for digest in share.pieces], beside)
        return {each.path.removeprefix(PYTHON): each.content.size for each in whole if each.path.startswith(PYTHON)}

    def _to_made_layer(self, share: LayerShare, report: _KeptLayer, staged: Path | None) -> MadeLayer:
        name = Path(report.path).stem
        return MadeLayer(
            name=name,
            pieces=share.pieces,
            report=LayerRecord(**{name: getattr(report, name) for name in LayerRecord.__struct_fields__}),
            archive=LayerArchive(path=staged or self._out / report.path, sha256=report.sha256),
            staged=staged,
        )

    def _load_report(self, key: str) -> _KeptLayer | None:
        record = self._store.load(_KIND, key)
        return msgspec.json.decode(record.payload, type=_KeptLayer) if record else None

    def _merge_pieces(self, pieces: Sequence[Wanted], beside: Beside) -> tuple[Tree, bool]:
        """Merge distributions as they lie in a layer, and say whether any library could move beside them."""
        variants = {each.digest: self._combine(each) for each in pieces}
        parts = sorted((variants[each.digest].distribution.name, self._place_tree(each)) for each in pieces)
        native = {each.distribution.name: self._native.of_wheel(each.distribution) for each in variants.values()}
        built = frozenset(each.distribution.name for each in variants.values() if each.built)
        gathered = gather_libraries(parts, native, others={}, built=built, target=self._target)
        moves = bool(len(gathered.libraries))
        if moves:
            others = self._source.libraries(beside.users, tuple(variants))
            gathered = gather_libraries(parts, native, others=others, built=built, target=self._target)
        whole = [(each.distribution.name, each.tree) for each in variants.values()]
        launchers = make_launchers(sorted(whole), LauncherStyle.of_layer(self._target))
        packed = PackedParts(
            parts=whole,
            originals={each.distribution.name: self._tree_of(each.distribution) for each in variants.values()},
            launchers=[replace(entry, path=f"../{entry.path}") for entry in launchers],
            moved={entry.content.digest: f"../{entry.path}" for entry in gathered.libraries},
        )
        minor = self._target.runtime.minor
        tree = record_packed(merge_trees(gathered.parts, rules_for_layer(whole, minor)), packed, minor)
        below = (replace(entry, path=PYTHON + entry.path) for entry in tree)
        return Tree.of((*below, *gathered.libraries, *launchers)), moves

    def _write_layer(self, share: LayerShare, pieces: Sequence[Wanted], whole: Tree, *, moves: bool) -> tuple[_KeptLayer, Path]:
        """Write a layer's archive, and describe it."""
        folder = self._staging / LAYERS_FOLDER
        with store_errors(folder, "write"):
            folder.mkdir(exist_ok=True)
        draft = folder / f".{tree_digest(whole)}"
        report = self._describe(share, pieces, whole, self._write(whole, draft), moves=moves)
        path = self._staging / report.path
        with store_errors(path, "write"):
            draft.replace(path)
        return report, path

    def _describe(
        self, share: LayerShare, pieces: Sequence[Wanted], whole: Tree, written: WrittenArchive, *, moves: bool
    ) -> _KeptLayer:
        held = sorted((self._combine(each).distribution for each in pieces), key=lambda each: each.name)
        names, versions = {each.filename: each.name for each in held}, {each.name: each.version for each in held}
        parts = {each.name: each for each in part_sizes(names, versions, whole)}
        removed = tuple(sorted((found for each in pieces for found in self._list_removed(each)), key=_rule_and_distribution))
        name = f"{share.name or name_layer(list(parts))}-{tree_digest(whole)[:_DIGITS]}"
        return _KeptLayer(
            path=f"{LAYERS_FOLDER}/{name}.zip",
            sha256=written.sha256,
            zip_bytes=written.length,
            unzipped_bytes=whole.size,
            files=len(whole),
            distributions=tuple(record_distribution(each, parts.get(each.name)) for each in held),
            removed_bytes=sum(each.bytes for each in removed),
            removed=removed,
            moves=moves,
        )

    def _list_removed(self, wanted: Wanted) -> tuple[RemovedFiles, ...]:
        """Return what trimming, stripping and bytecode took from a distribution, whatever else its users have."""
        combined = self._combine(wanted)
        return list_removed(combined, self._tree_of(combined.distribution), self._place_tree(wanted))

    def _place_tree(self, wanted: Wanted) -> Tree:
        def place() -> Tree:
            combined = self._combine(wanted)
            return self._placer.of_layer(
                combined.tree, combined.stays, self._target, self.compilation.options, only=wanted.only
            )

        return self._trees.get(wanted.key, place)

    def _combine(self, wanted: Wanted) -> Variant:
        def combine() -> Variant:
            variants = [self._source.variant(wanted.digest, version) for version in wanted.versions]
            return combine_variants(variants, self._tree_of(variants[0].distribution))

        return self._combined.get(wanted.key, combine)


def _rule_and_distribution(removed: RemovedFiles) -> tuple[str, str]:
    return removed.rule, removed.distribution


def _layer_keys(target: Target, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> tuple[str, str]:
    """Return a layer's key by its own contents, and its key by what its users have beside it too."""
    pieces = sorted(wanted[digest].key for digest in share.pieces)
    key = digest_of(__version__, _FORM, CODEC, str(target), share.name, *pieces)
    return key, digest_of(key, *beside.digests)


def read_layer_files(layer: MadeLayer) -> dict[str, int]:
    """Return what lies in the python folder of a layer, with its bytes; raises `LpackError`."""
    with open_archive(layer.archive.path) as packed:
        return {each.name.removeprefix(PYTHON): each.size for each in packed.members if each.name.startswith(PYTHON)}


def choose_compilation(placer: BytecodePlacer, target: Target, options: BytecodeOptions) -> LayerCompilation:
    """Return how a layer's distributions are compiled: not at all where no interpreter here can, which functions warn of."""
    if options.mode == "off":
        return LayerCompilation(options=options, python="")
    try:
        return LayerCompilation(options=options, python=placer.python(target).identity)
    except UnavailableError:
        return LayerCompilation(options=replace(options, mode="off"), python="")


def name_layer(names: Sequence[str]) -> str:
    """Return a layer's name, made of the names of its largest distributions."""
    return "-".join(names[:_LABELLED])[:_LONGEST].rstrip("-") or "empty"
