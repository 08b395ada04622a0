"""Unpacks an image into the store: once for all processes, as any user, and never half."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from builders.errors import BuildError
from builders.files import write_file
from builders.rootfs.record import RECORD, ROOT, UnpackedImage, describe_root, read_root
from builders.rootfs.unpack import RootFolder
from builders.runtimes import IMAGE_ARCHITECTURES, IMAGE_LIMIT, Architecture
from packer.cache.process_lock import lock_name
from packer.cache.store import Store, store_errors
from packer.cache.unpacked_images import find_unpacked, image_folder, remove_unpacked
from packer.core.events import Reporter
from packer.formats.image import Base
from packer.formats.oci import Descriptor, unusable_image
from packer.images.base_check import members, open_layer, refuse_layer

_PARALLEL = 4
"""Layers that are downloaded at once."""
_IMPOSSIBLE = frozenset((errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.ELOOP))
"""Errors that the paths of a layer have caused, and not the disk."""


def unpack_image(base: Base, store: Store, reporter: Reporter) -> UnpackedImage:
    """Return an image's root file system in the store, unpacked now if it is not there yet.

    Raises `ImageError` for an image that must not or cannot be unpacked, `StoreError`, or what its registry raises.
    """
    found = find_unpacked(store, base.digest)
    if found is not None:
        return found
    waiting = f"another process is unpacking {base.named}; waiting for it"
    with lock_name(store, f"unpack-{base.digest.removeprefix('sha256:')}", lambda: reporter.note(waiting)):
        return find_unpacked(store, base.digest) or _unpack_anew(base, store, reporter)


def _unpack_anew(base: Base, store: Store, reporter: Reporter) -> UnpackedImage:
    architecture = _architecture(base)
    folder = image_folder(store, base.digest)
    with store.workspace() as work:
        root = work / folder.name / ROOT
        with store_errors(root, "write"):
            root.mkdir(parents=True, mode=0o755)
        _apply_layers(base, _bring_layers(base), root, reporter)
        with store_errors(root, "write"):
            record = describe_root(root, base.digest, architecture, base.config.environment)
            write_file(root.parent / RECORD, record.encode(), mode=0o644)
        if folder.exists():  # it is no longer what was unpacked
            remove_unpacked(store, folder)
        with store_errors(folder, "write"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            root.parent.rename(folder)
    found = read_root(folder, base.digest)
    if found is None:
        raise unusable_image(base.named, "it is not the same after it was unpacked", "Check the disk of the cache.")
    return found


def unpack_layers(base: Base, folder: Path) -> None:
    """Unpack an image into a folder that is empty; raises what `unpack_image` raises."""
    _apply_layers(base, _bring_layers(base), folder, Reporter())


def _architecture(base: Base) -> Architecture:
    platform = base.config.platform
    for architecture, name in IMAGE_ARCHITECTURES.items():
        if (platform.os, platform.architecture) == ("linux", name):
            return architecture
    raise unusable_image(base.named, f"it is for {platform}, which Lambda does not have")


def _bring_layers(base: Base) -> Sequence[Path]:
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="layer") as executor:
        try:
            return list(executor.map(base.blobs.bring, base.manifest.layers))
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _apply_layers(base: Base, paths: Sequence[Path], root: Path, reporter: Reporter) -> None:
    size = sum(layer.size for layer in base.manifest.layers)
    folder, done = RootFolder(root, IMAGE_LIMIT), 0
    with reporter.transfer(base.named, size, "unpack"):
        for layer, diff_id, path in zip(base.manifest.layers, base.config.diff_ids, paths, strict=True):
            _apply_layer(folder, path, layer, diff_id, base.named)
            done += layer.size
            reporter.transfer_advanced(base.named, done)


def _apply_layer(folder: RootFolder, path: Path, layer: Descriptor, diff_id: str, named: str) -> None:
    folder.begin_layer()
    with open_layer(path, layer.media_type, diff_id, named) as opened:
        for name, info in members(opened, named):
            content = opened.extractfile(info) if info.isreg() else None
            with ExitStack() as closing:
                if content is not None:
                    closing.enter_context(content)
                try:
                    folder.add(name, info, content)
                except BuildError as error:
                    raise refuse_layer(named, error.what) from None
                except OSError as error:
                    if error.errno in _IMPOSSIBLE:
                        raise refuse_layer(named, f"{name[:200]!r} cannot be written ({os.strerror(error.errno)})") from None
                    with store_errors(Path(name), "unpack"):
                        raise
