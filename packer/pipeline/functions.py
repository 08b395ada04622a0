"""Builds functions into a staging folder: those that could share a layer together, group by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from builders.runtimes import Target
from packer.cache.signatures import are_unchanged
from packer.core.errors import raise_any
from packer.core.events import Reporter
from packer.core.model import Function
from packer.layers.assignment import unused_everywhere
from packer.pipeline.gatherer import Gatherer, Sources, Tools, make_gatherer
from packer.pipeline.layer_maker import Folders, LayerMaker, Source
from packer.pipeline.local_work import LocalWork, Work
from packer.pipeline.preparation import Order, Preparation
from packer.pipeline.results import Built, find_exceeded_limits
from packer.pipeline.state import ALWAYS, FunctionState
from packer.pipeline.zip_groups import ArtifactPurpose, GroupPlan, ZipGroup, scan_members

if TYPE_CHECKING:
    from packer.pipeline.image_groups import ImageGroup


def group_compatible(functions: Sequence[Function]) -> list[list[Function]]:
    """Return the functions in groups that could share a layer."""
    groups: dict[tuple[Target, str, int, str], list[Function]] = {}
    for function in functions:
        base = f"{function.base_name} {function.image.root}" if function.image.wanted else ""
        how = (function.target, function.bytecode.mode, function.bytecode.optimize, base)
        groups.setdefault(how, []).append(function)
    return list(groups.values())


class Selection(Struct, frozen=True, kw_only=True):
    """The functions that are asked for, of ``everything`` that the project has: layers are planned for all together.

    ``previous`` gives what is remembered of a function by its name.
    """

    functions: Sequence[Function]
    everything: Sequence[Function]
    previous: Callable[[str], FunctionState | None]

    def groups(self, takes_part: Callable[[Function], bool]) -> Iterator[tuple[list[Function], frozenset[str]]]:
        """Return the functions that could share a layer with one that is asked for, and the names of those asked for.

        ``takes_part`` says of the other functions whether they count.
        """
        chosen = frozenset(function.name for function in self.functions)
        for group in group_compatible([each for each in self.everything if each.name in chosen or takes_part(each)]):
            names = frozenset(function.name for function in group if function.name in chosen)
            if names:
                yield group, names


class WorkElsewhere(Protocol):
    """Where the work on functions can be done, if not here."""

    def work(self, orders: Sequence[Order], sources: Sources, here: LocalWork, staging: Path) -> Work:
        """Return what does the work on functions that are compiled alike; ``staging`` is where their artifacts belong."""
        ...


class FunctionBuilder:
    """Builds functions into a staging folder; ``folders.out`` is the folder that the artifacts are meant for.

    ``started`` is the time of the build's start in nanoseconds. The work is done ``elsewhere`` where that is given.
    """

    def __init__(
        self, tools: Tools, reporter: Reporter, folders: Folders, started: int, elsewhere: WorkElsewhere | None = None
    ) -> None:
        self._tools = tools
        self._reporter = reporter
        self._folders = folders
        self._started = started
        self._elsewhere = elsewhere
        self.warnings: tuple[str, ...] = ()
        """What `build` has found wrong with the project as a whole."""
        self._gatherer = make_gatherer(tools, reporter, folders.out)

    def build(self, selection: Selection, executor: Executor) -> dict[str, Built]:
        """Build functions; raises the one error, or `ManyErrors`, when all have ended."""
        self._reporter.expect(len({function.name for function in selection.functions}))
        built: dict[str, Built] = {}
        unused: list[Mapping[str, str]] = []
        for alike, names in selection.groups(lambda each: each.layers.wanted or each.image.wanted):
            group = self._make_group(alike, names, selection, executor)
            built |= group.build(executor)
            unused.append(group.unused)
        held = [found for each in selection.functions for found in find_exceeded_limits(each, built[each.name].state.report)]
        raise_any(held)  # of what was built before: all others were checked before they were written
        self.warnings = unused_everywhere(unused)
        return {function.name: built[function.name] for function in selection.functions}

    def plan(self, selection: Selection, executor: Executor) -> list[GroupPlan]:
        """Plan the layers of functions, and build nothing; raises the one error, or `ManyErrors`."""
        found = selection.groups(lambda each: each.layers.wanted)
        groups = (self._make_group(alike, names, selection, executor) for alike, names in found)
        return [group.plan(executor) for group in groups if isinstance(group, ZipGroup)]

    def _make_group(
        self, functions: Sequence[Function], chosen: frozenset[str], selection: Selection, executor: Executor
    ) -> ZipGroup | ImageGroup:
        states = {function.name: selection.previous(function.name) for function in functions}
        looked = scan_members(functions, chosen, self._gatherer, states.get, executor, self._reporter)
        members = tuple(looked.values())
        written = {path: each for state in states.values() if state for path, each in state.artifact.items()}

        def is_placed(path: str) -> bool:
            full = str(self._folders.out / path)
            return full in written and are_unchanged([(full, written[full])], ALWAYS)

        orders = [Order(function=member.function, scan=member.scan) for member in members]
        preparation = make_preparation(orders, self._tools, self._gatherer)
        here = make_local_work(functions[0], preparation, preparation, self._tools, self._gatherer, self._folders, is_placed)
        if functions[0].image.wanted:  # here, even where a cluster does the rest: what it would send is the image itself
            from packer.pipeline.image_groups import ImageGroup
            from packer.verify.image_start import ImageTrier

            trier = ImageTrier(self._tools.sources.store, self._reporter)
            imaging, zipped = self._tools.imaging, self._tools.shaping.shaper.placer.zipped
            client = self._gatherer.obtain_client
            how = (imaging, trier, client, zipped)
            return ImageGroup(members, chosen, here, *how, self._reporter, self._folders, self._started)
        sources = self._tools.sources
        work = self._elsewhere.work(orders, sources, here, self._folders.staging) if self._elsewhere else here
        return ZipGroup(
            members, chosen, work, here.maker.compilation, here.maker.is_known, self._reporter, self._started, ArtifactPurpose()
        )


def make_preparation(orders: Sequence[Order], tools: Tools, gatherer: Gatherer) -> Preparation:
    """Return what prepares functions of one target that are compiled alike."""
    return Preparation(orders, gatherer, tools.shaping.shaper, tools.shaping.prover, tools.shaping.native)


def make_local_work(
    function: Function,
    preparation: Preparation,
    source: Source,
    tools: Tools,
    gatherer: Gatherer,
    folders: Folders,
    is_placed: Callable[[str], bool],
) -> LocalWork:
    """Return what does the work on this machine, on functions that are compiled as ``function`` is.

    Layers are made from ``source``; ``is_placed`` says whether a path below the output folder still holds what lpack wrote
    there.
    """
    shaping, store = tools.shaping, tools.sources.store
    maker = LayerMaker(source, shaping, store, gatherer.tree, folders, function.target, function.bytecode, is_placed)
    return LocalWork(preparation, maker, shaping.shaper, shaping.prover, gatherer.surroundings, folders.staging)
