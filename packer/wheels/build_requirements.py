"""Wheels of build requirements: resolved for where the build runs, fetched, or built themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement

from builders.errors import BuildError
from builders.runtimes import Target
from packer.cache.store import Store, digest_of, store_errors
from packer.core.errors import NoSolutionError, ResolveError
from packer.core.model import Distribution, Function, LockedPackage
from packer.formats.distribution_names import canonical_name
from packer.net.downloads import StoreFetcher
from packer.resolve.resolver import Resolver
from packer.source.package_source import link_or_copy
from packer.wheels.provider import BuildMissing, provide_wheels

_NAME_IT = (
    "One that has no wheel is only taken where the configuration names it, as its code may run on this machine, to say what it "
    'needs: [packages.NAME] builder = "auto".'
)


class BuildNeeds(Struct, frozen=True, kw_only=True):
    """What the build of a package asks for (PEP 508), to run on a target.

    ``wanting`` is the package, for messages; it is ``trusted`` where it is a project of the user's own.
    """

    requires: tuple[str, ...]
    target: Target
    wanting: str
    trusted: bool = False


def _parse_requirement(requirement: str, needs: BuildNeeds) -> Requirement:
    """Read a requirement, which may then stand in a requirements file; raises `BuildError`."""
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        what = f"Cannot build {needs.wanting}: it asks for {requirement!r}, which is no requirement (PEP 508)."
        raise BuildError(what, remedy="Fix the source, or use another version.") from None
    if parsed.url and not needs.trusted:
        what = f"Cannot build {needs.wanting}: it asks for {requirement!r}, which is to come from a place of its own choice."
        raise BuildError(what, remedy="Use a version that takes its build requirements from the index.")
    return parsed


class BuildRequirements:
    """Resolves build requirements, and provides their wheels in the store."""

    def __init__(self, store: Store, resolver: Resolver, fetcher: StoreFetcher) -> None:
        self._store = store
        self._resolver = resolver
        self._fetcher = fetcher

    def wheels(self, needs: BuildNeeds, function: Function, build: BuildMissing) -> tuple[Distribution, ...]:
        """Return the wheels of what a build needs, and of all that needs in turn; ``build`` builds those without a wheel.

        Raises `BuildError` and others.
        """
        if not needs.requires:
            return ()
        requires = [_parse_requirement(each, needs) for each in needs.requires]
        try:
            packages = self._resolve_packages(requires, needs, function)
        except ResolveError as error:
            raise BuildError(
                f"Cannot build {needs.wanting}: its build requirements ({', '.join(map(str, requires))}) cannot be resolved "
                f"for {needs.target}.",
                detail=error.detail or error.what,
                remedy=f"{error.remedy} {_NAME_IT}",
            ) from None
        made = provide_wheels(packages, needs.target, self._fetcher, build)
        return tuple(each.distribution for each in made)

    def _resolve_packages(
        self, requires: Sequence[Requirement], needs: BuildNeeds, function: Function
    ) -> tuple[LockedPackage, ...]:
        """Resolve among wheels alone, and with the source of a package only where that is the user's own choice.

        Whatever has no wheel may have to be run for its requirements to be known, here and not in a container, and who wrote
        the source of another package must not be able to bring that about. Nor is anything compiled that has a wheel: of the
        packages that the configuration names, one alone is tried first, and all only then.
        """
        named = [name for name, _ in function.packages]
        placed = [canonical_name(each.name) for each in requires if each.url]
        steps = tuple(dict.fromkeys((*placed, *more) for more in ((), *((name,) for name in named), named)))
        lines = [str(each) for each in requires]
        # What has answered last is asked first: a step that finds nothing would ask the index again each time.
        key = digest_of("steps 2", str(needs.target), *lines, "", *named)
        record = self._store.load("resolutions", key)
        first = int(record.payload) if record else 0
        failure: NoSolutionError | None = None
        for number in dict.fromkeys((first, *range(len(steps)))):
            try:
                found = self._resolver.build_requirements(lines, needs.target, function, steps[number])
            except NoSolutionError as error:
                failure = failure or error
            else:
                if number != first:
                    self._store.save("resolutions", key, str(number).encode())
                return found
        assert failure is not None  # noqa: S101 there is always a first step
        raise failure

    def place(self, tools: Sequence[Distribution], folder: Path) -> tuple[Path, ...]:
        """Put wheels into a new folder under their own file names."""
        with store_errors(folder, "write"):
            folder.mkdir()
            for tool in tools:
                link_or_copy(tool.path, folder / tool.filename)
        return tuple(folder / tool.filename for tool in tools)
