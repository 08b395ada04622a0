"""Has the work done by a Dask cluster: jobs carry digests, and workers meet this machine in the remote store alone.

What workers must know of functions (their sources, locks, dependency files, events, local projects) is written to the remote
store as one object, a ticket; each job names it by its SHA-256. What a job makes goes back the same way: archives by their own
SHA-256, and all that is derived on the way as on any machine with a remote store. A worker that is lost costs time: Dask gives
its jobs to others, and what nobody finishes is done here.
"""

from __future__ import annotations

import hashlib
import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from packer import __version__
from packer.errors import LpackError, StoreError, UsageError
from packer.gather import Gatherer, Tools, files_of_function
from packer.layering import MadeLayer, Need, Share
from packer.layers import Piece
from packer.layout import LayerArchive
from packer.makelayer import Beside, LayerMaker, Version, Wanted
from packer.model import FileContent, Function, Lock, SourceFolder, Tree
from packer.once import Once
from packer.ports import Reporter
from packer.resolve import Policy, Resolver
from packer.rules import Unit
from packer.source import Scan
from packer.store import Store, explained
from packer.workshop import Order, Settled, Workshop

_TICKETS, _ARTIFACTS = "tickets", "artifacts"
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """All that workers have to know of functions that are compiled alike.

    ``files`` are modes and contents by the paths that they have on the machine that asks.
    """

    version: str
    orders: tuple[Order, ...]
    locks: Mapping[str, Lock]
    files: Mapping[str, tuple[int, bytes]]
    policy: Policy
    remote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a job: a value or an error, and what was said on the way, as (kind, text)."""

    value: Any = None
    error: LpackError | None = None
    said: tuple[tuple[str, str], ...] = ()


Run = Callable[[str, str, str, tuple[Any, ...]], Answer]
"""Does a job on a worker: the remote store's address, a ticket's digest, the name of a method of `Site`, and its arguments."""


def make_ticket(orders: Sequence[Order], tools: Tools, policy: Policy, remote: str) -> Ticket:
    """Gather what workers have to know; raises `packer.errors.LpackError`."""
    locks = {order.function.name: tools.resolver.lock(order.function) for order in orders}
    files: dict[str, tuple[int, bytes]] = {}
    for order in orders:
        packages = locks[order.function.name].packages
        folders = [package.source.path for package in packages if isinstance(package.source, SourceFolder)]
        for path in files_of_function(order.function, order.scan, folders, tools.digests):
            if str(path) not in files and path.is_file():
                with explained(path, "read"):
                    files[str(path)] = (path.stat().st_mode & 0o777, path.read_bytes())
    plain = tuple(replace(order, function=replace(order.function, sharing=())) for order in orders)
    return Ticket(version=__version__, orders=plain, locks=locks, files=files, policy=policy, remote=remote)


def save_ticket(store: Store, ticket: Ticket) -> str:
    """Write a ticket where workers find it, and give its digest."""
    payload = zlib.compress(pickle.dumps(ticket), 1)
    digest = hashlib.sha256(payload).hexdigest()
    store.save(_TICKETS, digest, payload)
    store.flush()
    return digest


def load_ticket(store: Store, digest: str) -> Ticket:
    """Read a ticket; raises `StoreError` where it is not there, or not the one that was named."""
    payload = _by_digest(store, _TICKETS, digest)
    # The digest came with the job itself: nobody else who writes to the remote store can have it unpickle anything.
    ticket: Ticket = pickle.loads(zlib.decompress(payload))  # noqa: S301
    if ticket.version != __version__:
        what = f"A worker has lpack {__version__}, and the build is lpack {ticket.version}'s."
        raise UsageError(what, remedy="Install the same version everywhere.")
    return ticket


def _by_digest(store: Store, kind: str, digest: str) -> bytes:
    record = store.load(kind, digest)
    if record is None or hashlib.sha256(record.payload).hexdigest() != digest:
        what = f"The remote store does not hold what a job needs ({kind} {digest[:12]})."
        raise StoreError(what, remedy="See that all machines name the same remote store, and may read and write it.")
    return record.payload


def _fetched(store: Store, digest: str, to: Path) -> Path:
    """Put an archive from the remote store into a file."""
    with explained(to, "write"):
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(_by_digest(store, _ARTIFACTS, digest))
    return to


class Cluster:
    """A Dask cluster, by way of its executor; ``run`` is what workers do. May be used from many threads."""

    def __init__(self, executor: Executor, run: Run, remote: str, policy: Policy, reporter: Reporter) -> None:
        self._executor = executor
        self._run = run
        self._remote = remote
        self._policy = policy
        self._reporter = reporter

    def work(self, orders: Sequence[Order], tools: Tools, here: Workshop, staging: Path) -> ClusterWork:
        """Give the cluster's work on functions; what it cannot finish is done ``here``."""
        return ClusterWork(self, orders, tools, here, staging)

    def ticket(self, orders: Sequence[Order], tools: Tools) -> str:
        """Write down what workers have to know, and give its digest."""
        return save_ticket(tools.store, make_ticket(orders, tools, self._policy, self._remote))

    def call(self, ticket: str, name: str, *arguments: Any) -> Any:
        """Have a job done; raises what it raised, or `_Lost` where the cluster has not done it."""
        try:
            answer: Answer = self._executor.submit(self._run, self._remote, ticket, name, arguments).result()
        except Exception as error:
            # Dask's own errors for lost workers and schedulers have no common base but their module.
            if type(error).__module__.partition(".")[0] in ("distributed", "concurrent", "asyncio") or isinstance(
                error, OSError
            ):
                raise _Lost(str(error)) from error
            raise
        for kind, text in answer.said:
            getattr(self._reporter, kind)(text)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def lost(self, error: _Lost) -> None:
        """Tell of a job that the cluster has not done."""
        self._reporter.warn("The cluster lost a job, which is done on this machine.")
        self._reporter.debug(str(error))


class _Lost(Exception):
    """The cluster has not done a job."""


class ClusterWork:
    """The work on functions that are compiled alike, done by a cluster (`packer.workshop.Work`)."""

    def __init__(self, cluster: Cluster, orders: Sequence[Order], tools: Tools, here: Workshop, staging: Path) -> None:
        self._cluster = cluster
        self._orders = orders
        self._tools = tools
        self._here = here
        self._staging = staging
        self._ticket: Once[str, str] = Once()

    def _done(self, instead: Callable[[], Value], name: str, *arguments: Any) -> Value:
        ticket = self._ticket.get("", lambda: self._cluster.ticket(self._orders, self._tools))
        try:
            value: Value = self._cluster.call(ticket, name, *arguments)
        except _Lost as error:
            self._cluster.lost(error)
            return instead()
        return value

    def prepare(self, version: Version) -> tuple[Need, frozenset[Unit]]:
        """Prepare a function."""
        return self._done(lambda: self._here.prepare(version), "prepare", version)

    def warm(self, wanted: Sequence[Wanted]) -> None:
        """Do nothing: each distribution is a job of its own."""

    def size(self, wanted: Wanted) -> Piece:
        """Give the bytes of a distribution in a layer."""
        return self._done(lambda: self._here.size(wanted), "size", wanted)

    def make(self, share: Share, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Make a layer, if it is not there."""
        found = self._here.maker.found(share, wanted, beside)
        if found is not None:
            return found
        pieces = {digest: wanted[digest] for digest in share.pieces}
        made = self._done(lambda: self._here.make(share, pieces, beside), "make", share, pieces, beside)
        return made if made.staged is not None else self._brought(made)

    def ready(self, todo: Mapping[str, Sequence[MadeLayer]]) -> None:
        """Do nothing: each function is a job of its own."""

    def _brought(self, made: MadeLayer) -> MadeLayer:
        path = _fetched(self._tools.store, made.archive.sha256, self._staging / made.report["path"])
        return replace(made, archive=replace(made.archive, path=path), staged=path)

    def settle(self, version: Version, layers: Sequence[MadeLayer]) -> Settled:
        """Build a function with its layers, and prove it."""
        bare = tuple(replace(each, archive=replace(each.archive, path=Path()), staged=None) for each in layers)
        for each in layers:
            _offer(self._tools.store, each)
        settled = self._done(lambda: self._here.settle(version, layers), "settle", version, bare)
        if settled.staged != Path():
            return settled
        path = self._staging / f"{version.name}.zip"
        return replace(settled, staged=_fetched(self._tools.store, settled.result.report["artifact"]["sha256"], path))


def _offer(store: Store, layer: MadeLayer) -> None:
    """Put a layer where workers find it, unless it came from there."""
    if store.load(_ARTIFACTS, layer.archive.sha256) is None:
        with explained(layer.archive.path, "read"):
            store.save(_ARTIFACTS, layer.archive.sha256, layer.archive.path.read_bytes())
        store.flush()


class Site:
    """A worker's side: does jobs on the functions of a ticket in a folder of its own."""

    def __init__(self, ticket: Ticket, tools: Tools, folder: Path) -> None:
        self._root = folder / "root"
        self._archives = folder / "archives"
        self._staging = folder / "staging"
        self._fetched: Once[str, Path] = Once()
        self._write(ticket.files)
        locks = {name: self._moved_lock(lock) for name, lock in ticket.locks.items()}
        orders = [self._moved(order) for order in ticket.orders]
        self._tools = replace(tools, resolver=GivenLocks(tools.resolver, locks))
        parts = (self._tools, Gatherer(self._tools, folder / "out"))
        like = (orders[0].function.target, orders[0].function.bytecode)
        folders = (self._staging, folder / "out")
        self._shop = Workshop(orders, parts, self._staging, lambda source: LayerMaker(parts, source, folders, like, _nothing))

    def _write(self, files: Mapping[str, tuple[int, bytes]]) -> None:
        for folder in (self._root, self._archives, self._staging):
            folder.mkdir(parents=True, exist_ok=True)
        for name, (mode, data) in files.items():
            path = self._path(Path(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(mode)

    def _path(self, path: Path) -> Path:
        """Give where a path of the machine that asks lies here."""
        return self._root / path.relative_to(path.anchor)

    def _moved(self, order: Order) -> Order:
        function = order.function
        requirements = function.requirements
        moved = replace(
            function,
            source=self._path(function.source),
            lock_path=self._path(function.lock_path),
            requirements=replace(requirements, path=self._path(requirements.path)) if requirements else None,
            trim=replace(function.trim, profile=self._path(function.trim.profile) if function.trim.profile else None),
            verify=replace(function.verify, events=tuple(map(self._path, function.verify.events)), searched=()),
        )
        entries = (
            replace(entry, content=replace(entry.content, path=self._path(entry.content.path)))
            if isinstance(entry.content, FileContent)
            else entry
            for entry in order.scan.tree
        )
        return Order(function=moved, scan=Scan(tree=Tree(tuple(entries)), watched=(), left_out=()))

    def _moved_lock(self, lock: Lock) -> Lock:
        packages = (
            replace(package, source=SourceFolder(path=self._path(package.source.path)))
            if isinstance(package.source, SourceFolder)
            else package
            for package in lock.packages
        )
        return replace(lock, packages=tuple(packages))

    def do(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Do a job; raises `packer.errors.LpackError`."""
        done = getattr(self, name)(*arguments)
        self._tools.store.flush()
        return done

    def prepare(self, version: Version) -> tuple[Need, frozenset[Unit]]:
        """Prepare a function."""
        return self._shop.prepare(version)

    def size(self, wanted: Wanted) -> Piece:
        """Give the bytes of a distribution in a layer."""
        return self._shop.size(wanted)

    def make(self, share: Share, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Make a layer, and give it without its archive, which goes to the remote store."""
        made = self._shop.make(share, wanted, beside)
        self._keep(made.archive.sha256, made.archive.path)
        return replace(made, archive=replace(made.archive, path=Path()), staged=None)

    def settle(self, version: Version, layers: Sequence[MadeLayer]) -> Settled:
        """Build a function, and give what came of it without its archive, which goes to the remote store."""
        here = tuple(replace(layer, archive=self._archive(layer.archive.sha256)) for layer in layers)
        settled = self._shop.settle(version, here)
        self._keep(settled.result.report["artifact"]["sha256"], settled.staged)
        folders = tuple("/" + str(Path(folder).relative_to(self._root)) for folder in settled.result.folders)
        return replace(settled, result=replace(settled.result, folders=folders), staged=Path())

    def _archive(self, digest: str) -> LayerArchive:
        path = self._archives / f"{digest}.zip"
        return LayerArchive(path=self._fetched.get(digest, lambda: _fetched(self._tools.store, digest, path)), sha256=digest)

    def _keep(self, digest: str, path: Path) -> None:
        self._tools.store.save(_ARTIFACTS, digest, path.read_bytes())


def _nothing(_path: str) -> bool:
    """Say that nothing lies in a worker's output folder."""
    return False


class GivenLocks(Resolver):
    """A resolver that gives the locks which the machine that asks has made."""

    def __init__(self, resolver: Resolver, locks: Mapping[str, Lock]) -> None:
        vars(self).update(vars(resolver))  # all else is as with that one
        self._locks = locks

    def lock(self, function: Function) -> Lock:
        """Give a function's lock."""
        return self._locks[function.name]
