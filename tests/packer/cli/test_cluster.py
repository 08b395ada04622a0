"""`lpack build --scheduler`, on real workers that cannot read what the building machine has: the same bytes as without them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daskcluster import DaskCluster, end, free_port, running_cluster
from tests.packages import write_sdist_files
from tests.packer.cli.test_layers import Monorepo
from tests.shaped import ARCHITECTURE, MINOR, RUNTIME

LOCAL = 'requires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """\
import zipfile
def get_requires_for_build_wheel(config_settings=None):
    return []
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name, info = "{name}-1.0-py3-none-any.whl", "{name}-1.0.dist-info"
    files = {{
        "{name}.py": "VERSION = '1.0'\\n",
        info + "/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    rows = "".join(path + ",,\\n" for path in (*files, info + "/RECORD"))
    with zipfile.ZipFile(folder + "/" + name, "w") as archive:
        for path, text in (*files.items(), (info + "/RECORD", rows)):
            archive.writestr(path, text)
    return name
"""
"""A build back end that needs nothing, for a project that is one module of its own name."""
SLOW = "import pathlib, time\nmark = pathlib.Path({mark!r})\nif not mark.exists():\n    mark.touch()\n    time.sleep(600)\n"
"""Code whose first import does not come to an end."""
IMPATIENT = """\
import signal, sys
from packer.cli import cluster, main
cluster.PATIENCE, cluster.ABSENCE = 2.0, 2.0
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""The command line, but that it does not wait as long for what is not there."""


def source_files(name: str) -> dict[str, bytes]:
    """Give the files of a project with its own back end."""
    project = f'[project]\nname = "{name}"\nversion = "1.0"\n\n[build-system]\n{LOCAL}'
    return {"pyproject.toml": project.encode(), "backend.py": BACKEND.format(name=name).encode(), f"{name}.py": b""}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), 2) as running:
        yield running


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """Give a cluster of one worker, for tests that break it."""
    with running_cluster(tmp_path / "cluster", 1) as running:
        yield running


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


@pytest.fixture
def build(cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lpack: Callable[..., Any]) -> Build:
    return Build(Monorepo(folder=places(cluster, tmp_path, monkeypatch), lpack=lpack), monkeypatch)


@pytest.fixture
def own(own_cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lpack: Callable[..., Any]) -> Build:
    return Build(Monorepo(folder=places(own_cluster, tmp_path, monkeypatch), lpack=lpack), monkeypatch)


def shared_project(repo: Monorepo, settings: str = 'layers = "auto"', source: str = "") -> None:
    """Write three functions, two of which share a distribution."""
    common, other = repo.wheel("common"), repo.wheel("other")
    repo.function("one", common, source=source)
    repo.function("two", common, other)
    repo.function("three", other)
    repo.configure("one", "two", "three", settings=settings)


@pytest.mark.parametrize("settings", ['layers = "auto"', 'layers = "none"', 'bytecode = "only"\nlayers = "auto"'])
def test_archives_are_the_same_bytes(build, cluster, settings):
    shared_project(build.repo, settings)
    said = build.same(cluster)
    assert f"building on 2 workers of {cluster.address}" in said


def test_sources_are_built_on_workers(build, cluster):
    repo = build.repo
    for name, files in (("local", source_files("local")),):
        (repo.folder / name).mkdir()
        for path, data in files.items():
            (repo.folder / name / path).write_bytes(data)
    sdist = write_sdist_files(repo.folder / "wheels", "packed-1.0", source_files("packed"))
    repo.function("one", "../wheels/" + sdist.name, source="import local\n")
    (repo.folder / "one" / "requirements.txt").write_text(f"../local\n../wheels/{sdist.name}\n")
    (repo.folder / "two").mkdir()
    (repo.folder / "two" / "app.py").write_text("import local\ndef handler(event, context): ...\n")
    (repo.folder / "two" / "requirements.txt").write_text("../local\n")
    repo.configure("one", "two")
    said = build.same(cluster)
    assert "building packed 1.0 on this machine" in said
    assert "building local 1.0 on this machine" in said
    built = [path.parts[-4] for path in cluster.folder.glob("worker*/cache/derived/built/*/*")]
    assert set(map(lambda name: name, built)) <= {"cache"}
    assert not (repo.folder.parent / "cache2" / "logs").exists()


def test_events_and_a_profile(build, cluster):
    repo = build.repo
    line = repo.wheel("shop", files={"shop/extra.py": b"VALUE = 7\n", "shop/never.py": b"VALUE = 8\n"})
    repo.function("one", line)
    (repo.folder / "one" / "app.py").write_text(
        "import shop\ndef handler(event, context):\n    return __import__('shop.' + event['name']).extra.VALUE\n"
    )
    (repo.folder / "events").mkdir()
    (repo.folder / "events" / "a.json").write_text('{"name": "extra"}')
    (repo.folder / "events" / "a.expected.json").write_text("7")
    repo.configure("one", settings='verify = { level = "events", events = ["events/a.json"] }')
    build.same(cluster)
    repo.run("profile", "one")
    build.same(cluster, "--trim", "max")
    (repo.folder / "events" / "a.expected.json").write_text("8")
    _, here = build.here(status=4)
    _, there = build.run("--scheduler", cluster.address, status=4)
    assert errors(there) == errors(here)
    assert "does not give what is expected for the event a.json: 7" in there.stderr


def errors(finished: subprocess.CompletedProcess[str]) -> str:
    return finished.stderr[finished.stderr.index("error: ") :]


def test_a_template_and_two_targets(build, cluster):
    repo = build.repo
    shared_project(repo)
    (repo.folder / "lpack.toml").write_text('layers = "auto"\n')
    functions = "".join(
        f"  {name.title()}:\n    Type: AWS::Serverless::Function\n    Properties:\n"
        f"      Handler: app.handler\n      CodeUri: {name}/\n      Runtime: {runtime}\n      Architectures: [{ARCHITECTURE}]\n"
        for name, runtime in (("one", RUNTIME), ("two", RUNTIME), ("three", f"python3.{MINOR + 1}"))
    )
    text = f"AWSTemplateFormatVersion: '2010-09-09'\nTransform: AWS::Serverless-2016-10-31\nResources:\n{functions}"
    (repo.folder / "template.yaml").write_text(text)
    build.same(cluster, "--template", "template.yaml")


def test_one_function_by_name_and_nothing_changed(build, cluster):
    shared_project(build.repo)
    build.same(cluster, "one")
    flags = ("--scheduler", cluster.address)
    build.repo.run("build", *flags)
    # Nothing listens there any more than anywhere: who finds nothing to do does not ask.
    finished = build.repo.run("build", "--scheduler", f"tcp://127.0.0.1:{free_port()}")
    assert finished.stdout.count("unchanged") == 3
    app = build.repo.folder / "one" / "app.py"
    app.write_text(app.read_text() + "\nMORE = 1\n")
    lines = {line.split()[0]: line.split()[-2] for line in build.repo.run("build", *flags).stdout.splitlines()}
    assert lines == {"one": "built", "two": "unchanged", "three": "unchanged"}


def test_errors_are_told_as_they_are_without_a_cluster(build, cluster):
    repo = build.repo
    repo.function("broken", repo.wheel("common"), source="raise KeyError('of mine')\n")
    repo.function("large", repo.wheel("other"))
    repo.function("good", repo.wheel("common"))
    (repo.folder / "missing").mkdir()
    (repo.folder / "missing" / "app.py").write_text("def handler(event, context): ...\n")
    (repo.folder / "missing" / "requirements.txt").write_text("../wheels/nothing-1.0-py3-none-any.whl\n")
    of = {"large": 'budget = { zip = "1 kB" }', "broken": 'verify = "import"\ntrim = "safe"'}
    for names in (("broken", "good"), ("large", "good"), ("missing", "good"), ("broken", "large", "good")):
        repo.configure(*names, of=of)
        here = repo.lpack("build", "--out", "../here", cwd=repo.folder)
        assert here.returncode
        there = repo.lpack("build", "--out", "../there", "--scheduler", cluster.address, cwd=repo.folder)
        assert (there.returncode, errors(there)) == (here.returncode, errors(here))
    assert "lpack-" not in there.stderr


def test_what_is_said_on_workers_is_said_once(build, cluster):
    repo = build.repo
    common = repo.wheel("common", files={"common/tests/__init__.py": b"X = 1\n"})
    for name in ("one", "two"):
        repo.function(name, common, source="import importlib\nimportlib.import_module('common.te' + 'sts')\n")
    repo.configure("one", "two", settings='layers = "auto"\ntrim = "auto"')
    here, said = build.here()
    there, finished = build.run("--scheduler", cluster.address)
    assert content(there) == content(here)
    assert sorted(warnings_of(finished.stderr).splitlines()) == sorted(warnings_of(said.stderr).splitlines())
    assert finished.stderr.count("one needs what trimming would remove") == 1


def impatient(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPATIENT, "build", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
    )


class TestWrongUse:
    def test_nobody_listens(self, build):
        shared_project(build.repo)
        address = f"tcp://127.0.0.1:{free_port()}"
        finished = impatient("--scheduler", address, cwd=build.repo.folder)
        assert finished.returncode == 2
        assert f"No scheduler answers at {address}" in finished.stderr
        assert "Traceback" not in finished.stderr

    @pytest.mark.parametrize("address", ["nonsense://x", "tls://127.0.0.1:1", "tcp://127.0.0.1:none"])
    def test_no_address(self, build, address):
        shared_project(build.repo)
        finished = impatient("--scheduler", address, cwd=build.repo.folder)
        assert finished.returncode == 2
        assert f"No scheduler answers at {address}" in finished.stderr
        assert "Traceback" not in finished.stderr

    def test_there_are_no_workers(self, build, tmp_path):
        shared_project(build.repo)
        with running_cluster(tmp_path / "empty", 0) as empty:
            finished = impatient("--scheduler", empty.address, cwd=build.repo.folder)
        assert finished.returncode == 2
        assert f"The scheduler at {empty.address} has no workers." in finished.stderr

    @pytest.mark.parametrize(("flags", "remote"), [((), ""), (("--offline",), None)])
    def test_there_is_no_remote_store(self, build, cluster, monkeypatch, flags, remote):
        shared_project(build.repo)
        if remote is not None:
            monkeypatch.setenv("LPACK_REMOTE", remote)
        finished = build.repo.run("build", "--scheduler", cluster.address, *flags, status=2)
        assert "--scheduler needs a remote store" in finished.stderr

    def test_dask_is_not_installed(self, build, cluster, tmp_path, monkeypatch):
        shared_project(build.repo)
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / "distributed.py").write_text("raise ImportError('not installed')\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"), prepend=":")
        finished = build.repo.run("build", "--scheduler", cluster.address, status=2)
        assert "pip install 'lambda-lpack[dask,remote]'" in finished.stderr
        assert build.repo.run("build").returncode == 0

    def test_a_worker_of_another_version(self, build, cluster, tmp_path):
        shared_project(build.repo)
        code = IMPATIENT.replace("import signal, sys", "import signal, sys, packer; packer.__version__ = '99.0'")
        command = [sys.executable, "-c", code, "build", "--scheduler", cluster.address]
        finished = subprocess.run(command, cwd=build.repo.folder, capture_output=True, text=True, check=False, timeout=120)
        assert finished.returncode == 2
        assert "and the build is that of lpack 99.0 on Python" in finished.stderr
        assert "Install the same versions everywhere." in finished.stderr

    def test_workers_without_lpack(self, build, tmp_path):
        shared_project(build.repo)
        (tmp_path / "hiding" / "packer").mkdir(parents=True)
        (tmp_path / "hiding" / "packer" / "__init__.py").write_text("raise ModuleNotFoundError('no lpack here')\n")
        with running_cluster(tmp_path / "bare", 0) as bare:
            bare.start_worker(PYTHONPATH=str(tmp_path / "hiding"))
            finished = impatient("--scheduler", bare.address, cwd=build.repo.folder)
        assert finished.returncode == 2, finished.stderr
        assert "Install the same lpack wherever the scheduler and its workers run." in finished.stderr

    def test_workers_with_another_remote_store(self, build, tmp_path):
        """What they cannot do is done here: slower, and with a warning that says what is wrong."""
        shared_project(build.repo)
        here, _ = build.here()
        (tmp_path / "elsewhere").mkdir()
        with running_cluster(tmp_path / "apart", 0) as apart:
            apart.start_worker(LPACK_REMOTE=str(tmp_path / "elsewhere"))
            there, finished = build.run("--scheduler", apart.address)
        assert content(there) == content(here)
        assert finished.stderr.count("The remote store does not give what is to be found there (tickets).") == 1
        assert "See that all machines name the same remote store" in finished.stderr


def waiting(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait until something is so, while a process runs."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.05)


class TestLosses:
    def slow(self, own: Build, cluster: DaskCluster) -> tuple[Path, Path]:
        """Write a project one of whose functions hangs when it is first verified; give what it is to be, and its mark."""
        mark = cluster.folder / "mark"
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
        here, mark = self.slow(own, own_cluster)
        process = self.start(own, own_cluster)
        waiting(mark.exists, process)
        own_cluster.start_worker()
        end(own_cluster.workers[0])
        said = self.finished(process)
        assert content(own.repo.folder.parent / "out") == content(here)
        assert "warning" not in said

    def test_without_any_worker_the_rest_is_done_here(self, own, own_cluster):
        here, mark = self.slow(own, own_cluster)
        process = self.start(own, own_cluster)
        waiting(mark.exists, process)
        end(own_cluster.workers[0])
        said = self.finished(process)
        assert content(own.repo.folder.parent / "out") == content(here)
        assert said.count("The cluster has no workers any more: what is left is done on this machine.") == 1

    def test_without_the_scheduler_the_rest_is_done_here(self, own, own_cluster):
        here, mark = self.slow(own, own_cluster)
        process = self.start(own, own_cluster)
        waiting(mark.exists, process)
        assert own_cluster.scheduler is not None
        end(own_cluster.scheduler)
        said = self.finished(process)
        assert content(own.repo.folder.parent / "out") == content(here)
        assert "done on this machine" in said
        assert "Traceback" not in said

    def test_an_interrupted_build_ends_and_leaves_nothing(self, own, own_cluster):
        _, mark = self.slow(own, own_cluster)
        process = self.start(own, own_cluster)
        waiting(mark.exists, process)
        process.send_signal(signal.SIGINT)
        said = self.finished(process, 130)
        assert said.endswith("interrupted\n")
        assert "Traceback" not in said
        out = own.repo.folder.parent / "out"
        assert not out.exists() or not list(out.iterdir())
