"""Shapes a function: its parts are trimmed, stripped, merged and compiled, and each of these can be held back for one part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, field

from builders.errors import LpackError, UnavailableError
from packer.core.function_tree import Part
from packer.core.model import OWN_SOURCE, Distribution, Function, Tree
from packer.formats.native_code import NativeCode
from packer.source.facts import FactScanner
from packer.trim.bytecode_placement import Bytecode, BytecodePlacer, LayerContents
from packer.trim.engine import RemovedFile, Selections, TrimContext, trim
from packer.trim.installed_record import PackedParts, record_packed
from packer.trim.launchers import LauncherStyle, make_launchers
from packer.trim.material import Material, gather_material
from packer.trim.merge import merge_trees, merge_untrimmed
from packer.trim.rules import PROFILE, STRIP, Unit
from packer.trim.strip import StrippedFile, Stripper

NOTHING_LAYERED = LayerContents()
"""For a function that has all of its distributions in its own package."""


class TrimmedFunction(Struct, frozen=True, kw_only=True):
    """A function's parts after trimming and stripping, and what was removed. ``missing`` warns of tools that are not here."""

    parts: tuple[Part, ...]
    removed: tuple[RemovedFile, ...] = ()
    stripped: tuple[StrippedFile, ...] = ()
    missing: tuple[str, ...] = ()


class ShapedFunction(Struct, frozen=True, kw_only=True):
    """A function's tree as it will be written, and what became of its parts.

    ``parts`` are what is merged into it, for its shares. ``missing`` are warnings of tools that were not found. ``removed`` and
    ``stripped`` are also of the distributions that it has in layers.
    """

    tree: Tree
    parts: tuple[Part, ...]
    removed: tuple[RemovedFile, ...] = ()
    stripped: tuple[StrippedFile, ...] = ()
    bytecode: Bytecode = field(default_factory=Bytecode)
    missing: tuple[str, ...] = ()

    def units(self) -> tuple[Unit, ...]:
        """Return every (rule, distribution) that has changed something, sorted: what could be to blame."""
        return tuple(sorted({unit for unit, _ in self.gone()}))

    def gone(self) -> Iterator[tuple[Unit, int]]:
        """Return the bytes that each (rule, distribution) took out, file by file."""
        yield from (((each.rule, each.owner), each.size) for each in self.removed)
        yield from (((STRIP, each.owner), each.saved) for each in self.stripped)

    def gone_inside(self) -> Iterator[tuple[Unit, int]]:
        """Return the same of what no layer holds: what a layer has of a distribution, its other users decide too."""
        inside = {name for name, _ in self.parts}
        yield from ((unit, size) for unit, size in self.gone() if unit[1] in inside)


class Shaper:
    """Shapes functions with the parts of the pipeline; may be used from many threads."""

    def __init__(self, scanner: FactScanner, native: NativeCode, stripper: Stripper, placer: BytecodePlacer) -> None:
        self._scanner = scanner
        self._native = native
        self._stripper = stripper
        self.placer = placer
        self._selections = Selections()

    def material(
        self,
        function: Function,
        distributions: Sequence[Distribution],
        parts: Sequence[Part],
        local: frozenset[str] = frozenset(),
    ) -> Material:
        """Gather what shaping has to know; raises `LpackError` where a file cannot be read.

        ``local`` names the distributions that are projects of the user's own.
        """
        return gather_material(function, distributions, parts, self._scanner, self._native, local)

    def tools(self, function: Function) -> tuple[tuple[str, ...], tuple[Path, ...]]:
        """Return the versions of the tools that decide a function's bytes, and which files of this machine they are."""
        versions: list[str] = []
        paths: list[Path | None] = []
        with suppress(UnavailableError):
            if function.trim.level != "none":
                tool = self._stripper.tool(function)
                versions.append(tool.identity)
                paths.append(tool.path)
        with suppress(UnavailableError):
            if function.bytecode.mode != "off":
                python = self.placer.python(function.target)
                versions.append(python.identity)
                paths.append(python.path)
        return tuple(versions), tuple(filter(None, paths))

    def plain(self, material: Material) -> ShapedFunction:
        """Return the function as it is without any shaping."""
        return ShapedFunction(tree=merge_untrimmed(material.parts, material.function.overlap), parts=material.parts)

    def shape(self, material: Material, restored: frozenset[Unit] = frozenset()) -> ShapedFunction:
        """Trim, strip, merge and compile; ``restored`` are (rule, distribution) that are not applied."""
        return self.finish(material, self.cut(material, restored), restored)

    def cut(self, material: Material, restored: frozenset[Unit] = frozenset()) -> TrimmedFunction:
        """Trim and strip each part; ``restored`` are (rule, distribution) that are not applied."""
        function = material.function
        known = TrimContext(
            scans=material.scans,
            native=material.native,
            services=material.services,
            restored=restored,
            local=material.local,
        )
        trimmed = trim(material.parts, function.trim, known, self._selections)
        parts, removed, missing = trimmed.parts, trimmed.removed, tuple[str, ...]()
        if material.profile is not None and material.profile.fits(function.target):
            from packer.trim.profile import apply_profile

            names = frozenset(name for rule, name in restored if rule == PROFILE)
            versions = {each.name: each.version for each in material.distributions}
            parts, more = apply_profile(parts, material.profile, versions, names, function.trim.keep)
            removed = (*removed, *more)
        stripped: tuple[StrippedFile, ...] = ()
        if function.trim.level != "none" and STRIP not in function.trim.without and material.has_libraries():
            held = frozenset(name for rule, name in restored if rule == STRIP)
            try:
                tool = self._stripper.tool(function)
                parts, stripped = self._stripper.strip(parts, dict(material.native), held, tool, function.trim.keep)
            except UnavailableError as error:
                missing = (f"Shared libraries are not stripped: {error.what}. {error.remedy}",)
        return TrimmedFunction(parts=tuple(parts), removed=removed, stripped=stripped, missing=missing)

    def _merge(self, material: Material, parts: Sequence[Part], restored: frozenset[Unit]) -> Tree:
        """Merge parts; of what collides only because it was restored, the first is kept, as in the untrimmed function.

        Raises `PackageError` for what else collides.
        """
        overlap = material.function.overlap
        try:
            return merge_trees(parts, overlap)
        except LpackError:
            if not restored:
                raise
        names = {name for name, _ in parts}
        merge_trees([part for part in self.cut(material).parts if part[0] in names], overlap)
        return merge_untrimmed(parts, overlap)

    def finish(
        self, material: Material, cut: TrimmedFunction, restored: frozenset[Unit], layered: LayerContents = NOTHING_LAYERED
    ) -> ShapedFunction:
        """Merge and compile what no layer holds."""
        parts = tuple(part for part in cut.parts if part[0] == OWN_SOURCE or part[0] not in layered.names)
        merged = self._merge(material, parts, restored)
        launchers = make_launchers(
            parts, LauncherStyle.of_function(material.function), frozenset(entry.path for entry in merged)
        )
        packed = PackedParts(parts=parts, originals=dict(material.parts), launchers=launchers)
        minor = material.function.target.runtime.minor
        tree = Tree.of((*merged, *launchers))
        placed = self.placer.of_function(material, tree, restored, layered, lambda tree: record_packed(tree, packed, minor))
        return ShapedFunction(
            tree=placed.tree,
            parts=parts,
            removed=(*cut.removed, *placed.without),
            stripped=cut.stripped,
            bytecode=placed.bytecode,
            missing=(*cut.missing, *([placed.trouble] if placed.trouble else [])),
        )
