"""Builds functions into a staging folder: those that could share a layer together, group by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from builders.runtimes import Target
from packer.cache.signatures import are_unchanged
from packer.core.errors import ManyErrors
from packer.core.model import Function, Tree
from packer.images.builder import base_name
from packer.layers.assignment import unused_everywhere
from packer.pipeline.gatherer import Gatherer, Tools
from packer.pipeline.image_groups import ImageGroup
from packer.pipeline.layer_maker import LayerMaker
from packer.pipeline.local_work import Order, Work, Workshop
from packer.pipeline.results import Built, over_limits
from packer.pipeline.state import ALWAYS, FunctionState
from packer.pipeline.zip_groups import Group, Planned, look_at
from packer.trim.material import Material


def alike(functions: Sequence[Function]) -> list[list[Function]]:
    """Give the functions that could share a layer, together."""
    groups: dict[tuple[Target, str, int, str], list[Function]] = {}
    for function in functions:
        base = f"{base_name(function)} {function.image.root}" if function.image.wanted else ""
        how = (function.target, function.bytecode.mode, function.bytecode.optimize, base)
        groups.setdefault(how, []).append(function)
    return list(groups.values())


class WorkElsewhere(Protocol):
    """Where the work on functions can be done, if not here."""

    def work(self, orders: Sequence[Order], tools: Tools, here: Workshop, staging: Path) -> Work:
        """Return what does the work on functions that are compiled alike; ``staging`` is where their artifacts belong."""
        ...


class FunctionBuilder:
    """Builds functions into a staging folder; ``out`` is the folder that the artifacts are meant for.

    ``started`` is the time of the build's start in nanoseconds. A ``cluster`` does the work, where there is one.
    """

    def __init__(self, tools: Tools, staging: Path, out: Path, started: int, cluster: WorkElsewhere | None = None) -> None:
        self._out = out
        self._tools = tools
        self._staging = staging
        self._started = started
        self._cluster = cluster
        self.warnings: tuple[str, ...] = ()
        """What `build` has found wrong with the project as a whole."""
        self._gatherer = Gatherer(tools, out)

    def build(
        self,
        functions: Sequence[Function],
        everything: Sequence[Function],
        previous: Callable[[str], FunctionState | None],
        executor: Executor,
    ) -> dict[str, Built]:
        """Build functions; raises the one error, or `ManyErrors`, when all have ended.

        ``everything`` are all that the project has: layers are planned for them together.
        """
        chosen = frozenset(function.name for function in functions)
        taking_part = [
            function for function in everything if function.layers.wanted or function.image.wanted or function.name in chosen
        ]
        self._tools.reporter.expect(len(chosen))
        built: dict[str, Built] = {}
        unused: list[Mapping[str, str]] = []
        for group in self._groups(taking_part, chosen, previous, executor):
            built |= group.build(executor)
            unused.append(group.unused)
        held = [found for each in functions for found in over_limits(each, built[each.name].state.report)]
        if held:  # by what was built before: the rest was held against its limits before it was written
            raise held[0] if len(held) == 1 else ManyErrors(held)
        self.warnings = unused_everywhere(unused)
        return {function.name: built[function.name] for function in functions}

    def plan(
        self, everything: Sequence[Function], previous: Callable[[str], FunctionState | None], executor: Executor
    ) -> list[Planned]:
        """Plan the layers of all functions, and build nothing; raises the one error, or `ManyErrors`."""
        wanted = [function for function in everything if function.layers.wanted]
        names = frozenset(function.name for function in wanted)
        groups = self._groups(wanted, names, previous, executor)
        return [group.plan(executor) for group in groups if isinstance(group, Group)]

    def _groups(
        self,
        functions: Sequence[Function],
        chosen: frozenset[str],
        previous: Callable[[str], FunctionState | None],
        executor: Executor,
    ) -> Iterator[Group | ImageGroup]:
        """Give the functions that could share a layer with one that is to be built, together."""
        for group in alike(functions):
            names = chosen.intersection(function.name for function in group)
            if names:
                yield self._group(group, names, previous, executor)

    def _group(
        self,
        functions: Sequence[Function],
        chosen: frozenset[str],
        previous: Callable[[str], FunctionState | None],
        executor: Executor,
    ) -> Group | ImageGroup:
        states = {function.name: previous(function.name) for function in functions}
        looked = look_at(functions, chosen, self._gatherer, states.get, executor, self._tools.reporter)
        members = tuple(looked.values())
        written = {path: each for state in states.values() if state for path, each in state.artifact.items()}

        def placed(path: str) -> bool:
            full = str(self._out / path)
            return full in written and are_unchanged([(full, written[full])], ALWAYS)

        parts, folders = (self._tools, self._gatherer), (self._staging, self._out)
        like = (functions[0].target, functions[0].bytecode)
        orders = [Order(function=member.function, scan=member.scan) for member in members]
        here = Workshop(orders, parts, self._staging, lambda source: LayerMaker(parts, source, folders, like, placed))
        if functions[0].image.wanted:  # here, even where a cluster does the rest: what it would send is the image itself
            return ImageGroup(members, chosen, parts, here, folders, self._started)
        work = self._cluster.work(orders, self._tools, here, self._staging) if self._cluster else here
        return Group(members, chosen, self._tools, work, self._started)

    def material(self, function: Function) -> Material:
        """Give all that a function is made of, before anything is removed; raises `LpackError`."""
        return self._gatherer.material(function)

    def carried(self, material: Material) -> Tree:
        """Give what the function leaves to the runtime, in the versions of its lock; raises `LpackError`."""
        return self._gatherer.carried(material)
