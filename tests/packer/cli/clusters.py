"""A project that is built here and on a cluster: what tests of `lpack build --scheduler` have in common."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.daskcluster import DaskCluster
from tests.monorepo import Monorepo

IMPATIENT = """\
import signal, sys
from packer.cli import main
from packer.cluster import connect
connect.PATIENCE, connect.ABSENCE = 2.0, 2.0
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""The command line, but that it does not wait as long for what is not there."""


class Build:
    """A project, built here and on a cluster, each time with an empty cache."""

    def __init__(self, repo: Monorepo, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repo = repo
        self.count = 0
        self._monkeypatch = monkeypatch

    def run(self, *flags: str, status: int = 0) -> tuple[Path, subprocess.CompletedProcess[str]]:
        self.count += 1
        folder = self.repo.folder.parent
        out = folder / f"out{self.count}"
        self._monkeypatch.setenv("LPACK_CACHE_DIR", str(folder / f"cache{self.count}"))
        return out, self.repo.run("build", "--out", str(out), *flags, status=status)

    def here(self, *flags: str, status: int = 0) -> tuple[Path, subprocess.CompletedProcess[str]]:
        """Build here, without the remote store: what workers find there is what they have made."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LPACK_REMOTE", "")
            return self.run(*flags, status=status)

    def same(self, cluster: DaskCluster, *flags: str) -> str:
        """Build here and on a cluster, compare, and give what was said on the cluster."""
        here, said = self.here(*flags)
        there, finished = self.run("--scheduler", cluster.address, *flags)
        assert content(there) == content(here)
        assert "warning" not in finished.stderr.replace(warnings_of(said.stderr), "")
        return finished.stderr


def warnings_of(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.startswith("warning"))


def content(out: Path) -> dict[str, Any]:
    """Give all files of an output folder: bytes of archives, and the rest without times and the folder's own name."""
    found: dict[str, Any] = {}
    for path in sorted(each for each in out.rglob("*") if each.is_file()):
        data = path.read_bytes()
        if path.name == "lpack.json":
            data = re.sub(rb'"(seconds|milliseconds)": [0-9.]+', b"", data)
        found[str(path.relative_to(out))] = data
    assert "lpack.json" in found
    return found


def places(cluster: DaskCluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of the building machine's, with a remote store that the environment names."""
    shared = cluster.folder / "shared" / folder.name
    shared.mkdir(parents=True)
    monkeypatch.setenv("LPACK_REMOTE", str(shared))
    project = cluster.driver / folder.name / "project"
    (project / "wheels").mkdir(parents=True)
    return project


def shared_project(repo: Monorepo, settings: str = 'layers = "auto"', source: str = "") -> None:
    """Write three functions, two of which share a distribution."""
    common, other = repo.wheel("common"), repo.wheel("other")
    repo.function("one", common, source=source)
    repo.function("two", common, other)
    repo.function("three", other)
    repo.configure("one", "two", "three", settings=settings)
