"""Bases in OCI image layouts: folders with an index and blobs (OCI image specification, "Image Layout")."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builders.files import file_digest
from packer.cache.store import store_errors
from packer.core.errors import ImageError, UsageError
from packer.formats.image import Base, BlobSource
from packer.formats.oci import (
    INDEXES,
    LARGEST_CONFIG,
    LARGEST_MANIFEST,
    MANIFESTS,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    choose_manifest,
    unusable_image,
)
from packer.images.base import split_path
from packer.images.layout_writer import REF_NAME

_DEEPEST = 4
"""Indexes that may stand in each other."""


class LayoutSource:
    """Finds bases in OCI image layouts."""

    def find(self, named: str, place: str, platform: Platform, folder: Path) -> Base:
        """Find a base (`packer.images.base.BaseSource`) in the layout ``PATH``, ``PATH:TAG`` or ``PATH@DIGEST``."""
        path, tag = split_path(folder, place)
        if path.is_file():
            what = f"{path} is a file, and oci: names the folder of an OCI image layout."
            raise UsageError(what, remedy="For what `docker save` writes, write docker-archive:PATH.")
        if not (path / "index.json").is_file():
            raise UsageError(f"{path} is no OCI image layout: it has no index.json.", remedy="Name the folder of one.")
        blobs = LayoutBlobs(path, named)
        index = Index.parse(_read(path / "index.json", LARGEST_MANIFEST, named), named)
        found = _chosen(index.manifests, tag, named)
        for _ in range(_DEEPEST):
            if found.media_type in MANIFESTS:
                break
            if found.media_type not in INDEXES:
                raise unusable_image(named, f"its media type is {found.media_type[:100]!r}")
            inner = Index.parse(blobs.read(found, LARGEST_MANIFEST), named)
            found = choose_manifest(inner.manifests, platform, named)
        else:
            raise unusable_image(named, f"more than {_DEEPEST} indexes lead to it")
        manifest = Manifest.parse(blobs.read(found, LARGEST_MANIFEST), named)
        config = ImageConfig.parse(blobs.read(manifest.config, LARGEST_CONFIG), named)
        return Base(named=named, digest=found.digest, manifest=manifest, config=config, blobs=blobs)


class LayoutBlobs(BlobSource):
    """Gives the blobs of an OCI image layout, as they lie there."""

    def __init__(self, folder: Path, named: str, remedy: str = "") -> None:
        self._folder = folder
        self._named = named
        self._remedy = remedy
        self._whole: set[str] = set()

    def bring(self, blob: Descriptor) -> Path:
        """Return a blob's file, checked; raises `ImageError`."""
        path = self._folder / "blobs" / "sha256" / blob.sha256
        if blob.digest not in self._whole:
            if not path.is_file() or path.is_symlink():
                raise unusable_image(self._named, f"it lacks the blob {blob.digest}", self._remedy)
            with store_errors(path, "read"):
                found = file_digest(path)
            if (found, path.stat().st_size) != (blob.sha256, blob.size):
                raise unusable_image(self._named, f"the blob {blob.digest} is not what its digest and size say", self._remedy)
            self._whole.add(blob.digest)
        return path

    def read(self, blob: Descriptor, most: int) -> bytes:
        """Return a small blob's bytes; raises `ImageError`."""
        if blob.size > most:
            raise unusable_image(self._named, f"one of its documents has {blob.size:,} bytes, more than {most:,}")
        return self.bring(blob).read_bytes()


def _chosen(manifests: Sequence[Descriptor], tag: str, named: str) -> Descriptor:
    """Return the one entry of a layout's index that a tag or digest names, or the only one."""
    fit = [each for each in manifests if tag in ("", each.digest, each.annotations.get(REF_NAME))]
    if len(fit) != 1:
        tags = ", ".join(each.annotations.get(REF_NAME) or each.digest for each in manifests) or "none"
        what = f"{named} names {counted_images(fit)} of the layout, which has: {tags}"
        raise UsageError(f"{what}.", remedy="Name one: oci:PATH:TAG or oci:PATH@sha256:DIGEST.")
    return fit[0]


def counted_images(fit: Sequence[object]) -> str:
    """Return how many images there are, in words."""
    return f"{len(fit)} images" if fit else "no image"


def _read(path: Path, most: int, named: str) -> bytes:
    with store_errors(path, "read"), path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ImageError(f"{path} has more than {most:,} bytes.", remedy=f"Name another image than {named}.")
    return data
