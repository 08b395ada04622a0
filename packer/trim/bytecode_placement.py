"""Puts bytecode into trees: beside the sources or in their place, as it is configured, or as the limits have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from posixpath import relpath

from msgspec import Struct, field

from builders.errors import UnavailableError
from builders.runtimes import LAYERS_PYTHON, TASK_FOLDER, UNZIPPED_LIMIT, Target
from builders.sandbox.table import Sandboxes
from builders.sandbox.task import Sandbox
from packer.core.bytecode_paths import importable_sources, pycache_path, sourceless_path
from packer.core.model import FILE_MODE, OWN_SOURCE, Content, Entry, Function, Span, Tree
from packer.core.options import BytecodeOptions
from packer.core.records import BytecodePlace, StartStep
from packer.core.units import format_size
from packer.formats.zip_headers import CENTRAL, END, LOCAL
from packer.source.facts import FactScan
from packer.trim.bytecode import CompiledModules, Compiler
from packer.trim.engine import RemovedFile, matching_pattern
from packer.trim.handler_prelude import HandlerPrelude, files_to_prefetch, handler_module, make_prelude
from packer.trim.material import Material
from packer.trim.rules import SOURCES, Unit

_HEADERS = LOCAL.size + CENTRAL.size
"""Bytes of a ZIP member's headers beside its name, which stands in both."""
_TO_LAYERS = relpath(LAYERS_PYTHON, TASK_FOLDER)


class Bytecode(Struct, frozen=True, kw_only=True):
    """What was compiled: ``mode`` is what came of ``auto``, ``why`` the reason; ``python`` made it.

    ``starts`` names what the handler's module does beside its own code (`packer.trim.handler_prelude`).
    """

    mode: BytecodePlace = "off"
    why: str = ""
    python: str = ""
    files: int = 0
    size: int = 0
    failed: tuple[str, ...] = ()
    starts: tuple[StartStep, ...] = ()

    @property
    def is_cramped(self) -> bool:
        """Whether there is no room for bytecode beside all sources."""
        return self.mode == "only" or (self.mode == "off" and bool(self.why))


class LayerContents(Struct, frozen=True, kw_only=True):
    """What a function has in layers: the names of the distributions, and all bytes.

    ``files`` gives what lies in /opt/python, with the bytes of each.
    """

    names: frozenset[str] = frozenset()
    files: Callable[[], Mapping[str, int]] = field(default=dict)
    size: int = 0


class PlacedBytecode(Struct, frozen=True, kw_only=True):
    """A tree with its bytecode; ``without`` are the sources that are gone for it, ``trouble`` says why nothing was compiled."""

    tree: Tree
    bytecode: Bytecode = field(default_factory=Bytecode)
    without: tuple[RemovedFile, ...] = ()
    trouble: str = ""


def kept_sources(material: Material, tree: Tree, restored: frozenset[Unit]) -> frozenset[str]:
    """Return the paths of sources that must stay, whatever lies beside them.

    Those are what cannot be imported by its name, and what code names as a file. Under ``auto``, where nobody has asked for
    sources to go, also the function's own and those of local projects, and all of a distribution that reads sources.
    """
    names, keep = material.owner_names(), material.function.trim.keep
    held = {name for rule, name in restored if rule == SOURCES}
    if material.function.bytecode.mode == "auto":
        held |= {OWN_SOURCE, *material.local, *(name for name, scan in material.scans.items() if _reads_sources(scan))}
    read = material.profile.sources() if material.profile else frozenset()
    nothing = FactScan()
    own = frozenset(material.scans.get(OWN_SOURCE, nothing).named)
    importable = importable_sources(tree)
    return frozenset(
        entry.path
        for entry in tree
        if entry.path.endswith(".py")
        and (
            (name := names[entry.owner]) in held
            or entry.path not in importable
            or (file := entry.path.rpartition("/")[2]) in own
            or file in material.scans.get(name, nothing).named
            or entry.path in read
            or matching_pattern(keep, name, entry.path)
        )
    )


def _reads_sources(scan: FactScan) -> bool:
    """Return whether sources look into sources: their text, or every file with that ending."""
    return scan.reads_sources or ".py" in scan.suffixes


class BytecodePlacer:
    """Compiles trees, and puts the bytecode into them; may be used from many threads."""

    def __init__(self, compiler: Compiler, sandboxes: Sandboxes, spans: Callable[[Content], Span]) -> None:
        self._compiler = compiler
        self._sandboxes = sandboxes
        self._spans = spans

    def python(self, target: Target) -> Sandbox:
        """Find the Python that compiles for a target; raises `UnavailableError`."""
        return self._sandboxes.find(target, "auto", "compile")

    def of_function(
        self,
        material: Material,
        tree: Tree,
        restored: frozenset[Unit],
        layered: LayerContents,
        complete: Callable[[Tree], Tree] = lambda tree: tree,
    ) -> PlacedBytecode:
        """Return a function's own tree with bytecode, for the place where it lies on Lambda.

        ``complete`` makes a tree with its bytecode what is going to be packed.
        """
        function = material.function
        options = function.bytecode
        if options.mode == "off":
            return PlacedBytecode(tree=complete(tree))
        try:
            python = self.python(function.target)
        except UnavailableError as error:
            name = f"3.{function.target.runtime.minor}"
            remedy = f"`uv python install {name}` or a container engine brings one."
            return PlacedBytecode(
                tree=complete(tree), trouble=f"Nothing is compiled to bytecode: no Python {name} ({error.what}). {remedy}"
            )
        handler = handler_module(function.handler, tree)
        others = (entry for entry in tree if entry is not handler)
        compiled = self._compiler.compile(others, python, TASK_FOLDER, options.optimize)
        work = _Work(
            material=material,
            tree=tree,
            stays=kept_sources(material, tree, restored),
            layered=layered,
            handler=handler,
            compiled=compiled,
            python=python,
            complete=complete,
        )
        if options.mode != "auto":
            return self._place_bytecode(work, options.mode, "as configured")
        found = self._place_bytecode(work, "beside", "it fits beside the sources")
        over = self._over(function, found.tree, layered.size)
        if not over:
            return found
        found = self._place_bytecode(work, "only", f"beside the sources {over}")
        if self._over(function, found.tree, layered.size):
            bare = complete(tree)
            if not self._over(function, bare, layered.size):
                why = f"beside the sources {over}, and too few of them may go"
                return PlacedBytecode(tree=bare, bytecode=Bytecode(mode="off", why=why))
        return found

    def warm(self, trees: Sequence[Tree], target: Target, options: BytecodeOptions) -> None:
        """Compile the modules of many distributions at once, so that `of_layer` finds their bytecode; a way to be quick."""
        if options.mode != "off":
            self._compiler.warm(trees, self.python(target), LAYERS_PYTHON, options.optimize)

    def warm_functions(self, found: Iterable[tuple[Function, Sequence[Entry]]]) -> None:
        """Compile the modules that many functions have of their own in few goes, so that `of_function` finds their bytecode.

        The functions are for one target and compiled alike. A handler whose profile decides its code is left out.
        """
        others: list[Sequence[Entry]] = []
        handlers: dict[HandlerPrelude, list[Sequence[Entry]]] = {}
        function = None
        for function, entries in found:
            handler = handler_module(function.handler, entries)
            others.append([entry for entry in entries if entry is not handler])
            if handler is not None and function.trim.level != "max":
                starter = make_prelude(pause=function.bytecode.pause, prefetch=())
                handlers.setdefault(starter, []).append([handler])
        if function is None or function.bytecode.mode == "off":
            return
        with suppress(UnavailableError):  # reported where it matters
            python = self.python(function.target)
            self._compiler.warm(others, python, TASK_FOLDER, function.bytecode.optimize)
            for starter, modules in handlers.items():
                self._compiler.warm(modules, python, TASK_FOLDER, function.bytecode.optimize, starter)

    def of_layer(self, tree: Tree, stays: frozenset[str], target: Target, options: BytecodeOptions, *, only: bool) -> Tree:
        """Return the tree of distributions with bytecode for where a layer's modules lie; raises `UnavailableError`.

        ``only`` puts it in the place of sources, but for ``stays``.
        """
        if options.mode == "off":
            return tree
        compiled = self._compiler.compile(tree, self.python(target), LAYERS_PYTHON, options.optimize)
        owners = {entry.owner: entry.owner for entry in tree}
        return _Places(names=owners, minor=target.runtime.minor, only=only, stays=stays).put(tree, compiled)[0]

    def _place_bytecode(self, work: _Work, mode: BytecodePlace, why: str) -> PlacedBytecode:
        """Put bytecode into a tree; the handler's comes last, for it may read ahead the files that exist by then."""
        function = work.material.function
        minor = function.target.runtime.minor
        places = _Places(names=work.material.owner_names(), minor=minor, only=mode == "only", stays=work.stays)
        shaped, without = places.put(work.tree, work.compiled)
        compiled, starts = work.compiled, tuple[StartStep, ...]()
        if work.handler is not None:
            starter, starts = _starter(work.material, shaped, work.layered)
            own = self._compiler.compile_handler(work.handler, starter, work.python, TASK_FOLDER, function.bytecode.optimize)
            shaped, more = places.put(shaped, own)
            without = (*without, *more)
            starts = starts if own.files else ()
            compiled = CompiledModules(files={**compiled.files, **own.files}, failed=(*own.failed, *compiled.failed))
        facts = Bytecode(
            mode=mode,
            why=why,
            python=work.python.identity,
            files=len(compiled.files),
            size=compiled.size,
            failed=compiled.failed,
            starts=starts,
        )
        return PlacedBytecode(tree=work.complete(shaped), bytecode=facts, without=without)

    def _over(self, function: Function, tree: Tree, layers: int) -> str:
        """Return what limit a tree goes beyond, beside layers of this many bytes; empty where it fits."""
        size = tree.size + layers
        limits = (None if function.image.wanted else UNZIPPED_LIMIT, "Lambda's limit"), (function.budget.unzipped, "the budget")
        for limit, name in limits:
            if limit is not None and size > limit:
                return f"it would be {format_size(size)} unzipped, over {name}"
        if function.budget.zip is not None:
            zipped = self.zipped(tree)
            if zipped > function.budget.zip:
                return f"it would be {format_size(zipped)} zipped, over the budget"
        return ""

    def zipped(self, tree: Tree) -> int:
        """Return the bytes of a tree's archive."""
        return sum(self._spans(entry.content).length + 2 * len(entry.path.encode()) + _HEADERS for entry in tree) + END.size


class _Work(Struct, frozen=True, kw_only=True):
    """A function's tree, and the bytecode of all of it but the handler's, which depends on where the rest goes."""

    material: Material
    tree: Tree
    stays: frozenset[str]
    layered: LayerContents
    handler: Entry | None
    compiled: CompiledModules
    python: Sandbox
    complete: Callable[[Tree], Tree]


def _starter(material: Material, tree: Tree, layered: LayerContents) -> tuple[HandlerPrelude, tuple[StartStep, ...]]:
    """Return what the handler's module is to do beside its own code, and the names of that."""
    function, options = material.function, material.function.bytecode
    opened = material.profile.paths() if material.profile and options.prefetch else frozenset()
    minor = function.target.runtime.minor
    prefetch = files_to_prefetch({entry.path: entry.content.size for entry in tree}, opened, minor)
    if opened:
        prefetch += [f"{_TO_LAYERS}/{path}" for path in files_to_prefetch(layered.files(), opened, minor)]
    starts: list[StartStep] = ["pause-gc"] if options.pause else []
    starts += ["prefetch"] if prefetch else []
    return make_prelude(pause=options.pause, prefetch=prefetch), tuple(starts)


class _Places(Struct, frozen=True, kw_only=True):
    """Where bytecode goes: beside sources, or in their place but for those that stay; ``names`` are by owners of entries."""

    names: Mapping[str, str]
    minor: int
    only: bool
    stays: frozenset[str] = field(default_factory=frozenset)

    def put(self, tree: Tree, compiled: CompiledModules) -> tuple[Tree, tuple[RemovedFile, ...]]:
        """Put bytecode into a tree, and say which sources are gone for it."""
        entries: list[Entry] = []
        without: list[RemovedFile] = []
        taken = {entry.path for entry in tree}
        for entry in tree:
            content = compiled.files.get(entry.path)
            alone = (
                content is not None and self.only and entry.path not in self.stays and sourceless_path(entry.path) not in taken
            )
            if alone:
                owner = self.names[entry.owner]
                without.append(RemovedFile(path=entry.path, rule=SOURCES, owner=owner, size=entry.content.size))
            else:
                entries.append(entry)
            path = sourceless_path(entry.path) if alone else pycache_path(entry.path, self.minor)
            if content is not None and path not in taken:
                entries.append(Entry(path=path, mode=FILE_MODE, content=content, owner=entry.owner))
        return Tree.of(entries), tuple(without)
