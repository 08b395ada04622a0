"""Brings what builds need: build requirements are resolved for where the build runs, and fetched or built themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builders.runtimes import Target
from packer.errors import BuildError, ResolveError
from packer.fetch import StoreFetcher
from packer.model import Distribution, Function
from packer.obtain import Build, obtain
from packer.origin import link_or_copy
from packer.resolve import Resolver
from packer.store import explained


class Tooling:
    """Brings build requirements into the store."""

    def __init__(self, resolver: Resolver, fetcher: StoreFetcher) -> None:
        self._resolver = resolver
        self._fetcher = fetcher

    def bring(
        self, requires: Sequence[str], target: Target, function: Function, wanting: str, build: Build
    ) -> tuple[Distribution, ...]:
        """Give the wheels of requirements and of all that they need on a target.

        ``wanting`` is the package that needs them, ``build`` builds those without a wheel. Raises `BuildError` and others.
        """
        if not requires:
            return ()
        try:
            packages = self._resolver.build_requirements(requires, target, function)
        except ResolveError as error:
            raise BuildError(
                f"Cannot build {wanting}: its build requirements ({', '.join(requires)}) cannot be resolved for {target}.",
                detail=error.detail or error.what,
                remedy=error.remedy,
            ) from None
        made = obtain(packages, target, self._fetcher, build)
        return tuple(each.distribution for each in made)

    def place(self, tools: Sequence[Distribution], folder: Path) -> tuple[Path, ...]:
        """Put wheels into a new folder under their own file names."""
        with explained(folder, "write"):
            folder.mkdir()
            for tool in tools:
                link_or_copy(tool.path, folder / tool.filename)
        return tuple(folder / tool.filename for tool in tools)
