"""What a project took when somebody was content with it, to hold later states against: sizes, and of which distributions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packer import __version__
from packer.budget import Measure, growth_measure
from packer.errors import UsageError
from packer.options import Budget

BASELINE_FILE = "lpack-baseline.json"
SCHEMA_VERSION = 1
_SOURCE = "the function's own source"
_REMEDY = "Name a file that `lpack baseline` has written, or an lpack.json."
Sized = Mapping[str, Any]
"""The bytes of something: ``zip_bytes``, ``unzipped_bytes``, and ``parts``, the unzipped bytes of each part by its name."""


def make_baseline(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Give the baseline of functions' parts of the manifest, with their layers in them; a function counts with its layers.

    Layers are called without the digest, which changes with everything.
    """
    layers = {name: layer for report in reports.values() for name, layer in report.get("layers", {}).items()}
    stems = Counter(map(_stem, layers))
    return {
        "schema_version": SCHEMA_VERSION,
        "lpack": __version__,
        "functions": {name: _function(reports[name]) for name in sorted(reports)},
        "layers": {_stem(name): _layer(layers[name]) for name in sorted(layers) if stems[_stem(name)] == 1},
    }


def write_baseline(baseline: Mapping[str, Any]) -> bytes:
    """Give a baseline as it stands in its file."""
    return (json.dumps(baseline, indent=2) + "\n").encode()


def read_baseline(path: Path) -> dict[str, Any]:
    """Read a baseline, or make one of a manifest; raises `UsageError`."""
    try:
        found = json.loads(path.read_bytes())
        if "functions" not in found:
            raise UsageError(f"{path} is neither a baseline nor a manifest.", remedy=_REMEDY)
        functions: dict[str, Any] = found["functions"]
        if any("artifact" in each for each in functions.values()):
            return make_baseline({name: _whole(each, found.get("layers", {})) for name, each in functions.items()})
        for each in (*functions.values(), *found["layers"].values()):
            figures = (each["zip_bytes"], each["unzipped_bytes"], *each["parts"].values())
            if not all(isinstance(figure, int) for figure in figures):
                raise UsageError(f"{path} has sizes that are no numbers.", remedy=_REMEDY)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.", remedy="Run `lpack baseline` to write one.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is neither a baseline nor a manifest ({error}).", remedy=_REMEDY) from None
    return dict(found)


def growth(
    now: Mapping[str, Any], before: Mapping[str, Any], budgets: Mapping[str, Budget], layers: Mapping[str, Budget]
) -> Iterator[Measure]:
    """Say how the functions and layers of a baseline have grown since another one, where their budgets limit that.

    What is new has no growth, and Lambda's own limits are all that it has.
    """
    stems = {_stem(name): budget for name, budget in layers.items()}
    for name, size in now["functions"].items():
        old = before["functions"].get(name)
        if old is not None and name in budgets:
            yield from _grown(name, size, old, budgets[name])
    for name, size in now["layers"].items():
        old = before["layers"].get(name)
        if old is not None:
            yield from _grown(f"The layer {name}", size, old, stems.get(name, Budget()))


def _grown(of: str, now: Sized, before: Sized, budget: Budget) -> Iterator[Measure]:
    parts = {name: size - before["parts"].get(name, 0) for name, size in now["parts"].items()}
    for key, word in (("unzipped_bytes", "unzipped"), ("zip_bytes", "zipped")):
        measure = growth_measure(f"{of} ({word})", now[key], before[key], budget, parts)
        if measure is not None:
            yield measure


def _stem(layer: str) -> str:
    return layer.rpartition("-")[0] or layer


def _function(report: Mapping[str, Any]) -> dict[str, Any]:
    artifact, layers = report["artifact"], report.get("layers", {}).values()
    parts = {each["name"]: each["unzipped_bytes"] for each in report["distributions"] if "layer" not in each}
    parts |= {each["name"]: each["unzipped_bytes"] for layer in layers for each in layer["distributions"]}
    return {
        "zip_bytes": artifact.get("zip_bytes", artifact.get("stored_bytes")) + sum(each["zip_bytes"] for each in layers),
        "unzipped_bytes": artifact["unzipped_bytes"] + sum(each["unzipped_bytes"] for each in layers),
        "parts": {**dict(sorted(parts.items())), _SOURCE: report["source"]["unzipped_bytes"]},
    }


def _layer(report: Mapping[str, Any]) -> dict[str, Any]:
    parts = {each["name"]: each["unzipped_bytes"] for each in report["distributions"]}
    return {"zip_bytes": report["zip_bytes"], "unzipped_bytes": report["unzipped_bytes"], "parts": parts}


def _whole(function: Mapping[str, Any], layers: Mapping[str, Any]) -> dict[str, Any]:
    """Give a function's part of a manifest with the layers in it that the manifest has apart."""
    held = {name: layers[name] for name in function.get("layers", ()) if name in layers}
    return {**function, "layers": held}
