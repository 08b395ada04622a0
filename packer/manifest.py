"""The manifest, lpack.json: what was built from what. Its form is published as schemas/manifest-1.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from packer import __version__

if TYPE_CHECKING:
    from packer.model import Artifact, Function, Lock, Share
    from packer.obtain import Made
    from packer.prove import Proof

SCHEMA_VERSION = 1


def describe(
    function: Function,
    lock: Lock,
    artifact: Artifact,
    parts: Sequence[Share],
    obtained: Sequence[Made],
    proof: Proof,
    seconds: float,
) -> dict[str, Any]:
    """Give a function's part of the manifest; sizes are bytes."""
    from packer.model import OWN_SOURCE

    sizes = {part.name: part for part in parts}
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
                "name": made.distribution.name,
                "version": made.distribution.version,
                "wheel": made.distribution.filename,
                "sha256": made.distribution.digest,
                **_size(sizes.get(made.distribution.name)),
                **({"built": dict(made.record)} if made.record else {}),
            }
            for made in obtained
        ],
        "trim": _trim(function, proof),
        "bytecode": _bytecode(proof),
        "verified": {
            "level": proof.level,
            **({"by": proof.place, "milliseconds": round(proof.milliseconds, 1)} if proof.place else {}),
            **({"events": proof.events, "raised": proof.raised} if proof.events else {}),
        },
        "seconds": round(seconds, 3),
    }


def _trim(function: Function, proof: Proof) -> dict[str, Any]:
    """Say what is gone, by rule and distribution, in bytes; what was kept though a rule would have it."""
    gone: dict[tuple[str, str], list[int]] = {}
    for unit, size in proof.candidate.shaped.gone():
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


def _size(part: Share | None) -> dict[str, int]:
    return {"files": part.files if part else 0, "unzipped_bytes": part.unzipped if part else 0}


def make_manifest(functions: Mapping[str, Mapping[str, Any]], template: str = "") -> dict[str, Any]:
    """Give the whole manifest; ``template`` is the path of the SAM template that was written with it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "lpack": __version__,
        "functions": {name: functions[name] for name in sorted(functions)},
        **({"template": template} if template else {}),
    }


def write_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Give the manifest as it stands in lpack.json."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()


def manifest_schema() -> str:
    """Give the JSON Schema of the manifest."""
    return files("packer").joinpath("schemas", f"manifest-{SCHEMA_VERSION}.json").read_text(encoding="utf-8")
