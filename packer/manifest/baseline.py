"""What a project took when somebody was content with it, to check later states against: sizes, and of which distributions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct, ValidationError

from packer import __version__
from packer.core.errors import UsageError
from packer.core.model import OWN_SOURCE, owner_label
from packer.core.options import Budget
from packer.core.records import (
    Bytes,
    DistributionRecord,
    FunctionFacts,
    FunctionRecord,
    FunctionRecords,
    LayerRecord,
    decode_manifest,
    json_text,
)
from packer.manifest.budget import FUNCTION, LAYER, Kind, Measure, growth_measure
from packer.manifest.layer_names import all_layers, lasting_names

BASELINE_FILE = "lpack-baseline.json"
_REMEDY = "Name a file that `lpack baseline` has written, or an lpack.json."


class BaselineSizes(Struct, frozen=True, kw_only=True):
    """The bytes of a function with its layers, or of a layer; ``parts`` are by what they are called in messages."""

    zip_bytes: Bytes
    unzipped_bytes: Bytes
    parts: Annotated[Mapping[str, Bytes], Meta(description="Unzipped bytes of each part.")]


class Baseline(Struct, frozen=True, kw_only=True):
    """The sizes of functions, each with its layers in it, and of layers by the names that last."""

    schema_version: Literal[1] = 1
    lpack: str = __version__
    functions: Annotated[Mapping[str, BaselineSizes], Meta(description="With their layers.")]
    layers: Annotated[Mapping[str, BaselineSizes], Meta(description="By their names without the digest.")]


class _FunctionKeys(Struct, frozen=True):
    """What tells a manifest, whose functions have artifacts, from a baseline."""

    functions: dict[str, dict[str, Raw]]


def make_baseline(functions: FunctionRecords) -> Baseline:
    """Return the baseline of functions; a function counts with its layers.

    Layers are called as they are from one build to the next (`packer.manifest.layer_names.lasting_names`).
    """
    layers, names = all_layers(functions), lasting_names(functions)
    return Baseline(
        functions={name: _function_sizes(functions[name]) for name in sorted(functions)},
        layers={names[name]: _layer_sizes(layers[name]) for name in sorted(layers, key=names.__getitem__)},
    )


def baseline_text(baseline: Baseline) -> str:
    """Return a baseline as it stands in its file."""
    return json_text(baseline, ascii_only=True)


def is_baseline(path: Path) -> bool:
    """Return whether a file is a baseline, in which functions count with their layers; False for what cannot be read."""
    if path.suffix != ".json":
        return False
    try:
        functions = msgspec.json.decode(path.read_bytes(), type=_FunctionKeys).functions
    except (OSError, ValueError, RecursionError):
        return False
    return bool(functions) and not any("artifact" in each for each in functions.values())


def read_baseline(path: Path) -> Baseline:
    """Read a baseline, or make one of a manifest; raises `UsageError`."""
    try:
        return _decode_baseline(path.read_bytes())
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.", remedy="Run `lpack baseline` to write one.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is neither a manifest nor a baseline ({error}).", remedy=_REMEDY) from None


def _decode_baseline(data: bytes) -> Baseline:
    outline = msgspec.json.decode(data, type=_FunctionKeys)
    if any("artifact" in each for each in outline.functions.values()):
        return make_baseline(decode_manifest(data).records())
    try:
        return msgspec.json.decode(data, type=Baseline)
    except ValidationError as error:
        if "Expected `int`" in str(error):
            raise ValueError(f"it has sizes that are no numbers: {error}") from None
        raise


def growth_measures(
    functions: FunctionRecords, before: Baseline, budgets: Mapping[str, Budget], layers: Mapping[str, Budget]
) -> Iterator[Measure]:
    """Return how functions and their layers have grown since a baseline, where their budgets limit that.

    ``budgets`` and ``layers`` are by the names that the records have. What is new has no growth, and Lambda's own limits are
    all that it has.
    """
    for name, function in functions.items():
        if name in before.functions and name in budgets:
            sizes = (_function_sizes(function), before.functions[name])
            yield from _growth_of(FUNCTION, name, sizes, budgets[name], _packed(function))
    names = lasting_names(functions)
    for name, layer in all_layers(functions).items():
        if names[name] in before.layers:
            sizes = (_layer_sizes(layer), before.layers[names[name]])
            yield from _growth_of(LAYER, name, sizes, layers.get(name, Budget()))


def _packed(function: FunctionFacts) -> str:
    """Return the word for a function's bytes as they are kept: nothing of an image is zipped."""
    return "stored" if function.format == "image" else "zipped"


def _growth_of(
    kind: Kind, name: str, sizes: tuple[BaselineSizes, BaselineSizes], budget: Budget, packed: str = "zipped"
) -> Iterator[Measure]:
    now, before = sizes
    parts = {part: taken - before.parts.get(part, 0) for part, taken in now.parts.items()}
    pairs = (("unzipped", (now.unzipped_bytes, before.unzipped_bytes)), (packed, (now.zip_bytes, before.zip_bytes)))
    for word, pair in pairs:
        measure = growth_measure(kind, name, word, pair, budget, parts)
        if measure is not None:
            yield measure


def _function_sizes(function: FunctionRecord) -> BaselineSizes:
    parts = _part_sizes(function.inside)
    for layer in function.layers.values():
        parts |= _part_sizes(layer.distributions)
    return BaselineSizes(
        zip_bytes=function.packed_with_layers,
        unzipped_bytes=function.unpacked_with_layers,
        parts={**dict(sorted(parts.items())), owner_label(OWN_SOURCE): function.source.unzipped_bytes},
    )


def _layer_sizes(layer: LayerRecord) -> BaselineSizes:
    return BaselineSizes(zip_bytes=layer.zip_bytes, unzipped_bytes=layer.unzipped_bytes, parts=_part_sizes(layer.distributions))


def _part_sizes(distributions: Iterable[DistributionRecord]) -> dict[str, int]:
    return {each.name: each.unzipped_bytes for each in distributions}
