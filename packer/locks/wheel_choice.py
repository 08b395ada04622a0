"""Chooses the best of a locked package's wheels by the target's tags."""

from __future__ import annotations

from functools import cache

from builders.runtimes import Target
from packer.core.errors import PackageError
from packer.core.model import Archive, LockedPackage
from packer.formats.distribution_names import parse_wheel_name


def choose_wheel(package: LockedPackage, target: Target) -> Archive | None:
    """Return the wheel whose tag stands first among the target's, of equals the highest build number; None if none fits."""
    ranks = _tag_ranks(target)
    best: tuple[tuple[int, int, str], Archive] | None = None
    for wheel in package.wheels:
        try:
            name = parse_wheel_name(wheel.filename)
        except ValueError:
            continue
        fitting = [ranks[tag] for tag in name.tags if tag in ranks]
        if not fitting:
            continue
        order = (min(fitting), -(name.build or 0), wheel.filename)
        if best is None or order < best[0]:
            best = (order, wheel)
    return best[1] if best else None


@cache
def _tag_ranks(target: Target) -> dict[str, int]:
    return {tag: rank for rank, tag in enumerate(target.tags())}


def describe_wheel_tags(package: LockedPackage) -> str:
    """Return which wheels the lock offers, in words."""
    tags = sorted({wheel.filename.removesuffix(".whl").split("-", 2)[-1] for wheel in package.wheels})
    if not tags:
        return "The lock has no wheel of it: none exists, or `--no-binary` leaves them out."
    return f"Wheels exist for: {', '.join(tags)}"


def no_wheel_error(package: LockedPackage, target: Target) -> PackageError:
    """Return the error of a package without a wheel for the target: which tags exist, and what to do."""
    return PackageError(
        f"{package} has no wheel for {target} ({target.runtime.operating_system}, glibc 2.{target.glibc}), and no source.",
        detail=describe_wheel_tags(package),
        remedy="Choose a version that has one (the index lists them), another architecture, or a newer runtime.",
    )
