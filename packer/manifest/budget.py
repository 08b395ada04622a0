"""Checks what was built, or is going to be, against Lambda's limits and the user's budgets: one place says what applies.

Works on records of functions (`packer.core.records`), so that a build and a check before it say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from builders.runtimes import DIRECT_UPLOAD_LIMIT, IMAGE_LIMIT, UNZIPPED_LIMIT
from packer.core.errors import LimitError
from packer.core.model import OWN_SOURCE, owner_label
from packer.core.options import Budget, LayerOptions
from packer.core.records import FunctionRecord, LayerRecord
from packer.core.units import format_size
from packer.manifest.layer_names import layer_stem

Kind = Literal["function", "layer"]
FUNCTION: Kind = "function"
LAYER: Kind = "layer"
LARGEST = 5
"""How many contributors are listed for what is over a limit."""
Unit = Literal["bytes", "milliseconds"]
BYTES: Unit = "bytes"
MILLISECONDS: Unit = "milliseconds"
_UPLOAD = "above {} it must be uploaded through S3"
_SPLIT = "Remove what it does not need, leave out what the runtime has (exclude), or split the function."
_SMALLER_BASE = "Name a smaller base (oci.base), remove what the function does not need, or split it."
_DIVIDE = "Put less into it, or divide it between several layers."


class Measure(Struct, frozen=True, kw_only=True):
    """One figure and the limit that it has: ``size`` and ``limit`` in ``unit``.

    ``name`` is that of a function or a layer, as ``kind`` says, and ``side`` which of its sizes is meant where it has several
    measures of one ``key``. That is the word of a budget, or ``lambda`` with one for a limit of Lambda's; ``what`` names the
    limit, and ``parts`` are what it is made of, in unzipped bytes (or milliseconds).
    """

    name: str
    key: str
    what: str
    size: float
    limit: float
    parts: tuple[tuple[str, float], ...] = ()
    unit: Unit = BYTES
    remedy: str = _SPLIT
    kind: Kind = FUNCTION
    side: str = ""

    @property
    def of(self) -> str:
        """What is measured, in words."""
        side = f" ({self.side})" if self.side else ""
        return f"{'The layer ' if self.kind == LAYER else ''}{self.name}{side}"

    @property
    def over(self) -> bool:
        """Whether the figure is beyond its limit."""
        return self.size > self.limit

    def largest(self) -> tuple[tuple[str, float], ...]:
        """Return the largest of the parts."""
        return tuple(sorted(self.parts, key=lambda part: (-part[1], part[0]))[:LARGEST])

    def sentence(self) -> str:
        """Return a sentence that compares the figure with its limit."""
        if self.unit == MILLISECONDS:
            return f"{self.of} takes {self.size:.0f} ms to start, over {self.what} of {self.limit:g} ms."
        exactly = f" ({round(self.size):,} bytes)"
        return (
            f"{self.of} takes {format_size(round(self.size))}{exactly}, over {self.what} of {format_size(round(self.limit))}."
        )

    def error(self, advice: Sequence[str] = ()) -> LimitError:
        """Return the error for a figure over its limit, with the largest contributors and what would help."""
        how = "Slowest" if self.unit == MILLISECONDS else "Largest, unzipped"
        listed = ", ".join(f"{name} {self.text(taken)}" for name, taken in self.largest())
        remedy = f"What would help: {'; '.join(advice)}." if advice else self.remedy
        return LimitError(self.sentence(), detail=f"{how}: {listed}" if listed else "", remedy=remedy)

    def text(self, figure: float) -> str:
        """Return a figure as text in the unit of this one."""
        return f"{figure:.0f} ms" if self.unit == MILLISECONDS else format_size(round(figure))


def function_measures(name: str, function: FunctionRecord, budget: Budget) -> Iterator[Measure]:
    """Return what applies to a function."""
    own = tuple(_own_parts(function))
    if function.format == "image":
        yield from _image_measures(name, function, budget, own)
        return
    layers = tuple((f"layer {layer}", each.unzipped_bytes) for layer, each in function.layers.items())
    layers += (("attached layers", function.attached_bytes),) if function.attached_bytes else ()
    unzipped, both = function.unpacked_with_layers, (*own, *layers)
    lambdas = "Lambda's limit for unzipped packages"
    yield Measure(name=name, key="lambda unzipped", what=lambdas, size=unzipped, limit=UNZIPPED_LIMIT, parts=both)
    if budget.unzipped is not None:
        what = "its budget for the unzipped size"
        yield Measure(name=name, key="unzipped", what=what, size=unzipped, limit=budget.unzipped, parts=both)
    if budget.zip is not None:
        what = "its budget for the ZIP"
        yield Measure(name=name, key="zip", what=what, size=function.packed_bytes, limit=budget.zip, parts=own)


def _image_measures(
    name: str, function: FunctionRecord, budget: Budget, own: tuple[tuple[str, float], ...]
) -> Iterator[Measure]:
    """Return what applies to an image.

    The base counts as its layers are stored: unpacked they are more, which only fetching them would tell. Where it is not known
    by its digest (`packer.inspect.appraisal`), nothing is said of the whole.
    """
    base = function.image.base if function.image else None
    unpacked, below = function.artifact.unzipped_bytes, base.bytes if base else 0
    whole, all_parts = unpacked + below, (*own, ("the base, packed", below))
    limits = [
        ("lambda image", "Lambda's limit for images", whole, IMAGE_LIMIT, all_parts),
        ("image", "its budget for the image", whole, budget.image, all_parts),
    ]
    limits = limits if base and base.digest else []
    limits += [
        ("unzipped", "its budget for the unzipped size", unpacked, budget.unzipped, own),
        ("zip", "its budget for what is stored of an image (zip)", function.packed_bytes, budget.zip, own),
    ]
    for key, what, size, limit, parts in limits:
        if limit is not None:
            remedy = _SMALLER_BASE if parts is all_parts else _SPLIT
            yield Measure(name=name, key=key, what=what, size=size, limit=limit, parts=parts, remedy=remedy)


def layer_measures(name: str, layer: LayerRecord, budget: Budget) -> Iterator[Measure]:
    """Return what applies to a layer."""
    parts = tuple((each.name, each.unzipped_bytes) for each in layer.distributions)
    limits = (
        ("lambda unzipped", "Lambda's limit for a function and all of its layers", layer.unzipped_bytes, UNZIPPED_LIMIT),
        ("unzipped", "its budget for the unzipped size", layer.unzipped_bytes, budget.unzipped),
        ("zip", "its budget for the ZIP", layer.zip_bytes, budget.zip),
    )
    for key, what, size, limit in limits:
        if limit is not None:
            yield Measure(kind=LAYER, name=name, key=key, what=what, size=size, limit=limit, parts=parts, remedy=_DIVIDE)


def layer_budget(name: str, options: LayerOptions) -> Budget:
    """Return the budget of a layer by its name, which ends in a digest: its own, or that of all."""
    own = next((layer.budget for layer in options.named if layer.name == layer_stem(name)), Budget())
    return own if own != Budget() else options.budget


def growth_measure(
    kind: Kind, name: str, side: str, sizes: tuple[int, int], budget: Budget, parts: Mapping[str, float]
) -> Measure | None:
    """Return by how much something has grown; None where its budget does not limit that.

    ``sizes`` are what it takes, and took, on the ``side`` that is meant; ``parts`` have grown themselves, in bytes.
    """
    size, before = sizes
    limits = [] if budget.growth is None else [float(budget.growth)]
    limits += [] if budget.growth_percent is None else [before * budget.growth_percent / 100]
    if not limits:
        return None
    grown = tuple((name, taken) for name, taken in parts.items() if taken > 0)
    what = f"its budget for growth (from {format_size(before)})"
    return Measure(
        kind=kind,
        name=name,
        side=side,
        key="growth",
        what=what,
        size=max(0, size - before),
        limit=min(limits),
        parts=grown,
        remedy=_DIVIDE if kind == LAYER else _SPLIT,
    )


def start_measure(name: str, milliseconds: float, budget: Budget, parts: Mapping[str, float]) -> Measure | None:
    """Return a measured start and its budget; None where it has none. ``parts`` are the milliseconds of distributions."""
    if budget.init is None:
        return None
    remedy = "Import less, or later; `lpack coldstart --json` has the whole import tree. Or raise the budget."
    return Measure(
        name=name,
        key="init",
        what="its budget",
        size=milliseconds,
        limit=budget.init,
        parts=tuple(parts.items()),
        unit=MILLISECONDS,
        remedy=remedy,
    )


def raise_over_limit(measures: Iterator[Measure]) -> None:
    """Raise `LimitError` for the first figure that is over its limit."""
    for measure in measures:
        if measure.over:
            raise measure.error()


def upload_warning(what: str, zipped: int) -> tuple[str, ...]:
    """Return a warning for what is too large for a direct upload; none for the rest."""
    if zipped <= DIRECT_UPLOAD_LIMIT:
        return ()
    return (f"{what} is {format_size(zipped)} zipped: {_UPLOAD.format(format_size(DIRECT_UPLOAD_LIMIT))}.",)


def _own_parts(function: FunctionRecord) -> Iterator[tuple[str, float]]:
    """Return the unzipped bytes of a function's source, and of each distribution that no layer holds."""
    yield owner_label(OWN_SOURCE), function.source.unzipped_bytes
    for each in function.inside:
        yield f"{each.name} {each.version}".rstrip(), each.unzipped_bytes
