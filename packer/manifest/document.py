"""The manifest, lpack.json: what was built from what. Its form is published as schemas/manifest-1.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from packer import __version__
from packer.core.schemas import schema_text

if TYPE_CHECKING:
    from packer.core.model import Artifact, Distribution, Function, Lock, PartSize
    from packer.layers.assignment import MadeLayer
    from packer.verify.proof import Proof
    from packer.wheels.provider import ProvidedWheel

SCHEMA_VERSION = 1


def describe(
    function: Function,
    lock: Lock,
    artifact: Artifact,
    parts: Sequence[PartSize],
    obtained: Sequence[ProvidedWheel],
    proof: Proof,
    layers: Sequence[MadeLayer],
    seconds: float,
) -> dict[str, Any]:
    """Give a function's part of the manifest; sizes are bytes, ``layers`` are its own in order."""
    from packer.core.model import OWN_SOURCE

    sizes = {part.name: part for part in parts}
    places = {digest: layer.name for layer in layers for digest in layer.pieces}
    return {
        "runtime": function.target.runtime.name,
        "architecture": function.target.architecture,
        "handler": function.handler,
        "format": "zip",
        "artifact": {
            "path": artifact.path,
            "sha256": artifact.sha256,
            "zip_bytes": artifact.zipped,
            "unzipped_bytes": artifact.unzipped,
            "files": artifact.files,
        },
        "lock": lock.origin,
        "source": _size(sizes.get(OWN_SOURCE)),
        "distributions": [
            {
                **describe_distribution(made.distribution, sizes.get(made.distribution.name)),
                **({"layer": places[made.distribution.digest]} if made.distribution.digest in places else {}),
                **({"built": dict(made.record)} if made.record else {}),
            }
            for made in obtained
        ],
        **({"attached": [each.arn for each in function.layers.attached]} if function.layers.attached else {}),
        **({"layers": {layer.name: dict(layer.report) for layer in layers}} if layers else {}),
        "trim": _trim(function, proof),
        "bytecode": _bytecode(proof),
        "verified": {
            "level": proof.level,
            **({"by": proof.place, "milliseconds": round(proof.milliseconds, 1)} if proof.place else {}),
            **({"events": proof.events, "raised": proof.raised} if proof.events else {}),
        },
        "seconds": round(seconds, 3),
    }


def describe_distribution(distribution: Distribution, part: PartSize | None) -> dict[str, Any]:
    """Give a distribution's part of the manifest, with what it adds to an artifact."""
    return {
        "name": distribution.name,
        "version": distribution.version,
        "wheel": distribution.filename,
        "sha256": distribution.digest,
        **_size(part),
    }


def _trim(function: Function, proof: Proof) -> dict[str, Any]:
    """Say what is gone of what no layer holds, by rule and distribution, in bytes; and what was kept in spite of a rule."""
    gone: dict[tuple[str, str], list[int]] = {}
    for unit, size in proof.candidate.shaped.gone_inside():
        gone.setdefault(unit, []).append(size)
    return {
        "level": function.trim.level,
        "removed_bytes": sum(map(sum, gone.values())),
        "removed": [
            {"rule": rule, "distribution": owner, "files": len(sizes), "bytes": sum(sizes)}
            for (rule, owner), sizes in sorted(gone.items())
        ],
        "kept": [{"rule": rule, "distribution": owner} for rule, owner in proof.kept],
    }


def _bytecode(proof: Proof) -> dict[str, Any]:
    found = proof.candidate.shaped.bytecode
    if found.mode == "off":
        return {"mode": "off"}
    return {
        "mode": found.mode,
        "why": found.why,
        "python": found.python,
        "files": found.files,
        "bytes": found.size,
        "not_compiled": list(found.failed),
        "starts": list(found.starts),
    }


def _size(part: PartSize | None) -> dict[str, int]:
    return {"files": part.files if part else 0, "unzipped_bytes": part.unzipped if part else 0}


def make_manifest(functions: Mapping[str, Mapping[str, Any]], template: str = "") -> dict[str, Any]:
    """Give the whole manifest of functions' parts; ``template`` is the path of the SAM template that was written with it.

    A layer stands in it once, with all its users, and with every runtime and architecture that they have.
    """
    layers: dict[str, dict[str, Any]] = {}
    for name in sorted(functions):
        for layer, report in functions[name].get("layers", {}).items():
            held = layers.setdefault(layer, {**report, "functions": [], "runtimes": [], "architectures": []})
            held["functions"].append(name)
            for key, word in (("runtimes", "runtime"), ("architectures", "architecture")):
                held[key] = sorted({*held[key], functions[name][word]}, key=_in_order)
    return {
        "schema_version": SCHEMA_VERSION,
        "lpack": __version__,
        **({"layers": {name: layers[name] for name in sorted(layers)}} if layers else {}),
        "functions": {name: _with_names(functions[name]) for name in sorted(functions)},
        **({"template": template} if template else {}),
    }


def _in_order(word: str) -> tuple[int, str]:
    """Sort python3.9 before python3.10."""
    return len(word), word


def _with_names(function: Mapping[str, Any]) -> dict[str, Any]:
    """Give a function's part with no more than the names of its layers, in order: attached ones first."""
    own = {key: value for key, value in function.items() if key != "attached"}
    held = [*function.get("attached", ()), *function.get("layers", ())]
    return {**own, **({"layers": held} if held else {})}


def write_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Give the manifest as it stands in lpack.json."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()


def manifest_schema() -> str:
    """Give the JSON Schema of the manifest."""
    return schema_text("manifest")
