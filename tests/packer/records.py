"""Records of functions, layers and distributions, as small as they can be, for tests that change what matters to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packer.core.records import (
    ArtifactRecord,
    BaseImageRecord,
    BuildManifest,
    BytecodeRecord,
    DistributionRecord,
    FunctionRecord,
    ImageLayerRecord,
    ImageRecord,
    LayerRecord,
    ManifestFunction,
    ManifestLayer,
    ProofRecord,
    SizeRecord,
    TrimRecord,
)

_FACTS: Mapping[str, Any] = {
    "runtime": "python3.11",
    "architecture": "x86_64",
    "handler": "app.handler",
    "format": "zip",
    "artifact": ArtifactRecord(path="f.zip", sha256="0", zip_bytes=1, unzipped_bytes=2, files=1),
    "lock": "resolved",
    "source": SizeRecord(files=1, unzipped_bytes=2),
    "distributions": (),
    "trim": TrimRecord(level="safe", removed_bytes=0, removed=(), kept=()),
    "bytecode": BytecodeRecord(mode="off"),
    "verified": ProofRecord(level="none"),
    "seconds": 1.0,
}


def distribution_record(name: str, size: int = 1, **more: Any) -> DistributionRecord:
    facts = {"version": "1.0", "wheel": f"{name}-1.0-py3-none-any.whl", "sha256": "a" * 64, "files": 1, "unzipped_bytes": size}
    return DistributionRecord(name=name, **{**facts, **more})


def layer_record(size: int = 7, **more: Any) -> LayerRecord:
    return LayerRecord(**{**_layer_facts(size), **more})


def manifest_layer(*functions: str, **more: Any) -> ManifestLayer:
    users = {"functions": functions, "runtimes": ("python3.11",), "architectures": ("x86_64",)}
    return ManifestLayer(**{**_layer_facts(7), **users, **more})


def function_record(**more: Any) -> FunctionRecord:
    return FunctionRecord(**{**_FACTS, **more})


def manifest_function(**more: Any) -> ManifestFunction:
    return ManifestFunction(**{**_FACTS, **more})


def image_facts(path: str = "images/f", *, stored: int = 1, unzipped: int = 1, base: int = 0, **more: Any) -> dict[str, Any]:
    """Return what the record of a function has that is an image upon a base of so many bytes."""
    below = BaseImageRecord(name="base", digest="sha256:0", bytes=base, layers=1)
    own = (ImageLayerRecord(digest="sha256:1", bytes=stored, holds="all"),)
    return {
        "format": "image",
        "artifact": ArtifactRecord(path=path, sha256="0", stored_bytes=stored, unzipped_bytes=unzipped, files=1),
        "image": ImageRecord(digest="sha256:0", platform="linux/amd64", base=below, layers=own, **more),
    }


def build_manifest(functions: Mapping[str, ManifestFunction], layers: Mapping[str, ManifestLayer] = {}) -> BuildManifest:
    return BuildManifest(schema_version=1, lpack="0", functions=functions, layers=layers)


def _layer_facts(size: int) -> dict[str, Any]:
    sizes = {"zip_bytes": size, "unzipped_bytes": size, "files": 1, "removed_bytes": 0}
    return {"path": "layers/l.zip", "sha256": "0", "distributions": (), **sizes}
