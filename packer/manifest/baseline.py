"""What a project took when somebody was content with it, to hold later states against: sizes, and of which distributions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packer import __version__
from packer.core.errors import UsageError
from packer.core.model import OWN_SOURCE, owner_label
from packer.core.options import Budget
from packer.manifest.budget import FUNCTION, LAYER, Kind, Measure, growth_measure
from packer.manifest.records import (
    Report,
    Reports,
    all_layers,
    checked_manifest,
    functions_of,
    inside,
    lasting_names,
    layers_of,
    packed_with_layers,
    unpacked_with_layers,
)

BASELINE_FILE = "lpack-baseline.json"
SCHEMA_VERSION = 1
_REMEDY = "Name a file that `lpack baseline` has written, or an lpack.json."
Sized = Mapping[str, Any]
"""The bytes of something: ``zip_bytes``, ``unzipped_bytes``, and ``parts``, the unzipped bytes of each part by its name."""


def make_baseline(reports: Reports) -> dict[str, Any]:
    """Give the baseline of functions' parts of the manifest, with their layers in them; a function counts with its layers.

    Layers are called as they are from one build to the next (`packer.manifest.records.lasting_names`).
    """
    layers, names = all_layers(reports), lasting_names(reports)
    return {
        "schema_version": SCHEMA_VERSION,
        "lpack": __version__,
        "functions": {name: _function(reports[name]) for name in sorted(reports)},
        "layers": {names[name]: _layer(layers[name]) for name in sorted(layers, key=names.__getitem__)},
    }


def write_baseline(baseline: Mapping[str, Any]) -> bytes:
    """Give a baseline as it stands in its file."""
    return (json.dumps(baseline, indent=2) + "\n").encode()


def read_baseline(path: Path) -> dict[str, Any]:
    """Read a baseline, or make one of a manifest; raises `UsageError`."""
    try:
        found = json.loads(path.read_bytes())
        functions: dict[str, Any] = found["functions"]
        if any("artifact" in each for each in functions.values()):
            return make_baseline(functions_of(checked_manifest(found)))
        _check_sizes((*functions.values(), *found["layers"].values()))
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.", remedy="Run `lpack baseline` to write one.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is neither a manifest nor a baseline ({error}).", remedy=_REMEDY) from None
    return dict(found)


def _check_sizes(listed: Iterable[Sized]) -> None:
    for each in listed:
        if not all(isinstance(figure, int) for figure in (each["zip_bytes"], each["unzipped_bytes"], *each["parts"].values())):
            raise ValueError("it has sizes that are no numbers")


def growth(
    reports: Reports, before: Mapping[str, Any], budgets: Mapping[str, Budget], layers: Mapping[str, Budget]
) -> Iterator[Measure]:
    """Say how functions and their layers have grown since a baseline, where their budgets limit that.

    ``budgets`` and ``layers`` are by the names that the reports have. What is new has no growth, and Lambda's own limits are
    all that it has.
    """
    for name, report in reports.items():
        if name in before["functions"] and name in budgets:
            yield from _grown(FUNCTION, name, _function(report), before["functions"][name], budgets[name], _packed(report))
    names = lasting_names(reports)
    for name, layer in all_layers(reports).items():
        if names[name] in before["layers"]:
            budget = layers.get(name, Budget())
            yield from _grown(LAYER, name, _layer(layer), before["layers"][names[name]], budget)


def _packed(report: Report) -> str:
    """Give the word for a function's bytes as they are kept: nothing of an image is zipped."""
    return "stored" if report["format"] == "image" else "zipped"


def _grown(kind: Kind, name: str, size: Sized, before: Sized, budget: Budget, packed: str = "zipped") -> Iterator[Measure]:
    parts = {part: taken - before["parts"].get(part, 0) for part, taken in size["parts"].items()}
    for key, word in (("unzipped_bytes", "unzipped"), ("zip_bytes", packed)):
        measure = growth_measure(kind, name, word, (size[key], before[key]), budget, parts)
        if measure is not None:
            yield measure


def _function(report: Report) -> dict[str, Any]:
    parts = _parts(inside(report))
    for layer in layers_of(report).values():
        parts |= _parts(layer["distributions"])
    return {
        "zip_bytes": packed_with_layers(report),
        "unzipped_bytes": unpacked_with_layers(report),
        "parts": {**dict(sorted(parts.items())), owner_label(OWN_SOURCE): report["source"]["unzipped_bytes"]},
    }


def _layer(layer: Report) -> dict[str, Any]:
    sizes = {key: layer[key] for key in ("zip_bytes", "unzipped_bytes")}
    return {**sizes, "parts": _parts(layer["distributions"])}


def _parts(distributions: Iterable[Report]) -> dict[str, int]:
    return {each["name"]: each["unzipped_bytes"] for each in distributions}
