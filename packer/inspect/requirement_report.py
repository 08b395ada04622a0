"""Describes who requires what, and the bytes of it: for `lpack why` and `lpack tree`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from packer.core.errors import UsageError
from packer.core.records import Bytes, FunctionRecord
from packer.core.units import format_size
from packer.resolve.requirement_graph import RequirementGraph

_CHAINS = 12
_BRANCH, _LAST, _PASSED, _NOTHING = "├── ", "└── ", "│   ", "    "
_AGAIN = " (again)"


class ChainStep(Struct, frozen=True, kw_only=True):
    """A distribution in a chain of requirements, and the words of the requirement that brings it in."""

    name: str
    requires: str


class WhyDocument(Struct, frozen=True, kw_only=True):
    """What `lpack why --json` prints; sizes are bytes."""

    schema_version: Literal[1] = 1
    function: str
    name: str
    version: str
    chains: tuple[tuple[ChainStep, ...], ...]
    unzipped_bytes: Bytes
    only_for_it: tuple[str, ...]
    with_only_for_it_bytes: Bytes
    function_bytes: Bytes
    exact: bool
    unknown: tuple[str, ...]


class RequirementNode(Struct, frozen=True, kw_only=True):
    """A distribution in a tree of requirements, and the words of the requirement that brings it in."""

    name: str
    version: str
    requires: str
    unzipped_bytes: Bytes
    with_all_below_bytes: Bytes
    again: Annotated[bool, Meta(description="It stands further up, with what is below it.")]
    below: tuple[RequirementNode, ...]


class RequirementTree(Struct, frozen=True, kw_only=True):
    """All that a function requires; sizes are bytes."""

    function: str
    unzipped_bytes: Bytes
    exact: bool
    unknown: Annotated[tuple[str, ...], Meta(description="Distributions whose metadata is not at hand.")]
    requires: tuple[RequirementNode, ...]


class TreeDocument(Struct, frozen=True, kw_only=True):
    """What `lpack tree --json` prints."""

    schema_version: Literal[1] = 1
    functions: Mapping[str, RequirementTree]


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
    def of(cls, function: str, needs: RequirementGraph, report: FunctionRecord, *, exact: bool) -> Costs:
        """Return the costs of a function that was looked at (`packer.inspect.appraisal`)."""
        placed = {each.name: each for layer in report.layers.values() for each in layer.distributions}
        return cls(
            function=function,
            needs=needs,
            versions={each.name: each.version for each in report.distributions},
            sizes={each.name: placed.get(each.name, each).unzipped_bytes for each in report.distributions},
            whole=report.unpacked_with_layers,
            exact=exact,
        )

    def size(self, names: Sequence[str] | frozenset[str]) -> int:
        """Return the bytes of distributions."""
        return sum(self.sizes.get(name, 0) for name in names)

    def why(self, name: str) -> WhyDocument:
        """Return why a distribution is there, and what it costs; raises `UsageError` where the function does not have it."""
        if name not in self.versions:
            import difflib

            near = difflib.get_close_matches(name, self.versions, n=3)
            meant = f"Did you mean {' or '.join(near)}?" if near else f"`lpack tree {self.function}` has all that it needs."
            raise UsageError(f"{self.function} has no distribution {name!r}.", remedy=meant)
        only = self.needs.only_for(name)
        chains = self.needs.chains(name, _CHAINS)
        return WhyDocument(
            function=self.function,
            name=name,
            version=self.versions[name],
            chains=tuple(tuple(ChainStep(name=step.name, requires=step.words) for step in chain) for chain in chains),
            unzipped_bytes=self.sizes.get(name, 0),
            only_for_it=tuple(sorted(only - {name})),
            with_only_for_it_bytes=self.size(only),
            function_bytes=self.whole,
            exact=self.exact,
            unknown=tuple(sorted(self.needs.unknown)),
        )

    def tree(self) -> RequirementTree:
        """Return all distributions below what the function requires; one that was there before is not followed again."""
        seen: set[str] = set()
        return RequirementTree(
            function=self.function,
            unzipped_bytes=self.whole,
            exact=self.exact,
            unknown=tuple(sorted(self.needs.unknown)),
            requires=tuple(self._node(step.name, step.words, seen) for step in self.needs.direct),
        )

    def _node(self, name: str, words: str, seen: set[str]) -> RequirementNode:
        again = name in seen
        seen.add(name)
        below = () if again else self.needs.edges.get(name, ())
        return RequirementNode(
            name=name,
            version=self.versions.get(name, ""),
            requires=words,
            unzipped_bytes=self.sizes.get(name, 0),
            with_all_below_bytes=self.size(self.needs.below(name)),
            again=again,
            below=tuple(self._node(step.name, step.words, seen) for step in below),
        )


def why_text(found: WhyDocument) -> str:
    """Return the answer to `lpack why` as text."""
    lines = [f"{found.name} {found.version} is in {found.function}:"]
    lines += ["  " + " -> ".join(step.requires for step in chain) for chain in found.chains]
    about = "" if found.exact else "about "
    lines.append(f"It takes {about}{format_size(found.unzipped_bytes)} of {format_size(found.function_bytes)} unzipped.")
    if found.only_for_it:
        what = format_size(found.with_only_for_it_bytes)
        lines.append(f"With what only it needs ({', '.join(found.only_for_it)}) that is {about}{what}.")
    return "\n".join((*lines, *_unknown_lines(found.unknown))) + "\n"


def tree_text(found: RequirementTree) -> str:
    """Return one function's tree as text."""
    about = "" if found.exact else "about "
    lines = [f"{found.function}  {about}{format_size(found.unzipped_bytes)} unzipped"]
    lines += _node_lines(found.requires, "")
    return "\n".join((*lines, *_unknown_lines(found.unknown))) + "\n"


def _node_lines(nodes: Sequence[RequirementNode], indent: str) -> Iterator[str]:
    for number, node in enumerate(nodes):
        last = number == len(nodes) - 1
        own, below = node.unzipped_bytes, node.with_all_below_bytes
        more = f", {format_size(below)} with all below" if below != own and not node.again else ""
        name = f"{node.name} {node.version}".rstrip()
        yield f"{indent}{_LAST if last else _BRANCH}{name}  {format_size(own)}{more}{_AGAIN if node.again else ''}"
        yield from _node_lines(node.below, indent + (_NOTHING if last else _PASSED))


def _unknown_lines(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    one = len(names) == 1
    them, verb = ("it", "requires") if one else ("them", "require")
    return [f"What {', '.join(names)} {verb} is not known: the cache has no wheel of {them}."]
