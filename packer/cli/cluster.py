"""Opens a Dask cluster for `lpack build --scheduler`. Imported only where one is asked for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

from packer.cli.worker import run
from packer.cluster import Cluster, Job
from packer.errors import UsageError
from packer.ports import Reporter
from packer.remote import VARIABLE, named_remote
from packer.resolve import Policy

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 15.0
"""Seconds for which a scheduler may take to answer, and workers to come."""
ABSENCE = 20.0
"""Seconds without any worker after which none is waited for: the one that starts a lost worker anew takes a few."""
_PULSE = 1.0
_CLOSING = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A cluster, and how many jobs to give it at once."""

    cluster: Cluster
    jobs: int


class Pulse:
    """Asks again and again how many workers there are, in a thread of its own: nobody else hangs where nobody answers."""

    def __init__(self, workers: Callable[[], int], every: float = _PULSE) -> None:
        self._workers = workers
        self._every = every
        self._seen = time.monotonic()
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="pulse", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            with suppress(Exception):
                if self._workers():
                    self._seen = time.monotonic()

    def felt(self, within: float) -> bool:
        """Say whether there was a worker within so many seconds."""
        return time.monotonic() - self._seen < within

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()


@contextmanager
def opened_cluster(address: str, configured: str, policy: Policy, reporter: Reporter) -> Iterator[Opened]:
    """Connect to a scheduler; ``configured`` is the configuration's remote store. Raises `UsageError`."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        what = "--scheduler needs Dask, which is not installed."
        raise UsageError(what, remedy="pip install 'lambda-lpack[dask,remote]'") from None
    remote = named_remote(configured)
    if remote is None or policy.offline:
        what = "--scheduler needs a remote store, where workers meet this machine."
        remedy = f'Name one: {VARIABLE}=s3://bucket/prefix, or remote = "…" in the configuration; and leave out --offline.'
        raise UsageError(what, remedy=remedy)
    with _connected(address) as client:
        pulse = Pulse(lambda: len(client.nthreads()))
        threads = client.nthreads()
        reporter.note(f"building on {len(threads)} workers of {address}")
        alive = lambda: pulse.felt(ABSENCE)  # noqa: E731
        cluster = Cluster(_submitting(client), alive, str(remote), policy, reporter)
        try:
            # Twice as many: while this machine takes in what came of one job, the worker has the next.
            yield Opened(cluster=cluster, jobs=2 * sum(threads.values()))
        finally:
            pulse.end()


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is lost is told of by `Cluster`
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        remedy = "Start one with `dask scheduler`, and name it as it says: --scheduler tcp://HOST:8786."
        raise UsageError(f"No scheduler answers at {address} ({error}).", remedy=remedy) from None
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


def _submitting(client: Client) -> Callable[[Job, str], Future[bytes]]:
    executor = client.get_executor(pure=False)

    def submit(job: Job, near: str) -> Future[bytes]:
        place = {"workers": [near], "allow_other_workers": True} if near else {}
        future: Future[bytes] = executor.submit(run, *job, **place)
        return future

    return submit
