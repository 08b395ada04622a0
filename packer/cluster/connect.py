"""Opens a Dask cluster for `lpack build --scheduler`. Imported only where one is asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

from msgspec import Struct

from packer.cache.remote import remote_address
from packer.cache.store import REMOTE_VARIABLE
from packer.cluster.client import Cluster, Job
from packer.core.errors import UsageError
from packer.core.events import Reporter
from packer.core.options import Policy

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 15.0
"""Seconds for which a scheduler may take to answer, and workers to come."""
ABSENCE = 20.0
"""Seconds without any worker after which none is waited for: whoever restarts a lost worker takes a few."""
_AHEAD, _MANY = 8, 64
"""How many jobs are under way for each thread of the workers: while this machine takes in what came of some, and the scheduler
hands out others, each worker has a next one. No more than two, where all would be more than so many."""
_PULSE = 1.0
_GREETING = 5.0
"""Seconds in which who has taken a connection must show that it is a scheduler."""
_CLOSING = 2.0
_RUN = "__import__('packer.cli.commands.worker', fromlist=['run']).run(*job)"
"""A job, as text: a scheduler or a worker that cannot unpickle a function (no lpack, another Python) exits."""


class OpenCluster(Struct, frozen=True, kw_only=True):
    """A cluster, and how many jobs to give it at once."""

    cluster: Cluster
    jobs: int


class Pulse:
    """Asks again and again which workers there are, in a thread of its own: nobody else hangs where nobody answers."""

    def __init__(self, ask: Callable[[], Collection[str]], every: float = _PULSE) -> None:
        self._ask = ask
        self._every = every
        self._workers = frozenset(ask())
        self._seen = time.monotonic()
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="pulse", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            with suppress(Exception):
                self._workers = frozenset(self._ask())
                if self._workers:
                    self._seen = time.monotonic()

    def workers(self, within: float) -> frozenset[str] | None:
        """Return those that there were when somebody answered last; None where there was none within so many seconds."""
        return self._workers if time.monotonic() - self._seen < within else None

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()


@contextmanager
def open_cluster(address: str, configured: str, policy: Policy, reporter: Reporter) -> Iterator[OpenCluster]:
    """Connect to a scheduler; ``configured`` is the configuration's remote store. Raises `UsageError`."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        what = "--scheduler needs Dask, which is not installed."
        raise UsageError(what, remedy="pip install 'lambda-lpack[dask,remote]'") from None
    remote = remote_address(configured)
    if remote is None or policy.offline:
        what = "--scheduler needs a remote store, where workers meet this machine."
        remedy = (
            f'Name one: {REMOTE_VARIABLE}=s3://bucket/prefix, or remote = "…" in the configuration; and leave out --offline.'
        )
        raise UsageError(what, remedy=remedy)
    with _connect_client(address) as client:
        threads = client.nthreads()
        reporter.note(f"building on {len(threads)} workers of {address}")
        pulse = Pulse(client.nthreads)
        try:
            cluster = Cluster(_make_submit(client), lambda: pulse.workers(ABSENCE), str(remote), policy, reporter)
            count = sum(threads.values())
            yield OpenCluster(cluster=cluster, jobs=min(_AHEAD * count, max(2 * count, _MANY)))
        finally:
            pulse.end()


@contextmanager
def _connect_client(address: str) -> Iterator[Client]:
    from distributed import Client

    for name in tuple(logging.root.manager.loggerDict):  # `Cluster` reports what is lost
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        asyncio.run(_reach(address))
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    # What speaks another protocol says lengths that no memory has, and what is no message.
    except (OSError, ValueError, TypeError, RuntimeError, MemoryError, EOFError, LookupError) as error:
        remedy = "Start one with `dask scheduler`, and name it as it says: --scheduler tcp://HOST:8786."
        # Where numpy is installed, it is numpy that has no such memory, and says how much.
        said = "" if isinstance(error, MemoryError) else str(error)
        why = said or ("it says nothing" if isinstance(error, TimeoutError) else "it speaks something else")
        raise UsageError(f"No scheduler answers at {address} ({why}).", remedy=remedy) from None
    try:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            what = f"The scheduler at {address} has no workers."
            raise UsageError(what, remedy=f"Start some, on machines that have lpack: `dask worker {address}`.") from None
        yield client
    finally:
        with suppress(Exception):  # a scheduler that is gone need not be told
            client.close(_CLOSING)


async def _reach(address: str) -> None:
    """Connect once, because a client with a bad address cannot be closed cleanly."""
    from distributed import Security
    from distributed.comm.core import connect

    # Its own time-out ends where the connection stands, before the other side has said anything (distributed 2026.8).
    async with asyncio.timeout(PATIENCE + _GREETING):
        comm = await connect(address, timeout=PATIENCE, **Security().get_connection_args("client"))
    await comm.close()


def _make_submit(client: Client) -> Callable[[Job, str], Future[bytes]]:
    executor = client.get_executor(pure=False)

    def submit(job: Job, near: str) -> Future[bytes]:
        place = {"workers": [near], "allow_other_workers": True} if near else {}
        future: Future[bytes] = executor.submit(eval, _RUN, {"job": job}, **place)
        return future

    return submit
