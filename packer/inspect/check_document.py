"""The document of `lpack check`: every size, how sure it is, every limit with what is left of it, and what would help."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from packer.core.errors import LimitError
from packer.core.model import OWN_SOURCE
from packer.core.options import Budget
from packer.core.units import format_size
from packer.manifest.baseline import growth
from packer.manifest.budget import FUNCTION, LAYER, Kind, Measure, function_measures, layer_measures, start_measure
from packer.manifest.records import Reports, all_layers, layers_of, packed_bytes, unpacked_with_layers

SCHEMA_VERSION = 1


class Checked(Struct, frozen=True, kw_only=True):
    """What was looked at: reports of functions (`packer.inspect.appraisal`), budgets, starts that were measured, and a
    baseline."""

    reports: Reports
    budgets: Mapping[str, Budget]
    layer_budgets: Mapping[str, Budget]
    starts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None

    def measures(self) -> list[Measure]:
        """Give all that applies, function by function and then layer by layer."""
        found: list[Measure] = []
        for name, report in self.reports.items():
            found += function_measures(name, report, self.budgets[name])
            if name in self.starts:
                parts = {key: own for key, own in self.starts[name]["distributions"].items() if key != OWN_SOURCE}
                start = start_measure(name, self.starts[name]["after"]["median"], self.budgets[name], parts)
                found += [start] if start else []
        for name, layer in all_layers(self.reports).items():
            found += layer_measures(name, layer, self.layer_budgets.get(name, Budget()))
        if self.baseline is not None:
            found += growth(self.reports, self.baseline, self.budgets, self.layer_budgets)
        return found

    def document(self, warnings: Sequence[str] = ()) -> dict[str, Any]:
        """Give everything as JSON has it; sizes are bytes, starts milliseconds."""
        measures = self.measures()
        layers = all_layers(self.reports)
        users = {name: [each for each, report in self.reports.items() if name in layers_of(report)] for name in layers}
        return {
            "schema_version": SCHEMA_VERSION,
            "functions": {name: self._function(name, measures) for name in self.reports},
            "layers": {
                name: {
                    "zip_bytes": layer["zip_bytes"],
                    "unzipped_bytes": layer["unzipped_bytes"],
                    "functions": users[name],
                    "limits": [_limit(each) for each in measures if _is_of(each, LAYER, name)],
                }
                for name, layer in layers.items()
            },
            "problems": [
                {
                    "of": each.of,
                    "limit": each.key,
                    "message": each.sentence(),
                    "largest": [{"name": name, each.unit: round(size, 1)} for name, size in each.largest()],
                    "advice": list(self._advice(each)),
                }
                for each in measures
                if each.over
            ],
            "warnings": list(warnings),
        }

    def _function(self, name: str, measures: Iterable[Measure]) -> dict[str, Any]:
        report = self.reports[name]
        outlined = report.get("estimated", {})
        return {
            "runtime": report["runtime"],
            "architecture": report["architecture"],
            "format": report["format"],
            "exact": not outlined and report["format"] != "image",
            "zip_bytes": packed_bytes(report),
            "unzipped_bytes": report["artifact"]["unzipped_bytes"],
            "with_layers_bytes": unpacked_with_layers(report),
            "layers": list(layers_of(report)),
            "distributions": [
                {
                    "name": each["name"],
                    "version": each["version"],
                    "unzipped_bytes": each["unzipped_bytes"],
                    "known_by": outlined.get(each["name"], "wheel"),
                    **({"layer": each["layer"]} if "layer" in each else {}),
                }
                for each in report["distributions"]
            ],
            **({"start_milliseconds": self.starts[name]["after"]["median"]} if name in self.starts else {}),
            "limits": [_limit(each) for each in measures if _is_of(each, FUNCTION, name)],
        }

    def _advice(self, measure: Measure) -> Sequence[str]:
        advice: Sequence[str] = self.reports[measure.name].get("advice", ()) if measure.kind == FUNCTION else ()
        return advice if measure.key in ("zip", "unzipped", "image", "lambda unzipped", "lambda image") else ()

    def errors(self) -> list[LimitError]:
        """Give an error for all that is over a limit."""
        return [each.error(self._advice(each)) for each in self.measures() if each.over]


def _is_of(measure: Measure, kind: Kind, name: str) -> bool:
    return (measure.kind, measure.name) == (kind, name)


def _limit(measure: Measure) -> dict[str, Any]:
    figures = {"size": round(measure.size, 1), "limit": round(measure.limit, 1), "unit": measure.unit}
    return {"what": measure.key, **figures, "over": measure.over}


def check_table(document: Mapping[str, Any]) -> str:
    """Give the document as text: a line for each function and layer, with what is tightest."""
    names = [*document["functions"], *document["layers"]]
    width = max(map(len, names), default=0)
    lines: list[str] = []
    for name, each in document["functions"].items():
        where = f"{each['runtime']} {each['architecture']:<6}"
        about = "" if each["exact"] else "  estimated"
        lines.append(f"{name:<{width}}  {where}  {_sizes(each, each['with_layers_bytes'])}  {_tightest(each['limits'])}{about}")
    for name, each in document["layers"].items():
        users = len(each["functions"])
        shared = f"layer of {users} function{'' if users == 1 else 's'}"
        lines.append(f"{name:<{width}}  {shared:<17}  {_sizes(each, each['unzipped_bytes'])}  {_tightest(each['limits'])}")
    return "\n".join(lines) + "\n" if lines else ""


def _sizes(each: Mapping[str, Any], unzipped: int) -> str:
    word = "stored" if each.get("format") == "image" else "zipped"
    return f"{format_size(each['zip_bytes']):>9} {word}  {format_size(unzipped):>9} unzipped"


def _tightest(limits: Sequence[Mapping[str, Any]]) -> str:
    """Say how much is used of what leaves the least room; the user's own words go before Lambda's."""
    own = [each for each in limits if not each["what"].startswith("lambda")] or limits
    tight = max((*own, *(each for each in limits if each["over"])), key=lambda each: each["size"] / (each["limit"] or 1))
    used = f"{tight['size'] / tight['limit']:>4.0%}" if tight["limit"] else "over" if tight["over"] else "  0%"
    whose = "Lambda's limit" if tight["what"].startswith("lambda") else f"the budget {tight['what']}"
    return f"{used} of {whose}{', OVER' if tight['over'] else ''}"
