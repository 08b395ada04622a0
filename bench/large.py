"""Times builds of a repository of many functions (`bench.monorepo`), here and on clusters of one and two workers."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from msgspec import Struct, field

from bench.measure import Sample, measure
from bench.monorepo import SHARED_SOURCE, Repository, Shape, write_repository
from bench.peers import Place
from bench.quotas import quota
from bench.rows import Line

FIRST, NOTHING, LOCAL = "first build, wheels cached", "nothing changed", "one local package changed"
WANTED: Mapping[str, float] = {FIRST: 15.0, NOTHING: 1.0}
_CLUSTER_WANTED = 1.6
_BESIDE = 2
"""The processes of a cluster beside its workers that need a processor: the scheduler, and who asks."""
_ROW = re.compile(r"^(\S+) .* (built|unchanged) ", re.MULTILINE)
_PATIENCE = 60


class Timed(Struct, kw_only=True):
    """One form of the repository, and the samples of each kind of build; ``rebuilt`` is right where only users were."""

    title: str
    repository: Repository
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    rebuilt: bool = True


class Large:
    """One run: repositories below the run's folder, and lpack in the run's own cache."""

    def __init__(self, place: Place, shape: Shape) -> None:
        self._place = place
        self._shape = shape
        self._edits = 0

    def timed(self, sets: int, *, locked: bool) -> Timed:
        """Write a repository of ``sets`` different sets of requirements, 0 for one each, and lock it."""
        kinds = f"{sets} sets" if sets else "all different"
        title = f"{self._shape.functions} functions, {kinds}{', locked' if locked else ''}"
        shape = Shape(**{name: getattr(self._shape, name) for name in ("functions", "distributions", "users")}, sets=sets)
        _say(f"writing {title}")
        repository = write_repository(Path(tempfile.mkdtemp(dir=self._place.work)) / "repository", shape)
        if locked:
            self._lpack(repository.root, "lock")
        self._lpack(repository.root, "build")
        return Timed(title=title, repository=repository)

    def round(self, timed: Timed) -> None:
        """Build from scratch, again, and after a change in the local package."""
        root = timed.repository.root
        self.clear(root)
        for kind in (FIRST, NOTHING, LOCAL):
            if kind == LOCAL:
                self._edits += 1
                with (root / SHARED_SOURCE).open("a") as file:
                    file.write(f"# edit {self._edits}\n")
            sample = self._lpack(root, "build")
            timed.samples.setdefault(kind, []).append(sample)
            _say(f"{timed.title}, {kind}: {sample.wall:.2f} s, {sample.cpu:.2f} s of CPU")
            built = {name for name, word in _ROW.findall(self._log.read_text()) if word == "built"}
            expected = {FIRST: frozenset(timed.repository.functions), NOTHING: frozenset(), LOCAL: timed.repository.users}
            timed.rebuilt &= built == expected[kind]

    def clear(self, root: Path) -> None:
        """Leave nothing but what was downloaded."""
        for folder in (root / "dist", self._store / "derived", self._store / "projects"):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _store(self) -> Path:
        return self._place.cache / "lpack"

    @property
    def _log(self) -> Path:
        return self._place.work / "output.log"

    def _lpack(self, root: Path, *command: str, before: Sequence[str] = (), **variables: str) -> Sample:
        os.sync()  # what was written before must not be flushed in this one's time
        environment = self._place.lpack_environment() | variables
        return measure((*before, str(self._place.lpack), *command), root, environment, self._log, watch=False)

    def on_cluster(self, repository: Repository, workers: int, part: float = 1.0) -> Sample:
        """Build from scratch on a new cluster, whose workers know nothing; the remote store has the wheels alone.

        Each worker, the scheduler and the process that asks get ``part`` of a processor.
        """
        self.clear(repository.root)
        folder = self._place.work / "cluster"
        shutil.rmtree(folder, ignore_errors=True)
        remote = folder / "remote"
        remote.mkdir(parents=True)
        if self._wheels.is_dir():
            shutil.copytree(self._wheels, remote / "wheels")
        with cluster(self._place, folder, workers, part) as address, quota("client", part) as before:
            sample = self._lpack(repository.root, "build", "--scheduler", address, before=before, LPACK_REMOTE=str(remote))
        if not self._wheels.is_dir():
            shutil.copytree(remote / "wheels", self._wheels)
        of = f" of {part:.2g} of a processor" if part < 1 else ""
        _say(f"{workers} workers{of}: {sample.wall:.2f} s, {sample.cpu:.2f} s of CPU in the process that asks")
        return sample

    @property
    def _wheels(self) -> Path:
        return self._place.work / "wheels-of-remote"


@contextmanager
def cluster(place: Place, folder: Path, workers: int, part: float) -> Iterator[str]:
    """Run a scheduler and workers of one thread each, and give the scheduler's address when all are there.

    Each gets ``part`` of a processor.
    """
    from distributed import Client

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as running:
        where = ("--host", "127.0.0.1", "--no-dashboard")
        _start(running, place, folder / "scheduler", part, "scheduler", "--port", str(port), *where)
        for number in range(workers):
            one = folder / f"worker-{number}"
            options = ("--nthreads", "1", "--nworkers", "1", "--no-nanny", "--local-directory", str(one))
            _start(running, place, one, part, "worker", address, *where, *options)
        with Client(address, timeout=_PATIENCE, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=_PATIENCE)
        yield address


def _start(running: ExitStack, place: Place, folder: Path, part: float, kind: str, *arguments: str) -> None:
    folder.mkdir(parents=True)
    environment = place.lpack_environment() | {"LPACK_CACHE_DIR": str(folder / "cache")}
    log = running.enter_context((folder / "log").open("wb"))
    before = running.enter_context(quota(folder.name, part))
    command = [*before, sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    running.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force where it does not go."""
    process.terminate()
    try:
        process.wait(_PATIENCE / 6)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def monorepo_lines(large: Large, rounds: int, forms: Sequence[tuple[int, bool]]) -> tuple[list[Line], dict[str, Any]]:
    """Time builds of each form (sets, locked) in turns."""
    all_timed = [large.timed(sets, locked=locked) for sets, locked in forms]
    for _ in range(rounds):
        for timed in all_timed:
            large.round(timed)
    lines = []
    for timed in all_timed:
        for kind, samples in timed.samples.items():
            wall, wanted = median(sample.wall for sample in samples), WANTED.get(kind)
            users = f"{len(timed.repository.users)} users rebuilt" if timed.rebuilt else "others than the users were rebuilt"
            lines.append(
                Line(
                    part="monorepo",
                    what=f"{timed.title}: {kind}",
                    ours=f"{wall:.2f} s ({median(sample.cpu for sample in samples):.2f} s of CPU)",
                    theirs=users if kind == LOCAL else "",
                    wanted="only the users rebuilt" if wanted is None else f"under {wanted:g} s",
                    met=timed.rebuilt if wanted is None else wall < wanted,
                )
            )
    return lines, {timed.title: _as_json(timed.samples) for timed in all_timed}


def cluster_lines(large: Large, rounds: int) -> tuple[list[Line], dict[str, Any]]:
    """Time first builds on one worker and on two, in turns, after one that fills the remote store.

    Where the machine has no processor for each process, they take turns on what there is; and, for what two free processors
    give, each process gets the same part of one, in the build on one worker, too.
    """
    timed = large.timed(0, locked=True)
    large.on_cluster(timed.repository, 1)
    part = min(1.0, (os.cpu_count() or 1) / (2 + _BESIDE))
    lines, all_samples = [], {}
    for each in dict.fromkeys((1.0, part)):
        samples: dict[str, list[Sample]] = {"1": [], "2": []}
        for _ in range(rounds):
            for workers, found in samples.items():
                found.append(large.on_cluster(timed.repository, int(workers), each))
        lines.append(_cluster_line(timed.title, samples, each, wanted=each == part))
        all_samples[f"{each:.2g} of a processor for each process"] = _as_json(samples)
    return lines, all_samples


def _cluster_line(title: str, samples: Mapping[str, Sequence[Sample]], part: float, *, wanted: bool) -> Line:
    one, two = (median(sample.wall for sample in found) for found in samples.values())
    of = f", each process with {part:.2g} of a processor" if part < 1 else ""
    return Line(
        part="cluster",
        what=f"{title}: first build on two workers{of}",
        ours=f"{two:.2f} s",
        theirs=f"one worker: {one:.2f} s",
        ratio=f"{one / two:.2f}x",
        wanted=f"at least {_CLUSTER_WANTED}x with two free processors" if wanted else "",
        met=one / two >= _CLUSTER_WANTED if wanted else None,
    )


def _as_json(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    return {kind: [sample.as_json() for sample in found] for kind, found in samples.items()}


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
