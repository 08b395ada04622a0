"""A function's tree: its source and distributions merged, with a check that the handler is in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from builders.runtimes import EXEC_WRAPPER
from packer.core.bytecode_paths import sourceless_path
from packer.core.errors import PackageError, UsageError
from packer.core.model import OWN_SOURCE, Entry, Function, PartSize, Tree, handler_sources, owner_label

Part = tuple[str, Tree]
"""A distribution's normalized name (or `packer.core.model.OWN_SOURCE`) and its tree."""


def merge_trees(parts: Sequence[Part], overlap: Sequence[tuple[str, str]]) -> Tree:
    """Merge trees; a path in two of them with the same content is kept once.

    ``overlap`` maps path patterns to the distribution that wins. Raises `PackageError` that names both owners where no rule
    decides, and where one has a file and another a folder of the same name.
    """
    merged: dict[str, tuple[str, Entry]] = {}
    for name, tree in parts:
        for entry in tree:
            held = merged.get(entry.path)
            if held is None or _replaces(entry, name, held, overlap):
                merged[entry.path] = (name, entry)
    _check_folders(merged)
    return Tree.of(entry for _, entry in merged.values())


def conflicting_parts(parts: Sequence[Part]) -> frozenset[str]:
    """Return the names of parts that have a path in common with different content."""
    held: dict[str, dict[str, set[str]]] = {}
    for name, tree in parts:
        for entry in tree:
            held.setdefault(entry.path, {}).setdefault(entry.content.digest, set()).add(name)
    return frozenset(name for owners in held.values() if len(owners) > 1 for names in owners.values() for name in names)


def _replaces(entry: Entry, name: str, held: tuple[str, Entry], overlap: Sequence[tuple[str, str]]) -> bool:
    """Return whether an entry replaces the one already at its path."""
    other, held_entry = held
    if entry.content.digest == held_entry.content.digest and entry.mode == held_entry.mode:
        return False
    for pattern, winner in overlap:
        if fnmatchcase(entry.path, pattern) and winner in (name, other):
            return winner == name
    if entry.content.digest == held_entry.content.digest:
        return entry.mode > held_entry.mode
    raise PackageError(
        f"{owner_label(other)} and {owner_label(name)} both hold {entry.path}, with different content.",
        remedy=f'Say which one wins: overlap = {{ "{entry.path}" = "{name.strip("<>")}" }} in the configuration '
        "(patterns may have *).",
    )


def _check_folders(merged: dict[str, tuple[str, Entry]]) -> None:
    folders: set[str] = set()
    for path, (name, _) in merged.items():
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            if parent in merged:
                raise PackageError(
                    f"{owner_label(merged[parent][0])} has the file {parent}, "
                    f"and {owner_label(name)} the file {path} below it.",
                    remedy="They cannot be installed together: remove one of them.",
                )
            folders.add(parent)
            parent = parent.rpartition("/")[0]


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
