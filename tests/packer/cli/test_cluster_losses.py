"""`lpack build --scheduler` when a worker, all of them, the scheduler or the user ends it: slower, or over, and never wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daskcluster import SERVER_MODULES, DaskCluster, end, running_cluster
from tests.forkserver import CommandServer
from tests.marks import new_mark
from tests.monorepo import Monorepo
from tests.packer.cli.clusters import IMPATIENT, Build, content, places, shared_project, warnings_of

SLOW = "import pathlib, time\nmark = pathlib.Path({mark!r})\nif not mark.exists():\n    mark.touch()\n    time.sleep(20)\n"
"""Code whose first import takes long."""


@pytest.fixture(scope="module")
def command_server() -> Iterator[CommandServer]:
    """Run lpack in forks of a process that has imported distributed, too, which takes a second."""
    with CommandServer(*SERVER_MODULES) as server:
        yield server


@pytest.fixture
def own_cluster(tmp_path: Path, command_server: CommandServer) -> Iterator[DaskCluster]:
    """Give a cluster of one worker, for tests that break it."""
    with running_cluster(tmp_path / "cluster", 1, command_server) as running:
        yield running


@pytest.fixture
def own(own_cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lpack: Callable[..., Any]) -> Build:
    return Build(Monorepo(folder=places(own_cluster, tmp_path, monkeypatch), lpack=lpack), monkeypatch)


def waiting(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait until something is so, while a process runs."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.05)


class TestLosses:
    def slow(self, own: Build) -> tuple[Path, Path]:
        """Write a project one of whose functions hangs when it is first verified; give what it is to be, and its mark."""
        mark = new_mark()
        mark.touch()
        shared_project(own.repo, source=SLOW.format(mark=str(mark)))
        here, _ = own.here()
        mark.unlink()
        return here, mark

    def start(self, own: Build, cluster: DaskCluster) -> subprocess.Popen[str]:
        environment = {**os.environ, "LPACK_CACHE_DIR": str(own.repo.folder.parent / "cache")}
        command = [sys.executable, "-c", IMPATIENT, "build", "--scheduler", cluster.address, "--out", "../out"]
        return subprocess.Popen(
            command,
            cwd=own.repo.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finished(self, process: subprocess.Popen[str], status: int = 0) -> str:
        try:
            _, said = process.communicate(timeout=90)
        finally:
            process.kill()
        assert process.returncode == status, said
        return said

    def test_a_lost_worker_costs_time_alone(self, own, own_cluster):
        here, mark = self.slow(own)
        process = self.start(own, own_cluster)
        waiting(mark.exists, process)
        own_cluster.start_worker()
        own_cluster.wait_for_workers()
        end(own_cluster.workers[0])
        said = self.finished(process)
        assert content(own.repo.folder.parent / "out") == content(here)
        assert warnings_of(said) == ""

    def test_without_any_worker_the_rest_is_done_here(self, own, own_cluster):
        here, mark = self.slow(own)
        process = self.start(own, own_cluster)
        waiting(mark.exists, process)
        end(own_cluster.workers[0])
        said = self.finished(process)
        assert content(own.repo.folder.parent / "out") == content(here)
        assert said.count("The cluster has no workers any more: what is left is done on this machine.") == 1

    def test_without_the_scheduler_the_rest_is_done_here(self, own, own_cluster):
        here, mark = self.slow(own)
        process = self.start(own, own_cluster)
        waiting(mark.exists, process)
        assert own_cluster.scheduler is not None
        end(own_cluster.scheduler)
        said = self.finished(process)
        assert content(own.repo.folder.parent / "out") == content(here)
        assert "done on this machine" in said
        assert "Traceback" not in said, said

    def test_an_interrupted_build_ends_and_leaves_nothing(self, own, own_cluster):
        _, mark = self.slow(own)
        process = self.start(own, own_cluster)
        waiting(mark.exists, process)
        process.send_signal(signal.SIGINT)
        said = self.finished(process, 130)
        assert said.endswith("interrupted\n")
        assert "Traceback" not in said
        out = own.repo.folder.parent / "out"
        assert not out.exists() or not list(out.iterdir())
