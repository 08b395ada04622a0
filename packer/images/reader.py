"""Reads back the images that a build has written: for who pushes them, loads them into an engine, or runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from builders.rootfs.record import DEFAULT_PATH
from packer.core.errors import UsageError
from packer.core.names import LOCAL_FORMS, MANIFEST_FILE
from packer.core.records import ManifestFunction, UnverifiedRecord, read_manifest
from packer.formats.image import BlobSource, Image, ImageLayer
from packer.formats.oci import (
    LARGEST_CONFIG,
    LARGEST_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Reference,
    unusable_image,
)
from packer.formats.unpack import LayerArchive
from packer.images.base_layout import LayoutBlobs

_BUILD = "Run `lpack build` first."


class BuiltImage(Struct, frozen=True, kw_only=True):
    """A function's image as it lies in the output folder, and what the manifest says of the function."""

    name: str
    image: Image
    report: ManifestFunction

    @property
    def command(self) -> tuple[str, ...]:
        """What a container of it starts: its entrypoint, and the handler."""
        run = self._config.run
        words = (*(run.get("Entrypoint") or ()), *(run.get("Cmd") or ()))  # type: ignore[misc]  # lists of texts
        return tuple(map(str, words))

    @property
    def user(self) -> str:
        """Who a container of it runs as; empty for root."""
        return str(self._config.run.get("User") or "")

    @property
    def path(self) -> str:
        """Where a container of it finds programs."""
        return self.variables.get("PATH", DEFAULT_PATH)

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables that the image sets."""
        return self._config.environment

    @property
    def _config(self) -> ImageConfig:
        return ImageConfig.parse(self.image.config, self.name)


def read_images(out: Path, names: Sequence[str], remote: Callable[[Reference], BlobSource]) -> list[BuiltImage]:
    """Return the images of functions that were built into a folder; all of them where no name is given.

    ``remote`` gives the blobs of a base that the output folder does not hold. Raises `UsageError` where one was not built, or
    is no image, and `ImageError` where it is not what it was.
    """
    functions = read_manifest(out / MANIFEST_FILE).functions
    for name in names:
        if name not in functions:
            raise UsageError(f"{name} was not built into {out}.", remedy=_BUILD)
    chosen = [name for name in functions if name in names] if names else _images(functions)
    if not chosen:
        raise UsageError(f"{out} has no image.", remedy='Write format = "image" for a function, and run `lpack build`.')
    return [_read(out, name, functions[name], remote) for name in chosen]


def read_format(out: Path, name: str) -> str:
    """Return what became of a function, ``zip`` or ``image``, whatever flags the build had; raises `UsageError`."""
    function = read_manifest(out / MANIFEST_FILE).functions.get(name)
    if function is None:
        raise UsageError(f"{name} was not built into {out}.", remedy=_BUILD)
    return function.format


def find_unverified(out: Path, name: str) -> UnverifiedRecord | None:
    """Return why nothing here can run a function that was built, for its handler is elsewhere; None for all others."""
    function = read_manifest(out / MANIFEST_FILE).functions.get(name)
    why = function.verified.not_verified if function else None
    return why if why is not None and why.handler_elsewhere else None


def read_archives(out: Path, name: str) -> tuple[Path, tuple[LayerArchive, ...]]:
    """Return the archive of a function, and those of its layers in order; raises `UsageError` where it was not built."""
    manifest = read_manifest(out / MANIFEST_FILE)
    function = manifest.functions.get(name)
    if function is None or function.format != "zip":
        raise UsageError(f"{name} was not built into {out} as a ZIP archive.", remedy=_BUILD)
    own = [manifest.layers[layer] for layer in function.layers if layer in manifest.layers]
    found = tuple(LayerArchive(path=out / layer.path, sha256=layer.sha256) for layer in own)
    archive = out / function.artifact.path
    for path in (archive, *(layer.path for layer in found)):
        if not path.is_file():
            raise UsageError(f"There is no {path}.", remedy=_BUILD)
    return archive, found


def _images(functions: Mapping[str, ManifestFunction]) -> list[str]:
    return [name for name, function in functions.items() if function.format == "image"]


def _read(out: Path, name: str, function: ManifestFunction, remote: Callable[[Reference], BlobSource]) -> BuiltImage:
    if function.image is None:
        remedy = f'Write format = "image" for it, or leave it out: {name} is an archive.'
        raise UsageError(f"{name} was built as a ZIP archive, not as an image.", remedy=remedy)
    folder = out / function.artifact.path
    if not (folder / "index.json").is_file():
        if folder.is_file():
            what = f"{name} was written as a docker-archive alone, and only an OCI image layout is pushed, loaded and verified."
            remedy = (
                f'Write oci.write = ["oci", "docker-archive"], and build again; `docker load --input {folder}` takes that file.'
            )
            raise UsageError(what, remedy=remedy)
        raise UsageError(f"{name} has no OCI image layout in {folder}.", remedy=_BUILD)
    again = f"Remove {folder}, and run `lpack build`, which writes it again."
    own = LayoutBlobs(folder, str(folder), again)
    index = Index.parse((folder / "index.json").read_bytes(), str(folder))
    found = next((each for each in index.manifests if each.digest == function.image.digest), None)
    if found is None:
        raise unusable_image(str(folder), "it is not the image that lpack.json describes", again)
    data = own.read(found, LARGEST_MANIFEST)
    manifest = Manifest.parse(data, str(folder))
    config = own.read(manifest.config, LARGEST_CONFIG)
    parsed = ImageConfig.parse(config, str(folder))
    base = function.image.base
    home = None if base.name.startswith(LOCAL_FORMS) else Reference.parse(base.name)
    layers = tuple(
        ImageLayer(
            descriptor=layer,
            diff_id=diff_id,
            blobs=_LayoutOrRemote(folder, own, home, remote) if number < base.layers else own,
            own=number >= base.layers,
        )
        for number, (layer, diff_id) in enumerate(zip(manifest.layers, parsed.diff_ids, strict=True))
    )
    image = Image(manifest=data, config=config, layers=layers, platform=parsed.platform, home=home)
    return BuiltImage(name=name, image=image, report=function)


class _LayoutOrRemote(BlobSource):
    """Gives a base's blobs from the layout, where it holds them, or else from where the base came from."""

    def __init__(
        self, folder: Path, own: LayoutBlobs, home: Reference | None, remote: Callable[[Reference], BlobSource]
    ) -> None:
        self._folder = folder
        self._own = own
        self._home = home
        self._remote = remote

    def bring(self, blob: Descriptor) -> Path:
        """Return a blob's file; raises `LpackError`."""
        if self._home is None or (self._folder / "blobs" / "sha256" / blob.sha256).exists():
            return self._own.bring(blob)
        return self._remote(self._home).bring(blob)
