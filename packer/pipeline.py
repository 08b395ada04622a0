"""The loop: from a configuration to artifacts in the output folder. Everything else is a step that this calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

from builders.runtimes import Target
from packer.assemble import check_handler
from packer.gather import Gatherer, Tools
from packer.layered import Group, Member, Place, Planned, gathered_results
from packer.material import Material
from packer.model import Function, Tree
from packer.prove import Proof
from packer.record import Built, Work, record
from packer.state import ALWAYS, FunctionState
from packer.watch import unchanged


class Build:
    """Builds functions into a staging folder; ``out`` is the folder that the artifacts are meant for.

    ``started`` is the time of the build's start in nanoseconds.
    """

    def __init__(self, tools: Tools, staging: Path, out: Path, started: int) -> None:
        self._out = out
        self._tools = tools
        self._staging = staging
        self._started = started
        self._gatherer = Gatherer(tools, out)

    def all(
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
        apart = [function for function in functions if not function.layers.wanted]
        built = gathered_results(
            {function.name: executor.submit(self.one, function, previous(function.name)) for function in apart}
        )
        for group in self._groups(everything, chosen, previous, executor):
            built |= group.build(executor)
        return {function.name: built[function.name] for function in functions}

    def plan(
        self, everything: Sequence[Function], previous: Callable[[str], FunctionState | None], executor: Executor
    ) -> list[Planned]:
        """Plan the layers of all functions, and build nothing; raises the one error, or `ManyErrors`."""
        names = frozenset(function.name for function in everything)
        return [group.plan(executor) for group in self._groups(everything, names, previous, executor)]

    def _groups(
        self,
        everything: Sequence[Function],
        chosen: frozenset[str],
        previous: Callable[[str], FunctionState | None],
        executor: Executor,
    ) -> Iterator[Group]:
        """Give the functions that could share a layer with one that is to be built, together."""
        groups: dict[tuple[Target, str, int], list[Function]] = {}
        for function in everything:
            if function.layers.wanted:
                like = (function.target, function.bytecode.mode, function.bytecode.optimize)
                groups.setdefault(like, []).append(function)
        for group in groups.values():
            if any(function.name in chosen for function in group):
                yield self._group(group, chosen, previous, executor)

    def _group(
        self,
        functions: Sequence[Function],
        chosen: frozenset[str],
        previous: Callable[[str], FunctionState | None],
        executor: Executor,
    ) -> Group:
        states = {function.name: previous(function.name) for function in functions}
        members = gathered_results(
            {
                name: executor.submit(self._member, function, states[name])
                for name, function in zip(states, functions, strict=True)
            }
        )
        written = {path: each for state in states.values() if state for path, each in state.artifact.items()}

        def placed(path: str) -> bool:
            full = str(self._out / path)
            return full in written and unchanged([(full, written[full])], ALWAYS)

        place = Place(staging=self._staging, out=self._out, now=self._started)
        return Group(tuple(members.values()), chosen, (self._tools, self._gatherer), place, placed)

    def _member(self, function: Function, previous: FunctionState | None) -> Member:
        return Member(function, self._tools, self._gatherer, previous)

    def one(self, function: Function, previous: FunctionState | None) -> Built:
        """Build one function, unless what decides its bytes is what it was; raises `LpackError`."""
        started = time.perf_counter()
        tools = self._tools
        scan = self._gatherer.scan(function)
        # Taken before anything is built: what is edited meanwhile differs from it, and the next build sees that.
        inputs = self._gatherer.inputs(function, scan)
        if previous is not None and previous.is_written() and previous.fingerprint == inputs.fingerprint(previous.folders):
            tools.reporter.stage(function.name, "unchanged")
            return Built(state=inputs.seen_again(previous, self._started), staged=None)
        gathered = self._gatherer.gather(function, scan)
        fingerprint = inputs.fingerprint(gathered.folders)
        work = Work(gathered=gathered, inputs=inputs, fingerprint=fingerprint, started=started)
        return record(work, self._proved(gathered.material), tools.reporter, self._started)

    def material(self, function: Function) -> Material:
        """Give all that a function is made of, before anything is removed; raises `LpackError`."""
        return self._gatherer.material(function)

    def carried(self, material: Material) -> Tree:
        """Give what the function leaves to the runtime, in the versions of its lock; raises `LpackError`."""
        return self._gatherer.carried(material)

    def _proved(self, material: Material) -> Proof:
        """Shape, write and prove a function; raises `LpackError`."""
        function, prover = material.function, self._tools.prover
        candidate = prover.shape(material, self._staging / f"{function.name}.zip")
        check_handler(function, candidate.shaped.tree)
        return prover.prove(material, candidate, lambda: self.carried(material))
