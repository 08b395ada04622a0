"""Which builders are tried for a package, in which order, and what is told where one cannot build it."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from builders.errors import BuildError, NativeCodeError, UnavailableError
from builders.recipes import BuildSettings
from packer.core.model import Archive, LockedPackage, SourceFolder
from packer.locks.wheel_choice import existing_tags

_FIX_PROJECT = "Or fix the project; its own build tool gives the same error."
_ELSE = "Or use a version that has a wheel for this target."
_FIX = {
    "container": (
        "If the image lacks what the build needs (a compiler, a library with its headers), install that by setup commands in "
        'the configuration: [packages.{name}] setup = ["dnf install -y …"]. '
        "If the build must reach the network: network = true."
    ),
    "cross": (
        "This machine's own libraries are never used for such a build; what links to a library builds in a container: "
        '[packages.{name}] builder = "container".'
    ),
    "host": "",
}
"""What may bring a build further that has failed, by builder."""


def builders_to_try(settings: BuildSettings, native: str) -> Iterator[tuple[str, str]]:
    """Return the builders for a package, first to last, each with the reason that the manifest shows.

    ``native`` is the file that shows native code, empty where none does. Native code is never left to this machine's own
    compiler: many packages leave it out where it fails, and what that gives differs from machine to machine.
    """
    if settings.builder != "auto":
        yield settings.builder, "configured"
        return
    why = f"no wheel fits, and it has native code ({native})" if native else "no wheel fits, and it looks like pure Python"
    # Who names an image, or prepares one, means that and no other place.
    elsewhere = ("container",) if settings.image or settings.setup else ("container", "cross")
    order = elsewhere if native else ("host", *elsewhere)
    for number, name in enumerate(order):
        yield name, why if number == 0 else f"{why}; {', '.join(order[:number])} could not"


class Attempts(Struct, kw_only=True):
    """The builders that could not build a package, with what they said."""

    package: LockedPackage
    settings: BuildSettings
    refusals: list[tuple[str, UnavailableError | NativeCodeError]] = field(default_factory=list)

    def add(self, builder: str, refusal: UnavailableError | NativeCodeError) -> None:
        """Note that a builder could not."""
        self.refusals.append((builder, refusal))

    def warnings(self, builder: str) -> tuple[str, ...]:
        """Say that ``builder`` did what another one should have done, had it been there."""
        return tuple(
            f"{self.package} is built by {builder}, because {name} could not: {refusal.what}. {refusal.remedy} "
            f"Or settle on it: {self._table(builder)}."
            for name, refusal in self.refusals
            if isinstance(refusal, UnavailableError)
        )

    def error(self, what: str) -> BuildError:
        """Return the error that names every builder's reason; ``what`` could not be built, for which target."""
        rest = " ".join((*self._alternatives(), remedy_of(self.package, "")))
        if len(self.refusals) == 1:
            [(_, refusal)] = self.refusals
            remedy = f"{refusal.remedy} {rest}".lstrip()
            return BuildError(f"{what}: {refusal.what}.", detail=offered(self.package), remedy=remedy)
        told = [f"  {name}: {refusal.what}. {refusal.remedy}".rstrip() for name, refusal in self.refusals]
        return BuildError(
            f"{what}: none of the builders can.",
            detail="\n".join(filter(None, (*told, offered(self.package)))),
            remedy=f"Give one of them what it lacks; `lpack doctor` looks at all. {rest}",
        )

    def _alternatives(self) -> Iterator[str]:
        """Name the builders that were not tried, where `auto` was to choose, with when they would serve."""
        tried = {name for name, _ in self.refusals}
        if self.settings.builder != "auto":
            return
        if "cross" not in tried:
            yield f"Without the image and setup that the configuration names, zig may build it, too: {self._table('cross')}."
        if "host" not in tried:
            yield f"If it is pure Python after all: {self._table('host')}."

    def _table(self, builder: str) -> str:
        return f'[packages.{self.package.name or "NAME"}] builder = "{builder}"'


def remedy_of(package: LockedPackage, builder: str) -> str:
    """Say what to do about a package that ``builder`` (empty: none) cannot turn into a wheel that fits."""
    more = _FIX.get(builder, "").format(name=package.name or "NAME")
    return f"{more} {_FIX_PROJECT if isinstance(package.source, SourceFolder) else _ELSE}".lstrip()


def offered(package: LockedPackage) -> str:
    """Say which wheels there are of what an index offers; a project folder or a repository has none."""
    return existing_tags(package) if isinstance(package.source, Archive) else ""
