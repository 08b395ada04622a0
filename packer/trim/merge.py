"""Merges parts of a function into one tree, every path once: who owns it is never a matter of luck."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from packer.core.bytecode_paths import pycache_path, sourceless_path
from packer.core.errors import PackageError, raise_any
from packer.core.function_tree import Part
from packer.core.model import OWN_SOURCE, Entry, Tree, owner_label

_Held = tuple[str, Entry]
"""A part's name, and what it has at a path."""
_MAGIC = re.compile(r"([*?[])")
"""What patterns take for more than itself."""
_LISTED = 3
"""How many paths of two parts an error lists."""
_MANY = 20
"""From how many shared paths on distributions are likely two editions of one package."""
_ABOUT_THE_PROJECT = re.compile(
    r"(?:readme|changelog|changes|history|news|todo|licen[cs]e|copying|notice|authors|contributors|contributing"
    r"|code_of_conduct|security)(?:[-_.][^/]*)?|pyproject\.toml|setup\.(?:py|cfg)|tox\.ini|manifest\.in|makefile|poetry\.lock",
    re.IGNORECASE,
)
"""What projects keep beside their packages; wheels that have it by mistake put it where all others do, too."""


class _Collision(Struct, frozen=True, kw_only=True):
    """A path that parts have in different ways; ``owners`` are their names, in order."""

    path: str
    owners: tuple[str, ...]


class _Merged(Struct, frozen=True, kw_only=True):
    """``tree`` has the first of what collides, ``errors`` say what that is."""

    tree: Tree
    errors: tuple[PackageError, ...]


def merge_trees(parts: Sequence[Part], overlap: Sequence[tuple[str, str]]) -> Tree:
    """Merge trees; a path in several of them with the same content, or the same in effect, is kept once.

    ``overlap`` maps path patterns to the distribution that wins. Of files about the project at the top (README, LICENSE), which
    nothing imports, the first part's is kept. Raises `PackageError` that lists every path of which no rule decides, or
    `ManyErrors` where also one part has a file and another a folder of the same name.
    """
    merged = _merge(parts, overlap)
    raise_any(merged.errors)
    return merged.tree


def merge_untrimmed(parts: Sequence[Part], overlap: Sequence[tuple[str, str]]) -> Tree:
    """Merge trees that are never packed: of what collides in them, the first is kept."""
    return _merge(parts, overlap).tree


def rules_for_layer(parts: Sequence[Part], minor: int) -> tuple[tuple[str, str], ...]:
    """Return the rules by which parts merge once they are compiled: bytecode follows the source that is taken.

    ``parts`` are distributions with their sources, ``minor`` is that of the Python.
    """
    rules: list[tuple[str, str]] = []
    for path, holders in _share(parts)[1].items():
        differ = path.endswith(".py") and len({entry.content.digest for _, entry in holders}) > 1
        chosen = _choose(path, holders, ()) if differ else None
        if chosen is not None:
            forms = (path, pycache_path(path, minor), sourceless_path(path))
            rules += ((_escape(form), chosen[0]) for form in forms)
    return tuple(rules)


def conflicting_parts(parts: Sequence[Part]) -> frozenset[str]:
    """Return the names of parts that have a path in common with different content."""
    held: dict[str, dict[str, set[str]]] = {}
    for name, tree in parts:
        for entry in tree:
            held.setdefault(entry.path, {}).setdefault(entry.content.digest, set()).add(name)
    return frozenset(name for owners in held.values() if len(owners) > 1 for names in owners.values() for name in names)


def _share(parts: Sequence[Part]) -> tuple[dict[str, _Held], dict[str, list[_Held]]]:
    """Return the first file at each path, and all of those at paths of several parts."""
    first: dict[str, _Held] = {}
    shared: dict[str, list[_Held]] = {}
    for name, tree in parts:
        for entry in tree:
            held = first.setdefault(entry.path, (name, entry))
            if held[1] is not entry:
                shared.setdefault(entry.path, [held]).append((name, entry))
    return first, shared


def _merge(parts: Sequence[Part], overlap: Sequence[tuple[str, str]]) -> _Merged:
    merged, shared = _share(parts)
    collisions: list[_Collision] = []
    for path, holders in shared.items():
        chosen = _choose(path, holders, overlap)
        if chosen is not None:
            merged[path] = chosen
        else:
            collisions.append(_Collision(path=path, owners=tuple(name for name, _ in holders)))
    errors = (*([_collision_error(collisions)] if collisions else ()), *_folder_errors(merged))
    return _Merged(tree=Tree.of(entry for _, entry in merged.values()), errors=errors)


def _choose(path: str, holders: Sequence[_Held], overlap: Sequence[tuple[str, str]]) -> _Held | None:
    """Return which of the files at a path is kept; None where nothing decides."""
    if len({entry.content.digest for _, entry in holders}) == 1:
        return max(holders, key=lambda held: held[1].mode)
    for pattern, winner in overlap:
        if fnmatchcase(path, pattern):
            for held in holders:
                if held[0] == winner:
                    return held
    if "/" not in path and _ABOUT_THE_PROJECT.fullmatch(path):
        return holders[0]
    if not path.endswith(".py"):
        return None
    from packer.trim.namespace_packages import choose_equivalent

    place = choose_equivalent(path, [entry.content.read() for _, entry in holders])
    return None if place is None else holders[place]


def _collision_error(collisions: Iterable[_Collision]) -> PackageError:
    """Return the error that names all collisions, and rules that settle them."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for each in collisions:
        groups.setdefault(each.owners, []).append(each.path)
    what = " ".join(_describe_group(owners, sorted(paths)) for owners, paths in groups.items())
    rules = ", ".join(f"{json.dumps(pattern)} = {json.dumps(winner)}" for pattern, winner in _settling_rules(groups).items())
    remedy = f"overlap = {{ {rules} }} in the configuration (patterns may have *)."
    many = next((owners for owners, paths in groups.items() if len(paths) >= _MANY and OWN_SOURCE not in owners), ())
    if many:
        out = f"If only one of {_listed(many)} is needed, leave out the other: exclude = [{json.dumps(many[0])}]. "
        return PackageError(what, remedy=f"{out}Otherwise say which one wins: {remedy}")
    return PackageError(what, remedy=f"Say which one wins: {remedy}")


def _describe_group(owners: Sequence[str], paths: Sequence[str]) -> str:
    more = len(paths) - _LISTED
    listed = f"{', '.join(paths[:_LISTED])} and {more} more" if more > 0 else _listed(paths)
    both = "both" if len(owners) == 2 else "all"
    return f"{_listed([owner_label(owner) for owner in owners])} {both} hold {listed}, with different content."


def _listed(words: Sequence[str]) -> str:
    """Return words as a sentence has them."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _settling_rules(groups: Mapping[tuple[str, ...], Sequence[str]]) -> dict[str, str]:
    """Return rules that settle everything, by their patterns: the source wins, as in SAM, or the last of the others."""
    rules: dict[str, str] = {}
    for owners, paths in groups.items():
        winner = OWN_SOURCE.strip("<>") if OWN_SOURCE in owners else owners[-1]
        for path in paths:
            folder, slash, _ = path.partition("/")
            pattern = f"{_escape(folder)}/*" if slash and len(paths) > _LISTED else _escape(path)
            rules[pattern if rules.get(pattern, winner) == winner else _escape(path)] = winner
    return rules


def _escape(path: str) -> str:
    """Return the pattern of a path alone (`fnmatch`)."""
    return _MAGIC.sub(r"[\1]", path)


def _folder_errors(merged: dict[str, _Held]) -> list[PackageError]:
    """Take out files that stand where others need a folder, and return an error for each."""
    folders: set[str] = set()
    errors: dict[str, PackageError] = {}
    for path, (name, _) in merged.items():
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            if parent in merged:
                what = (
                    f"{owner_label(merged[parent][0])} has the file {parent}, and {owner_label(name)} the file {path} below it."
                )
                errors[parent] = PackageError(what, remedy="They cannot be installed together: remove one of them.")
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    for path in errors:
        del merged[path]
    return list(errors.values())
