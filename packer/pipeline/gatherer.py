"""Gathers what functions are made of: their sources, their locks, the wheels of these, and what decides their bytes."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct
from msgspec.structs import replace

from builders.once import Once
from builders.runtimes import RUNTIME_DISTRIBUTIONS, RUNTIME_MODULES, Target
from builders.sandbox.emulator import CLIENT
from packer import __version__
from packer.cache.deflate import CODEC
from packer.cache.signatures import Digests, Signature, signature
from packer.cache.store import RUNTIMES, Store, digest_of
from packer.core.errors import FetchError
from packer.core.events import Reporter
from packer.core.fingerprint import fingerprint
from packer.core.function_tree import Part
from packer.core.model import (
    EXECUTABLE_MODE,
    OWN_SOURCE,
    Distribution,
    FileContent,
    Function,
    Lock,
    LockedPackage,
    SourceFolder,
    Tree,
)
from packer.core.options import AttachedLayer, Policy
from packer.core.units import format_size
from packer.core.version_variables import version_variables
from packer.formats.metadata import read_requires_dist, required_names
from packer.formats.native_code import NativeCode
from packer.formats.requirements_txt import ARCHIVE_SUFFIXES
from packer.formats.stored_wheel import read_stored_wheel
from packer.formats.wheel_outline import OUTLINES, read_outline
from packer.locks.base_pins import PINS_FILE
from packer.pipeline.state import FunctionState, variable_digests
from packer.resolve.declaration import Declaration, digest_links, is_locked, list_declaring_files, read_declaration
from packer.resolve.resolver import Resolver
from packer.resolve.uv_settings import settings_digest, settings_files
from packer.source.function_source import SourceScan, scan_source
from packer.source.layer_content import LayerContent, list_content_files, read_layer_contents
from packer.source.own_metadata import make_own_metadata, own_project_files
from packer.source.package_source import project_digest, read_project_tree
from packer.source.secrets import SecretFinding, describe_secrets, find_secrets, refuse_secrets
from packer.trim.material import Material
from packer.trim.merge import merge_trees
from packer.trim.shape import Shaper
from packer.verify.proof import Prover
from packer.verify.runner import Verifier, event_files
from packer.wheels.abi_check import check_closed, check_native, without_provided
from packer.wheels.provider import ArchiveFetcher, PackageBuilder, ProvidedWheel, provide_wheels

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from packer.images.builder import ImageBuilder


_TOLD_COPIES = 100_000
"""From how many bytes on it is told what links have packed more than once."""


class LockSource(Protocol):
    """Provides the locks of functions, and the packages that builds require; `packer.resolve.resolver.Resolver` is one."""

    def lock(self, function: Function) -> Lock:
        """Return the function's exact packages; raises `LpackError`."""
        ...

    def group_digest(self, function: Function) -> str:
        """Return the digest of what other functions contribute to this one's lock; empty where they contribute nothing."""
        ...

    def group_paths(self, function: Function) -> tuple[str, ...]:
        """Return every path of other functions whose change, or appearance, can change this one's lock."""
        ...

    def build_requirements(
        self, requires: Sequence[str], target: Target, function: Function, sources: Sequence[str]
    ) -> tuple[LockedPackage, ...]:
        """Return the exact packages that a build on ``target`` needs; raises `ResolveError`."""
        ...


class Sources(Struct, frozen=True, kw_only=True):
    """What brings a function's parts here, and what is allowed there."""

    store: Store
    digests: Digests
    locks: LockSource
    fetcher: ArchiveFetcher
    builder: PackageBuilder
    policy: Policy = Policy()


class Shaping(Struct, frozen=True, kw_only=True):
    """What makes a package of a function's parts, and proves that it works."""

    native: NativeCode
    shaper: Shaper
    prover: Prover
    verifier: Verifier


class Tools(Struct, frozen=True, kw_only=True):
    """What does the steps of a build, opened for it; whoever does one of them gets what that needs.

    ``resolver`` renews locks; ``imaging`` connects to registries and engines when it is first called.
    """

    resolver: Resolver
    sources: Sources
    shaping: Shaping
    imaging: Callable[[], ImageBuilder]


class GatheredFunction(Struct, frozen=True, kw_only=True):
    """All of a function before anything is removed: its lock, the wheels of that, and the trees that they are.

    ``attached_bytes`` are of attached layers whose content is known, unzipped.
    """

    lock: Lock
    made: tuple[ProvidedWheel, ...]
    warnings: tuple[str, ...]
    material: Material
    attached_bytes: int = 0

    @property
    def function(self) -> Function:
        """The function that it is of."""
        return self.material.function

    @property
    def folders(self) -> tuple[str, ...]:
        """The local projects that it is built from."""
        return tuple(str(package.source.path) for package in self.lock.packages if isinstance(package.source, SourceFolder))


class Gatherer:
    """Gathers functions; may be used from many threads. ``out`` is the folder of the artifacts."""

    def __init__(self, sources: Sources, shaping: Shaping, reporter: Reporter, out: Path) -> None:
        self._sources = sources
        self._shaper = shaping.shaper
        self._native = shaping.native
        self._verifier = shaping.verifier
        self._reporter = reporter
        self._out = out
        self._trees: Once[str, Tree] = Once()
        self._links: Once[tuple[Path, ...], str] = Once()
        self._contents: Once[tuple[AttachedLayer, ...], tuple[LayerContent, ...]] = Once()

    def gather(self, function: Function, scan: SourceScan) -> GatheredFunction:
        """Lock a function, and fetch or build all that it needs; raises `LpackError`."""
        lock = self._sources.locks.lock(function)
        self._reporter.stage(function.name, "fetching")
        made = self._obtain_wheels(function, lock)
        distributions = [each.distribution for each in made]
        incomplete = self._check_closure(function, lock, distributions, scan)
        warnings = self._check_native(function, distributions, scan)
        self._reporter.stage(function.name, "packing")
        return GatheredFunction(
            lock=lock,
            made=made,
            warnings=(
                *describe_secrets(function.name, _find_secrets(function, scan)),
                *lock.warnings,
                *incomplete,
                *_warn_of_other_versions(function, lock),
                *self._warn_of_runtime(function, lock, made),
                *(warning for each in made for warning in each.warnings),
                *warnings,
            ),
            material=self._make_material(function, distributions, scan, lock),
            attached_bytes=sum(content.size for content in self.read_layers(function)),
        )

    def gather_material(self, function: Function) -> Material:
        """Return all that a function is made of, before anything is removed; raises `LpackError`."""
        scan = self.scan(function)
        lock = self._sources.locks.lock(function)
        obtained = self._obtain_wheels(function, lock)
        return self._make_material(function, [made.distribution for made in obtained], scan, lock)

    def _make_material(
        self, function: Function, distributions: Sequence[Distribution], scan: SourceScan, lock: Lock
    ) -> Material:
        own = make_own_metadata(function, scan.tree, {each.name for each in distributions})
        source = self._mark_script(function, Tree.of((*scan.tree, *own)) if own else scan.tree)
        parts: list[Part] = [(OWN_SOURCE, source), *((each.name, self.tree(each)) for each in distributions)]
        local = frozenset(package.name for package in lock.packages if isinstance(package.source, SourceFolder))
        material = self._shaper.material(function, distributions, parts, local)
        for note in material.notes:
            self._reporter.note(note)
        return material

    def _mark_script(self, function: Function, source: Tree) -> Tree:
        """Return the source with a handler that is a script made executable, for Lambda starts it as a program."""
        path = posixpath.normpath(function.handler)
        script = next((entry for entry in source if entry.path == path and entry.mode != EXECUTABLE_MODE), None)
        if script is None:
            return source
        self._reporter.note(f"{function.name}: {path} is packed as executable, which its file is not: it is the handler.")
        return Tree.of(replace(entry, mode=EXECUTABLE_MODE) if entry is script else entry for entry in source)

    def surroundings(self, material: Material) -> FunctionSurroundings:
        """Return what lies around a function where it runs."""
        return FunctionSurroundings(self, material)

    def read_layers(self, function: Function) -> tuple[LayerContent, ...]:
        """Return the attached layers of a function whose content is on this machine; raises `UsageError`."""
        attached = function.layers.attached
        return self._contents.get(attached, lambda: read_layer_contents(attached, self._sources.digests))

    def obtain_runtime(self, function: Function, modules: Collection[str]) -> Tree:
        """Return the runtime's packages with these modules, in the newest versions that there are; raises `LpackError`."""
        wanted = sorted({RUNTIME_MODULES[module] for module in modules})
        packages = self._sources.locks.build_requirements(wanted, function.target, function, ())
        return merge_trees(self._obtain_trees(function, packages), ())

    def collect_carried(self, material: Material) -> Tree:
        """Return the files that attached layers provide, and the runtime where it is not there itself, in the lock's versions.

        Raises `LpackError`.
        """
        function = material.function
        is_there = self._verifier.has_packages(function)
        leaves = function.exclude or function.layers.attached
        packed = {each.name for each in material.distributions}
        left_out = [
            package
            for package in (self._sources.locks.lock(function).packages if leaves else ())
            if package.name not in packed
            and (function.layers.bring(package.name, package.version) or package.name in RUNTIME_DISTRIBUTIONS)
            and not (is_there and package.name in RUNTIME_DISTRIBUTIONS)
        ]
        try:
            trees = self._obtain_trees(function, left_out)
        except FetchError as error:  # without it the function may fail, untrimmed too, and then a warning says so
            self._reporter.debug(str(error))
            trees = []
        if function.verify.level == "rie" and not is_there:
            trees += self.obtain_client(function)
        return merge_trees(trees, ())

    def obtain_client(self, function: Function) -> list[Part]:
        """Return what connects a handler to the Runtime Interface Emulator, with all that it needs; raises `LpackError`."""
        return self._obtain_trees(function, self._sources.locks.build_requirements([CLIENT], function.target, function, ()))

    def obtain_distributions(self, function: Function) -> dict[str, Distribution]:
        """Return a function's distributions by their names, which are in the store then; raises `LpackError`."""
        made = self._obtain_wheels(function, self._sources.locks.lock(function))
        return {each.distribution.name: each.distribution for each in made}

    def _obtain_trees(self, function: Function, packages: Sequence[LockedPackage]) -> list[Part]:
        build = partial(self._sources.builder.build_all, function)
        made = provide_wheels(packages, function.target, self._sources.fetcher, build)
        return [(each.distribution.name, self.tree(each.distribution)) for each in made]

    def scan(self, function: Function) -> SourceScan:
        """Read a function's own folder, and report what .gitignore excludes from it; raises `LpackError`."""
        skip = [self._out, *([function.requirements.path] if function.requirements else [])]
        scan = scan_source(function.source, self._sources.digests, root=function.root, ignore=function.ignore, skip=skip)
        if scan.left_out:
            some = ", ".join(scan.left_out[:5]) + (", …" if len(scan.left_out) > 5 else "")
            self._reporter.note(
                f"{function.name}: .gitignore leaves out {some} ({len(scan.left_out)} in all); a line such as "
                f"!{scan.left_out[0]} in .lpackignore keeps one"
            )
        more = sum(copies.bytes for copies in scan.copies)
        if more >= _TOLD_COPIES:
            paths = ", ".join(scan.copies[0].paths)
            self._reporter.note(
                f"{function.name}: {paths} are one file, which links lead to, and each is packed ({format_size(more)} more in "
                "all); lines in .lpackignore leave out the names that nothing loads"
            )
        if self._sources.policy.strict:
            refuse_secrets(function.name, _find_secrets(function, scan))
        return scan.below(function.prefix)

    def _obtain_wheels(self, function: Function, lock: Lock) -> tuple[ProvidedWheel, ...]:
        """Fetch, or build, the wheel of every package that is not left out."""
        packages = [package for package in lock.packages if not function.leaves_out(package)]
        build = partial(self._sources.builder.build_all, function)
        provide = partial(provide_wheels, target=function.target, fetcher=self._sources.fetcher, build=build)
        if not _leaves_to_runtime(function):
            return provide(packages)
        from packer.resolve.runtime_packages import find_family

        family = find_family(function, {package.name for package in packages})
        made = provide([package for package in packages if package.name not in family])
        staying = self._find_staying(function, lock, family, made)
        made += provide([package for package in packages if package.name in staying])
        return tuple(sorted(made, key=lambda each: each.distribution.name))

    def _find_staying(
        self, function: Function, lock: Lock, family: Collection[str], made: Iterable[ProvidedWheel]
    ) -> dict[str, str]:
        """Return what is packed though the runtime's packages require it, with who else does."""
        from packer.resolve.runtime_packages import find_staying

        others = (each.distribution for each in made if each.distribution.name not in family)
        required = {each.name: required_names(self.tree(each)) for each in others}
        return find_staying(function, family, {package.name for package in lock.packages}, required)

    def _warn_of_runtime(self, function: Function, lock: Lock, made: Sequence[ProvidedWheel]) -> Iterator[str]:
        """Tell what is left to the runtime, and return warnings of versions there that others cannot use."""
        if not _leaves_to_runtime(function):
            return
        from packer.resolve.runtime_packages import find_family, find_misfits, read_runtime_versions
        from packer.verify.runtime_images import find_runtime_files

        names = {package.name for package in lock.packages}
        trees = {each.distribution.name: self.tree(each.distribution) for each in made}
        left = [name for name in RUNTIME_DISTRIBUTIONS if name in names and name not in trees]
        files = find_runtime_files(function.target, self._sources.store)
        versions = read_runtime_versions(files.root / folder.lstrip("/") for folder in files.packages) if files else {}
        if left:
            listed = ", ".join(f"{name} {versions[name]}" if name in versions else name for name in left)
            self._reporter.note(f"{function.name} leaves to the runtime: {listed}")
        for name, who in self._find_staying(function, lock, find_family(function, names), made).items():
            what = f"{function.name} packs {name}, which {who} requires"
            self._reporter.note(f"{what}; what it leaves to the runtime gets that version, too")
        for misfit in find_misfits(function, names, left, versions, trees) if versions else ():
            yield f"{function.name}: {misfit}"

    def _check_closure(
        self, function: Function, lock: Lock, distributions: Sequence[Distribution], scan: SourceScan
    ) -> tuple[str, ...]:
        """Check that locked packages have all that they require; raises `ResolveError`. Returns warnings."""
        if not is_locked(function):
            return ()  # uv leaves nothing out
        from packer.resolve.closure import ChosenPackage, ClosureCheck
        from packer.source.vendored import is_there_otherwise

        wheels = {each.name: each for each in distributions}
        chosen = [
            ChosenPackage(name=each.name, version=wheel.version, digest=wheel.digest + wheel.outlined)
            if (wheel := wheels.get(each.name))
            else ChosenPackage(name=each.name, version=each.version)
            for each in lock.packages
        ]

        def read() -> dict[str, tuple[Requirement, ...]]:
            found = {name: read_requires_dist(self.tree(wheel)) for name, wheel in wheels.items()}
            return {name: each for name, each in found.items() if each is not None}

        def is_present(name: str) -> bool:
            return is_there_otherwise(name, function, scan.tree, self.read_layers(function))

        policy = self._sources.policy
        closure = ClosureCheck(self._sources.store, allowed=policy.allow_incomplete, frozen=policy.frozen)
        return closure.check(function, lock, chosen, read, is_present)

    def _check_native(self, function: Function, distributions: Sequence[Distribution], scan: SourceScan) -> tuple[str, ...]:
        """Prove that the runtime can load all native code; raises `PackageError`. Returns warnings."""
        if any(each.outlined for each in distributions):
            return ()  # what one of these brings may be what another one lacks
        native, target = self._native, function.target
        trees: dict[str, Callable[[], Tree]] = {
            OWN_SOURCE: lambda: scan.tree,
            **{each.filename: partial(self.tree, each) for each in distributions},
        }
        parts = {OWN_SOURCE: without_provided(function, native.of_source(scan.tree))}
        parts |= {each.filename: without_provided(function, native.of_wheel(each)) for each in distributions}
        warnings: list[str] = []
        for label, files in parts.items():
            shown = f"the source of {function.name}" if label == OWN_SOURCE else label
            warnings += check_native(shown, files, trees[label], target)
        return (*warnings, *check_closed(function, parts, lambda label: trees[label]()))

    def tree(self, distribution: Distribution) -> Tree:
        """Return the files of a wheel as they get installed."""
        if distribution.outlined:
            return self._trees.get(distribution.digest, lambda: self._read_outline(distribution))
        store, digest = self._sources.store, distribution.digest
        return self._trees.get(digest, lambda: read_stored_wheel(store, distribution.path, distribution.filename, digest))

    def _read_outline(self, distribution: Distribution) -> Tree:
        record = self._sources.store.load(OUTLINES, distribution.path.name)
        return read_outline(record.payload if record else b"[]", distribution.filename)

    def inputs(self, function: Function, scan: SourceScan) -> FunctionInputs:
        """Return all that decides a function's bytes, as it is now."""
        declaration = read_declaration(function)
        lock = function.lock_path
        versions, tools = self._shaper.tools(function)
        parts = [part for entry in scan.tree for part in (entry.path, str(entry.mode), entry.content.digest)]
        parts.append(self._sources.digests.digest(str(lock)) if lock.is_file() else "")
        parts.append(self._links.get(declaration.links, lambda: digest_links(declaration, self._sources.digests)))
        parts.append(self._sources.locks.group_digest(function))
        parts += [self._sources.digests.digest(path) if Path(path).is_file() else "" for path in _list_shape_files(function)]
        parts += [content.digest for content in self.read_layers(function)]
        parts += [self._sources.digests.digest(str(path)) if path.is_file() else "" for path in list_declaring_files(function)]
        settings = (settings_digest(declaration.folder, os.environ), fingerprint(version_variables(os.environ)))
        return FunctionInputs(
            function=function,
            scan=scan,
            declaration=declaration,
            digest=digest_of(__version__, CODEC, fingerprint(function), declaration.digest, *settings, *versions, "", *parts),
            tools=tools,
            digests=self._sources.digests,
            runtimes=self._sources.store.root / RUNTIMES,
        )


class FunctionSurroundings:
    """What lies around a function where it runs; `packer.verify.surroundings.Surroundings`."""

    def __init__(self, gatherer: Gatherer, material: Material) -> None:
        self._gatherer = gatherer
        self._material = material

    def carried(self) -> Tree:
        """Return the packages that the function requires and leaves to the runtime or attached layers; raises `LpackError`."""
        return self._gatherer.collect_carried(self._material)

    def runtime(self, modules: Collection[str]) -> Tree:
        """Return packages of the runtime that have these modules, with all that they require; raises `LpackError`."""
        return self._gatherer.obtain_runtime(self._material.function, modules)

    def layers(self) -> Sequence[LayerContent]:
        """Return the attached layers whose content is on this machine, in their order; raises `LpackError`."""
        return self._gatherer.read_layers(self._material.function)


def make_gatherer(tools: Tools, reporter: Reporter, out: Path) -> Gatherer:
    """Return what gathers functions whose artifacts are meant for the folder ``out``."""
    return Gatherer(tools.sources, tools.shaping, reporter, out)


def _leaves_to_runtime(function: Function) -> bool:
    return not frozenset(RUNTIME_DISTRIBUTIONS).isdisjoint(function.exclude)


def _find_secrets(function: Function, scan: SourceScan) -> tuple[SecretFinding, ...]:
    return find_secrets(scan.tree, function.allow)


def list_function_files(function: Function, scan: SourceScan, *, archives: bool) -> Iterator[Path]:
    """Return the files that are read to build a function from its lock, whether they are there or not.

    The ``archives`` of this machine that it declares are among them where requirements of builds may come from these.
    """
    declaration = read_declaration(function)
    yield from (entry.content.path for entry in scan.tree if isinstance(entry.content, FileContent))
    yield function.lock_path
    declared = (*declaration.files, *declaration.links)
    yield from (path for path in declared if archives or not path.name.endswith(ARCHIVE_SUFFIXES))
    above = (declaration.folder, *declaration.folder.parents)
    yield from (path for path in settings_files(declaration.folder, {}) if path.parent in above)
    yield from (*map(Path, _list_shape_files(function)), *list_declaring_files(function))
    yield from list_content_files(function.layers.attached)


def _list_shape_files(function: Function) -> tuple[str, ...]:
    """Return the files that decide how a function is trimmed, proved and called, whether they are there or not."""
    profile = (function.trim.profile,) if function.trim.level == "max" and function.trim.profile else ()
    return tuple(map(str, (*profile, *event_files(function), *own_project_files(function))))


class FunctionInputs(Struct, frozen=True, kw_only=True):
    """All that decides a function's bytes, but for the local projects, which only the lock names.

    ``runtimes`` is the folder of the runtimes that lie in the store, in one of which it may be proved.
    """

    function: Function
    scan: SourceScan
    declaration: Declaration
    digest: str
    tools: tuple[Path, ...]
    digests: Digests
    runtimes: Path

    def fingerprint(self, folders: Iterable[str]) -> str:
        """Return the digest of everything, with these local projects as they are now."""
        return digest_of(self.digest, *(project_digest(Path(folder), self.digests) for folder in folders))

    def refresh_state(self, state: FunctionState, now: int) -> FunctionState:
        """Return the state of a function that is still what it was, as it is to be remembered from now on."""
        variables = variable_digests(self.declaration.variables)
        return replace(state, seen_at=now, watched=self.sign_watched(state.folders), variables=variables)

    def sign_watched(self, folders: Iterable[str]) -> dict[str, Signature]:
        """Return every path whose change, or appearance, could change the function."""
        source, requirements = self.function.source, self.function.requirements
        paths = [*self.scan.watched, str(self.function.lock_path), *map(str, self.declaration.files + self.declaration.links)]
        paths += (*_list_shape_files(self.function), *map(str, list_declaring_files(self.function)))
        paths += (
            path for content in read_layer_contents(self.function.layers.attached, self.digests) for path in content.watched
        )
        if self.function.image.wanted:
            from packer.images.builder import files_of_image

            paths += map(str, files_of_image(self.function))
        # What it is proved in: the locked run-time image, and those that lie in the store.
        paths += map(str, (self.function.image.root / PINS_FILE, self.runtimes))
        paths += map(str, (*self.function.verify.searched, *self.tools))
        paths += map(str, settings_files(self.declaration.folder, os.environ))
        # Where a dependency file that goes first may appear: beside the present one, and a workspace's lock above.
        paths += [str(requirements.path.parent)] if requirements else []
        paths += [str(parent / "uv.lock") for parent in (source, *source.parents)]
        for folder in folders:
            paths += read_project_tree(Path(folder), self.digests)[1]
        return {path: signature(path) for path in dict.fromkeys(paths)}


def _warn_of_other_versions(function: Function, lock: Lock) -> Iterator[str]:
    """Return warnings of packages that an attached layer has in another version than the function, which packs its own."""
    for package in (each for each in lock.packages if not function.leaves_out(each)):
        for arn, version in function.layers.differ(package.name, package.version):
            yield (
                f"{function.name}: {arn} has {package.name} {version}, and the function gets {package.version} itself, for its "
                f"lock says so. Lock {package.name}=={version}, or attach a layer that has {package.version}."
            )
