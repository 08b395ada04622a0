"""Makes the layers of images by way of the store: a layer of the same files is compressed once."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path

from builders.once import Once
from packer.cache.signatures import signature
from packer.cache.store import Store, digest_of, store_errors
from packer.core.errors import StoreError
from packer.core.model import Content, Span, Tree
from packer.core.options import ImageCompression
from packer.formats.image import BlobSource, ImageLayer
from packer.formats.oci import OCI_LAYER, Descriptor
from packer.images.layer_tar import TarMember, tar_members
from packer.images.layer_writer import codec_identity, write_layer

_FORM = "1"
_KIND = "image-layers"
_TYPES: dict[ImageCompression, str] = {
    "gzip": f"{OCI_LAYER}+gzip",
    "gzip-whole": f"{OCI_LAYER}+gzip",
    "zstd": f"{OCI_LAYER}+zstd",
}


class StoredBlobs(BlobSource):
    """Gives blobs that lie in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def bring(self, blob: Descriptor) -> Path:
        """Return a blob's file; raises `StoreError` where it is gone."""
        path = self._store.blob(blob.sha256)
        if path is None:
            raise StoreError(f"A layer ({blob.digest}) is not in the cache any more.", remedy="Build again.")
        return path


def _identity(content: Content | None) -> tuple[str, ...]:
    """Return what decides a file's bytes in a layer: its content, and the stream of it that lies ready in a wheel."""
    span = content.span() if content else None
    ready = f"{span.path.name} {span.offset}" if span else ""  # wheels are called by their digests
    return (content.digest, ready) if content else ("",)


class LayerBlobs:
    """Makes layers; may be used from many threads, but from none of ``executor``, over which it spreads its work."""

    def __init__(self, store: Store, spans: Callable[[Content], Span], executor: Executor) -> None:
        self._store = store
        self._spans = spans
        self._executor = executor
        self._blobs = StoredBlobs(store)
        self._made: Once[str, ImageLayer] = Once()

    def layer(
        self,
        parts: Iterable[tuple[str, Tree]],
        compression: ImageCompression,
        epoch: int,
    ) -> ImageLayer:
        """Return the layer of trees below their folders.

        ``epoch`` is the time of its files, in seconds. Raises `LpackError`.
        """
        members = tar_members(parts)
        listed = (part for each in members for part in (each.path, str(each.mode), *_identity(each.content)))
        key = digest_of(_FORM, codec_identity(compression), str(epoch), *listed)
        return self._made.get(
            key, lambda: self._load_layer(key, compression) or self._written(key, members, compression, epoch)
        )

    def _load_layer(self, key: str, compression: ImageCompression) -> ImageLayer | None:
        record = self._store.load(_KIND, key)
        if record is None:
            return None
        digest, size, diff_id = json.loads(record.payload)
        # The output folder has links to it, through which it may have been truncated.
        whole = signature(self._store.blob_path(digest))[:2] == (stat.S_IFREG, size)
        return self._layer(digest, size, diff_id, compression) if whole else None

    def _written(self, key: str, members: list[TarMember], compression: ImageCompression, epoch: int) -> ImageLayer:
        with self._store.temporary() as temporary:
            with store_errors(temporary, "write"), temporary.open("wb") as file:
                written = write_layer(members, file, self._spans, self._executor, compression, epoch)
            self._store.adopt_blob(temporary, written.digest, written.length)
        facts = (written.digest, written.length, written.diff_id)
        self._store.save(_KIND, key, json.dumps(facts).encode())
        return self._layer(*facts, compression)

    def _layer(self, digest: str, size: int, diff_id: str, compression: ImageCompression) -> ImageLayer:
        descriptor = Descriptor(media_type=_TYPES[compression], digest=f"sha256:{digest}", size=size)
        return ImageLayer(descriptor=descriptor, diff_id=f"sha256:{diff_id}", blobs=self._blobs, own=True)
