"""Shapes a function: its parts are trimmed, stripped, merged and compiled, and each of these can be held back for one part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from builders.pythons import Pythons, TargetPython
from builders.recipes import BuilderUnavailable
from builders.runtimes import TASK_FOLDER, UNZIPPED_LIMIT
from packer.assemble import Part, merge
from packer.bytecode import Compiled, Compiler
from packer.elf import ElfFile
from packer.errors import UsageError
from packer.model import FILE_MODE, OWN_SOURCE, Content, Distribution, Entry, Function, Span, Tree
from packer.native import NativeCode
from packer.profile import Profile, apply_profile, read_profile
from packer.pycache import beside, instead
from packer.rules import PROFILE, SOURCES, STRIP, Unit
from packer.scan import Scan, Scanner, scan_sources
from packer.starter import Starter, handler_module, make_starter, worth_reading
from packer.strip import Stripped, Stripper
from packer.trim import Known, Removed, fitting, trim
from packer.units import size_text

_ALWAYS_CALLED = frozenset(("signin", "sso", "sso-oidc", "sts"))
"""Services that botocore itself calls for credentials (botocore, credentials.py and tokens.py)."""
_HEADERS, _END = 30 + 46, 22
"""Bytes of a ZIP member's headers beside its name, which stands in both, and of what ends it (APPNOTE.TXT 4.3.7, .12, .16)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """All that a function is made of, before anything is removed. ``scans`` and ``native`` are by normalised names."""

    function: Function
    parts: tuple[Part, ...]
    distributions: tuple[Distribution, ...]
    scans: Mapping[str, Scan]
    native: Mapping[str, Sequence[ElfFile]]
    profile: Profile | None
    services: frozenset[str] | None
    notes: tuple[str, ...] = ()

    def has_libraries(self) -> bool:
        """Say whether a distribution has native code."""
        return any(files for name, files in self.native.items() if name != OWN_SOURCE)

    def owner_names(self) -> dict[str, str]:
        """Give the normalised name of each owner that entries carry."""
        return {OWN_SOURCE: OWN_SOURCE, **{each.filename: each.name for each in self.distributions}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytecode:
    """What was compiled: ``mode`` is what came of ``auto``, ``why`` the reason; ``python`` made it.

    ``starts`` names what the handler's module does beside its own code (`packer.starter`).
    """

    mode: str = "off"
    why: str = ""
    python: str = ""
    files: int = 0
    size: int = 0
    failed: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """A function's tree as it will be written, and what became of its parts.

    ``parts`` are what is merged into it, for its shares. ``missing`` are tools that were not there.
    """

    tree: Tree
    parts: tuple[Part, ...]
    removed: tuple[Removed, ...] = ()
    stripped: tuple[Stripped, ...] = ()
    bytecode: Bytecode = Bytecode()
    missing: tuple[str, ...] = ()

    def units(self) -> tuple[Unit, ...]:
        """Give every (rule, distribution) that has changed something, sorted: what could be to blame."""
        return tuple(sorted({unit for unit, _ in self.gone()}))

    def gone(self) -> Iterator[tuple[Unit, int]]:
        """Give the bytes that each (rule, distribution) took out, file by file."""
        yield from (((each.rule, each.owner), each.size) for each in self.removed)
        yield from (((STRIP, each.owner), each.saved) for each in self.stripped)


class Shaper:
    """Shapes functions with the parts of the pipeline; may be used from many threads."""

    def __init__(
        self,
        scanner: Scanner,
        native: NativeCode,
        stripper: Stripper,
        compiler: Compiler,
        pythons: Pythons,
        spans: Callable[[Content], Span],
    ) -> None:
        self._scanner = scanner
        self._native = native
        self._stripper = stripper
        self._compiler = compiler
        self._pythons = pythons
        self._spans = spans

    def material(self, function: Function, distributions: Sequence[Distribution], parts: Sequence[Part]) -> Material:
        """Gather what shaping has to know; raises `packer.errors.LpackError` where a file cannot be read."""
        if function.trim.level == "none":
            return Material(
                function=function,
                parts=tuple(parts),
                distributions=tuple(distributions),
                scans={},
                native={},
                profile=None,
                services=None,
            )
        trees = dict(parts)
        scans = {each.name: self._scanner.of_wheel(each, trees[each.name]) for each in distributions}
        scans[OWN_SOURCE] = scan_sources(trees[OWN_SOURCE])
        services, notes = _services(function, scans, {each.name for each in distributions})
        profile = _profile(function) if distributions else None
        return Material(
            function=function,
            parts=tuple(parts),
            distributions=tuple(distributions),
            scans=scans,
            native={
                OWN_SOURCE: self._native.of_source(trees[OWN_SOURCE]),
                **{each.name: self._native.of_wheel(each) for each in distributions},
            },
            profile=profile,
            services=services,
            notes=(*notes, *_stale(function, profile, distributions)),
        )

    def tools(self, function: Function) -> tuple[tuple[str, ...], tuple[Path, ...]]:
        """Give the versions of the tools that decide a function's bytes, and which files of this machine they are."""
        versions: list[str] = []
        paths: list[Path | None] = []
        with suppress(BuilderUnavailable):
            if function.trim.level != "none":
                tool = self._stripper.tool(function)
                versions.append(tool.identity)
                paths.append(tool.path)
        with suppress(BuilderUnavailable):
            if function.bytecode.mode != "off":
                python = self._pythons.find(function.target, "auto", "compile")
                versions.append(python.identity)
                paths.append(python.path)
        return tuple(versions), tuple(filter(None, paths))

    def plain(self, material: Material) -> Shaped:
        """Give the function as it is without any shaping."""
        return Shaped(tree=merge(material.parts, material.function.overlap), parts=material.parts)

    def shape(self, material: Material, restored: frozenset[Unit] = frozenset()) -> Shaped:
        """Trim, strip, merge and compile; ``restored`` are (rule, distribution) that are not applied."""
        function = material.function
        known = Known(scans=material.scans, native=material.native, services=material.services, restored=restored)
        trimmed = trim(material.parts, function.trim, known)
        parts, removed, missing = trimmed.parts, trimmed.removed, []
        if material.profile is not None and material.profile.fits(function.target):
            names = frozenset(name for rule, name in restored if rule == PROFILE)
            versions = {each.name: each.version for each in material.distributions}
            parts, more = apply_profile(parts, material.profile, versions, names, function.trim.keep)
            removed = (*removed, *more)
        stripped: tuple[Stripped, ...] = ()
        if function.trim.level != "none" and STRIP not in function.trim.without and material.has_libraries():
            held = frozenset(name for rule, name in restored if rule == STRIP)
            try:
                tool = self._stripper.tool(function)
                parts, stripped = self._stripper.strip(parts, dict(material.native), held, tool, function.trim.keep)
            except BuilderUnavailable as error:
                missing.append(f"Shared libraries are not stripped: {error.reason}. {error.remedy}")
        tree = merge(parts, function.overlap)
        tree, bytecode, without, trouble = self._with_bytecode(material, tree, restored)
        return Shaped(
            tree=tree,
            parts=parts,
            removed=(*removed, *without),
            stripped=stripped,
            bytecode=bytecode,
            missing=(*missing, *([trouble] if trouble else [])),
        )

    def _with_bytecode(
        self, material: Material, tree: Tree, restored: frozenset[Unit]
    ) -> tuple[Tree, Bytecode, tuple[Removed, ...], str]:
        function = material.function
        options = function.bytecode
        if options.mode == "off":
            return tree, Bytecode(), (), ""
        try:
            python = self._pythons.find(function.target, "auto", "compile")
        except BuilderUnavailable as error:
            name = f"3.{function.target.runtime.minor}"
            remedy = f"`uv python install {name}` or a container engine brings one."
            return tree, Bytecode(), (), f"Nothing is compiled to bytecode: no Python {name} ({error.reason}). {remedy}"
        handler = handler_module(function.handler, tree)
        others = (entry for entry in tree if entry is not handler)
        compiled = self._compiler.compile(others, python, TASK_FOLDER, options.optimize)
        work = _Bytecode(material=material, restored=restored, tree=tree, handler=handler, compiled=compiled, python=python)
        if options.mode != "auto":
            return *self._placed(work, options.mode, "as configured"), ""
        found = self._placed(work, "beside", "it fits beside the sources")
        over = self._over(function, found[0])
        return *(self._placed(work, "only", f"beside the sources {over}") if over else found), ""

    def _placed(self, work: _Bytecode, mode: str, why: str) -> tuple[Tree, Bytecode, tuple[Removed, ...]]:
        """Put bytecode into a tree; the handler's comes last, for it may read ahead what is there by now."""
        places = _Places(work.material, work.restored, mode)
        shaped, without = places.put(work.tree, work.compiled)
        compiled, starts = work.compiled, tuple[str, ...]()
        if work.handler is not None:
            starter, starts = _starter(work.material, shaped)
            optimize = work.material.function.bytecode.optimize
            own = self._compiler.compile_handler(work.handler, starter, work.python, TASK_FOLDER, optimize)
            shaped, more = places.put(shaped, own)
            without = (*without, *more)
            starts = starts if own.files else ()
            compiled = Compiled(files={**compiled.files, **own.files}, failed=(*own.failed, *compiled.failed))
        facts = Bytecode(
            mode=mode,
            why=why,
            python=work.python.identity,
            files=len(compiled.files),
            size=compiled.size,
            failed=compiled.failed,
            starts=starts,
        )
        return shaped, facts, without

    def _over(self, function: Function, tree: Tree) -> str:
        """Say what limit a tree goes beyond; empty where it fits."""
        for limit, name in ((UNZIPPED_LIMIT, "Lambda's limit"), (function.budget.unzipped, "the budget")):
            if limit is not None and tree.size > limit:
                return f"it would be {size_text(tree.size)} unzipped, over {name}"
        if function.budget.zip is not None:
            zipped = self._zipped(tree)
            if zipped > function.budget.zip:
                return f"it would be {size_text(zipped)} zipped, over the budget"
        return ""

    def _zipped(self, tree: Tree) -> int:
        return sum(self._spans(entry.content).length + 2 * len(entry.path.encode()) + _HEADERS for entry in tree) + _END


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bytecode:
    """A tree, and the bytecode of all of it but the handler's, which depends on where the rest goes."""

    material: Material
    restored: frozenset[Unit]
    tree: Tree
    handler: Entry | None
    compiled: Compiled
    python: TargetPython


def _profile(function: Function) -> Profile | None:
    """Give the profile that the level asks for; raises `UsageError` where there is none."""
    path = function.trim.profile
    if function.trim.level != "max" or path is None:
        return None
    found = read_profile(path)
    if found is None:
        what = f'{function.name} has trim = "max", and no profile says what it needs: there is no {path}.'
        raise UsageError(what, remedy=f"Run `lpack profile {function.name}`, look at what it writes, and commit it.")
    return found


def _stale(function: Function, profile: Profile | None, distributions: Sequence[Distribution]) -> Iterator[str]:
    """Say which distributions stay whole because the profile knows another version of them."""
    if profile is None:
        return
    if not profile.fits(function.target):
        what = (
            f"the profile of {function.name} is for {profile.runtime} on {profile.architecture}, and nothing is removed by it"
        )
        yield f"{what}: run `lpack profile {function.name}` anew."
        return
    for each in distributions:
        known = profile.versions.get(each.name)
        if known != each.version:
            what = f"the profile of {function.name} knows {f'{each.name} {known}' if known else f'no {each.name}'}"
            yield f"{what}, and {each.version} is packed whole: run `lpack profile {function.name}` anew."


def _starter(material: Material, tree: Tree) -> tuple[Starter, tuple[str, ...]]:
    """Give what the handler's module is to do beside its own code, and the names of that."""
    function, options = material.function, material.function.bytecode
    opened = material.profile.paths() if material.profile and options.prefetch else frozenset()
    prefetch = worth_reading(tree, opened, function.target.runtime.minor)
    starts = (*(("pause-gc",) if options.pause else ()), *(("prefetch",) if prefetch else ()))
    return make_starter(pause=options.pause, prefetch=prefetch), starts


class _Places:
    """Where the bytecode of a function goes: beside its sources, or in their place."""

    def __init__(self, material: Material, restored: frozenset[Unit], mode: str) -> None:
        self._names = material.owner_names()
        self._minor = material.function.target.runtime.minor
        self._only = mode == "only"
        self._held = frozenset(name for rule, name in restored if rule == SOURCES)
        self._read = material.profile.sources() if material.profile else frozenset()
        self._keep = material.function.trim.keep

    def put(self, tree: Tree, compiled: Compiled) -> tuple[Tree, tuple[Removed, ...]]:
        """Put bytecode into a tree, and say which sources are gone for it."""
        entries: list[Entry] = []
        without: list[Removed] = []
        taken = {entry.path for entry in tree}
        for entry in tree:
            content = compiled.files.get(entry.path)
            alone = content is not None and self._stands_alone(entry) and instead(entry.path) not in taken
            if alone:
                owner = self._names[entry.owner]
                without.append(Removed(path=entry.path, rule=SOURCES, owner=owner, size=entry.content.size))
            else:
                entries.append(entry)
            path = instead(entry.path) if alone else beside(entry.path, self._minor)
            if content is not None and path not in taken:
                entries.append(Entry(path=path, mode=FILE_MODE, content=content, owner=entry.owner))
        return Tree.of(entries), tuple(without)

    def _stands_alone(self, entry: Entry) -> bool:
        name = self._names[entry.owner]
        held = name in self._held or entry.path in self._read or fitting(self._keep, name, entry.path)
        return self._only and not held


def _services(function: Function, scans: Mapping[str, Scan], names: set[str]) -> tuple[frozenset[str] | None, tuple[str, ...]]:
    """Give the services that a function calls, None where that cannot be known; and what to tell the user of it."""
    if function.trim.services is not None:
        return frozenset(function.trim.services) | _ALWAYS_CALLED, ()
    if "botocore" not in names:
        return None, ()
    for name, scan in scans.items():
        if scan.dynamic:
            where = "" if name == OWN_SOURCE else f"{name}: "
            note = f"{function.name}: all of botocore's service models stay: {where}{scan.dynamic} computes a service's name."
            return None, (f'{note} trim = {{ services = ["…"] }} names those that it calls.',)
    return frozenset(name for scan in scans.values() for name in scan.services) | _ALWAYS_CALLED, ()
