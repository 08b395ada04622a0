"""Reads and writes images by the OCI image specification and Docker's words alone, without any code of lpack's."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zstandard
from msgspec import Struct

MANIFEST, CONFIG = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ENTRY = "/lambda-entrypoint.sh"
"""What starts AWS's images, and stands in every base that is made here."""


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Read(Struct, frozen=True, kw_only=True):
    """An image as it was read: ``layers`` are the members of each, by their names, and ``digests`` those of the blobs."""

    digest: str
    config: dict[str, Any]
    digests: list[str]
    layers: list[dict[str, tarfile.TarInfo]]
    contents: list[dict[str, bytes]]

    def file(self, path: str) -> bytes:
        """Give a file as a container would see it, where nothing was deleted."""
        return next(layer[path] for layer in reversed(self.contents) if path in layer)


def read_layout(folder: Path) -> list[Read]:
    """Read a layout and recompute all that it says of its blobs; fails where one of them lies, or lies there for nothing."""
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((folder / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    used: set[str] = set()
    found = [_image(folder, each, used) for each in index["manifests"]]
    assert {f"sha256:{path.name}" for path in (folder / "blobs" / "sha256").iterdir()} == used
    return found


def _blob(folder: Path, descriptor: Mapping[str, Any], used: set[str]) -> bytes:
    data: bytes = (folder / "blobs" / "sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()
    assert (digest(data), len(data)) == (descriptor["digest"], descriptor["size"])
    used.add(descriptor["digest"])
    return data


def _image(folder: Path, descriptor: Mapping[str, Any], used: set[str]) -> Read:
    manifest = json.loads(_blob(folder, descriptor, used))
    assert (manifest["schemaVersion"], manifest["mediaType"], descriptor["mediaType"]) == (2, MANIFEST, MANIFEST)
    assert manifest["config"]["mediaType"] == CONFIG
    config = json.loads(_blob(folder, manifest["config"], used))
    assert config["rootfs"]["type"] == "layers"
    assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"])
    assert len([each for each in config["history"] if not each.get("empty_layer")]) == len(manifest["layers"])
    assert config["os"] == "linux"
    layers, contents = [], []
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        data = _unpacked(layer["mediaType"], _blob(folder, layer, used))
        assert digest(data) == diff_id
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = {member.name: member for member in archive}
            files = {name: archive.extractfile(each).read() for name, each in members.items() if each.isreg()}  # type: ignore[union-attr]
        layers.append(members)
        contents.append(files)
    digests = [layer["digest"] for layer in manifest["layers"]]
    return Read(digest=descriptor["digest"], config=config, digests=digests, layers=layers, contents=contents)


def _unpacked(media_type: str, data: bytes) -> bytes:
    kind = media_type.removeprefix(LAYER)
    if kind == "+zstd":
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as stream:
            return bytes(stream.read())
    return gzip.decompress(data) if kind == "+gzip" else data


def tar_of(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    """Write a tar of members, which may be names with their content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size, info.mode = len(member[1]), 0o755
            archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    """Give a member that is a link, or another thing without content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def plain_layer() -> bytes:
    return tar_of((ENTRY.strip("/"), b"#!/bin/sh\n"), ("etc/os-release", b"ID=tiny\n"))


def write_base(folder: Path, *layers: bytes, architecture: str = "amd64", **changes: Any) -> Path:
    """Write a base as a layout, of tars that are to be its layers.

    ``changes`` go over what the manifest (``manifest``), the configuration (``config``) and the descriptors of the layers
    (``layer``) say.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def placed(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}

    tars = layers or (plain_layer(),)
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin", "FROM_BASE=yes"], "WorkingDir": "/var/task", "Entrypoint": [ENTRY]},
        "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
        "history": [{"created_by": "by hand"} for _ in tars],
        **changes.get("config", {}),
    }
    packed = [placed(gzip.compress(tar, mtime=0), f"{LAYER}+gzip", **changes.get("layer", {})) for tar in tars]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": placed(json.dumps(config).encode(), CONFIG),
        "layers": packed,
        **changes.get("manifest", {}),
    }
    described = placed(json.dumps(manifest).encode(), MANIFEST)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return folder
