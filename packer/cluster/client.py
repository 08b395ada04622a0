"""Has the work done by a cluster: jobs carry digests, and workers meet this machine in the remote store alone.

What workers must know is written there (`packer.cluster.jobs`). What a job makes comes back the same way: archives by their
SHA-256, and all that is derived on the way as on any machine with a remote store. A worker that is lost costs time: its jobs
are given to others, and what the cluster does not finish is done here.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore, Event, Lock
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec.structs import replace

from builders.errors import BuildError
from builders.once import Once
from packer.cache.store import Store
from packer.cluster.jobs import Answer, MissingObjectError, Tickets, fetch_archive, identity, keep_archive
from packer.core.errors import UsageError
from packer.core.events import Reporter
from packer.core.options import Policy
from packer.layers.assignment import LayerShare, MadeLayer, Need
from packer.layers.planner import Piece
from packer.pipeline.gatherer import Sources
from packer.pipeline.layer_maker import Beside, Version, Wanted
from packer.pipeline.local_work import LocalWork, SettledFunction
from packer.pipeline.preparation import Order
from packer.trim.rules import Unit

_GLANCE = 0.5
"""Seconds after which whoever waits for a job looks whether that is still worth it."""
Value = TypeVar("Value")
Job = tuple[str, str, str, tuple[str, ...], str, bytes]
"""Who asks (`packer.cluster.jobs.identity`), the remote store, the build, tickets, the name of a method of
`packer.cluster.worker_site.WorkerSite`, and its
pickled arguments. What comes back is a pickled `Answer`."""
Submit = Callable[[Job, str], "Future[bytes]"]
"""Has a job done, by the worker that is named if that is as good as any; an empty name stands for all."""


class Cluster:
    """A cluster, by way of ``submit``; may be used from many threads. ``with`` ends with what is still being done.

    ``workers`` gives the names of those that it has; None where it has had none for so long that nobody waits for any.
    """

    def __init__(
        self, submit: Submit, workers: Callable[[], Collection[str] | None], remote: str, policy: Policy, reporter: Reporter
    ) -> None:
        self._submit = submit
        self._workers = workers
        self._remote = remote
        self.policy = policy
        self._reporter = reporter
        self._here = BoundedSemaphore(os.cpu_count() or 1)
        self._running: set[Future[bytes]] = set()
        self._guard = Lock()
        self._gone = Event()
        self._stopped = Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        with self._guard:
            running = tuple(self._running)
        for future in running:
            future.cancel()

    def work(self, orders: Sequence[Order], sources: Sources, here: LocalWork, staging: Path) -> ClusterWork:
        """Return the cluster's work on functions that are compiled alike; what it does not finish is done ``here``."""
        return ClusterWork(self, Tickets(orders, sources, self.policy), sources.store, here, staging)

    def call(self, build: str, tickets: tuple[str, ...], name: str, arguments: tuple[Any, ...], near: str) -> Answer:
        """Send a job, and return its answer; raises what it raised, or `LostJobError` where the cluster does not do it."""
        job = (identity(), self._remote, build, tickets, name, pickle.dumps(arguments))
        # The cluster's own way of sending values unpickles this too, and whoever leads it can run what he likes as it is.
        answer: Answer = pickle.loads(self._await_result(job, near))  # noqa: S301
        for kind, text in answer.said:
            getattr(self._reporter, kind)(text)
        if answer.failure:
            self._reporter.debug(answer.failure)
            raise LostJobError
        if answer.error is not None:
            raise answer.error
        return answer

    def report_failure(self, what: str) -> None:
        """Report, to whoever wants details, why the cluster has not done a job."""
        self._reporter.debug(f"the cluster: {what}")

    def _await_result(self, job: Job, near: str) -> bytes:
        if self._gone.is_set() or self._stopped.is_set():
            raise LostJobError
        try:
            if near and near in (self._workers() or ()):
                with suppress(_LostWorkerError):
                    return self._submit_and_wait(job, near)
            return self._submit_and_wait(job, "")
        except (ImportError, AttributeError, TypeError) as error:  # what a worker raises that has no lpack, or an older one
            what = f"The cluster cannot do jobs of {identity()}: {error}."
            raise UsageError(what, remedy="Install the same lpack wherever the scheduler and its workers run.") from error
        except LostJobError:
            raise
        # Schedulers that end, workers that are lost too often, connections: what a cluster may raise has no common base.
        # An error of lpack's own comes up again when the job is done here.
        except (Exception, CancelledError) as error:
            self._reporter.debug(f"the cluster: {type(error).__name__}: {error}")
            raise LostJobError from error

    def _submit_and_wait(self, job: Job, near: str) -> bytes:
        future = self._submit(job, near)
        with self._guard:
            self._running.add(future)
        try:
            while not wait((future,), _GLANCE).done:
                self._check_waiting(near)
            return future.result()
        finally:
            with self._guard:
                self._running.discard(future)
            future.cancel()  # has no effect on one that is done

    def _check_waiting(self, near: str) -> None:
        """Raise what ends the waiting, if anything does."""
        if self._stopped.is_set() or self._gone.is_set():
            raise LostJobError
        workers = self._workers()
        if workers is None:
            self._gone.set()
            self._reporter.warn("The cluster has no workers any more: what is left is done on this machine.")
            raise LostJobError
        if near and near not in workers:
            # A job that was to go to a worker that is gone may wait for it for ever (distributed 2026.8), others or no others.
            raise _LostWorkerError

    def run_here(self, work: Callable[[], Value], error: Exception) -> Value:
        """Do here what the cluster has not done, at most as many at once as this machine has processors."""
        if not self._stopped.is_set() and not self._gone.is_set():
            if isinstance(error, MissingObjectError):
                self._reporter.warn(f"A job is done on this machine. {error}")
            else:
                self._reporter.warn("The cluster lost a job, which is done on this machine.")
        with self._here:
            if self._stopped.is_set():
                raise BuildError("It was interrupted.", remedy="Build again.")
            return work()


class LostJobError(Exception):
    """The cluster has not done a job."""


class _LostWorkerError(Exception):
    """The worker that was to do a job is gone."""


class ClusterWork:
    """The work on functions that are compiled alike, done by a cluster (`packer.pipeline.local_work.Work`)."""

    def __init__(self, cluster: Cluster, tickets: Tickets, store: Store, here: LocalWork, staging: Path) -> None:
        self._cluster = cluster
        self._tickets = tickets
        self._store = store
        self._here = here
        self._staging = staging
        self._homes: dict[str, str] = {}
        """Which worker has a function's parts, or a distribution as a layer holds it, in its memory."""
        self._offered: Once[str, None] = Once()

    def _run_job(self, name: str, arguments: tuple[Any, ...], functions: Iterable[str], about: Iterable[str]) -> Any:
        """Send a job that needs to know ``functions``, by whoever knows most of what it is ``about``.

        Each answer but the last asks for functions whose tickets were not sent yet, so that the loop ends after as many answers
        as there are functions; raises `LostJobError` where a worker asks for the same again.
        """
        names, about = tuple(dict.fromkeys(functions)), tuple(about)
        homes = Counter(self._homes[each] for each in about if each in self._homes)
        near = homes.most_common(1)[0][0] if homes else ""
        while True:
            tickets = tuple(map(self._tickets.of, names))
            answer = self._cluster.call(self._tickets.build, tickets, name, arguments, near)
            if not answer.lacking:
                self._homes.update(dict.fromkeys(about, answer.worker))
                return answer.value
            if not set(answer.lacking).difference(names):
                self._cluster.report_failure(f"{answer.worker} asks again for {', '.join(answer.lacking)}, which it was sent")
                raise LostJobError
            names, near = tuple(dict.fromkeys((*names, *answer.lacking))), answer.worker

    def prepare(self, version: Version) -> tuple[Need, frozenset[Unit]]:
        """Prepare a function."""
        try:
            found: tuple[Need, frozenset[Unit]] = self._run_job("prepare", (version,), [version.name], [version.name])
        except (LostJobError, MissingObjectError) as error:
            return self._cluster.run_here(lambda: self._here.prepare(version), error)
        return found

    def warm(self, wanted: Sequence[Wanted]) -> None:
        """Do nothing: each distribution is a job of its own."""

    def size(self, wanted: Wanted) -> Piece:
        """Return the bytes of a distribution in a layer."""
        try:
            found: Piece = self._run_job("size", (wanted,), _list_users(wanted), [wanted.key])
        except (LostJobError, MissingObjectError) as error:
            return self._cluster.run_here(lambda: self._here.size(wanted), error)
        self._here.maker.keep_size(wanted, found)  # a worker that knew it before has told nobody
        return found

    def make(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Make a layer unless it exists."""
        found = self._here.maker.find(share, wanted, beside)
        if found is not None:
            return found
        pieces = {digest: wanted[digest] for digest in share.pieces}
        users = [name for each in pieces.values() for name in _list_users(each)]
        try:
            made: MadeLayer = self._run_job("make", (share, pieces, beside), users, [each.key for each in pieces.values()])
            path = fetch_archive(self._store, made.archive.sha256, self._staging / made.report.path)
        except (LostJobError, MissingObjectError) as error:
            return self._cluster.run_here(lambda: self._here.make(share, pieces, beside), error)
        self._offered.get(made.archive.sha256, lambda: None)
        return replace(made, archive=replace(made.archive, path=path), staged=path)

    def ready(self, todo: Mapping[str, Sequence[MadeLayer]]) -> None:
        """Do nothing: each function is a job of its own."""

    def settle(self, version: Version, layers: Sequence[MadeLayer]) -> SettledFunction:
        """Build a function with its layers, and prove it."""
        bare = tuple(replace(each, archive=replace(each.archive, path=Path()), staged=None) for each in layers)
        try:
            for each in layers:
                archive = each.archive
                self._offered.get(archive.sha256, partial(keep_archive, self._store, archive.sha256, archive.path))
            settled: SettledFunction = self._run_job("settle", (version, bare), [version.name], [version.name])
            digest = settled.result.report.artifact.sha256
            path = fetch_archive(self._store, digest, self._staging / f"{version.name}.zip")
        except (LostJobError, MissingObjectError) as error:
            return self._cluster.run_here(lambda: self._here.settle(version, layers), error)
        return replace(settled, staged=path)


def _list_users(wanted: Wanted) -> list[str]:
    return [version.name for version in wanted.versions]
