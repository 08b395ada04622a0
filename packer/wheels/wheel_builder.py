"""The seam of builders of wheels: one task in, one wheel in the store out, and wrappers around that.

    SharedBuilder(FallbackBuilder({name: CachedBuilder(SourceBuilder(LazyBuilder(…)))}))

A `SourceBuilder` builds with one of the builders below packer, made when first needed (`LazyBuilder`). `CachedBuilder` keeps
its wheels, `FallbackBuilder` tries one builder after the other, `SharedBuilder` has many threads share one outcome; these three
are each a `WheelBuilder`. `packer.wheels.store_builder` puts them together, and limits how many build at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from builders.errors import BuildError, NativeCodeError
from builders.once import Once
from builders.recipes import BuildSettings
from builders.runtimes import Target
from packer.cache.store import Store, digest_of
from packer.core.fingerprint import fingerprint
from packer.core.model import Function, LockedPackage, SourceFolder
from packer.core.version_variables import variables_for_package
from packer.net.downloads import FetchedArchive
from packer.resolve.declaration import read_declaration, settings_for_back_end
from packer.source.dependency_files import REQUIREMENTS
from packer.source.package_source import Origin, Origins
from packer.wheels.builder_choice import offered_wheels, remedy_for
from packer.wheels.provider import ProvidedWheel

_SHOWN = 40
"""Lines of a failed build's log that its error shows."""
_WIDEST = 500
"""Characters that it shows of each."""


class BuildTask(Struct, frozen=True, kw_only=True):
    """One package to build for one function; ``chain`` are the packages whose builds need it.

    ``variables`` are the environment variables by which the user sets the package's version.
    """

    function: Function
    package: LockedPackage
    target: Target
    settings: BuildSettings
    origin: Origin
    variables: Mapping[str, str]
    chain: tuple[str, ...] = ()

    @property
    def log_name(self) -> str:
        """The name under which the store keeps logs of the task."""
        return f"{self.package.name or 'project'}-{self.target}"


class TaskMaker(Struct, frozen=True, kw_only=True):
    """Makes tasks; ``variables`` are the user's environment, of which `packer.core.version_variables` says what builds get."""

    origins: Origins
    variables: Mapping[str, str]

    def task(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> BuildTask:
        """Return the task to build a package for a function; raises `BuildError` for a source that cannot be read."""
        return BuildTask(
            function=function,
            package=package,
            target=function.target,
            settings=replace(function.settings_for(package.name), config=self._config(function, package)),
            origin=self.origins.of(package, sdist),
            variables=variables_for_package(package.name, self.variables, own=isinstance(package.source, SourceFolder)),
        )

    @staticmethod
    def _config(function: Function, package: LockedPackage) -> tuple[tuple[str, str], ...]:
        requirements = function.requirements
        if requirements is None or requirements.kind != REQUIREMENTS:
            return ()
        return settings_for_back_end(read_declaration(function), package)


class WheelBuilder(Protocol):
    """Turns the source of a task into a wheel in the store; may be used from many threads."""

    def wheel(self, task: BuildTask, tools: WheelBuilder) -> ProvidedWheel:
        """Return the wheel; ``tools`` builds what the build itself needs and has no wheel.

        Raises `BuildError`, `PackageError` for a wheel that does not fit the target, and, from one builder alone,
        `UnavailableError` and `NativeCodeError`.
        """
        ...

    def last_wheel(self, task: BuildTask) -> ProvidedWheel | None:
        """Return the wheel that was last built of the same source; None where none was."""
        ...


class SharedBuilder:
    """Has the functions of one build that ask for the same share one outcome, be it a wheel or an error."""

    def __init__(self, builder: WheelBuilder) -> None:
        self._builder = builder
        self._made: Once[str, ProvidedWheel] = Once()

    def wheel(self, task: BuildTask, tools: WheelBuilder) -> ProvidedWheel:
        """Return the wheel of a task, for which other threads may be waiting, too."""
        wanted = fingerprint(task.settings, task.function.provided)
        key = digest_of(str(task.package), task.origin.key, str(task.target), wanted)
        return self._made.get(key, lambda: self._builder.wheel(task, tools))

    def last_wheel(self, task: BuildTask) -> ProvidedWheel | None:
        """Return the wheel that was last built of the same source; None where none was."""
        return self._builder.last_wheel(task)


class FailureReport:
    """Makes what a builder raises, which knows only its request, the error of a task; the store keeps the whole log."""

    def __init__(self, store: Store, scrub: Callable[[str], str], builder: str) -> None:
        self._store = store
        self._scrub = scrub
        self._builder = builder

    @contextmanager
    def failures_of(self, task: BuildTask) -> Iterator[None]:
        """Raise failures within the context as `error` makes them; `NativeCodeError` has another builder tried, and stays."""
        try:
            yield
        except NativeCodeError:
            raise
        except BuildError as failure:
            raise self.error(task, failure) from None

    def error(self, task: BuildTask, failure: BuildError) -> BuildError:
        """Return the error that says why the build of a task failed, with the end of its log."""
        log = self._scrub(failure.detail).rstrip()
        lines = log.splitlines()
        shown = "\n".join(line[:_WIDEST] for line in lines[-_SHOWN:])
        if lines:
            path = self._store.keep_log(task.log_name, log)
            before = f"[… {len(lines) - _SHOWN} lines before]\n" if len(lines) > _SHOWN else ""
            shown = f"{before}{shown}\n[the whole log: {path}]"
        return BuildError(
            f"Cannot build {task.package} for {task.target}: {failure.what.rstrip('.')}.",
            detail="\n".join(filter(None, (shown, offered_wheels(task.package) if task.package.wheels else ""))),
            remedy=failure.remedy or remedy_for(task.package, self._builder),
        )
