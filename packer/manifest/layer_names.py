"""What layers are called from one build to the next: by their names without the digest, as far as that tells them apart."""

from __future__ import annotations

from collections import Counter

from packer.core.records import FunctionRecords, LayerRecord


def all_layers(functions: FunctionRecords) -> dict[str, LayerRecord]:
    """Return the layers of functions, by their names."""
    return {name: layer for function in functions.values() for name, layer in function.layers.items()}


def layer_stem(name: str) -> str:
    """Return a layer's name without the digest that it ends in, which changes with everything."""
    return name.rpartition("-")[0] or name


def lasting_names(functions: FunctionRecords) -> dict[str, str]:
    """Return, for each layer of functions, what it is called from one build to the next.

    That is its name without the digest; with the targets of its functions where layers of several targets share that; and its
    whole name where even these do.
    """
    layers = all_layers(functions)
    stems = Counter(map(layer_stem, layers))
    longer = {name: f"{layer_stem(name)} ({_targets(name, functions)})" for name in layers}
    counts = Counter(longer.values())
    return {
        name: layer_stem(name) if stems[layer_stem(name)] == 1 else longer[name] if counts[longer[name]] == 1 else name
        for name in layers
    }


def _targets(layer: str, functions: FunctionRecords) -> str:
    return ", ".join(sorted({each.target for each in functions.values() if layer in each.layers}))
