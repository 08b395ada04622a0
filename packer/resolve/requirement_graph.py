"""Who requires what among a function's distributions, and what each costs: as the metadata of their wheels says it.

A worked example: a function requires ``web`` and ``tools``; ``web`` requires ``json`` and ``text``, and ``tools`` requires
``text``. Then ``json`` is there because of ``web -> json`` alone, and goes with it; ``text`` is there for two reasons, and
stays without ``web``. So ``web`` costs its own bytes, and with what only it needs those of ``json`` too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from builders.errors import LpackError
from builders.runtimes import Target
from packer import __version__
from packer.cache.derived_values import derive
from packer.cache.store import Store, digest_of
from packer.core.fingerprint import fingerprint
from packer.core.model import Function, Tree
from packer.core.names import PYPROJECT_FILE
from packer.formats.distribution_names import canonical_name
from packer.formats.metadata import parse_requirement, read_requires_dist, requirement_applies
from packer.formats.requirements_txt import read_requirements
from packer.source.dependency_files import PYPROJECT, REQUIREMENTS

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_KIND = "requirements"


class RequirementStep(Struct, frozen=True, kw_only=True):
    """One requirement of a chain: the normalized name, and the words that require it."""

    name: str
    words: str


class RequirementGraph(Struct, frozen=True, kw_only=True):
    """A function's distributions by who requires them.

    ``direct`` is what the function itself requires; ``edges`` has what each distribution requires; ``unknown`` are those whose
    metadata is not at hand. Names are normalized.
    """

    direct: tuple[RequirementStep, ...]
    edges: Mapping[str, tuple[RequirementStep, ...]]
    unknown: frozenset[str] = frozenset()

    def chains(self, name: str, most: int) -> list[tuple[RequirementStep, ...]]:
        """Return the shortest chain by way of each distribution that requires ``name``, the function itself first."""
        shortest = self._shortest()
        found: list[tuple[RequirementStep, ...]] = [(step,) for step in self.direct if step.name == name]
        for parent in sorted(self.edges, key=lambda each: (len(shortest.get(each, ())), each)):
            steps = [step for step in self.edges[parent] if step.name == name]
            if steps and parent in shortest and parent != name:
                found.append((*shortest[parent], steps[0]))
        return found[:most]

    def _shortest(self) -> dict[str, tuple[RequirementStep, ...]]:
        found: dict[str, tuple[RequirementStep, ...]] = {step.name: (step,) for step in reversed(self.direct)}
        waiting = deque(step.name for step in self.direct)
        while waiting:
            name = waiting.popleft()
            for step in self.edges.get(name, ()):
                if step.name not in found:
                    found[step.name] = (*found[name], step)
                    waiting.append(step.name)
        return found

    def below(self, name: str) -> frozenset[str]:
        """Return a distribution with all that it requires."""
        return self.reached((name,))

    def only_for(self, name: str) -> frozenset[str]:
        """Return a distribution with all that would go with it."""
        return frozenset(self.edges) - self.reached((step.name for step in self.direct if step.name != name), without=name)

    def reached(self, names: Iterable[str], without: str = "") -> frozenset[str]:
        """Return distributions with all that they require, as if ``without`` were not there."""
        waiting, seen = list(names), set[str]()
        while waiting:
            name = waiting.pop()
            if name not in seen and name != without:
                seen.add(name)
                waiting += [step.name for step in self.edges.get(name, ())]
        return frozenset(seen)


def read_requirement_graph(
    function: Function,
    trees: Mapping[str, Tree],
    read: Callable[[Tree], tuple[Requirement, ...] | None] = read_requires_dist,
) -> RequirementGraph:
    """Read who requires what; ``trees`` are the function's distributions by their normalized names.

    A distribution that nobody requires is taken to be asked for: a lock may say so in words of its own. ``read`` may
    remember what is in metadata.
    """
    told = {name: read(tree) for name, tree in trees.items()}
    requires = {name: each or () for name, each in told.items()}
    known = frozenset(trees)
    declared = filter(None, map(parse_requirement, declared_requirements(function)))
    direct = [each for each in declared if canonical_name(each.name) in known]
    asked = _asked_extras(direct, requires, function.target)
    edges = {name: tuple(_make_steps(requires[name], asked.get(name, frozenset()), function.target, known)) for name in trees}
    first = tuple(dict.fromkeys(_make_step(each) for each in direct))
    draft = RequirementGraph(direct=first, edges=edges)
    reached = draft.reached(step.name for step in first)
    wanted = {step.name for steps in edges.values() for step in steps}
    lonely = sorted(name for name in known - reached if name not in wanted) or sorted(known - reached)
    return RequirementGraph(
        direct=(*first, *(RequirementStep(name=name, words=name) for name in lonely)),
        edges=edges,
        unknown=frozenset(name for name, each in told.items() if each is None),
    )


class RequirementGraphs:
    """Reads the graphs of functions, each once for a store, as parsing metadata takes longer than the rest of a command."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, function: Function, wheels: Mapping[str, str], read: Callable[[], RequirementGraph]) -> RequirementGraph:
        """Return what `read_requirement_graph` does, by way of ``read`` where it is not known yet.

        ``wheels`` are the digests of the distributions' wheels by their normalized names; empty where metadata is not at hand.
        """
        key = digest_of("1", __version__, fingerprint(function.target, declared_requirements(function), wheels))
        return derive(self._store, _KIND, key, RequirementGraph, read)


def _asked_extras(
    direct: Sequence[Requirement], requires: Mapping[str, Sequence[Requirement]], target: Target
) -> dict[str, frozenset[str]]:
    """Return the extras that are asked for of each distribution, by anyone."""
    asked: dict[str, frozenset[str]] = {}
    waiting = [(canonical_name(each.name), frozenset(each.extras)) for each in direct]
    while waiting:
        name, extras = waiting.pop()
        before = asked.get(name)
        if before is not None and extras <= before:
            continue
        asked[name] = extras | (before or frozenset())
        applying = (each for each in requires.get(name, ()) if requirement_applies(each, asked[name], target))
        waiting += [(canonical_name(each.name), frozenset(each.extras)) for each in applying]
    return asked


def _make_steps(
    requires: Sequence[Requirement], extras: frozenset[str], target: Target, known: frozenset[str]
) -> Iterator[RequirementStep]:
    found: dict[str, RequirementStep] = {}
    for each in requires:
        name = canonical_name(each.name)
        if name in known and requirement_applies(each, extras, target):
            found.setdefault(name, _make_step(each))
    yield from (found[name] for name in sorted(found))


def _make_step(requirement: Requirement) -> RequirementStep:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return RequirementStep(name=canonical_name(requirement.name), words=f"{requirement.name}{extras}{requirement.specifier}")


def declared_requirements(function: Function) -> tuple[str, ...]:
    """Return what a function's own files require, as far as they say it by names; some may not be valid (PEP 508)."""
    requirements = function.requirements
    if requirements is None:
        return ()
    if requirements.kind == REQUIREMENTS:
        try:
            lines = read_requirements(requirements.path).lines
        except LpackError:
            return ()
        return tuple(line.text.partition(" --")[0] for line in lines if line.name and not line.is_constraint)
    from packer.locks.declared import list_project_requirements, read_project_document

    own = requirements.path if requirements.kind == PYPROJECT else None
    for path in dict.fromkeys((own, function.source / PYPROJECT_FILE)):
        if path is not None and path.is_file():
            document = read_project_document(path)
            return tuple(list_project_requirements(document, requirements.extras, requirements.groups))
    return ()
