"""Which builders are tried for a package, in which order, and what may help where one fails: one table."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from builders.recipes import BuildSettings
from packer.core.model import Archive, LockedPackage, SourceFolder
from packer.locks.wheel_choice import describe_wheel_tags

_FIX_PROJECT = "Or fix the project; its own build tool gives the same error."
_OTHER_VERSION = "Or use a version that has a wheel for this target."


class BuilderRow(Struct, frozen=True, kw_only=True):
    """When a builder is tried by itself, and what may help where it has failed.

    ``native`` says that it builds native code, ``pure`` that pure Python is tried with it; ``prepared`` that it honors the
    image and the setup commands of the configuration: who names those means no place that cannot have them. ``remedy`` may hold
    ``{name}``, which stands for the package.
    """

    native: bool = True
    pure: bool = True
    prepared: bool = False
    remedy: str = ""


BUILDER_TABLE: dict[str, BuilderRow] = {
    # Native code is never left to this machine's own compiler: many packages leave it out where it fails, and what that gives
    # differs from machine to machine. Pure Python needs no image.
    "host": BuilderRow(native=False, prepared=True),
    "container": BuilderRow(
        prepared=True,
        remedy=(
            "If the image lacks what the build needs (a compiler, a library with its headers), install that by setup commands "
            'in the configuration: [packages.{name}] setup = ["dnf install -y …"]. '
            "If the build must reach the network: network = true."
        ),
    ),
    "cross": BuilderRow(
        remedy=(
            "This machine's own libraries are never used for such a build; what links to a library builds in a container: "
            '[packages.{name}] builder = "container".'
        ),
    ),
}
"""The builders by name, in the order in which they are tried. To add one: a class in builders/, its name in
`builders.recipes.BuilderName`, a row here, and the line in `packer.cli.builder_wiring` that makes it."""


def builders_to_try(settings: BuildSettings, native: str) -> Iterator[tuple[str, str]]:
    """Return the builders for a package, first to last, each with the reason that the manifest shows.

    ``native`` is the file that shows native code, empty where none does.
    """
    if settings.builder != "auto":
        yield settings.builder, "configured"
        return
    why = f"no wheel fits, and it has native code ({native})" if native else "no wheel fits, and it looks like pure Python"
    rows = ((name, row) for name, row in BUILDER_TABLE.items() if (row.native if native else row.pure))
    order = [name for name, row in rows if row.prepared or not (settings.image or settings.setup)]
    for number, name in enumerate(order):
        yield name, why if number == 0 else f"{why}; {', '.join(order[:number])} could not"


def remedy_for(package: LockedPackage, builder: str) -> str:
    """Return what to do about a package that ``builder`` (empty: none) cannot turn into a wheel that fits."""
    more = BUILDER_TABLE.get(builder, BuilderRow()).remedy.format(name=package.name or "NAME")
    return f"{more} {_FIX_PROJECT if isinstance(package.source, SourceFolder) else _OTHER_VERSION}".lstrip()


def offered_wheels(package: LockedPackage) -> str:
    """Return which wheels an index offers, in words; empty for a project folder or a repository."""
    return describe_wheel_tags(package) if isinstance(package.source, Archive) else ""
