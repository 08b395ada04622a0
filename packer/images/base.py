"""What images are built upon: the protocol of the places it comes from, and the reader that looks in them.

    HOST/REPOSITORY:TAG, …@sha256:DIGEST     in a registry, as Docker names images
    oci:PATH, oci:PATH:TAG, oci:PATH@DIGEST  a folder with an OCI image layout
    docker-archive:PATH, …:REPOSITORY:TAG    a file that `docker save` or `skopeo copy` wrote
    engine:NAME                              what Docker or Podman has under that name here

`packer.images.base_sources` has the table of these forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from packer.cache.store import Store
from packer.core.errors import UsageError
from packer.formats.image import Base, check_image
from packer.formats.oci import Platform
from packer.images.base_check import CheckedLayers

REGISTRY = ""
"""The form of a base in a registry: its name begins with none."""


class BaseSource(Protocol):
    """One kind of place where bases are found; may be used from many threads."""

    def find(self, named: str, place: str, platform: Platform, folder: Path) -> Base:
        """Find the base that the user calls ``named``: at ``place``, which is the name without its form.

        Relative paths are below ``folder``. Raises `UsageError` for a name that leads nowhere, `ImageError` for what cannot be
        used, or another `LpackError` of the place.
        """
        ...


class BaseReader:
    """Reads bases; may be used from many threads. ``sources`` are by the form that names begin with, before a colon."""

    def __init__(self, store: Store, sources: Mapping[str, BaseSource]) -> None:
        self._store = store
        self._sources = sources

    def read(self, named: str, platform: Platform, folder: Path) -> Base:
        """Find a base by its name, and check that it serves the platform; relative paths in the name are below ``folder``.

        The base's layers are checked when they are first brought. Raises what `BaseSource.find` raises.
        """
        form, _, place = named.partition(":")
        if not place or form not in self._sources:
            form, place = REGISTRY, named
        base = self._sources[form].find(named, place, platform, folder)
        check_image(base.manifest, base.config, named)
        if not base.config.platform.serves(platform):
            what = f"The base {named} is for {base.config.platform}, and the function for {platform}."
            raise UsageError(what, remedy="Name another base (oci.base), or another architecture (arch).")
        layers = {each.digest: diff for each, diff in zip(base.manifest.layers, base.config.diff_ids, strict=True)}
        return replace(base, named=named, blobs=CheckedLayers(self._store, base.blobs, layers, named))


def split_path(folder: Path, text: str) -> tuple[Path, str]:
    """Return the path and the tag or digest of ``PATH``, ``PATH:TAG`` or ``PATH@DIGEST``; the path may hold colons itself.

    Raises `UsageError` where nothing exists at the path.
    """
    whole = folder / Path(text).expanduser()
    if whole.exists():
        return whole, ""
    for mark in ("@", ":"):
        path, found, tag = text.partition(mark)
        if found and (folder / Path(path).expanduser()).exists():
            return folder / Path(path).expanduser(), tag
    raise UsageError(f"There is no {whole}.", remedy="Name the path of an image that exists (oci.base).")
