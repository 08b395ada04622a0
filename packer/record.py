"""Writes down what was built: the state that the next build begins from, the report, and what the limits say of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builders.engine import ENGINE_SOCKETS, ENGINE_VARIABLES
from builders.interpreters import VARIABLES as TOOL_VARIABLES
from builders.interpreters import search_folders
from packer.assemble import shares
from packer.budget import check_limits
from packer.gather import Gathered, Inputs
from packer.layering import MadeLayer
from packer.manifest import describe
from packer.model import Artifact, Function
from packer.ports import Reporter
from packer.prove import Proof
from packer.state import FunctionState, LayeredState, variable_digests
from packer.summary import summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A function that is up to date: ``staged`` is its new archive, or None where the one in the output folder still holds.

    ``layers`` are the new archives of its layers, by their paths below the output folder.
    """

    state: FunctionState
    staged: Path | None
    layers: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A function at work: what it is made of, what decides that, and since when (`time.perf_counter`)."""

    gathered: Gathered
    inputs: Inputs
    fingerprint: str
    started: float


def record(
    work: Work,
    proof: Proof,
    reporter: Reporter,
    now: int,
    layers: tuple[MadeLayer, ...] = (),
    layered: LayeredState | None = None,
) -> Built:
    """Say what was built, and hold it against the limits; ``now`` is the build's start in nanoseconds.

    ``layers`` are those of the function, in order. Raises `packer.errors.LimitError`.
    """
    gathered, shaped = work.gathered, proof.candidate.shaped
    function, material = gathered.function, gathered.material
    artifact = _artifact(function, proof)
    versions = {each.name: each.version for each in material.distributions}
    contributions = shares(material.owner_names(), versions, shaped.tree)
    missing = (*shaped.missing, *proof.missing)
    held = {layer.name: int(layer.report["unzipped_bytes"]) for layer in layers}
    limits = check_limits(function, artifact, contributions, held)
    seconds = time.perf_counter() - work.started
    state = FunctionState(
        seen_at=now,
        fingerprint=work.fingerprint,
        watched=work.inputs.watched(gathered.folders),
        variables=variable_digests(work.inputs.declaration.variables),
        artifact={},
        folders=gathered.folders,
        warnings=(*gathered.warnings, *missing, *proof.warnings, *limits),
        report=describe(function, gathered.lock, artifact, contributions, gathered.made, proof, layers, seconds),
        layered=layered,
    )
    told = summary(function, proof)
    if told:
        reporter.note(f"{function.name}: {told}")
    reporter.stage(function.name, "done")
    if missing:  # what was left undone for want of a tool is done as soon as there may be one
        state = state.until((*search_folders(), *map(Path, ENGINE_SOCKETS)), (*TOOL_VARIABLES, *ENGINE_VARIABLES))
    staged = {layer.report["path"]: layer.staged for layer in layers if layer.staged is not None}
    return Built(state=state, staged=proof.candidate.path, layers=staged)


def _artifact(function: Function, proof: Proof) -> Artifact:
    tree, written = proof.candidate.shaped.tree, proof.candidate.written
    name = f"{function.name}.zip"
    return Artifact(path=name, sha256=written.sha256, zipped=written.length, unzipped=tree.size, files=len(tree))
