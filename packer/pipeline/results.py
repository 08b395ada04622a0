"""Writes down what was built: the report, what the limits say of it, and the state that the next build begins from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from builders.interpreters import VARIABLES as TOOL_VARIABLES
from builders.interpreters import search_folders
from packer.core.errors import LimitError
from packer.core.function_tree import part_sizes
from packer.core.model import Artifact, Function, PartSize
from packer.core.records import ArtifactRecord, FunctionRecord, ImageRecord
from packer.layers.assignment import MadeLayer
from packer.manifest.budget import function_measures, layer_budget, layer_measures, raise_over_limit, upload_warning
from packer.manifest.document import record_function
from packer.manifest.summary import summary_line
from packer.pipeline.gatherer import FunctionInputs, GatheredFunction
from packer.pipeline.state import Estimate, FunctionState, ImageState, LayeredState, variable_digests
from packer.verify.proof import Proof


class Built(Struct, frozen=True, kw_only=True):
    """A function that is up to date: ``staged`` is its new archive, or None where the one in the output folder still holds.

    ``layers`` are the new archives of its layers, by their paths below the output folder.
    """

    state: FunctionState
    staged: Path | None
    layers: Mapping[str, Path] = field(default_factory=dict)


class Result(Struct, frozen=True, kw_only=True):
    """What came of a function: its record, warnings, and a line that says what became of it.

    ``artifact`` and its ``shares`` are what limits are about. ``folders`` are the local projects that it is built from;
    ``lacking`` says that a tool was not there, and ``estimate`` is for a function that was not built.
    """

    report: FunctionRecord
    artifact: Artifact
    shares: tuple[PartSize, ...]
    warnings: tuple[str, ...]
    summary: str
    folders: tuple[str, ...]
    lacking: bool
    estimate: Estimate | None = None


def make_result(gathered: GatheredFunction, proof: Proof, layers: Sequence[MadeLayer], seconds: float) -> Result:
    """Return the result of a build; ``layers`` are those of the function, in order."""
    shaped, function, material = proof.candidate.shaped, gathered.function, gathered.material
    artifact = _make_artifact(function, proof)
    versions = {each.name: each.version for each in material.distributions}
    contributions = part_sizes(material.owner_names(), versions, shaped.tree)
    missing = (*shaped.missing, *proof.missing)
    return Result(
        report=record_function(
            function, gathered.lock, artifact, contributions, gathered.made, proof, layers, seconds, gathered.attached_bytes
        ),
        artifact=artifact,
        shares=contributions,
        warnings=(*gathered.warnings, *missing, *proof.warnings),
        summary=summary_line(function, proof, layers),
        folders=gathered.folders,
        lacking=bool(missing),
    )


def check_limits(function: Function, result: Result, layers: Sequence[MadeLayer]) -> tuple[str, ...]:
    """Check a function and its layers against the limits, and return warnings; raises `LimitError`."""
    warnings: list[str] = []
    for layer in layers:
        raise_over_limit(layer_measures(layer.name, layer.report, layer_budget(layer.name, function.layers)))
        warnings += upload_warning(f"The layer {layer.name}", layer.report.zip_bytes)
    raise_over_limit(function_measures(function.name, result.report, function.budget))
    return (*warnings, *upload_warning(function.name, result.artifact.zipped))


def find_exceeded_limits(function: Function, report: FunctionRecord) -> Iterator[LimitError]:
    """Return what a function that was built before is over by now, by its record: budgets may have changed."""
    measures = list(function_measures(function.name, report, function.budget))
    for name, layer in report.layers.items():
        measures += layer_measures(name, layer, layer_budget(name, function.layers))
    yield from (each.error() for each in measures if each.over)


def finish_image_result(function: Function, result: Result, image: ImageRecord, path: str, zipped: int) -> Result:
    """Return the result of a function that became an image, checked against its limits; raises `LimitError`."""
    found = make_image_result(result, image, path, zipped)
    raise_over_limit(function_measures(function.name, found.report, function.budget))
    return found


def make_image_result(result: Result, image: ImageRecord, path: str, zipped: int) -> Result:
    """Return the result of a function that is an image; ``image`` is its own part of the manifest.

    ``path`` is relative to the output folder, ``zipped`` the bytes of lpack's own layers.
    """
    artifact = replace(result.artifact, path=path, sha256=image.digest.removeprefix("sha256:"), zipped=zipped)
    record = ArtifactRecord(
        path=path,
        sha256=artifact.sha256,
        stored_bytes=zipped,
        unzipped_bytes=artifact.unzipped,
        files=artifact.files,
    )
    report = replace(result.report, format="image", artifact=record, image=image)
    return replace(result, artifact=artifact, report=report)


def make_state(
    result: Result,
    inputs: FunctionInputs,
    fingerprint: str,
    now: int,
    layered: LayeredState | None = None,
    image: ImageState | None = None,
) -> FunctionState:
    """Return what the next build has to know; ``now`` is the build's start in nanoseconds."""
    state = FunctionState(
        seen_at=now,
        fingerprint=fingerprint,
        watched=inputs.sign_watched(result.folders),
        variables=variable_digests(inputs.declaration.variables),
        artifact={},
        folders=result.folders,
        warnings=result.warnings,
        report=result.report,
        estimate=result.estimate,
        layered=layered,
        image=image,
    )
    if result.lacking:  # a step that was skipped for lack of a tool is done as soon as the tool may exist
        from builders.engine.presence import ENGINE_SOCKETS, ENGINE_VARIABLES

        state = state.rebuild_on_change((*search_folders(), *map(Path, ENGINE_SOCKETS)), (*TOOL_VARIABLES, *ENGINE_VARIABLES))
    return state


def _make_artifact(function: Function, proof: Proof) -> Artifact:
    tree, written = proof.candidate.shaped.tree, proof.candidate.written
    name = f"{function.name}.zip"
    return Artifact(path=name, sha256=written.sha256, zipped=written.length, unzipped=tree.size, files=len(tree))
