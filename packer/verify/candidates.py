"""Ways to shape a function, written as archives that can be run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from packer.core.model import Function, Tree
from packer.formats.unpack import LayerArchive
from packer.formats.zip_writer import WrittenArchive
from packer.trim.material import Material
from packer.trim.rules import Unit
from packer.trim.shape import ShapedFunction, Shaper

_NOT_WRITTEN = WrittenArchive(sha256="", length=0)


class Candidate(Struct, frozen=True, kw_only=True):
    """A way to shape a function, written to an archive; ``restored`` are the changes that were not applied.

    ``layers`` are the archives of its layers, in order.
    """

    shaped: ShapedFunction
    restored: frozenset[Unit] = frozenset()
    path: Path
    written: WrittenArchive
    layers: tuple[LayerArchive, ...] = ()

    def needs_proof(self, function: Function) -> bool:
        """Return whether the function is to be run: what nobody wants to shape is not, unless the user asks for it."""
        shaped = function.trim.level != "none" or function.bytecode.mode != "off" or self.shaped.units() or self.layers
        return function.verify.level != "none" and bool(shaped or function.verify.demanded)


class CandidateWriter:
    """Shapes functions and writes them; ``write`` writes a tree as an archive. May be used from many threads."""

    def __init__(self, shaper: Shaper, write: Callable[[Tree, Path], WrittenArchive]) -> None:
        self._shaper = shaper
        self.write = write

    def untrimmed(self, material: Material, path: Path) -> Candidate:
        """Write a function without any shaping."""
        return self.of_shaped(self._shaper.plain(material), frozenset(), path)

    def trimmed(self, material: Material, restored: frozenset[Unit], path: Path) -> Candidate:
        """Shape a function without some of the changes, and write it, with all of its distributions."""
        return self.of_shaped(self._shaper.shape(material, restored), restored, path)

    def of_shaped(
        self, shaped: ShapedFunction, restored: frozenset[Unit], path: Path, layers: tuple[LayerArchive, ...] = ()
    ) -> Candidate:
        """Write what a shaped function has beside its layers."""
        return Candidate(shaped=shaped, restored=restored, path=path, written=self.write(shaped.tree, path), layers=layers)

    def of_image(self, function: Function, shaped: ShapedFunction, restored: frozenset[Unit], path: Path) -> Candidate:
        """Write a shaped function that becomes an image, for its proof alone: without one, no archive is written."""
        unwritten = Candidate(shaped=shaped, restored=restored, path=path, written=_NOT_WRITTEN)
        return self.of_shaped(shaped, restored, path) if unwritten.needs_proof(function) else unwritten
