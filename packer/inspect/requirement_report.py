"""Describes who requires what, and the bytes of it: for `lpack why` and `lpack tree`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from packer.core.errors import UsageError
from packer.core.units import format_size
from packer.resolve.requirement_graph import RequirementGraph

SCHEMA_VERSION = 1
_CHAINS = 12
_BRANCH, _LAST, _PASSED, _NOTHING = "├── ", "└── ", "│   ", "    "
_AGAIN = " (again)"


class Costs(Struct, frozen=True, kw_only=True):
    """A function's distributions by their names: versions and bytes as packed, and who requires them.

    ``whole`` are the bytes of all of the function, and ``exact`` says that they are no estimates.
    """

    function: str
    needs: RequirementGraph
    versions: Mapping[str, str]
    sizes: Mapping[str, int]
    whole: int
    exact: bool

    @classmethod
    def of(cls, function: str, needs: RequirementGraph, report: Mapping[str, Any]) -> Costs:
        """Take sizes and versions from a function's report (`packer.inspect.appraisal`)."""
        layers = report.get("layers", {}).values()
        held = [*report["distributions"]]
        placed = {each["name"]: each for layer in layers for each in layer["distributions"]}
        sizes = {each["name"]: placed.get(each["name"], each)["unzipped_bytes"] for each in held}
        return cls(
            function=function,
            needs=needs,
            versions={each["name"]: each["version"] for each in held},
            sizes=sizes,
            whole=report["artifact"]["unzipped_bytes"] + sum(layer["unzipped_bytes"] for layer in layers),
            exact=not report.get("estimated"),
        )

    def size(self, names: Sequence[str] | frozenset[str]) -> int:
        """Give the bytes of distributions."""
        return sum(self.sizes.get(name, 0) for name in names)

    def why(self, name: str) -> dict[str, Any]:
        """Say why a distribution is there, and what it costs; raises `UsageError` where the function has none of that name."""
        if name not in self.versions:
            near = difflib.get_close_matches(name, self.versions, n=3)
            meant = f"Did you mean {' or '.join(near)}?" if near else f"`lpack tree {self.function}` has all that it needs."
            raise UsageError(f"{self.function} has no distribution {name!r}.", remedy=meant)
        only = self.needs.only_for(name)
        return {
            "schema_version": SCHEMA_VERSION,
            "function": self.function,
            "name": name,
            "version": self.versions[name],
            "chains": [
                [{"name": step.name, "requires": step.words} for step in chain] for chain in self.needs.chains(name, _CHAINS)
            ],
            "unzipped_bytes": self.sizes.get(name, 0),
            "only_for_it": sorted(only - {name}),
            "with_only_for_it_bytes": self.size(only),
            "function_bytes": self.whole,
            "exact": self.exact,
            "unknown": sorted(self.needs.unknown),
        }

    def tree(self) -> dict[str, Any]:
        """Give all distributions below what the function requires; one that was there before is not followed again."""
        seen: set[str] = set()
        return {
            "function": self.function,
            "unzipped_bytes": self.whole,
            "exact": self.exact,
            "unknown": sorted(self.needs.unknown),
            "requires": [self._node(step.name, step.words, seen) for step in self.needs.direct],
        }

    def _node(self, name: str, words: str, seen: set[str]) -> dict[str, Any]:
        again = name in seen
        seen.add(name)
        return {
            "name": name,
            "version": self.versions.get(name, ""),
            "requires": words,
            "unzipped_bytes": self.sizes.get(name, 0),
            "with_all_below_bytes": self.size(self.needs.below(name)),
            "again": again,
            "below": [] if again else [self._node(step.name, step.words, seen) for step in self.needs.edges.get(name, ())],
        }


def why_text(found: Mapping[str, Any]) -> str:
    """Give the answer to `lpack why` as text."""
    lines = [f"{found['name']} {found['version']} is in {found['function']}:"]
    lines += ["  " + " -> ".join(step["requires"] for step in chain) for chain in found["chains"]]
    about = "" if found["exact"] else "about "
    whole = format_size(found["function_bytes"])
    lines.append(f"It takes {about}{format_size(found['unzipped_bytes'])} of {whole} unzipped.")
    if found["only_for_it"]:
        what = format_size(found["with_only_for_it_bytes"])
        lines.append(f"With what only it needs ({', '.join(found['only_for_it'])}) that is {about}{what}.")
    return "\n".join((*lines, *_unknown(found))) + "\n"


def tree_text(found: Mapping[str, Any]) -> str:
    """Give one function's tree as text."""
    about = "" if found["exact"] else "about "
    lines = [f"{found['function']}  {about}{format_size(found['unzipped_bytes'])} unzipped"]
    lines += _lines(found["requires"], "")
    return "\n".join((*lines, *_unknown(found))) + "\n"


def _lines(nodes: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    for number, node in enumerate(nodes):
        last = number == len(nodes) - 1
        own, below = node["unzipped_bytes"], node["with_all_below_bytes"]
        more = f", {format_size(below)} with all below" if below != own and not node["again"] else ""
        name = f"{node['name']} {node['version']}".rstrip()
        yield f"{indent}{_LAST if last else _BRANCH}{name}  {format_size(own)}{more}{_AGAIN if node['again'] else ''}"
        yield from _lines(node["below"], indent + (_NOTHING if last else _PASSED))


def _unknown(found: Mapping[str, Any]) -> list[str]:
    names = found["unknown"]
    if not names:
        return []
    one = len(names) == 1
    them, verb = ("it", "requires") if one else ("them", "require")
    return [f"What {', '.join(names)} {verb} is not known: the cache has no wheel of {them}."]
