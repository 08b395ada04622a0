"""The loop: from a configuration to artifacts in the output folder. Everything else is a step that this calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from builders.engine import ENGINE_SOCKETS, ENGINE_VARIABLES
from builders.interpreters import VARIABLES as TOOL_VARIABLES
from builders.interpreters import search_folders
from packer.assemble import check_handler, shares
from packer.budget import check_limits
from packer.errors import LpackError, ManyErrors
from packer.gather import Gathered, Gatherer, Inputs, Tools
from packer.manifest import describe
from packer.material import Material
from packer.model import Artifact, Function, Tree
from packer.prove import Proof
from packer.state import FunctionState, variable_digests
from packer.summary import summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A function that is up to date: ``staged`` is its new archive, or None where the one in the output folder still holds."""

    state: FunctionState
    staged: Path | None


class Build:
    """Builds functions into a staging folder; ``out`` is the folder that the artifacts are meant for.

    ``started`` is the time of the build's start in nanoseconds.
    """

    def __init__(self, tools: Tools, staging: Path, out: Path, started: int) -> None:
        self._tools = tools
        self._staging = staging
        self._started = started
        self._gatherer = Gatherer(tools, out)

    def all(
        self, functions: Sequence[Function], previous: Callable[[str], FunctionState | None], executor: Executor
    ) -> dict[str, Built]:
        """Build every function; raises the one error, or `ManyErrors`, when all have ended."""
        futures = {function.name: executor.submit(self.one, function, previous(function.name)) for function in functions}
        errors: list[LpackError] = []
        built: dict[str, Built] = {}
        try:
            for name, future in futures.items():
                try:
                    built[name] = future.result()
                except LpackError as error:
                    errors.append(error)
        finally:
            for future in futures.values():
                future.cancel()  # has no effect unless the loop was interrupted
        if errors:
            raise errors[0] if len(errors) == 1 else ManyErrors(errors)
        return built

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
        proof = self._proved(gathered.material)
        return self._built(gathered, proof, inputs, fingerprint, time.perf_counter() - started)

    def _built(self, gathered: Gathered, proof: Proof, inputs: Inputs, fingerprint: str, seconds: float) -> Built:
        """Say what was built, and hold it against the limits; raises `packer.errors.LimitError`."""
        function, material, shaped = gathered.function, gathered.material, proof.candidate.shaped
        artifact = _artifact(function, proof)
        versions = {each.name: each.version for each in material.distributions}
        contributions = shares(material.owner_names(), versions, shaped.tree)
        missing = (*shaped.missing, *proof.missing)
        limits = check_limits(function, artifact, contributions)
        state = FunctionState(
            seen_at=self._started,
            fingerprint=fingerprint,
            watched=inputs.watched(gathered.folders),
            variables=variable_digests(inputs.declaration.variables),
            artifact={},
            folders=gathered.folders,
            warnings=(*gathered.warnings, *missing, *proof.warnings, *limits),
            report=describe(function, gathered.lock, artifact, contributions, gathered.made, proof, seconds),
        )
        told = summary(function, proof)
        if told:
            self._tools.reporter.note(f"{function.name}: {told}")
        self._tools.reporter.stage(function.name, "done")
        if missing:  # what was left undone for want of a tool is done as soon as there may be one
            state = state.until((*search_folders(), *map(Path, ENGINE_SOCKETS)), (*TOOL_VARIABLES, *ENGINE_VARIABLES))
        return Built(state=state, staged=proof.candidate.path)

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


def _artifact(function: Function, proof: Proof) -> Artifact:
    tree, written = proof.candidate.shaped.tree, proof.candidate.written
    name = f"{function.name}.zip"
    return Artifact(path=name, sha256=written.sha256, zipped=written.length, unzipped=tree.size, files=len(tree))
