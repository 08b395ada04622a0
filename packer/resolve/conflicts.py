"""Which functions can share versions, and why the others cannot."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from packer.core.bisect import find_culprits
from packer.formats.distribution_names import canonical_name
from packer.resolve.joint_declaration import JointMember, Place

_PINNED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(?P<version>\S+)\s+# via (?P<via>.+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BOUND = re.compile(r"[<>=!~@]")


def divide_by_agreement(names: Sequence[str], agree: Callable[[frozenset[str]], bool]) -> tuple[tuple[str, ...], ...]:
    """Divide names into few sets that agree; no name of a later set could join an earlier one.

    ``agree`` must return True for every subset of a set for which it returns True. Names that do not agree even alone come
    last, each in a set of its own. Example: of a b c d e, a agrees with no other. The smallest set that does not agree is a b,
    and both are set aside; c d e agree. Then each name that was set aside is tried again: b joins c d e, and a does not. The
    larger set wins whatever the order of the names, and each name that is set aside takes log2(names) calls of ``agree``.
    """
    sets: list[tuple[str, ...]] = []
    rest = tuple(names)
    while rest:
        together = _largest_agreeing(rest, agree)
        if not together:
            break
        sets.append(together)
        rest = tuple(name for name in rest if name not in together)
    return (*sets, *((name,) for name in rest))


def _largest_agreeing(names: Sequence[str], agree: Callable[[frozenset[str]], bool]) -> tuple[str, ...]:
    staying, aside = list(names), list[str]()
    while staying and not agree(frozenset(staying)):
        smallest = find_culprits(staying, lambda chosen: not agree(chosen)) or tuple(staying[:1])
        aside += smallest
        staying = [name for name in staying if name not in smallest]
    for name in sorted(aside, key=names.index):
        if agree(frozenset((*staying, name))):
            staying.append(name)
    return tuple(name for name in names if name in staying)


def find_opponents(name: str, others: Sequence[str], agree: Callable[[frozenset[str]], bool]) -> tuple[str, ...]:
    """Return as few of the others as cannot agree with a name; none where all can."""
    return find_culprits(others, lambda chosen: not agree(chosen | {name})) or ()


class SolvedPackage(Struct, frozen=True, kw_only=True):
    """One package of a solution: its version, and the packages that require it; ``is_direct`` where a file does, too."""

    version: str
    parents: tuple[str, ...]
    is_direct: bool


def read_annotated(text: str, own: str = "") -> dict[str, SolvedPackage]:
    """Read what ``uv pip compile --annotation-style line`` writes: ``beta==2.0  # via alpha, -r requirements.txt``.

    What the package ``own`` requires counts as required directly.
    """
    found: dict[str, SolvedPackage] = {}
    for match in filter(None, map(_PINNED.match, text.splitlines())):
        sources = [source.strip() for source in match["via"].split(",") if not source.strip().startswith("-c ")]
        names = (canonical_name(source) for source in sources if _NAME.fullmatch(source))
        parents = tuple(name for name in names if name != own)
        name = canonical_name(match["name"])
        found[name] = SolvedPackage(version=match["version"], parents=parents, is_direct=len(parents) < len(sources))
    return found


def find_shortest_chain(package: str, solved: Mapping[str, SolvedPackage]) -> tuple[str, ...]:
    """Return the shortest way from a package up to one that is required directly, both included."""
    ways: list[tuple[str, ...]] = [(package,)]
    seen = {package}
    for way in ways:
        here = solved.get(way[-1])
        if here is None or here.is_direct:
            return way
        for parent in sorted(set(here.parents) - seen):
            seen.add(parent)
            ways.append((*way, parent))
    return (package,)


def describe_need(member: JointMember, way: Sequence[str], solved: Mapping[str, SolvedPackage], root: Path) -> str:
    """Return in words what a member needs, by way of what, and in which file; paths are relative to ``root``."""
    place = member.places.get(way[-1])
    where = f" ({_place_text(place, root)})" if place else ""
    if len(way) == 1 and place and _BOUND.search(place.text):
        return f"{place.text}{where}"
    package = f"{way[0]} {solved[way[0]].version}"
    between = [f"{name} {solved[name].version}" if name in solved else name for name in way[1:]]
    return f"{package} by way of {' and '.join(between)}{where}" if between else f"{package}{where}"


def _place_text(place: Place, root: Path) -> str:
    path = os.path.relpath(place.path, root)
    return f"{path}:{place.line}" if place.line else path
