"""Images of one platform: put together from a base and layers, and written as OCI image layouts and archives for `docker load`.

Lambda takes one manifest of one platform, of fewer than 25 KB, with a step of history for each layer; an index that holds
attestations, as Docker's buildx makes it, is refused (AWS "Create a Lambda function using a container image").
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from builders.files import file_digest
from packer.cache.store import store_errors
from packer.core.errors import LimitError
from packer.formats.image import Base, Image, ImageLayer
from packer.formats.oci import (
    DOCKER_LAYER,
    LAYER_MEDIA_TYPES,
    MOST_LAYERS,
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
    Index,
    Manifest,
    encode_document,
    unusable_image,
)

REF_NAME = "org.opencontainers.image.ref.name"
_LARGEST = 25_000
"""Bytes of a manifest that Lambda takes."""
_KEPT = ("architecture", "os", "os.version", "os.features", "variant", "author")
"""What an image has of its base's configuration beside how it runs (image specification, config.md, "Properties")."""
_RUN = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal"),
    *("ArgsEscaped", "Healthcheck", "Shell"),
)
_DOCKER_TYPES = {DOCKER_LAYER: OCI_LAYER, f"{DOCKER_LAYER}.gzip": f"{OCI_LAYER}+gzip"}
_PIECE = 1 << 20


class RunSettings(Struct, frozen=True, kw_only=True):
    """How a container of an image starts: ``command`` is what the entrypoint gets, the handler. The rest goes over the base's.

    An empty ``entrypoint``, ``working_dir`` or ``user`` is the base's.
    """

    command: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str]
    working_dir: str = ""
    user: str = ""
    labels: Mapping[str, str]


class LayerStep(Struct, frozen=True, kw_only=True):
    """A layer of lpack's own, and what its step of history says."""

    layer: ImageLayer
    history: str


def assemble_image(base: Base, steps: Sequence[LayerStep], running: RunSettings, epoch: int) -> Image:
    """Put an image together; ``epoch`` is when it says that it was made, in seconds.

    Raises `LimitError` where it has more layers than engines stack, or a manifest that Lambda does not take.
    """
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    below = [
        ImageLayer(descriptor=_as_oci(layer), diff_id=diff_id, blobs=base.blobs, own=False)
        for layer, diff_id in zip(base.manifest.layers, base.config.diff_ids, strict=True)
    ]
    layers = (*below, *(step.layer for step in steps))
    history = list(base.config.history) or [{"created": created, "created_by": "base"} for _ in below]
    history += [{"created": created, "created_by": f"lpack: {step.history}"} for step in steps]
    document = {
        **{key: value for key, value in base.config.document.items() if key in _KEPT},
        "config": _run_config(base, running),
        "created": created,
        "history": history,
        "rootfs": {"diff_ids": [layer.diff_id for layer in layers], "type": "layers"},
    }
    config = encode_document(document)
    described = tuple(layer.descriptor for layer in layers)
    manifest = Manifest(config=Descriptor.of(config, OCI_CONFIG), layers=described).encode()
    if len(layers) > MOST_LAYERS or len(manifest) > _LARGEST:
        raise LimitError(
            f"An image upon {base.named} has {len(layers)} layers and a manifest of {len(manifest):,} bytes; engines stack "
            f"{MOST_LAYERS}, and Lambda takes {_LARGEST:,} bytes.",
            remedy="Name a base with fewer layers (oci.base).",
        )
    return Image(manifest=manifest, config=config, layers=layers, platform=base.config.platform, home=base.home)


def _as_oci(layer: Descriptor) -> Descriptor:
    """Return a base's layer with OCI's media type, and without the annotations of whoever built it."""
    return replace(layer, media_type=_DOCKER_TYPES.get(layer.media_type, layer.media_type), annotations={})


def _run_config(base: Base, running: RunSettings) -> dict[str, object]:
    found = {key: value for key, value in base.config.run.items() if key in _RUN and value is not None}
    environment = {**base.config.environment, **running.environment}
    known = found.get("Labels")
    labels = {**(known if isinstance(known, dict) else {}), **running.labels}
    more = {
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": labels,
        "Entrypoint": list(running.entrypoint),
        "WorkingDir": running.working_dir,
        "User": running.user,
    }
    return {**found, "Cmd": list(running.command), **{key: value for key, value in more.items() if value}}


def write_layout(
    folder: Path,
    images: Sequence[tuple[Image, str]],
    *,
    index: bool = False,
    base_layers: bool = True,
    older: Path | None = None,
) -> None:
    """Write images, each with its tag, as an OCI image layout into a new folder, with all that they are made of.

    Without ``base_layers`` those of a base that came from a registry stay there. With ``index``, all are one image of several
    platforms, whose tag is the first one's. Layers that the layout ``older`` has are taken from there. Blobs are linked, where
    the file system allows that. Raises `LpackError`.
    """
    blobs = folder / "blobs" / "sha256"
    with store_errors(folder, "write"):
        blobs.mkdir(parents=True)
        named = []
        for image, tag in images:
            everything = base_layers or image.home is None
            for layer in image.layers if everything else [each for each in image.layers if each.own]:
                _link_or_copy(_in_layout(older, layer) or layer.blobs.bring(layer.descriptor), blobs / layer.descriptor.sha256)
            for data, descriptor in ((image.config, image.config_descriptor), (image.manifest, image.descriptor)):
                (blobs / descriptor.sha256).write_bytes(data)
            named.append(replace(image.descriptor, annotations={REF_NAME: tag}))
        if index:
            inner = Index(manifests=tuple(replace(each, annotations={}) for each in named))
            data = inner.encode()
            whole = Descriptor.of(data, inner.media_type)
            (blobs / whole.sha256).write_bytes(data)
            named = [replace(whole, annotations={REF_NAME: images[0][1]})]
        (folder / "oci-layout").write_bytes(encode_document({"imageLayoutVersion": "1.0.0"}))
        (folder / "index.json").write_bytes(Index(manifests=tuple(named)).encode())


def _in_layout(folder: Path | None, layer: ImageLayer) -> Path | None:
    if folder is None:
        return None
    path = folder / "blobs" / "sha256" / layer.descriptor.sha256
    if not path.is_file() or path.stat().st_size != layer.descriptor.size:
        return None
    return path if file_digest(path) == layer.descriptor.sha256 else None  # it was there for anybody to change


def _link_or_copy(blob: Path, to: Path) -> None:
    """Put a blob at a place, without copying its bytes where that is possible."""
    if to.exists():
        return
    try:
        os.link(blob, to)
    except OSError:  # another file system, or one without links
        shutil.copyfile(blob, to)


def publish_layout(staged: Path, final: Path) -> None:
    """Put a layout in the place of an older one: new blobs first, then the index; blobs without a reference are removed last.

    A reader finds the old image or the new one at any moment. Raises `StoreError`.
    """
    with store_errors(final, "write"):
        blobs, old = staged / "blobs" / "sha256", final / "blobs" / "sha256"
        old.mkdir(parents=True, exist_ok=True)
        wanted = {path.name for path in blobs.iterdir()}
        for name in sorted(wanted):
            (blobs / name).replace(old / name)
        for name in ("oci-layout", "index.json"):
            (staged / name).replace(final / name)
        for path in list(old.iterdir()):
            if path.name not in wanted:
                with suppress(FileNotFoundError):
                    path.unlink()


def write_docker_archive(image: Image, name: str, file: BinaryIO) -> None:
    """Write what `docker load` reads, for an image called ``name`` (``repository:tag``), to an empty file.

    Its layers stay compressed, but for zstd, which older engines do not read. Raises `LpackError`.
    """
    config = f"{image.config_descriptor.sha256}.json"
    paths = [f"{layer.diff_id.removeprefix('sha256:')}.tar" for layer in image.layers]
    listed = [{"Config": config, "Layers": paths, "RepoTags": [name]}]
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add_bytes(archive, config, image.config)
        for path, layer in dict(zip(paths, image.layers, strict=True)).items():
            _add_layer(archive, path, layer)
        _add_bytes(archive, "manifest.json", encode_list(listed))


def encode_list(listed: Iterable[Mapping[str, object]]) -> bytes:
    """Write a list of documents as `packer.formats.oci.encode_document` writes each."""
    return b"[" + b",".join(map(encode_document, listed)) + b"]"


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    archive.addfile(_file_info(name, len(data)), io.BytesIO(data))


def _file_info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info


def _add_layer(archive: tarfile.TarFile, name: str, layer: ImageLayer) -> None:
    blob = layer.blobs.bring(layer.descriptor)
    with store_errors(blob, "read"), blob.open("rb") as file:
        if LAYER_MEDIA_TYPES[layer.descriptor.media_type] != "zstd":
            archive.addfile(_file_info(name, layer.descriptor.size), file)
            return
        import zstandard

        def opened() -> zstandard.ZstdDecompressionReader:
            file.seek(0)
            return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)

        size, found = 0, hashlib.sha256()
        for part in iter(partial(opened().read, _PIECE), b""):
            size += len(part)
            found.update(part)
        if f"sha256:{found.hexdigest()}" != layer.diff_id:
            raise unusable_image(name, "the layer is not the one that its configuration promises")
        archive.addfile(_file_info(name, size), opened())
