"""A worker's side of a cluster's build: does jobs on functions, whose tickets it has, in a folder of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock as Guard
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from builders.errors import LpackError
from builders.once import Once
from builders.runtimes import Target
from packer.cache.store import store_errors
from packer.cluster.jobs import Files, MissingTicketsError, Ticket, fetch_archive, keep_archive, load_files, load_ticket
from packer.core.errors import ManyErrors
from packer.core.events import Reporter
from packer.core.model import FileContent, Function, Lock, LockedPackage, SourceFolder, Tree
from packer.formats.elf import ElfFile
from packer.formats.unpack import LayerArchive
from packer.layers.assignment import LayerShare, MadeLayer, Need
from packer.layers.planner import Piece
from packer.pipeline.functions import make_local_work, make_preparation
from packer.pipeline.gatherer import LockSource, Tools, make_gatherer
from packer.pipeline.layer_maker import Beside, Folders, Version, Wanted
from packer.pipeline.layer_parts import Variant
from packer.pipeline.local_work import SettledFunction
from packer.pipeline.preparation import Order, Preparation
from packer.resolve.resolver import Resolver
from packer.source.function_source import SourceScan
from packer.trim.rules import Unit


class WorkerSite:
    """Does jobs on functions that are compiled as the one of ``first`` is; may be used from many threads.

    What the machine that builds has at a path lies at the same path below ``folder``/root here.
    """

    def __init__(self, first: Ticket, tools: Tools, reporter: Reporter, folder: Path) -> None:
        self._root = folder / "root"
        self._archives = folder / "archives"
        folders = Folders(staging=folder / "staging", out=folder / "out")
        for each in (self._root, self._archives, folders.staging):
            each.mkdir(parents=True, exist_ok=True)
        self._store = tools.sources.store
        self._translator = _PathTranslator(self._root, (folder, self._store.root))
        self._fetched: Once[str, Path] = Once()
        self._known: set[str] = set()
        self._guard = Guard()
        self._locks = ShippedLocks(tools.resolver)
        locks: LockSource = self._locks
        given = replace(tools, sources=replace(tools.sources, locks=locks))
        gatherer = make_gatherer(given, reporter, folders.out)
        self._preparation = make_preparation((), given, gatherer)
        asking = _TicketSource(self._preparation, self._locks.find_missing)
        function = first.order.function
        self._work = make_local_work(function, self._preparation, asking, given, gatherer, folders, _never_placed)

    def learn(self, tickets: Sequence[str]) -> None:
        """Read tickets that are not known yet; raises `packer.cluster.jobs.MissingObjectError`."""
        with self._guard:
            for digest in tickets:
                if digest not in self._known:
                    self._unpack_ticket(load_ticket(self._store, digest))
                    self._known.add(digest)

    def _unpack_ticket(self, ticket: Ticket) -> None:
        for digest in ticket.shared:
            if digest not in self._known:
                self._write(load_files(self._store, digest))
                self._known.add(digest)
        self._write(ticket.files)
        order = self._move_order(ticket.order)
        self._preparation.add(order)
        self._locks.add(order.function, self._move_lock(ticket.lock))

    def _write(self, files: Files) -> None:
        for name, (mode, data) in files.items():
            path = self._local_path(Path(name))
            with store_errors(path, "write"):
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():  # another function's ticket may have had it, and somebody may be reading it
                    path.write_bytes(data)
                    path.chmod(mode)

    def _local_path(self, path: Path) -> Path:
        """Return where a path of the machine that builds lies here."""
        return self._root / path.relative_to(path.anchor)

    def _move_order(self, order: Order) -> Order:
        function = order.function
        requirements = function.requirements
        moved = replace(
            function,
            source=self._local_path(function.source),
            lock_path=self._local_path(function.lock_path),
            requirements=replace(requirements, path=self._local_path(requirements.path)) if requirements else None,
            trim=replace(function.trim, profile=self._local_path(function.trim.profile) if function.trim.profile else None),
            layers=replace(
                function.layers,
                attached=tuple(
                    replace(each, content=self._local_path(each.content)) if each.content else each
                    for each in function.layers.attached
                ),
            ),
            verify=replace(function.verify, events=tuple(map(self._local_path, function.verify.events)), searched=()),
        )
        entries = (
            replace(entry, content=replace(entry.content, path=self._local_path(entry.content.path)))
            if isinstance(entry.content, FileContent)
            else entry
            for entry in order.scan.tree
        )
        return Order(function=moved, scan=SourceScan(tree=Tree(tuple(entries)), watched=(), left_out=()))

    def _move_lock(self, lock: Lock) -> Lock:
        packages = (
            replace(package, source=SourceFolder(path=self._local_path(package.source.path)))
            if isinstance(package.source, SourceFolder)
            else package
            for package in lock.packages
        )
        return replace(lock, packages=tuple(packages))

    def run(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Do a job; raises `LpackError`, or `packer.cluster.jobs.MissingTicketsError` where it needs more tickets."""
        try:
            return getattr(self, name)(*arguments)
        except LpackError as error:
            raise self._translator.translate_error(error) from None

    def translate(self, text: str) -> str:
        """Return a message of this machine with paths as the building machine knows them."""
        return str(self._translator.translate(text))

    def prepare(self, version: Version) -> tuple[Need, frozenset[Unit]]:
        """Prepare a function."""
        return self._work.prepare(version)

    def size(self, wanted: Wanted) -> Piece:
        """Return the bytes of a distribution in a layer."""
        return self._work.size(wanted)

    def make(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Make a layer, and return it without its archive, which goes to the remote store."""
        made = self._work.make(share, wanted, beside)
        self._hand_over(made.archive.sha256, made.archive.path)
        return replace(made, archive=replace(made.archive, path=Path()), staged=None)

    def settle(self, version: Version, layers: Sequence[MadeLayer]) -> SettledFunction:
        """Build a function, and return it without its archive, which goes to the remote store."""
        here = tuple(replace(layer, archive=self._fetch_layer(layer.archive.sha256)) for layer in layers)
        settled = self._work.settle(version, here)
        self._hand_over(settled.result.report.artifact.sha256, settled.staged)
        translated = {
            key: self._translator.translate(getattr(settled.result, key))
            for key in ("report", "warnings", "summary", "folders")
        }
        return replace(settled, result=replace(settled.result, **translated), staged=Path())

    def _fetch_layer(self, digest: str) -> LayerArchive:
        path = self._archives / f"{digest}.zip"
        found = self._fetched.get(digest, lambda: fetch_archive(self._store, digest, path))
        return LayerArchive(path=found, sha256=digest)

    def _hand_over(self, digest: str, path: Path) -> None:
        keep_archive(self._store, digest, path)
        path.unlink()


class _PathTranslator:
    """Translates paths for the machine that builds: those below ``root`` are its own, others get this host's name."""

    def __init__(self, root: Path, others: Sequence[Path]) -> None:
        host = socket.gethostname()
        self._pairs = ((str(root), ""), *((str(path), f"{host}:{path}") for path in others))

    def translate(self, value: Any) -> Any:
        """Return a text, or the texts in tuples, lists, mappings and structs, with translated paths."""
        if isinstance(value, str):
            for mine, theirs in self._pairs:
                value = value.replace(mine, theirs)
            return value
        if isinstance(value, Mapping):
            return {key: self.translate(each) for key, each in value.items()}
        if isinstance(value, Struct):
            return replace(value, **{name: self.translate(each) for name, each in asdict(value).items()})
        return type(value)(map(self.translate, value)) if isinstance(value, tuple | list) else value

    def translate_error(self, error: LpackError) -> LpackError:
        """Return an error with translated paths."""
        if isinstance(error, ManyErrors):
            return ManyErrors([self.translate_error(each) for each in error.errors])
        return type(error)(self.translate(error.what), remedy=self.translate(error.remedy), detail=self.translate(error.detail))


class _TicketSource:
    """Provides what layers are made from; raises `MissingTicketsError` for functions that are not known yet."""

    def __init__(self, preparation: Preparation, find_missing: Callable[[Sequence[str]], tuple[str, ...]]) -> None:
        self._preparation = preparation
        self._find_missing = find_missing

    def variant(self, digest: str, version: Version) -> Variant:
        """Return what a function needs of a distribution."""
        return self._preparation.variant(digest, version)

    def libraries(self, names: Sequence[str], without: Sequence[str]) -> Mapping[str, Sequence[ElfFile]]:
        """Return the native code that functions have beside some distributions; raises `MissingTicketsError`."""
        lacking = self._find_missing(names)
        if lacking:
            raise MissingTicketsError(lacking)
        return self._preparation.libraries(names, without)


def _never_placed(_path: str) -> bool:
    """Return False: a worker's output folder is empty."""
    return False


class ShippedLocks:
    """The locks that came with tickets; all else is resolved on this machine. May be used from many threads."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._locks: dict[str, Lock] = {}

    def add(self, function: Function, lock: Lock) -> None:
        """Keep a function's lock, and the logins that its files carry."""
        self._resolver.learn(function)
        self._locks[function.name] = lock

    def find_missing(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those functions whose locks have not come."""
        return tuple(name for name in names if name not in self._locks)

    def lock(self, function: Function) -> Lock:
        """Return a function's lock."""
        return self._locks[function.name]

    def group_digest(self, function: Function) -> str:  # noqa: ARG002 the lock is given
        """Return an empty digest: a lock that came with a ticket depends on no other function."""
        return ""

    def group_paths(self, function: Function) -> tuple[str, ...]:  # noqa: ARG002 the lock is given
        """Return no paths: a lock that came with a ticket depends on no other function."""
        return ()

    def build_requirements(
        self, requires: Sequence[str], target: Target, function: Function, sources: Sequence[str]
    ) -> tuple[LockedPackage, ...]:
        """Return the exact packages that a build on ``target`` needs; raises `ResolveError`."""
        return self._resolver.build_requirements(requires, target, function, sources)
