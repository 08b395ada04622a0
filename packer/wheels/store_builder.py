"""Builds what a lock offers no wheel for: several packages at once, each by the first builder that can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Lock

from builders.errors import interruption_error
from builders.once import Once
from builders.recipes import Builder, BuildSettings, BuiltWheel, Recipe, WheelRequest
from builders.runtimes import Target
from packer.cache.store import Store
from packer.core.events import Reporter
from packer.core.futures import collect_results
from packer.core.model import Function, LockedPackage
from packer.net.downloads import FetchedArchive
from packer.wheels.build_requirements import BuildRequirements
from packer.wheels.fallback_builder import FallbackBuilder
from packer.wheels.provider import MissingWheel, ProvidedWheel
from packer.wheels.source_builder import CachedBuilder, SourceBuilder
from packer.wheels.wheel_builder import SharedBuilder, TaskMaker, WheelBuilder


class LazyBuilder:
    """A builder that is made when it is first needed, which may raise `UnavailableError`, and not at all after `close`."""

    def __init__(self, make: Callable[[], Builder]) -> None:
        self._make = make
        self._made: Once[None, Builder] = Once()
        self._lock = Lock()
        self._open: Builder | None = None
        self._closed = False

    def recipe(self, target: Target, settings: BuildSettings) -> Recipe:
        """Return how it would build; raises `UnavailableError`, or `BuildError` after closing."""
        return self._builder().recipe(target, settings)

    def build(self, request: WheelRequest, into: Path) -> AbstractContextManager[BuiltWheel]:
        """Build in the empty folder ``into``; raises what the builder raises, or `BuildError` after closing."""
        return self._builder().build(request, into)

    def close(self) -> None:
        """Close what was made, and make nothing more."""
        with self._lock:
            self._closed = True
            builder = self._open
        if builder is not None:
            builder.close()

    def _builder(self) -> Builder:
        return self._made.get(None, self._opened)

    def _opened(self) -> Builder:
        if self._closed:
            raise interruption_error()
        builder = self._make()
        with self._lock:
            self._open = builder
            closed = self._closed
        if closed:  # while it was made
            builder.close()
        return builder


def build_with_any(
    builders: Mapping[str, Builder],
    store: Store,
    tasks: TaskMaker,
    requirements: BuildRequirements,
    reporter: Reporter,
    scrub: Callable[[str], str],
) -> WheelBuilder:
    """Return what builds each task by the first of the builders that can, and keeps what it made in the store."""

    def cached(name: str, builder: Builder) -> WheelBuilder:
        return CachedBuilder(SourceBuilder(name, builder, store, tasks, requirements, reporter, scrub), store)

    return FallbackBuilder({name: cached(name, builder) for name, builder in builders.items()})


class StoreBuilder:
    """Builds the packages of functions by one `WheelBuilder`, at most ``jobs`` at once; ``builders`` are closed with it."""

    def __init__(self, builder: WheelBuilder, tasks: TaskMaker, builders: Sequence[Builder], jobs: int) -> None:
        self._builder = builder
        self._shared = SharedBuilder(builder)
        self._tasks = tasks
        self._builders = builders
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="wheel")

    def close(self) -> None:
        """Begin no other build, and end those that run."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for builder in self._builders:
            builder.close()

    def build_all(self, function: Function, packages: Sequence[MissingWheel]) -> list[ProvidedWheel]:
        """Return the wheels of packages, in their order.

        Raises `BuildError` with the build's own output, `PackageError` for a wheel that is no good, or `ManyErrors`.
        """
        futures = {place: self._pool.submit(self._wheel, function, *each) for place, each in enumerate(packages)}
        return list(collect_results(futures).values())

    def kept(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> ProvidedWheel | None:
        """Return the wheel that was last built of a package's source as it is now; None where none was."""
        return self._builder.last_wheel(self._tasks.task(function, package, sdist))

    def _wheel(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> ProvidedWheel:
        # What a build needs is built past the shared outcomes: two threads could wait for each other's.
        return self._shared.wheel(self._tasks.task(function, package, sdist), self._builder)
