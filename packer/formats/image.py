"""Images as values: a base, and a finished image whose blobs may still be anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from builders.runtimes import IMAGE_LIMIT
from packer.formats.oci import OCI_CONFIG, OCI_MANIFEST, Descriptor, ImageConfig, Manifest, Platform, Reference, unusable_image


class BlobSource(Protocol):
    """A source of an image's blobs: a registry, files, an engine."""

    def bring(self, blob: Descriptor) -> Path:
        """Return a file with the blob's bytes, checked against its size and digest; raise `LpackError`."""
        ...


class Base(Struct, frozen=True, kw_only=True):
    """An image that others are built upon, as it was resolved.

    ``named`` is what the user wrote, ``digest`` the manifest's; ``home`` is the repository that holds the layers, if any.
    """

    named: str
    digest: str
    manifest: Manifest
    config: ImageConfig
    blobs: BlobSource
    home: Reference | None = None


class ImageLayer(Struct, frozen=True, kw_only=True):
    """A layer of a finished image: ``descriptor`` of the compressed tar, ``diff_id`` of the tar; ``own`` if lpack wrote it."""

    descriptor: Descriptor
    diff_id: str
    blobs: BlobSource
    own: bool


class Image(Struct, frozen=True, kw_only=True):
    """A finished image of one platform: the bytes of its manifest and configuration, and its layers, lowest first.

    ``home`` is the repository that the base's layers came from, if any: a registry of the same host can mount them.
    """

    manifest: bytes
    config: bytes
    layers: tuple[ImageLayer, ...]
    platform: Platform
    home: Reference | None = None

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's own descriptor, with the platform."""
        return replace(Descriptor.of(self.manifest, OCI_MANIFEST), platform=self.platform)

    @property
    def config_descriptor(self) -> Descriptor:
        """The configuration's descriptor."""
        return Descriptor.of(self.config, OCI_CONFIG)


def check_image(manifest: Manifest, config: ImageConfig, where: str) -> None:
    """Check that a configuration fits a manifest: a diff id and, if it has a history, a non-empty step for each layer.

    Raises `ImageError`.
    """
    if len(manifest.layers) != len(config.diff_ids):
        raise unusable_image(where, f"{len(manifest.layers)} layers have {len(config.diff_ids)} diff ids")
    size = sum(layer.size for layer in manifest.layers)
    if size > IMAGE_LIMIT:
        raise unusable_image(where, f"its layers have {size:,} compressed bytes, more than Lambda allows for an unpacked image")
    steps = sum(not step.get("empty_layer") for step in config.history)
    if config.history and steps != len(manifest.layers):
        raise unusable_image(where, f"its history has {steps} layers, and its manifest {len(manifest.layers)}")
