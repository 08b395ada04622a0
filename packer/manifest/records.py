"""Reads functions' parts of the manifest (`packer.manifest.document.describe`): sizes, what is whose, and a file that has
them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Report = Mapping[str, Any]
Reports = Mapping[str, Report]
_SIZED = {"unzipped_bytes": int}
_DISTRIBUTION = {"name": str, "version": str, "wheel": str, "sha256": str, **_SIZED}
_PLACED = {"path": str, "sha256": str, **_SIZED}
_FUNCTION = {
    "runtime": str,
    "architecture": str,
    "format": str,
    "source": _SIZED,
    "distributions": [_DISTRIBUTION],
    "trim": {"removed": [{"rule": str, "distribution": str, "files": int, "bytes": int}]},
}
_FORMS = {
    "zip": {**_FUNCTION, "artifact": {**_PLACED, "zip_bytes": int}},
    "image": {**_FUNCTION, "artifact": {**_PLACED, "stored_bytes": int}, "image": {"layers": [{"digest": str}]}},
}
_LAYER = {**_PLACED, "zip_bytes": int, "functions": [str], "distributions": [_DISTRIBUTION]}


def packed_bytes(report: Report) -> int:
    """Give the bytes of a function's ZIP, or of what lpack adds to an image's base; layers are not in it."""
    artifact = report["artifact"]
    size: int = artifact["stored_bytes"] if report["format"] == "image" else artifact["zip_bytes"]
    return size


def layers_of(report: Report) -> Reports:
    """Give the layers that lpack makes for a function, by their names."""
    layers: Reports = report.get("layers", {})
    return layers


def packed_with_layers(report: Report) -> int:
    """Give the bytes of a function's package and of all its layers, as they are stored."""
    sizes: list[int] = [layer["zip_bytes"] for layer in layers_of(report).values()]
    return packed_bytes(report) + sum(sizes)


def unpacked_with_layers(report: Report) -> int:
    """Give the bytes that a function takes with all its layers where it runs."""
    sizes: list[int] = [each["unzipped_bytes"] for each in (report["artifact"], *layers_of(report).values())]
    return sum(sizes)


def inside(report: Report) -> list[Report]:
    """Give the distributions that no layer holds."""
    return [each for each in report["distributions"] if "layer" not in each]


def all_layers(reports: Reports) -> Reports:
    """Give the layers of functions, by their names."""
    return {name: layer for report in reports.values() for name, layer in layers_of(report).items()}


def layer_stem(name: str) -> str:
    """Give a layer's name without the digest that it ends in, which changes with everything."""
    return name.rpartition("-")[0] or name


def lasting_names(reports: Reports) -> dict[str, str]:
    """Give, for each layer of functions, what it is called from one build to the next.

    That is its name without the digest; with the targets of its functions where layers of several targets share that; and its
    whole name where even these do.
    """
    layers = all_layers(reports)
    stems = Counter(map(layer_stem, layers))
    longer = {name: f"{layer_stem(name)} ({_targets(name, reports)})" for name in layers}
    counts = Counter(longer.values())
    return {
        name: layer_stem(name) if stems[layer_stem(name)] == 1 else longer[name] if counts[longer[name]] == 1 else name
        for name in layers
    }


def _targets(layer: str, reports: Reports) -> str:
    users = (report for report in reports.values() if layer in layers_of(report))
    return ", ".join(sorted({f"{each['runtime']} {each['architecture']}" for each in users}))


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest as far as lpack relies on it; raises `OSError`, and `ValueError` for what is none, or damaged."""
    try:
        return checked_manifest(json.loads(path.read_bytes()))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def checked_manifest(document: Any) -> dict[str, Any]:
    """Give a manifest back as it is; raises `ValueError`, which says where it is wrong."""
    _check(document, {"functions": {}}, "the file")
    layers = document.get("layers", {})
    _check(layers, {}, "layers")
    for name, layer in layers.items():
        _check(layer, _LAYER, f"layers.{name}")
    for name, function in document["functions"].items():
        where = f"functions.{name}"
        _check(function, {"format": str}, where)
        if function["format"] not in _FORMS:
            raise ValueError(f"{where}.format is none that is known")
        _check(function, _FORMS[function["format"]], where)
        _check(list(function.get("layers", ())), [str], f"{where}.layers")
    return dict(document)


def _check(value: Any, shape: Any, where: str) -> None:
    """Hold a value against a shape: a type, a list of one shape, or a table of several; raises `ValueError`."""
    kind: type[Any] = type(shape) if isinstance(shape, dict | list) else shape
    if not isinstance(value, kind) or value is True or (kind is int and value < 0):
        raise ValueError(f"{where} is missing, or not what it should be")
    if isinstance(shape, dict):
        for key, inner in shape.items():
            _check(value.get(key), inner, f"{where}.{key}")
    elif isinstance(shape, list):
        for number, each in enumerate(value):
            _check(each, shape[0], f"{where}[{number}]")


def functions_of(manifest: Mapping[str, Any]) -> dict[str, Report]:
    """Give the functions of a manifest, each with its layers in it, which the manifest has apart."""
    return dict(_whole(manifest))


def _whole(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Report]]:
    layers = manifest.get("layers", {})
    for name, each in manifest["functions"].items():
        held = {layer: layers[layer] for layer in each.get("layers", ()) if layer in layers}
        yield name, {**each, "layers": held}
