"""The manifest, lpack.json: what was built from what. Its form is published as schemas/manifest-1.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builders.runtimes import Architecture
from packer import __version__
from packer.core.records import (
    ArtifactRecord,
    BuildManifest,
    BytecodeRecord,
    DistributionRecord,
    FunctionRecord,
    FunctionRecords,
    KeptFiles,
    LayerRecord,
    ManifestFunction,
    ManifestLayer,
    ProofRecord,
    RemovedFiles,
    SizeRecord,
    TrimRecord,
    WheelBuildRecord,
    json_text,
)

if TYPE_CHECKING:
    from packer.core.model import Artifact, Distribution, Function, Lock, PartSize
    from packer.layers.assignment import MadeLayer
    from packer.verify.proof import Proof
    from packer.wheels.provider import ProvidedWheel


def record_function(
    function: Function,
    lock: Lock,
    artifact: Artifact,
    parts: Sequence[PartSize],
    obtained: Sequence[ProvidedWheel],
    proof: Proof,
    layers: Sequence[MadeLayer],
    seconds: float,
    attached_bytes: int = 0,
) -> FunctionRecord:
    """Return the record of a function; sizes are bytes, ``layers`` are its own in order.

    ``attached_bytes`` are of attached layers, as far as that is known.
    """
    from packer.core.model import OWN_SOURCE

    sizes = {part.name: part for part in parts}
    places = {digest: layer.name for layer in layers for digest in layer.pieces}
    return FunctionRecord(
        runtime=function.target.runtime.name,
        architecture=function.target.architecture,
        handler=function.handler,
        format="zip",
        artifact=_artifact(artifact),
        lock=lock.origin,
        source=_size(sizes.get(OWN_SOURCE)),
        distributions=tuple(
            record_distribution(
                made.distribution,
                sizes.get(made.distribution.name),
                layer=places.get(made.distribution.digest, ""),
                built=made.record,
            )
            for made in obtained
        ),
        attached=tuple(each.arn for each in function.layers.attached),
        layers={layer.name: layer.report for layer in layers},
        attached_bytes=attached_bytes,
        trim=_trim(function, proof, layers),
        bytecode=_bytecode(proof),
        verified=_proof(proof),
        seconds=round(seconds, 3),
    )


def record_distribution(
    distribution: Distribution, part: PartSize | None, layer: str = "", built: WheelBuildRecord | None = None
) -> DistributionRecord:
    """Return the record of a distribution, with what it adds to an artifact."""
    size = _size(part)
    return DistributionRecord(
        name=distribution.name,
        version=distribution.version,
        wheel=distribution.filename,
        sha256=distribution.digest,
        files=size.files,
        unzipped_bytes=size.unzipped_bytes,
        layer=layer,
        built=built,
    )


def _artifact(artifact: Artifact) -> ArtifactRecord:
    return ArtifactRecord(
        path=artifact.path,
        sha256=artifact.sha256,
        zip_bytes=artifact.zipped,
        unzipped_bytes=artifact.unzipped,
        files=artifact.files,
    )


def _proof(proof: Proof) -> ProofRecord:
    return ProofRecord(
        level=proof.level,
        by=proof.place,
        milliseconds=round(proof.milliseconds, 1) if proof.place else None,
        events=proof.events or None,
        raised=proof.raised if proof.events else None,
        unconfined=proof.unconfined,
        not_verified=proof.unverified,
    )


def _trim(function: Function, proof: Proof, layers: Sequence[MadeLayer]) -> TrimRecord:
    """Return what is gone of what no layer holds, by rule and distribution, and what was kept in spite of a rule.

    What is gone of what ``layers`` hold is one number: they say themselves what it is.
    """
    gone: dict[tuple[str, str], list[int]] = {}
    for unit, size in proof.candidate.shaped.gone_inside():
        gone.setdefault(unit, []).append(size)
    return TrimRecord(
        level=function.trim.level,
        removed_bytes=sum(map(sum, gone.values())),
        removed=tuple(
            RemovedFiles(rule=rule, distribution=owner, files=len(sizes), bytes=sum(sizes))
            for (rule, owner), sizes in sorted(gone.items())
        ),
        kept=tuple(KeptFiles(rule=rule, distribution=owner) for rule, owner in proof.kept),
        removed_from_layers_bytes=sum(each.bytes for layer in layers for each in layer.report.removed),
    )


def _bytecode(proof: Proof) -> BytecodeRecord:
    found = proof.candidate.shaped.bytecode
    if found.mode == "off":
        return BytecodeRecord(mode="off")
    return BytecodeRecord(
        mode=found.mode,
        why=found.why,
        python=found.python,
        files=found.files,
        bytes=found.size,
        not_compiled=tuple(found.failed),
        starts=tuple(found.starts),
    )


def _size(part: PartSize | None) -> SizeRecord:
    return SizeRecord(files=part.files, unzipped_bytes=part.unzipped) if part else SizeRecord(files=0, unzipped_bytes=0)


def make_manifest(functions: FunctionRecords, template: str = "") -> BuildManifest:
    """Return the manifest of functions; ``template`` is the path of the SAM template that was written with it.

    A layer stands in it once, with all its users, and with every runtime and architecture that they have.
    """
    users: dict[str, list[str]] = {}
    for name in sorted(functions):
        for layer in functions[name].layers:
            users.setdefault(layer, []).append(name)
    return BuildManifest(
        schema_version=1,
        lpack=__version__,
        layers={layer: _shared_layer(layer, users[layer], functions) for layer in sorted(users)},
        functions={name: _manifest_function(functions[name]) for name in sorted(functions)},
        template=template,
    )


def _shared_layer(layer: str, users: Sequence[str], functions: FunctionRecords) -> ManifestLayer:
    runtimes: set[str] = {functions[user].runtime for user in users}
    architectures: set[Architecture] = {functions[user].architecture for user in users}
    held = functions[users[0]].layers[layer]
    return ManifestLayer(
        **{field: getattr(held, field) for field in LayerRecord.__struct_fields__},
        functions=tuple(users),
        runtimes=tuple(sorted(runtimes, key=_length_and_name)),
        architectures=tuple(sorted(architectures, key=_length_and_name)),
    )


def _length_and_name(word: str) -> tuple[int, str]:
    """Sort python3.9 before python3.10."""
    return len(word), word


def _manifest_function(function: FunctionRecord) -> ManifestFunction:
    """Return a function with no more than the names of its layers, in order: attached ones first."""
    shared = {field: getattr(function, field) for field in ManifestFunction.__struct_fields__}
    return ManifestFunction(**{**shared, "layers": (*function.attached, *function.layers)})


def manifest_text(manifest: BuildManifest) -> str:
    """Return the manifest as it stands in lpack.json."""
    return json_text(manifest)
