"""A build from outside of the command line: its services, who does the work, and who listens, are put in its hands."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from packer.cache.local import LocalStore
from packer.cli.wiring import BuildServices
from packer.config.load import Overrides
from packer.config.project import CONFIG, Project
from packer.core.events import Reporter
from packer.core.options import Policy
from packer.pipeline.build import build
from packer.pipeline.request import BuildRequest
from packer.pipeline.state import load_state
from tests.monorepo import Monorepo


class CountingWork:
    """Does the work on this machine, and counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def work(self, _orders: Any, _sources: Any, here: Any, _staging: Path) -> Any:
        self.here = here
        return self

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return getattr(self.here, name)


class Elsewhere(BuildServices):
    """The services of the command line, but that others do the work."""

    elsewhere = CountingWork()

    @contextmanager
    def workers(self, remote: str) -> Any:
        del remote
        with ThreadPoolExecutor(2) as executor:
            yield executor, self.elsewhere


class Listener(Reporter):
    """Remembers the stages of functions."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str]] = []

    def stage(self, function: str, name: str) -> None:
        self.stages.append((function, name))


def test_work_services_and_reporter_from_outside_build_a_project(tmp_path: Path, cache: Path, lpack: Any) -> None:
    (tmp_path / "project" / "wheels").mkdir(parents=True)
    repo = Monorepo(folder=tmp_path / "project", lpack=lpack)
    common = repo.wheel("common")
    for name in ("one", "two"):
        repo.function(name, common)
    repo.configure("one", "two")
    project = Project(kind=CONFIG, path=repo.folder / "lpack.toml")
    store, listener = LocalStore(cache), Listener()
    services = Elsewhere(store, listener, Policy(), 2)
    request = BuildRequest(
        project=project, overrides=Overrides(), key="key", digest="digest", afresh=False, started=time.time_ns()
    )
    result = build(request, services, listener)
    assert set(result.written) == {"one", "two"}
    assert services.elsewhere.asked["settle"] == 2
    assert services.elsewhere.asked["make"] == 1  # the layer that both have
    assert {("one", "done"), ("two", "done")} <= set(listener.stages)
    with ZipFile(repo.folder / "dist" / "one.zip") as archive:
        assert "app.py" in archive.namelist()
    assert load_state(store, "key") == result.state
    again = build(request, services, listener)
    assert again.written == ()
    assert services.elsewhere.asked["settle"] == 2
