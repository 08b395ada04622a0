"""Tries one builder after the other, and says what each lacked where none can build a package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from builders.errors import BuildError, NativeCodeError, UnavailableError
from builders.recipes import BuildSettings
from packer.core.model import LockedPackage
from packer.wheels.builder_choice import builders_to_try, offered_wheels, remedy_for
from packer.wheels.provider import ProvidedWheel
from packer.wheels.wheel_builder import BuildTask, WheelBuilder


class FallbackBuilder:
    """Builds by the first builder that can, in the order of `builders_to_try`."""

    def __init__(self, builders: Mapping[str, WheelBuilder]) -> None:
        self._builders = builders

    def wheel(self, task: BuildTask, tools: WheelBuilder) -> ProvidedWheel:
        """Return the wheel of a task; raises `BuildError` where no builder can make it, or the first that can fails."""
        attempts = Attempts(package=task.package, settings=task.settings)
        for name, why in builders_to_try(task.settings, task.origin.native):
            try:
                made = _with_reason(self._builders[name].wheel(task, tools), why)
                return replace(made, warnings=(*attempts.warnings(name), *made.warnings))
            except UnavailableError as refusal:
                last = self._builders[name].last_wheel(task)
                if last is not None:
                    made = _with_reason(last, why)
                    old = f"{task.package} is the wheel that {name} built before, because it cannot build now: {refusal.what}. "
                    return replace(made, warnings=(*attempts.warnings(name), old + refusal.remedy, *made.warnings))
                attempts.add(name, refusal)
            except NativeCodeError as refusal:
                attempts.add(name, refusal)
        raise attempts.error(f"Cannot build {task.package} for {task.target}")

    def last_wheel(self, task: BuildTask) -> ProvidedWheel | None:
        """Return the wheel that the first of the builders has made of the same source; None where none has."""
        for name, why in builders_to_try(task.settings, task.origin.native):
            last = self._builders[name].last_wheel(task)
            if last is not None:
                return _with_reason(last, why)
        return None


def _with_reason(made: ProvidedWheel, why: str) -> ProvidedWheel:
    return replace(made, record=replace(made.record, why=why) if made.record else None)


class Attempts(Struct, kw_only=True):
    """The builders that could not build a package, with what they said."""

    package: LockedPackage
    settings: BuildSettings
    refusals: list[tuple[str, UnavailableError | NativeCodeError]] = field(default_factory=list)

    def add(self, builder: str, refusal: UnavailableError | NativeCodeError) -> None:
        """Add a builder that could not build the package."""
        self.refusals.append((builder, refusal))

    def warnings(self, builder: str) -> tuple[str, ...]:
        """Return warnings that ``builder`` replaced builders that are unavailable."""
        return tuple(
            f"{self.package} is built by {builder}, because {name} could not: {refusal.what}. {refusal.remedy} "
            f"Or settle on it: {self._table(builder)}."
            for name, refusal in self.refusals
            if isinstance(refusal, UnavailableError)
        )

    def error(self, what: str) -> BuildError:
        """Return the error that names every builder's reason; ``what`` could not be built, for which target."""
        rest = " ".join((*self._alternatives(), remedy_for(self.package, "")))
        if len(self.refusals) == 1:
            [(_, refusal)] = self.refusals
            remedy = f"{refusal.remedy} {rest}".lstrip()
            return BuildError(f"{what}: {refusal.what}.", detail=offered_wheels(self.package), remedy=remedy)
        refused = [f"  {name}: {refusal.what}. {refusal.remedy}".rstrip() for name, refusal in self.refusals]
        return BuildError(
            f"{what}: none of the builders can.",
            detail="\n".join(filter(None, (*refused, offered_wheels(self.package)))),
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
