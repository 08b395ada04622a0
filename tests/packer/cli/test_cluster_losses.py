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
from tests.marks import PAUSE, marking_code
from tests.monorepo import Monorepo
from tests.packer.cli.clusters import IMPATIENT, Build, content, places, shared_project, warnings_of

SLOW = f"import os, time\ntime.sleep(float(os.environ.get({PAUSE!r}, 0)))\n"
"""Code whose import takes long, when a worker runs it as the first of all."""


@pytest.fixture(scope="module")
def command_server() -> Iterator[CommandServer]:
    """Run lpack in forks of a process that has imported distributed, too, which takes a second."""
    with CommandServer(*SERVER_MODULES) as server:
        yield server


@pytest.fixture
def own_cluster(tmp_path: Path, command_server: CommandServer) -> Iterator[DaskCluster]:
    """Give a cluster of one worker, for tests that break it; the first run of a function there hangs, and leaves a mark."""
    with running_cluster(tmp_path / "cluster", 1, command_server, marking_code(tmp_path / "mark", pause=20)) as running:
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
    def slow(self, own: Build) -> Path:
        """Write a project whose functions are slow when they are first verified on a cluster; give what it is to be."""
        shared_project(own.repo, source=SLOW)
        return own.here()[0]

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

    def test_a_lost_worker_costs_time_alone(self, own, own_cluster, tmp_path):
        here = self.slow(own)
        process = self.start(own, own_cluster)
        waiting((tmp_path / "mark").exists, process)
        own_cluster.start_worker()
        own_cluster.wait_for_workers()
        end(own_cluster.workers[0])
        said = self.finished(process)
        assert content(own.repo.folder.parent / "out") == content(here)
        assert warnings_of(said) == ""

    def test_without_any_worker_the_rest_is_done_here(self, own, own_cluster, tmp_path):
        here = self.slow(own)
        process = self.start(own, own_cluster)
        waiting((tmp_path / "mark").exists, process)
        end(own_cluster.workers[0])
        said = self.finished(process)
        assert content(own.repo.folder.parent / "out") == content(here)
        assert said.count("The cluster has no workers any more: what is left is done on this machine.") == 1

    def test_without_the_scheduler_the_rest_is_done_here(self, own, own_cluster, tmp_path):
        here = self.slow(own)
        process = self.start(own, own_cluster)
        waiting((tmp_path / "mark").exists, process)
        assert own_cluster.scheduler is not None
        end(own_cluster.scheduler)
        said = self.finished(process)
        assert content(own.repo.folder.parent / "out") == content(here)
        assert "done on this machine" in said
        assert "Traceback" not in said, said

    def test_an_interrupted_build_ends_and_leaves_nothing(self, own, own_cluster, tmp_path):
        self.slow(own)
        process = self.start(own, own_cluster)
        waiting((tmp_path / "mark").exists, process)
        process.send_signal(signal.SIGINT)
        said = self.finished(process, 130)
        assert said.endswith("interrupted\n")
        assert "Traceback" not in said
        out = own.repo.folder.parent / "out"
        assert not out.exists() or not list(out.iterdir())
