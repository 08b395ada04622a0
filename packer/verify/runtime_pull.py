"""Pulls the runtimes' images from their registries, and unpacks them into the store: no engine and no privileges are needed."""

from __future__ import annotations

import platform
from collections.abc import Callable

from msgspec.structs import replace

from builders.rootfs.runtime_files import RuntimeFiles
from builders.runtimes import Target
from packer.cache.runtime_names import RuntimeName, save_digest
from packer.cache.store import Store
from packer.cache.unpacked_images import image_folder, is_intact, remove_unpacked
from packer.core.errors import ImageError, RegistryError, ToolError
from packer.core.events import Reporter
from packer.formats.image import Base
from packer.formats.oci import Platform, Reference, unusable_image
from packer.images.image_unpacker import unpack_image

_OTHER_IMAGE = "Name another image (runtime-image), or pull it again with --upgrade."


def check_usable() -> None:
    """Raise `ToolError` where no runtime's file system can be of use: its programs are Linux's."""
    if platform.system() != "Linux":
        what = f"A runtime's file system is used on Linux only, and this machine has {platform.system()}."
        raise ToolError(what, remedy="Start a container engine, which has functions run in the runtime's image: `docker pull`.")


class RuntimePuller:
    """Pulls runtimes; ``resolve`` asks a registry for an image. ``upgrade`` ignores which one is locked."""

    def __init__(
        self, store: Store, resolve: Callable[[Reference, Platform], Base], reporter: Reporter, *, upgrade: bool = False
    ) -> None:
        self._store = store
        self._resolve = resolve
        self._reporter = reporter
        self._upgrade = upgrade

    def pull(self, target: Target) -> RuntimeFiles:
        """Return the file system of a target's runtime, pulled now if it is not in the store.

        Raises `RegistryError`, `ImageError` for an image that must not be unpacked or has no such Python, or `StoreError`.
        """
        base = self._find(target)
        folder = image_folder(self._store, base.digest)
        if folder.exists() and not is_intact(folder):
            remove_unpacked(self._store, folder)
        try:
            unpacked = unpack_image(base, self._store, self._reporter)
        except ImageError as error:
            raise ImageError(error.what, remedy=_OTHER_IMAGE, detail=error.detail) from None
        files = RuntimeFiles.of(unpacked, target)
        if files is None:
            there = ", ".join(python.version for python in unpacked.record.pythons) or "none"
            what = f"it has no Python 3.{target.runtime.minor} for {target.architecture} (found: {there})"
            raise unusable_image(base.named, what, _OTHER_IMAGE)
        save_digest(self._store, RuntimeName(name=target.runtime_image, architecture=target.architecture, digest=base.digest))
        return files

    def _find(self, target: Target) -> Base:
        named, wanted = target.runtime_image, Platform.of(target.architecture)
        reference = Reference.parse(named)
        if target.image.digest and not self._upgrade and not reference.digest:
            reference = replace(reference, tag="", digest=target.image.digest)
        try:
            base = self._resolve(reference, wanted)
        except RegistryError as error:
            raise RegistryError(f"The runtime image {named}: {error.what}", remedy=error.remedy, detail=error.detail) from None
        if not base.config.platform.serves(wanted):
            raise unusable_image(named, f"it is for {base.config.platform}, not for {wanted}", _OTHER_IMAGE)
        return replace(base, named=named)
