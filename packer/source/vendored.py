"""Packages that a function has by other ways than its lock: in its own source, in attached layers, or by the user's word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from packer.core.model import Function, Tree
from packer.formats.distribution_names import canonical_name
from packer.source.layer_content import LayerContent, list_modules

_INFO = (".dist-info", ".egg-info")
_MODULE = (".py", ".so")


def is_there_otherwise(name: str, function: Function, source: Tree, layers: Sequence[LayerContent]) -> bool:
    """Return whether a package (normalized name) is left out by the user, or lies in the function's source or in a layer."""
    attached = (held for layer in function.layers.attached for held, _ in layer.distributions)
    if name in function.exclude or name in attached:
        return True
    return name in set(_list_names(entry.path for entry in source)) or name in set(_list_names(list_modules(layers)))


def _list_names(paths: Iterable[str]) -> Iterator[str]:
    """Return the normalized names of distributions, and of modules and packages, that paths from where Python looks show."""
    for path in paths:
        first, slash, _ = path.partition("/")
        if slash and first.endswith(_INFO):
            yield canonical_name(first.rpartition(".")[0].partition("-")[0])
        elif slash or first.endswith(_MODULE):
            yield canonical_name(first.partition(".")[0] or first)
