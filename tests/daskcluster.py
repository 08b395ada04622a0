"""A Dask cluster of real processes: a scheduler, and workers with caches of their own that cannot read what is not theirs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, field

from tests.conftest import NOWHERE
from tests.forkserver import CommandServer, ForkedProcess

_DENYING = """\
import os, sys
_FORBIDDEN = os.environ["FORBIDDEN_FOLDER"] + "/"
def _deny(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and arguments and isinstance(arguments[0], (str, bytes, os.PathLike)):
        if os.fsdecode(arguments[0]).startswith(_FORBIDDEN):
            raise PermissionError(13, "of another machine", os.fsdecode(arguments[0]))
sys.addaudithook(_deny)
"""
"""What has a Python refuse to open, or list, anything of the machine that builds; as ``sitecustomize``."""


SERVER_MODULES = ("distributed", "distributed.cli.dask_scheduler", "distributed.cli.dask_worker")
Process = ForkedProcess | subprocess.Popen[bytes]


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DaskCluster(Struct, kw_only=True):
    """A scheduler with workers. ``driver`` is a folder that they cannot read, for the machine that builds.

    They are forks of a ``server`` that has imported `SERVER_MODULES`, which takes them a second each, and run
    ``worker_code`` first.
    """

    folder: Path
    server: CommandServer
    worker_code: str = ""
    port: int = field(default_factory=free_port)
    scheduler: Process | None = None
    workers: list[Process] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def driver(self) -> Path:
        """The folder of the machine that builds."""
        return self.folder / "driver"

    def start_scheduler(self) -> None:
        """Start the scheduler, and wait until it listens."""
        self.scheduler = self._start(
            "scheduler", ["--host", "127.0.0.1", "--port", str(self.port), "--dashboard-address", "127.0.0.1:0"], {}
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError(self.log("scheduler"))

    def start_worker(self, **variables: str) -> Process:
        """Start a worker of one thread; in a new Python where variables say what that imports."""
        name = f"worker{len(self.workers)}"
        own = self.folder / name
        (own / "modules").mkdir(parents=True)
        (own / "modules" / "sitecustomize.py").write_text(_DENYING)
        path = f"{own / 'modules'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)
        of_worker = {"LPACK_CACHE_DIR": str(own / "cache"), "FORBIDDEN_FOLDER": str(self.driver), "PYTHONPATH": path}
        words = [self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(own / "dask")]
        fresh = "PYTHONPATH" in variables
        worker = self._start("worker", [*words, "--name", name], of_worker | variables, own, fresh=fresh)
        self.workers.append(worker)
        return worker

    def wait_for_workers(self) -> None:
        """Wait until the scheduler knows all workers that were started."""
        end = time.monotonic() + 60
        for number in range(len(self.workers)):
            while "Registered to:" not in self.log(f"worker{number}"):
                if time.monotonic() > end:
                    raise TimeoutError(self.log(f"worker{number}"))
                time.sleep(0.05)

    def _start(
        self, kind: str, words: Sequence[str], variables: dict[str, str], cwd: Path | None = None, *, fresh: bool = False
    ) -> Process:
        log = self.folder / f"{cwd.name if cwd else kind}.log"
        module = f"distributed.cli.dask_{kind}"
        # Of the user's own settings, and those of the test that happened to be the first, nothing.
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "LPACK_"))}
        environment = {**plain, "UV_DEFAULT_INDEX": NOWHERE, "UV_PYTHON_DOWNLOADS": "never", **variables}
        if not fresh:
            program = f"{_DENYING + self.worker_code if kind == 'worker' else ''}from {module} import main\nmain()\n"
            return self.server.start(tuple(words), cwd or self.folder, log, program, environment)
        command = [sys.executable, "-m", module, *words]
        with log.open("wb") as file:
            return subprocess.Popen(
                command, cwd=cwd or self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    def log(self, name: str) -> str:
        """Give what a process has printed."""
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        """End all processes that were started here."""
        for process in (*self.workers, *([self.scheduler] if self.scheduler else [])):
            end(process)


def end(process: Process, kind: signal.Signals = signal.SIGKILL) -> None:
    """End a process, and wait for that."""
    process.send_signal(kind)
    process.wait(30)


@contextmanager
def running_cluster(folder: Path, workers: int, server: CommandServer, worker_code: str = "") -> Iterator[DaskCluster]:
    """Give a cluster that runs, in a folder of its own."""
    cluster = DaskCluster(folder=folder, server=server, worker_code=worker_code)
    cluster.driver.mkdir(parents=True)
    try:
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.start_worker()
        cluster.wait_for_workers()
        yield cluster
    finally:
        cluster.stop()
