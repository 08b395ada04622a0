"""Finds what images are built upon: in a registry, an OCI image layout, an archive of `docker save`, or the local engine.

    HOST/REPOSITORY:TAG, …@sha256:DIGEST     in a registry, as Docker names images
    oci:PATH, oci:PATH:TAG, oci:PATH@DIGEST  a folder with an OCI image layout
    docker-archive:PATH, …:REPOSITORY:TAG    a file that `docker save` or `skopeo copy` wrote
    engine:NAME                              what Docker or Podman has under that name here

The layers of an engine or archive mostly are not compressed: they are packed once, and kept in the store.
"""

from __future__ import annotations

import gzip
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

from msgspec import Struct
from msgspec.structs import replace

from builders.files import file_digest
from builders.once import Locks
from packer.cache.store import Store, digest_of, store_errors
from packer.core.errors import ImageError, RegistryError, StoreError, UsageError
from packer.formats.image import Base, BlobSource, check_image
from packer.formats.oci import (
    INDEXES,
    LARGEST_CONFIG,
    LARGEST_MANIFEST,
    MANIFESTS,
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    Reference,
    choose_manifest,
    unusable_image,
)
from packer.images.base_check import CheckedLayers, GuardedInfo
from packer.images.layer_store import StoredBlobs
from packer.images.layer_writer import codec_identity, pack_tar
from packer.images.layout_writer import REF_NAME

_FORM = "1"
_PACKED, _IMAGES = "base-layers", "base-images"
_FORMS = re.compile(r"(oci|docker-archive|engine):(.+)", re.DOTALL)
_DEEPEST = 4
"""Indexes that may stand in each other."""


class Saver(Protocol):
    """An engine: finds the id of an image that it has, and saves one."""

    def identity(self, name: str) -> str | None: ...
    def save(self, identity: str, to: BinaryIO) -> None: ...


class Finders(Struct, frozen=True, kw_only=True):
    """Where bases are found beside files: ``registry`` resolves a reference, ``engine`` connects to the local engine."""

    registry: Callable[[Reference, Platform], Base]
    engine: Callable[[], Saver]


def files_of_base(named: str, folder: Path) -> tuple[Path, ...]:
    """Give the files whose change would make a base another one; none for what a registry or an engine has."""
    form = _FORMS.fullmatch(named)
    if form is None or form[1] == "engine":
        return ()
    path, _ = _path_and_tag(folder, form[2])
    return (path, path / "index.json") if form[1] == "oci" else (path,)


class BaseReader:
    """Reads bases; may be used from many threads, but from none of ``executor``, over which packing is spread."""

    def __init__(self, store: Store, executor: Executor, finders: Finders) -> None:
        self._store = store
        self._executor = executor
        self._finders = finders
        self._saving: Locks[str] = Locks()
        self._packing: Locks[str] = Locks()

    def read(self, named: str, platform: Platform, folder: Path) -> Base:
        """Find a base by its name; relative paths in it are below ``folder``.

        Raises `UsageError` for a name that leads nowhere, `ImageError` for what cannot be used, and whatever a registry or an
        engine has to say.
        """
        form = _FORMS.fullmatch(named)
        if form is None:
            try:
                base = self._finders.registry(Reference.parse(named), platform)
            except RegistryError as error:
                raise RegistryError(f"oci.base: {error.what}", remedy=error.remedy, detail=error.detail) from None
        elif form[1] == "engine":
            base = self._of_engine(named, form[2])
        elif form[1] == "oci":
            base = self._of_layout(named, *_path_and_tag(folder, form[2]), platform)
        else:
            path, tag = _path_and_tag(folder, form[2])
            base = self._of_archive(named, path, tag)
        check_image(base.manifest, base.config, named)
        if not base.config.platform.serves(platform):
            what = f"The base {named} is for {base.config.platform}, and the function for {platform}."
            raise UsageError(what, remedy="Name another base (oci.base), or another architecture (arch).")
        layers = {each.digest: diff for each, diff in zip(base.manifest.layers, base.config.diff_ids, strict=True)}
        return replace(base, named=named, blobs=CheckedLayers(self._store, base.blobs, layers, named))

    def _of_layout(self, named: str, folder: Path, tag: str, platform: Platform) -> Base:
        if folder.is_file():
            what = f"{folder} is a file, and oci: names the folder of an OCI image layout."
            raise UsageError(what, remedy="For what `docker save` writes, write docker-archive:PATH.")
        if not (folder / "index.json").is_file():
            raise UsageError(f"{folder} is no OCI image layout: it has no index.json.", remedy="Name the folder of one.")
        blobs = LayoutBlobs(folder, named)
        index = Index.parse(_read(folder / "index.json", LARGEST_MANIFEST, named), named)
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

    def _of_engine(self, named: str, name: str) -> Base:
        engine = self._finders.engine()
        found = engine.identity(name)
        if found is None:
            remedy = f"`docker pull {name}` brings it, or name the registry's: leave out engine:."
            raise UsageError(f"The engine has no image {name}.", remedy=remedy)
        with self._saving.of(found):  # who asks for the same image meanwhile finds what came of it
            known = self._known(named, found)
            if known is not None:
                return known
            with self._store.temporary() as temporary:
                with store_errors(temporary, "write"), temporary.open("wb") as file:
                    engine.save(found, file)
                base = self._of_archive(named, temporary, "")
            if found != base.digest:  # engines that keep images as containerd does call them by their manifest
                known_as = self._store.load(_IMAGES, self._image_key(base.digest))
                if known_as is not None:
                    self._store.save(_IMAGES, self._image_key(found), known_as.payload)
            return base

    def _of_archive(self, named: str, path: Path, tag: str) -> Base:
        if path.is_dir():
            what = f"{path} is a folder, and docker-archive: names a file that `docker save` writes."
            raise UsageError(what, remedy="For an OCI image layout, write oci:PATH.")
        with ExitStack() as closing:
            archive = closing.enter_context(_opened_tar(path, named))
            entry = _entry(_extracted(archive, "manifest.json", LARGEST_MANIFEST, named), tag, named)
            config = _extracted(archive, entry.config, LARGEST_CONFIG, named)
            parsed = ImageConfig.parse(config, named)
            described = Descriptor.of(config, OCI_CONFIG)
            closing.enter_context(self._packing.of(described.digest))
            known = self._known(named, described.digest)
            if known is not None:
                return known
            if len(entry.layers) != len(parsed.diff_ids):
                raise unusable_image(named, f"{len(entry.layers)} layers have {len(parsed.diff_ids)} diff ids")
            layers = tuple(
                self._packed(archive, name, diff_id, named) for name, diff_id in zip(entry.layers, parsed.diff_ids, strict=True)
            )
            manifest = Manifest(config=described, layers=layers)
            remembered = json.dumps([manifest.encode().decode(), config.decode()]).encode()
            self._store.save(_IMAGES, self._image_key(described.digest), remembered)
        return self._base(named, manifest, parsed)

    def _base(self, named: str, manifest: Manifest, config: ImageConfig) -> Base:
        # The configuration is its own: the manifest has the digests of layers as lpack has packed them.
        digest = manifest.config.digest
        return Base(named=named, digest=digest, manifest=manifest, config=config, blobs=StoredBlobs(self._store))

    def _known(self, named: str, config: str) -> Base | None:
        """Give an image of an archive that was read before, if its layers are still there."""
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

    def _packed(self, archive: tarfile.TarFile, name: str, diff_id: str, named: str) -> Descriptor:
        """Pack a layer of an archive, once; one that is compressed already is packed again, so that it is the same anyhow."""
        key = digest_of(_FORM, codec_identity("gzip"), diff_id)
        record = self._store.load(_PACKED, key)
        digest, size = json.loads(record.payload) if record else ("", 0)
        if not digest or not self._store.blob_path(digest).exists():
            with self._store.temporary() as temporary, _member(archive, name, named) as source:
                with _told_apart(temporary), temporary.open("wb") as file:
                    written = pack_tar(source, file, self._executor)
                if f"sha256:{written.diff_id}" != diff_id:
                    raise unusable_image(named, f"the layer {name[:100]} is not the one that its configuration promises")
                digest, size = written.digest, written.length
                self._store.adopt_blob(temporary, digest, size)
            self._store.save(_PACKED, key, json.dumps([digest, size]).encode())
        return Descriptor(media_type=f"{OCI_LAYER}+gzip", digest=f"sha256:{digest}", size=size)


class LayoutBlobs(BlobSource):
    """Gives the blobs of an OCI image layout, as they lie there."""

    def __init__(self, folder: Path, named: str, remedy: str = "") -> None:
        self._folder = folder
        self._named = named
        self._remedy = remedy
        self._whole: set[str] = set()

    def bring(self, blob: Descriptor) -> Path:
        """Give a blob's file, checked; raises `ImageError`."""
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
        """Give a small blob's bytes; raises `ImageError`."""
        if blob.size > most:
            raise unusable_image(self._named, f"one of its documents has {blob.size:,} bytes, more than {most:,}")
        return self.bring(blob).read_bytes()


def _chosen(manifests: Sequence[Descriptor], tag: str, named: str) -> Descriptor:
    """Give the one entry of a layout's index that a tag or digest names, or the only one."""
    fit = [each for each in manifests if tag in ("", each.digest, each.annotations.get(REF_NAME))]
    if len(fit) != 1:
        tags = ", ".join(each.annotations.get(REF_NAME) or each.digest for each in manifests) or "none"
        what = f"{named} names {_counted(fit)} of the layout, which has: {tags}"
        raise UsageError(f"{what}.", remedy="Name one: oci:PATH:TAG or oci:PATH@sha256:DIGEST.")
    return fit[0]


def _counted(fit: Sequence[object]) -> str:
    return f"{len(fit)} images" if fit else "no image"


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
        raise UsageError(f"{named} names {_counted(fit)} of the archive, which has: {tags}.", remedy=remedy)
    config, layers = fit[0].get("Config"), fit[0].get("Layers")
    if not isinstance(config, str) or not isinstance(layers, list) or not all(isinstance(each, str) for each in layers):
        raise unusable_image(named, "its manifest.json does not name a configuration and layers")
    return _Entry(config=config, layers=tuple(layers))


def _path_and_tag(folder: Path, text: str) -> tuple[Path, str]:
    """Take a path and what follows it apart: a path that is there may hold colons itself."""
    whole = folder / Path(text).expanduser()
    if whole.exists():
        return whole, ""
    for mark in ("@", ":"):
        path, found, tag = text.partition(mark)
        if found and (folder / Path(path).expanduser()).exists():
            return folder / Path(path).expanduser(), tag
    raise UsageError(f"There is no {whole}.", remedy="Name the path of an image that is there (oci.base).")


@contextmanager
def _opened_tar(path: Path, named: str) -> Iterator[tarfile.TarFile]:
    with store_errors(path, "read"):
        try:
            archive = tarfile.open(path, tarinfo=GuardedInfo)  # noqa: SIM115 closed below
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise unusable_image(named, f"it is no tar ({error})") from None
        with archive:
            yield archive


@contextmanager
def _told_apart(temporary: Path) -> Iterator[None]:
    """Tell what is wrong with a source from what is wrong with the file that is written of it."""
    try:
        with store_errors(temporary, "write"):
            yield
    except StoreError as error:
        if isinstance(error.__cause__, gzip.BadGzipFile):
            raise error.__cause__ from None
        raise


@contextmanager
def _member(archive: tarfile.TarFile, name: str, named: str) -> Iterator[IO[bytes]]:
    """Open a file of an archive; a link is followed within the archive alone."""
    try:
        found = archive.extractfile(name)
    except (KeyError, tarfile.TarError, RecursionError, EOFError, zlib.error, gzip.BadGzipFile):
        found = None
    if found is None:
        raise unusable_image(named, f"it lacks {name[:100]!r}")
    with found:
        try:
            yield _unpacked(found)
        except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
            raise unusable_image(named, f"{name[:100]} cannot be read ({error})") from None


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """Give the tar in a file that may be compressed with gzip, as newer engines leave it."""
    head = file.read(2)
    file.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if head == b"\x1f\x8b" else file


def _extracted(archive: tarfile.TarFile, name: str, most: int, named: str) -> bytes:
    with _member(archive, name, named) as file:
        data: bytes = file.read(most + 1)
    if len(data) > most:
        raise unusable_image(named, f"{name[:100]} has more than {most:,} bytes")
    return data


def _read(path: Path, most: int, named: str) -> bytes:
    with store_errors(path, "read"), path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ImageError(f"{path} has more than {most:,} bytes.", remedy=f"Name another image than {named}.")
    return data
