"""The document of `lpack check`: every size, how sure it is, every limit with what is left of it, and what would help."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from builders.runtimes import Architecture
from packer.core.errors import LimitError
from packer.core.model import OWN_SOURCE
from packer.core.options import Budget
from packer.core.records import Bytes, FunctionRecords, Milliseconds
from packer.core.units import count_text, format_size
from packer.manifest.baseline import Baseline, growth_measures
from packer.manifest.budget import (
    BYTES,
    FUNCTION,
    LAYER,
    Kind,
    Measure,
    Unit,
    function_measures,
    layer_measures,
    start_measure,
)
from packer.manifest.layer_names import all_layers
from packer.manifest.start_history import PastStart
from packer.pipeline.state import Estimate

_LIMITS_OF_SIZE = ("zip", "unzipped", "image", "lambda unzipped", "lambda image")


class CheckedLimit(Struct, frozen=True, kw_only=True):
    """A figure and its limit."""

    what: Annotated[str, Meta(description="The key of a budget, or `lambda` with one.")]
    size: float
    limit: float
    unit: Unit
    over: bool

    @property
    def used(self) -> str:
        """How much of the limit is used, in words."""
        return f"{self.size / self.limit:>4.0%}" if self.limit else "over" if self.over else "  0%"


class CheckedDistribution(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A distribution of a function, and by what its size is known."""

    name: str
    version: str
    unzipped_bytes: Bytes
    known_by: Annotated[str, Meta(extra_json_schema={"enum": ["wheel", "directory", "size", "source", "nothing"]})]
    layer: str = ""


class CheckedFunction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a function is going to be; sizes are bytes."""

    runtime: str
    architecture: Architecture
    format: Literal["zip", "image"]
    exact: Annotated[bool, Meta(description="Whether a build would give the same bytes.")]
    zip_bytes: Bytes
    unzipped_bytes: Bytes
    with_layers_bytes: Bytes
    layers: tuple[str, ...]
    distributions: tuple[CheckedDistribution, ...]
    start_milliseconds: Milliseconds | None = None
    limits: tuple[CheckedLimit, ...]


class CheckedLayer(Struct, frozen=True, kw_only=True):
    """What a layer is going to be, and who has it."""

    zip_bytes: Bytes
    unzipped_bytes: Bytes
    functions: tuple[str, ...]
    limits: tuple[CheckedLimit, ...]


class Contributor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of what is over a limit, in the unit of that."""

    name: str
    bytes: float | None = None
    milliseconds: float | None = None


class LimitProblem(Struct, frozen=True, kw_only=True):
    """Something that is over a limit; ``of`` says what, in words."""

    of: str
    limit: str
    message: str
    largest: tuple[Contributor, ...]
    advice: tuple[str, ...]


class CheckDocument(Struct, frozen=True, kw_only=True):
    """What `lpack check --json` prints; sizes are bytes, starts milliseconds."""

    schema_version: Literal[1] = 1
    functions: Mapping[str, CheckedFunction]
    layers: Mapping[str, CheckedLayer]
    problems: tuple[LimitProblem, ...]
    warnings: tuple[str, ...]


class Checked(Struct, frozen=True, kw_only=True):
    """What was looked at: functions (`packer.inspect.appraisal`), budgets, starts that were measured, and a baseline."""

    reports: FunctionRecords
    estimates: Mapping[str, Estimate]
    budgets: Mapping[str, Budget]
    layer_budgets: Mapping[str, Budget]
    starts: Mapping[str, PastStart] = field(default_factory=dict)
    baseline: Baseline | None = None

    def measures(self) -> list[Measure]:
        """Return all that applies, function by function and then layer by layer."""
        found: list[Measure] = []
        for name, report in self.reports.items():
            found += function_measures(name, report, self.budgets[name])
            if name in self.starts:
                parts = {key: own for key, own in self.starts[name].distributions.items() if key != OWN_SOURCE}
                start = start_measure(name, self.starts[name].after.median, self.budgets[name], parts)
                found += [start] if start else []
        for name, layer in all_layers(self.reports).items():
            found += layer_measures(name, layer, self.layer_budgets.get(name, Budget()))
        if self.baseline is not None:
            found += growth_measures(self.reports, self.baseline, self.budgets, self.layer_budgets)
        return found

    def document(self, warnings: Sequence[str] = ()) -> CheckDocument:
        """Return everything as `lpack check --json` prints it."""
        measures = self.measures()
        layers = all_layers(self.reports)
        return CheckDocument(
            functions={name: self._function(name, measures) for name in self.reports},
            layers={
                name: CheckedLayer(
                    zip_bytes=layer.zip_bytes,
                    unzipped_bytes=layer.unzipped_bytes,
                    functions=tuple(each for each, report in self.reports.items() if name in report.layers),
                    limits=_limits_of(measures, LAYER, name),
                )
                for name, layer in layers.items()
            },
            problems=tuple(self._problem(each) for each in measures if each.over),
            warnings=tuple(warnings),
        )

    def _function(self, name: str, measures: Iterable[Measure]) -> CheckedFunction:
        report, known_by = self.reports[name], self.estimates[name].known_by
        return CheckedFunction(
            runtime=report.runtime,
            architecture=report.architecture,
            format=report.format,
            exact=not known_by and report.format != "image",
            zip_bytes=report.packed_bytes,
            unzipped_bytes=report.artifact.unzipped_bytes,
            with_layers_bytes=report.unpacked_with_layers,
            layers=tuple(report.layers),
            distributions=tuple(
                CheckedDistribution(
                    name=each.name,
                    version=each.version,
                    unzipped_bytes=each.unzipped_bytes,
                    known_by=known_by.get(each.name, "wheel"),
                    layer=each.layer,
                )
                for each in report.distributions
            ),
            start_milliseconds=self.starts[name].after.median if name in self.starts else None,
            limits=_limits_of(measures, FUNCTION, name),
        )

    def _problem(self, measure: Measure) -> LimitProblem:
        largest = ((name, round(size, 1)) for name, size in measure.largest())
        return LimitProblem(
            of=measure.of,
            limit=measure.key,
            message=measure.sentence(),
            largest=tuple(
                Contributor(name=name, bytes=size) if measure.unit == BYTES else Contributor(name=name, milliseconds=size)
                for name, size in largest
            ),
            advice=self._advice(measure),
        )

    def _advice(self, measure: Measure) -> tuple[str, ...]:
        advised = measure.kind == FUNCTION and measure.key in _LIMITS_OF_SIZE
        return self.estimates[measure.name].advice if advised else ()

    def errors(self) -> list[LimitError]:
        """Return an error for all that is over a limit."""
        return [each.error(self._advice(each)) for each in self.measures() if each.over]


def _limits_of(measures: Iterable[Measure], kind: Kind, name: str) -> tuple[CheckedLimit, ...]:
    return tuple(
        CheckedLimit(what=each.key, size=round(each.size, 1), limit=round(each.limit, 1), unit=each.unit, over=each.over)
        for each in measures
        if (each.kind, each.name) == (kind, name)
    )


def check_table(document: CheckDocument) -> str:
    """Return the document as text: a line for each function and layer, with what is tightest."""
    width = max(map(len, (*document.functions, *document.layers)), default=0)
    lines: list[str] = []
    for name, function in document.functions.items():
        where = f"{function.runtime} {function.architecture:<6}"
        about = "" if function.exact else "  estimated"
        word = "stored" if function.format == "image" else "zipped"
        sizes = _sizes(function.zip_bytes, word, function.with_layers_bytes)
        lines.append(f"{name:<{width}}  {where}  {sizes}  {_tightest(function.limits)}{about}")
    for name, layer in document.layers.items():
        shared = f"layer of {count_text(len(layer.functions), 'function')}"
        sizes = _sizes(layer.zip_bytes, "zipped", layer.unzipped_bytes)
        lines.append(f"{name:<{width}}  {shared:<17}  {sizes}  {_tightest(layer.limits)}")
    return "\n".join(lines) + "\n" if lines else ""


def _sizes(packed: int, word: str, unzipped: int) -> str:
    return f"{format_size(packed):>9} {word}  {format_size(unzipped):>9} unzipped"


def _tightest(limits: Sequence[CheckedLimit]) -> str:
    """Return how much is used of what leaves the least room; the user's own words go before Lambda's."""
    own = [each for each in limits if not each.what.startswith("lambda")] or limits
    tight = max((*own, *(each for each in limits if each.over)), key=lambda each: each.size / (each.limit or 1))
    whose = "Lambda's limit" if tight.what.startswith("lambda") else f"the budget {tight.what}"
    return f"{tight.used} of {whose}{', OVER' if tight.over else ''}"
