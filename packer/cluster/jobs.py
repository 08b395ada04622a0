"""What goes between the machine that builds and the workers of a cluster: tickets, jobs and answers, never paths.

What workers must know of a function (its source, lock, dependency files, events) is written to the remote store as one object,
its ticket, which jobs name by its SHA-256; what many functions may need (local projects, archives that their builds may
require) is in objects of its own. Local archives that a lock names go there as any wheel does.
"""

from __future__ import annotations

import hashlib
import pickle
import secrets
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from os import environ
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from builders.errors import LpackError
from builders.once import Once
from packer import __version__
from packer.cache.store import SharedStore, Store, store_errors
from packer.core.errors import StoreError
from packer.core.model import Archive, Function, Lock, LockedPackage, SourceFolder
from packer.core.options import Policy
from packer.core.version_variables import version_variables
from packer.formats.requirements_txt import ARCHIVE_SUFFIXES
from packer.locks.wheel_choice import choose_wheel
from packer.pipeline.gatherer import Sources, list_function_files
from packer.pipeline.preparation import Order
from packer.source.package_source import read_project_tree

_TICKETS, _ARTIFACTS = "tickets", "artifacts"
_QUICK = 1
"""zlib's level for what is read a few times: sources become a third of their size in no time."""
Files = Mapping[str, tuple[int, bytes]]
"""Modes and contents of files, by the paths that they have on the machine that builds."""


def identity() -> str:
    """Return the versions that all machines must share: lpack's and Python's, as jobs are pickled and sources parsed."""
    return f"lpack {__version__} on Python {sys.version_info.major}.{sys.version_info.minor}"


class Ticket(Struct, frozen=True, kw_only=True):
    """All that a worker has to know of a function; ``shared`` are the digests of `Files` that others may need, too.

    ``variables`` are those by which the user gives projects their versions.
    """

    order: Order
    lock: Lock
    files: Files
    shared: tuple[str, ...]
    policy: Policy
    variables: Mapping[str, str]


class Answer(Struct, frozen=True, kw_only=True):
    """What came of a job: a value or an error, and what was said on the way, as (kind, text).

    ``lacking`` are functions whose tickets the job needs too; ``worker`` is who did it, as the cluster names it. ``failure`` is
    the trace of what should not have happened.
    """

    value: Any = None
    error: LpackError | None = None
    said: tuple[tuple[str, str], ...] = ()
    lacking: tuple[str, ...] = ()
    worker: str = ""
    failure: str = ""


class MissingTicketsError(Exception):
    """A job needs the tickets of other functions too."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__("")
        self.names = tuple(names)


class MissingObjectError(StoreError):
    """An object that one machine wrote for another is missing from the remote store."""


class Tickets:
    """Writes the tickets of functions that are compiled alike, each once; may be used from many threads.

    ``build`` tells them from those of all other builds, whose remote store may have been in trouble.
    """

    def __init__(self, orders: Sequence[Order], sources: Sources, policy: Policy) -> None:
        self.build = secrets.token_hex(16)
        self._orders = {order.function.name: order for order in orders}
        self._sources = sources
        self._policy = policy
        self._written: Once[str, str] = Once()
        self._folders: Once[Path | frozenset[Path], str] = Once()
        """Objects of files that several functions read: local projects, and archives that builds may require."""

    def of(self, name: str) -> str:
        """Return the digest of a function's ticket; raises `LpackError` where it cannot be locked or read."""
        return self._written.get(name, partial(self._write_ticket, self._orders[name]))

    def _write_ticket(self, order: Order) -> str:
        function, store = order.function, _require_shared(self._sources.store, _TICKETS)
        lock = self._share_archives(function, self._sources.locks.lock(function))
        folders = [each.source.path for each in lock.packages if isinstance(each.source, SourceFolder)]
        asks = function.verify.level == "rie" or any(choose_wheel(each, function.target) is None for each in lock.packages)
        files = frozenset(list_function_files(function, order.scan, archives=asks))
        archives = frozenset(path for path in files if path.name.endswith(ARCHIVE_SUFFIXES))
        alike = [self._folders.get(archives, partial(self._save_files, archives))] if archives else []
        ticket = Ticket(
            order=replace(order, function=replace(function, sharing=())),
            lock=lock,
            files=_read_files(sorted(files - archives)),
            shared=(*alike, *(self._folders.get(folder, partial(self._save_folder, folder)) for folder in folders)),
            policy=self._policy,
            variables=version_variables(environ),
        )
        digest = _save(store, ticket)
        store.flush()
        return digest

    def _save_folder(self, folder: Path) -> str:
        tree, _ = read_project_tree(folder, self._sources.digests)
        return self._save_files(folder / entry.path for entry in tree)

    def _save_files(self, paths: Iterable[Path]) -> str:
        return _save(self._sources.store, _read_files(sorted(paths)))

    def _share_archives(self, function: Function, lock: Lock) -> Lock:
        """Put the local archives that a lock names into the remote store; return the lock with their digests."""
        return replace(lock, packages=tuple(self._share_archive(function, package) for package in lock.packages))

    def _share_archive(self, function: Function, package: LockedPackage) -> LockedPackage:
        wheel = choose_wheel(package, function.target)
        archive = wheel or package.source
        if not isinstance(archive, Archive) or archive.location.startswith(("http://", "https://")):
            return package
        [fetched] = self._sources.fetcher.fetch([archive])
        _require_shared(self._sources.store, _TICKETS).share(fetched.sha256)
        known = replace(archive, sha256=fetched.sha256)
        return replace(package, wheels=(known,)) if wheel else replace(package, source=known)


def _read_files(paths: Iterable[Path]) -> Files:
    files: dict[str, tuple[int, bytes]] = {}
    for path in paths:
        if str(path) not in files and path.is_file():
            with store_errors(path, "read"):
                files[str(path)] = (path.stat().st_mode & 0o777, path.read_bytes())
    return files


def _save(store: Store, value: object) -> str:
    payload = zlib.compress(pickle.dumps(value), _QUICK)
    digest = hashlib.sha256(payload).hexdigest()
    store.save(_TICKETS, digest, payload)
    return digest


def load_ticket(store: Store, digest: str) -> Ticket:
    """Read a ticket; raises `MissingObjectError` where it does not exist, or has another digest."""
    ticket: Ticket = _load(store, digest)
    return ticket


def load_files(store: Store, digest: str) -> Files:
    """Read a local project's files; raises `MissingObjectError` where they do not exist, or have another digest."""
    files: Files = _load(store, digest)
    return files


def _load(store: Store, digest: str) -> Any:
    # The digest came with the job itself: nobody else who writes to the remote store can have it unpickle anything.
    return pickle.loads(zlib.decompress(_load_sealed(store, digest)))  # noqa: S301


def keep_archive(store: Store, digest: str, path: Path) -> None:
    """Offer an archive to other machines; raise `MissingObjectError` where this one shares no store with them."""
    shared = _require_shared(store, _ARTIFACTS)
    shared.offer(digest, path)
    shared.flush()


def fetch_archive(store: Store, digest: str, to: Path) -> Path:
    """Write an archive that another machine made to the file ``to``; raise `MissingObjectError`."""
    if not _require_shared(store, _ARTIFACTS).obtain(digest, to):
        raise _make_missing_error(_ARTIFACTS)
    return to


def _require_shared(store: Store, kind: str) -> SharedStore:
    """Return the store if machines can exchange files through it; raise `MissingObjectError` where they cannot."""
    if not isinstance(store, SharedStore):
        raise _make_missing_error(kind)
    return store


def _load_sealed(store: Store, digest: str) -> bytes:
    record = store.load(_TICKETS, digest)
    if record is not None and hashlib.sha256(record.payload).hexdigest() == digest:
        return record.payload
    if record is not None:
        record.path.unlink(missing_ok=True)
    raise _make_missing_error(_TICKETS)


def _make_missing_error(kind: str) -> MissingObjectError:
    return MissingObjectError(
        f"An object that another machine wrote is missing from the remote store ({kind}).",
        remedy="Check that all machines use the same remote store and LPACK_REMOTE_KEY, and may read and write it.",
    )
