"""What a worker of a Dask cluster runs: jobs of builds, with tools and a cache of this machine's own."""

from __future__ import annotations

import atexit
import pickle
import socket
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

from msgspec import Struct
from msgspec.structs import replace

from builders.errors import LpackError
from builders.leftovers import OwnFolder
from packer.cache.remote import open_remote
from packer.cli.common import open_store
from packer.cluster.jobs import Answer, MissingTicketsError, identity, load_ticket
from packer.cluster.worker_site import WorkerSite
from packer.core.errors import UsageError
from packer.core.events import Reporter

_MOST = 4
"""Sites that are kept open while nobody uses them: a build has one for each target."""


class _NoteKeeper(Reporter):
    """Keeps what is said, for the machine that builds to say it."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str]] = []
        self._lock = Lock()

    def warn(self, message: str) -> None:
        self._keep("warn", message)

    def note(self, message: str) -> None:
        self._keep("note", message)

    def debug(self, message: str) -> None:
        self._keep("debug", message)

    def stage(self, function: str, name: str) -> None:
        self._keep("debug", f"{function}: {name}")

    def _keep(self, kind: str, message: str) -> None:
        with self._lock:
            self._said.append((kind, message))

    def take(self) -> tuple[tuple[str, str], ...]:
        """Return what was said since this was asked last."""
        with self._lock:
            said, self._said = tuple(self._said), []
        return said


class _OpenSite(Struct, kw_only=True):
    """A site, what it says, what closes it, and how many jobs it is doing."""

    site: WorkerSite
    notes: _NoteKeeper
    closing: ExitStack
    jobs: int = 0


class _OpenSites:
    """The sites of this process, one for all jobs of a build on functions that are compiled alike."""

    def __init__(self) -> None:
        self._open: dict[str, _OpenSite] = {}
        """The one that was asked for last is the last."""
        self._lock = Lock()

    @contextmanager
    def open(self, build: str, remote: str, tickets: tuple[str, ...], notes: _NoteKeeper) -> Iterator[_OpenSite]:
        """Return the site of a build, with what is new to it; ``notes`` are for one that must be opened."""
        with self._lock:
            found = self._open.pop(build, None) or _open_site(remote, tickets[0], notes)
            self._open[build] = found
            found.jobs += 1
            idle = [name for name, each in self._open.items() if not each.jobs]
            old = [self._open.pop(name) for name in idle[: max(0, len(self._open) - _MOST)]]
        try:
            for each in old:
                each.closing.close()
            found.site.learn(tickets)
            yield found
        finally:
            with self._lock:
                found.jobs -= 1

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for each in self._open.values():
                each.closing.close()
            self._open.clear()


_sites = _OpenSites()
atexit.register(_sites.close)


def run(asking: str, remote: str, build: str, tickets: tuple[str, ...], name: str, arguments: bytes) -> bytes:
    """Do a job (`packer.cluster.client.Job`), and give a pickled `Answer`: what it raises is part of that."""
    if asking != identity():
        what = f"The worker {socket.gethostname()} is {identity()}, and the build is that of {asking}."
        return pickle.dumps(Answer(error=UsageError(what, remedy="Install the same versions everywhere.")))
    try:
        return pickle.dumps(_do_job(remote, build, tickets, name, arguments))
    except Exception:  # noqa: BLE001 a disk that is full, or an error of lpack's own: the machine that builds tries it itself
        return pickle.dumps(Answer(failure=traceback.format_exc()))


def _do_job(remote: str, build: str, tickets: tuple[str, ...], name: str, arguments: bytes) -> Answer:
    notes, worker = _NoteKeeper(), _find_worker_address()
    try:
        with _sites.open(build, remote, tickets, notes) as opened:
            site, notes = opened.site, opened.notes
            try:
                # Who sends arguments could as well send code: that is what a cluster is for.
                answer = Answer(value=site.run(name, pickle.loads(arguments)), worker=worker)  # noqa: S301
            except MissingTicketsError as lacking:
                answer = Answer(lacking=lacking.names, worker=worker)
            except LpackError as error:
                answer = Answer(error=error, worker=worker)
            said = tuple((kind, site.translate(text)) for kind, text in notes.take())
            return replace(answer, said=said)
    except LpackError as error:  # where no site could be opened, or a ticket does not exist
        return Answer(error=error, said=notes.take(), worker=worker)


def _find_worker_address() -> str:
    """Return this worker's address as the scheduler knows it; empty outside of a worker."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return ""


def _open_site(remote: str, ticket: str, notes: _NoteKeeper) -> _OpenSite:
    """Open a site for functions that are like the one of a ticket; raises `LpackError`."""
    from packer.cache.signatures import Digests
    from packer.cli.wiring import open_tools

    with open_remote(open_store(), remote, notes) as store:
        first = load_ticket(store, ticket)
    with ExitStack() as opening:
        folder = OwnFolder()  # whoever ends the process may not let it remove that
        opening.callback(folder.close)
        parts = open_tools(open_store(), Digests(), notes, first.policy, remote=remote, variables=first.variables)
        site = WorkerSite(first, opening.enter_context(parts), notes, folder.path)
        return _OpenSite(site=site, notes=notes, closing=opening.pop_all())
