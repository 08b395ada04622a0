"""Keeps of a lock only what its declaration's hashes allow: an index may offer other files than were meant."""

from __future__ import annotations

from msgspec.structs import replace

from packer.core.errors import ResolveError
from packer.core.model import Archive, Function, LockedPackage
from packer.resolve.declaration import Declaration


def allowed(function: Function, declaration: Declaration, packages: tuple[LockedPackage, ...]) -> tuple[LockedPackage, ...]:
    """Keep only the archives whose hashes the declaration lists, where it lists any; raises `ResolveError`."""
    if not declaration.hashes:
        return packages
    return tuple(_checked(function, package, declaration.hashes.get(package.name)) for package in packages)


def _checked(function: Function, package: LockedPackage, hashes: frozenset[str] | None) -> LockedPackage:
    place = function.requirements.path if function.requirements else function.source
    if not package.wheels and not isinstance(package.source, Archive):
        return package  # a folder of the user's own, or a commit: nothing that an index could have exchanged
    if hashes is None:
        raise ResolveError(
            f"{place} lists hashes, but none for {package}, which its requirements bring in.",
            remedy="List every package with its hash (`uv pip compile --generate-hashes` does), or none.",
        )
    wheels = tuple(wheel for wheel in package.wheels if wheel.sha256 in hashes)
    source = package.source
    if isinstance(source, Archive) and source.sha256 not in hashes:
        source = None
    if not wheels and source is None:
        raise ResolveError(
            f"Hash mismatch: none of the files that the index offers for {package} has a hash that {place} lists.",
            remedy="Do not use them before you know why. If the release changed on purpose, write its hashes anew.",
        )
    return replace(package, wheels=wheels, source=source)
