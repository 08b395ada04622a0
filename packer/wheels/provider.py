"""Brings the wheels of locked packages into the store: fetched where one fits the target, and built where none does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from builders.once import Once
from builders.runtimes import Target
from packer.core.model import Archive, Distribution, Function, LockedPackage
from packer.core.records import WheelBuildRecord
from packer.locks.wheel_choice import choose_wheel, no_wheel_error
from packer.net.downloads import FetchedArchive


class ProvidedWheel(Struct, frozen=True, kw_only=True):
    """A package's wheel. ``record`` says for the manifest how it was built; None where it was fetched."""

    distribution: Distribution
    record: WheelBuildRecord | None = None
    warnings: tuple[str, ...] = ()


class ArchiveFetcher(Protocol):
    """Gives archives in the store, or what is known of them."""

    def fetch(self, archives: Sequence[Archive]) -> list[FetchedArchive]: ...


MissingWheel = tuple[LockedPackage, FetchedArchive | None]
"""A package without a wheel, and its source in the store where that is an archive."""
BuildMissing = Callable[[Sequence[MissingWheel]], Sequence[ProvidedWheel]]


class PackageBuilder(Protocol):
    """Gives the wheels of packages that have none, or what is known of them."""

    def build_all(self, function: Function, packages: Sequence[MissingWheel]) -> list[ProvidedWheel]: ...
    def kept(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> ProvidedWheel | None:
        """Return the wheel that was last built of a package's source as it is now; None where none was."""
        ...


class LazyPackageBuilder:
    """Makes what builds when something is to be built, which for most functions never comes; may be used by many threads."""

    def __init__(self, make: Callable[[], PackageBuilder]) -> None:
        self._make = make
        self._made: Once[None, PackageBuilder] = Once()

    def build_all(self, function: Function, packages: Sequence[MissingWheel]) -> list[ProvidedWheel]:
        """Return the wheels of packages that have none, in their order; raises `LpackError`."""
        return self._made.get(None, self._make).build_all(function, packages)

    def kept(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> ProvidedWheel | None:
        """Return the wheel that was last built of a package's source as it is now; None where none was."""
        return self._made.get(None, self._make).kept(function, package, sdist)


def provide_wheels(
    packages: Sequence[LockedPackage], target: Target, fetcher: ArchiveFetcher, build: BuildMissing
) -> tuple[ProvidedWheel, ...]:
    """Return the wheels of packages in their order; raises `LpackError`."""
    # By their places: a package's hash is that of all files that its lock offers.
    chosen = [choose_wheel(package, target) for package in packages]
    for package, wheel in zip(packages, chosen, strict=True):
        if wheel is None and package.source is None:
            raise no_wheel_error(package, target)
    wanted = [wheel or _source_archive(package) for package, wheel in zip(packages, chosen, strict=True)]
    needed = {place: archive for place, archive in enumerate(wanted) if archive is not None}
    fetched = dict(zip(needed, fetcher.fetch(list(needed.values())), strict=True))
    lacking = [place for place, wheel in enumerate(chosen) if wheel is None]
    missing = [(packages[place], fetched.get(place)) for place in lacking]
    built = dict(zip(lacking, build(missing), strict=True)) if missing else {}
    return tuple(
        ProvidedWheel(distribution=_fetched_wheel(packages[place], wheel, fetched[place])) if wheel else built[place]
        for place, wheel in enumerate(chosen)
    )


def _source_archive(package: LockedPackage) -> Archive | None:
    return package.source if isinstance(package.source, Archive) else None


def _fetched_wheel(package: LockedPackage, wheel: Archive, file: FetchedArchive) -> Distribution:
    version = wheel.filename.split("-")[1]
    return Distribution(
        name=package.name,
        version=version,
        filename=wheel.filename,
        digest=file.sha256,
        path=file.path,
        outlined=file.outlined,
    )
