"""A function's tree: where the handler is in it, and what each of its parts adds to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal

from builders.runtimes import EXEC_WRAPPER
from packer.core.bytecode_paths import sourceless_path
from packer.core.errors import UsageError
from packer.core.model import OWN_SOURCE, Function, PartSize, Tree, handler_sources

Part = tuple[str, Tree]
"""A distribution's normalized name (or `packer.core.model.OWN_SOURCE`) and its tree."""


HandlerPlace = Literal["module", "layer", "script"]
"""Where a handler is: a module that can be imported, something that a layer of unknown content may hold, or a script."""


def locate_handler(function: Function, tree: Tree, layered: Callable[[], Collection[str]] = tuple) -> HandlerPlace:
    """Return where the handler is; ``layered`` returns the paths in layers whose content is known.

    Raise `UsageError` that lists the source's modules where it is nowhere, unless the function is not to be verified.
    """
    if any(entry.path == function.handler.removeprefix("./") for entry in tree):
        return "script"
    sources = handler_sources(function.handler)
    module = sources[0].removesuffix(".py")
    wanted = (*sources, *map(sourceless_path, sources))

    def is_in(paths: Collection[str]) -> bool:
        return any(path in wanted or (path.startswith(f"{module}.") and path.endswith(".so")) for path in paths)

    if is_in([entry.path for entry in tree]) or is_in(layered()) or function.verify.level == "none":
        return "module"
    if function.layers.unknown:
        return "layer"
    if EXEC_WRAPPER in function.variables:
        return "script"
    own = (entry.path for entry in tree if entry.owner == OWN_SOURCE)
    top = sorted(path for path in own if path.endswith(".py") and "/" not in path)
    raise UsageError(
        f"The handler {function.handler} of {function.name} does not exist: {function.source} has no {wanted[0]}.",
        remedy=f"Its modules are: {', '.join(top) or 'none'}. Set handler to module.function, or fix source.",
    )


def part_sizes(names: Mapping[str, str], versions: Mapping[str, str], tree: Tree) -> tuple[PartSize, ...]:
    """Return what each part adds to the merged tree, the largest first; ``names`` maps entries' owners to parts."""
    kept: dict[str, list[int]] = {}
    for entry in tree:
        kept.setdefault(names[entry.owner], []).append(entry.content.size)
    found = (
        PartSize(name=name, version=versions.get(name, ""), files=len(sizes), unzipped=sum(sizes))
        for name, sizes in kept.items()
    )
    return tuple(sorted(found, key=lambda share: (-share.unzipped, share.name)))
