"""Bases in archives of ``docker save``, and in the local engine, which saves such archives.

Their layers mostly are not compressed: they are packed once, and kept in the store.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

from msgspec import Struct

from builders.once import Locks
from packer.cache.store import Store, digest_of, store_errors
from packer.core.errors import StoreError, UsageError
from packer.formats.image import Base
from packer.formats.oci import (
    LARGEST_CONFIG,
    LARGEST_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
    ImageConfig,
    Manifest,
    Platform,
    unusable_image,
)
from packer.images.base import split_path
from packer.images.base_check import GuardedInfo
from packer.images.base_layout import counted_images
from packer.images.layer_store import StoredBlobs
from packer.images.layer_writer import codec_identity, pack_tar

_FORM = "1"
_PACKED, _IMAGES = "base-layers", "base-images"


class SavingEngine(Protocol):
    """An engine that finds the id of an image that it has, and saves one as ``docker save`` does."""

    def identity(self, reference: str) -> str | None: ...
    def save(self, identity: str, to: BinaryIO) -> None: ...


class EngineSource:
    """Finds bases in the local engine, which ``connect`` opens; ``archives`` reads what it saves."""

    def __init__(self, store: Store, archives: ArchiveSource, connect: Callable[[], SavingEngine]) -> None:
        self._store = store
        self._archives = archives
        self._connect = connect
        self._saving: Locks[str] = Locks()

    def find(self, named: str, place: str, _platform: Platform, _folder: Path) -> Base:
        """Find a base (`packer.images.base.BaseSource`) by the name that it has in the engine."""
        engine = self._connect()
        found = engine.identity(place)
        if found is None:
            remedy = f"`docker pull {place}` brings it, or name the registry's: leave out engine:."
            raise UsageError(f"The engine has no image {place}.", remedy=remedy)
        with self._saving.of(found):  # others that ask for the same image meanwhile get what this one stores
            known = self._archives.known(named, found)
            if known is not None:
                return known
            with self._store.temporary() as temporary:
                with store_errors(temporary, "write"), temporary.open("wb") as file:
                    engine.save(found, file)
                base = self._archives.read(named, temporary, "")
            if found != base.digest:  # engines that keep images as containerd does call them by their manifest
                self._archives.remember_as(found, base.digest)
            return base


class ArchiveSource:
    """Finds bases in archives; may be used from many threads, but from none of ``executor``, over which packing is spread."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor
        self._packing: Locks[str] = Locks()

    def find(self, named: str, place: str, _platform: Platform, folder: Path) -> Base:
        """Find a base (`packer.images.base.BaseSource`) in the archive ``PATH`` or ``PATH:REPOSITORY:TAG``."""
        path, tag = split_path(folder, place)
        return self.read(named, path, tag)

    def read(self, named: str, path: Path, tag: str) -> Base:
        """Read an archive's image with a tag, or its only one, and pack its layers into the store."""
        if path.is_dir():
            what = f"{path} is a folder, and docker-archive: names a file that `docker save` writes."
            raise UsageError(what, remedy="For an OCI image layout, write oci:PATH.")
        with ExitStack() as closing:
            archive = closing.enter_context(_open_archive(path, named))
            entry = _entry(_read_member(archive, "manifest.json", LARGEST_MANIFEST, named), tag, named)
            config = _read_member(archive, entry.config, LARGEST_CONFIG, named)
            parsed = ImageConfig.parse(config, named)
            described = Descriptor.of(config, OCI_CONFIG)
            closing.enter_context(self._packing.of(described.digest))
            known = self.known(named, described.digest)
            if known is not None:
                return known
            if len(entry.layers) != len(parsed.diff_ids):
                raise unusable_image(named, f"{len(entry.layers)} layers have {len(parsed.diff_ids)} diff ids")
            layers = tuple(
                self._pack_layer(archive, name, diff_id, named)
                for name, diff_id in zip(entry.layers, parsed.diff_ids, strict=True)
            )
            manifest = Manifest(config=described, layers=layers)
            remembered = json.dumps([manifest.encode().decode(), config.decode()]).encode()
            self._store.save(_IMAGES, self._image_key(described.digest), remembered)
        return self._base(named, manifest, parsed)

    def remember_as(self, identity: str, config: str) -> None:
        """Let `known` find an image that was read by another digest, too."""
        record = self._store.load(_IMAGES, self._image_key(config))
        if record is not None:
            self._store.save(_IMAGES, self._image_key(identity), record.payload)

    def _base(self, named: str, manifest: Manifest, config: ImageConfig) -> Base:
        # The configuration is its own: the manifest has the digests of layers as lpack has packed them.
        digest = manifest.config.digest
        return Base(named=named, digest=digest, manifest=manifest, config=config, blobs=StoredBlobs(self._store))

    def known(self, named: str, config: str) -> Base | None:
        """Return an image that was read before, by its configuration's digest; None where the store lacks a layer."""
        record = self._store.load(_IMAGES, self._image_key(config))
        if record is None:
            return None
        manifest, document = (text.encode() for text in json.loads(record.payload))
        found = Manifest.parse(manifest, named)
        if not all(self._store.blob_path(layer.sha256).exists() for layer in found.layers):
            return None
        return self._base(named, found, ImageConfig.parse(document, named))

    def _image_key(self, config: str) -> str:
        return digest_of(_FORM, codec_identity("gzip"), config)

    def _pack_layer(self, archive: tarfile.TarFile, name: str, diff_id: str, named: str) -> Descriptor:
        """Pack a layer of an archive, once; one that is compressed is packed again, so that its digest is always the same."""
        key = digest_of(_FORM, codec_identity("gzip"), diff_id)
        record = self._store.load(_PACKED, key)
        digest, size = json.loads(record.payload) if record else ("", 0)
        if not digest or not self._store.blob_path(digest).exists():
            with self._store.temporary() as temporary, _open_member(archive, name, named) as source:
                with _source_errors(temporary), temporary.open("wb") as file:
                    written = pack_tar(source, file, self._executor)
                if f"sha256:{written.diff_id}" != diff_id:
                    raise unusable_image(named, f"the layer {name[:100]} is not the one that its configuration promises")
                digest, size = written.digest, written.length
                self._store.adopt_blob(temporary, digest, size)
            self._store.save(_PACKED, key, json.dumps([digest, size]).encode())
        return Descriptor(media_type=f"{OCI_LAYER}+gzip", digest=f"sha256:{digest}", size=size)


class _Entry(Struct, frozen=True, kw_only=True):
    """An image of an archive, by its members' names."""

    config: str
    layers: tuple[str, ...]


def _entry(data: bytes, tag: str, named: str) -> _Entry:
    try:
        listed = json.loads(data)
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise unusable_image(named, "its manifest.json is no list of images")
    for each in listed:
        tags = each.get("RepoTags") or []
        if not isinstance(tags, list) or not all(isinstance(one, str) for one in tags):
            raise unusable_image(named, "its manifest.json has tags that are none")
    fit = [each for each in listed if not tag or tag in (each.get("RepoTags") or ())]
    if len(fit) != 1:
        tags = ", ".join(str(one) for each in listed for one in each.get("RepoTags") or ()) or "none"
        remedy = "Name one: docker-archive:PATH:REPOSITORY:TAG."
        raise UsageError(f"{named} names {counted_images(fit)} of the archive, which has: {tags}.", remedy=remedy)
    config, layers = fit[0].get("Config"), fit[0].get("Layers")
    if not isinstance(config, str) or not isinstance(layers, list) or not all(isinstance(each, str) for each in layers):
        raise unusable_image(named, "its manifest.json does not name a configuration and layers")
    return _Entry(config=config, layers=tuple(layers))


@contextmanager
def _open_archive(path: Path, named: str) -> Iterator[tarfile.TarFile]:
    with store_errors(path, "read"):
        try:
            archive = tarfile.open(path, tarinfo=GuardedInfo)  # noqa: SIM115 closed below
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise unusable_image(named, f"it is no tar ({error})") from None
        with archive:
            yield archive


@contextmanager
def _source_errors(temporary: Path) -> Iterator[None]:
    """Raise what is wrong with the source as it is, and what is wrong with the written file as `StoreError`."""
    try:
        with store_errors(temporary, "write"):
            yield
    except StoreError as error:
        if isinstance(error.__cause__, gzip.BadGzipFile):
            raise error.__cause__ from None
        raise


@contextmanager
def _open_member(archive: tarfile.TarFile, name: str, named: str) -> Iterator[IO[bytes]]:
    """Open a file of an archive; a link is followed within the archive alone."""
    try:
        found = archive.extractfile(name)
    except (KeyError, tarfile.TarError, RecursionError, EOFError, zlib.error, gzip.BadGzipFile):
        found = None
    if found is None:
        raise unusable_image(named, f"it lacks {name[:100]!r}")
    with found:
        try:
            yield _open_tar(found)
        except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
            raise unusable_image(named, f"{name[:100]} cannot be read ({error})") from None


def _open_tar(file: IO[bytes]) -> IO[bytes]:
    """Return the tar in a file that may be compressed with gzip, as newer engines leave it."""
    head = file.read(2)
    file.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if head == b"\x1f\x8b" else file


def _read_member(archive: tarfile.TarFile, name: str, most: int, named: str) -> bytes:
    with _open_member(archive, name, named) as file:
        data: bytes = file.read(most + 1)
    if len(data) > most:
        raise unusable_image(named, f"{name[:100]} has more than {most:,} bytes")
    return data
