"""Estimates the wheels of packages that have none: by what was last built of them, or else by their source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from packer.cache.signatures import Digests
from packer.cache.store import Store, digest_of
from packer.core.model import Archive, Distribution, Function, LockedPackage, SourceFolder
from packer.formats.wheel_outline import NOTHING, OUTLINES, SOURCE, OutlinedFile, guess_files, write_outline
from packer.net.downloads import FetchedArchive
from packer.source.package_source import read_project_tree
from packer.wheels.provider import MissingWheel, PackageBuilder, ProvidedWheel

_FORM = "1"
_PACKED = 3
"""How many times smaller sources are than what they pack to, as a rule."""
_SOURCES = "src"
_MODULE = "__init__.py"


class EstimatedWheels:
    """Gives the wheels of packages that have none: those that were built before, and outlines of all others."""

    def __init__(self, builds: PackageBuilder, store: Store, digests: Digests) -> None:
        self._builds = builds
        self._store = store
        self._digests = digests

    def build_all(self, function: Function, packages: Sequence[MissingWheel]) -> list[ProvidedWheel]:
        """Return what is known of packages, in their order; raises `LpackError` where a source cannot be read."""
        return [self._known_or_guess(function, package, sdist) for package, sdist in packages]

    def kept(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> ProvidedWheel | None:
        """Return the wheel that was last built of a package's source as it is now; None where none was."""
        return self._builds.kept(function, package, sdist)

    def _known_or_guess(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> ProvidedWheel:
        known = None if sdist is not None and sdist.outlined else self.kept(function, package, sdist)
        return known or self._guess(package)

    def _guess(self, package: LockedPackage) -> ProvidedWheel:
        name, version = package.name or "project", package.version or "0"
        if isinstance(package.source, SourceFolder):
            files = list(self._installed_files(package.source.path))
        else:
            size = package.source.size if isinstance(package.source, Archive) else None
            files = guess_files(name.replace("-", "_"), version, size or 0)
        how = SOURCE if any(each.size for each in files) else NOTHING
        payload = write_outline(files)
        key = digest_of(_FORM, SOURCE, name, version, payload.decode())
        record = self._store.save(OUTLINES, key, payload)
        filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        return ProvidedWheel(
            distribution=Distribution(name=name, version=version, filename=filename, digest=key, path=record.path, outlined=how)
        )

    def _installed_files(self, folder: Path) -> Iterator[OutlinedFile]:
        """Return what a local project is likely to install: its modules, and all that lies in its packages."""
        tree, _ = read_project_tree(folder, self._digests)
        paths = {entry.path for entry in tree}
        for entry in tree:
            path = entry.path.removeprefix(f"{_SOURCES}/")
            root = f"{_SOURCES}/" if path != entry.path else ""
            top, _, rest = path.partition("/")
            if f"{root}{top}/{_MODULE}" in paths or (not rest and path.endswith(".py") and path != "setup.py"):
                size = entry.content.size
                yield OutlinedFile(path=path, mode=entry.mode, size=size, packed=size // _PACKED)
