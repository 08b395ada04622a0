"""The table of the places where bases are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path

from packer.cache.store import Store
from packer.core.errors import RegistryError
from packer.formats.image import Base
from packer.formats.oci import Platform, Reference
from packer.images.base import REGISTRY, BaseSource, split_path
from packer.images.base_archive import ArchiveSource, EngineSource, SavingEngine
from packer.images.base_layout import LayoutSource


class RegistrySource:
    """Finds bases in registries; ``resolve`` asks one of them for a reference."""

    def __init__(self, resolve: Callable[[Reference, Platform], Base]) -> None:
        self._resolve = resolve

    def find(self, named: str, place: str, platform: Platform, _folder: Path) -> Base:
        """Find a base (`packer.images.base.BaseSource`) by its reference; raises `RegistryError`."""
        try:
            return self._resolve(Reference.parse(place), platform)
        except RegistryError as error:
            what = f"The base {named} is not read: {error.what}"
            raise RegistryError(what, remedy=error.remedy, detail=error.detail) from None


def base_sources(
    store: Store,
    executor: Executor,
    resolve: Callable[[Reference, Platform], Base],
    connect: Callable[[], SavingEngine],
) -> Mapping[str, BaseSource]:
    """Return the sources by the forms that names of bases begin with (`packer.core.names.LOCAL_FORMS`)."""
    archives = ArchiveSource(store, executor)
    return {
        REGISTRY: RegistrySource(resolve),
        "oci": LayoutSource(),
        "docker-archive": archives,
        "engine": EngineSource(store, archives, connect),
    }


def files_of_base(named: str, folder: Path) -> tuple[Path, ...]:
    """Return the files whose change would make a base another one; none for what a registry or an engine has.

    Raises `UsageError` where a path does not exist.
    """
    form, _, place = named.partition(":")
    if not place or form not in ("oci", "docker-archive"):
        return ()
    path, _ = split_path(folder, place)
    return (path, path / "index.json") if form == "oci" else (path,)
