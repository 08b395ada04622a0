"""`lpack build --scheduler`, on real workers that cannot read what the building machine has: the same bytes as without them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.daskcluster import SERVER_MODULES, DaskCluster, free_port, running_cluster
from tests.forkserver import CommandServer
from tests.monorepo import Monorepo
from tests.packages import source_files, write_sdist_files
from tests.packer.cli.clusters import IMPATIENT, Build, content, places, shared_project, warnings_of
from tests.shaped import ARCHITECTURE, MINOR, RUNTIME


@pytest.fixture(scope="module")
def command_server() -> Iterator[CommandServer]:
    """Run lpack in forks of a process that has imported distributed, too, which takes a second."""
    with CommandServer(*SERVER_MODULES) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, command_server: CommandServer) -> Iterator[DaskCluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), 2, command_server) as running:
        yield running


@pytest.fixture
def build(cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lpack: Callable[..., Any]) -> Build:
    return Build(Monorepo(folder=places(cluster, tmp_path, monkeypatch), lpack=lpack), monkeypatch)


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
    assert "building local on this machine" in said
    assert list(cluster.folder.glob("worker*/cache/derived/built/*/*"))
    assert not (repo.folder.parent / "cache2" / "derived" / "built").exists()


def test_events_and_profiles_reach_workers(build, cluster):
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
    """Give the errors, but for the folder that a test has run in, which no two runs have in common."""
    return re.sub(r'"[^"]*/work/confined/', '"', finished.stderr[finished.stderr.index("error: ") :])


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
    lines = [line.split() for line in build.repo.run("build", *flags).stdout.splitlines()]
    assert {line[0]: "built" if "built" in line else "unchanged" for line in lines if RUNTIME in line} == {
        "one": "built",
        "two": "unchanged",
        "three": "unchanged",
    }


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
    common = repo.wheel("common", files={"common/tests/test_it.py": b"X = 1\n"})
    for name in ("one", "two"):
        repo.function(name, common, source="import importlib\nimportlib.import_module('common.te' + 'sts.test_it')\n")
    repo.configure("one", "two", settings='layers = "auto"\ntrim = "auto"')
    here, said = build.here()
    there, finished = build.run("--scheduler", cluster.address)
    assert content(there) == content(here)
    assert sorted(warnings_of(finished.stderr).splitlines()) == sorted(warnings_of(said.stderr).splitlines())
    assert finished.stderr.count("one needs what trimming would remove") == 1


Impatient = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def impatient(command_server: CommandServer, build: Build) -> Impatient:
    """Give a function that builds the project with little patience."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        assert command_server.can_run(os.environ)
        return command_server.run(("build", *arguments), build.repo.folder, 120, IMPATIENT)

    return run


def _answer(listening: socket.socket, data: bytes) -> socket.socket:
    """Send this to the first who connects, and give the connection."""
    connection, _ = listening.accept()
    connection.sendall(data)
    return connection


class TestWrongUse:
    def test_unreachable_scheduler_is_an_error(self, build, impatient):
        shared_project(build.repo)
        address = f"tcp://127.0.0.1:{free_port()}"
        finished = impatient("--scheduler", address)
        assert finished.returncode == 2
        assert f"No scheduler answers at {address} (Timed out trying to connect to {address} after " in finished.stderr
        assert "Traceback" not in finished.stderr

    @pytest.mark.parametrize(
        ("answer", "why"), [(b"", "it says nothing"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks something else")]
    )
    def test_scheduler_address_of_another_service_is_an_error(self, build, impatient, answer, why):
        shared_project(build.repo)
        with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as executor:
            address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
            answered = executor.submit(_answer, listening, answer)
            finished = impatient("--scheduler", address)
            answered.result().close()
        assert finished.returncode == 2
        assert f"No scheduler answers at {address} ({why})." in finished.stderr
        assert "Traceback" not in finished.stderr

    @pytest.mark.parametrize("address", ["nonsense://x", "tls://127.0.0.1:1", "tcp://127.0.0.1:none"])
    def test_wrong_scheduler_address_is_refused(self, build, impatient, address):
        shared_project(build.repo)
        finished = impatient("--scheduler", address)
        assert finished.returncode == 2
        assert f"No scheduler answers at {address}" in finished.stderr
        assert "Traceback" not in finished.stderr

    def test_cluster_without_workers_is_an_error(self, build, impatient, tmp_path, command_server):
        shared_project(build.repo)
        with running_cluster(tmp_path / "empty", 0, command_server) as empty:
            finished = impatient("--scheduler", empty.address)
        assert finished.returncode == 2
        assert f"The scheduler at {empty.address} has no workers." in finished.stderr

    @pytest.mark.parametrize(("flags", "remote"), [((), ""), (("--offline",), None)])
    def test_cluster_without_a_remote_store_is_refused(self, build, cluster, monkeypatch, flags, remote):
        shared_project(build.repo)
        if remote is not None:
            monkeypatch.setenv("LPACK_REMOTE", remote)
        finished = build.repo.run("build", "--scheduler", cluster.address, *flags, status=2)
        assert "--scheduler needs a remote store" in finished.stderr

    def test_missing_dask_is_named_with_its_extra(self, build, cluster, tmp_path, monkeypatch):
        shared_project(build.repo)
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / "distributed.py").write_text("raise ImportError('not installed')\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"), prepend=":")
        finished = build.repo.run("build", "--scheduler", cluster.address, status=2)
        assert "pip install 'lambda-lpack[dask,remote]'" in finished.stderr
        assert build.repo.run("build").returncode == 0

    def test_worker_of_another_version_is_refused(self, build, cluster, tmp_path):
        shared_project(build.repo)
        code = IMPATIENT.replace("import signal, sys", "import signal, sys, packer; packer.__version__ = '99.0'")
        command = [sys.executable, "-c", code, "build", "--scheduler", cluster.address]
        finished = subprocess.run(command, cwd=build.repo.folder, capture_output=True, text=True, check=False, timeout=120)
        assert finished.returncode == 2
        assert "and the build is that of lpack 99.0 on Python" in finished.stderr
        assert "Install the same versions everywhere." in finished.stderr

    def test_worker_without_lpack_is_refused(self, build, impatient, tmp_path, command_server):
        shared_project(build.repo)
        (tmp_path / "hiding" / "packer").mkdir(parents=True)
        (tmp_path / "hiding" / "packer" / "__init__.py").write_text("raise ModuleNotFoundError('no lpack here')\n")
        with running_cluster(tmp_path / "bare", 0, command_server) as bare:
            bare.start_worker(PYTHONPATH=str(tmp_path / "hiding"))
            bare.wait_for_workers()
            finished = impatient("--scheduler", bare.address)
        assert finished.returncode == 2, finished.stderr
        assert "Install the same lpack wherever the scheduler and its workers run." in finished.stderr

    def test_worker_with_another_remote_store_is_a_warning(self, build, tmp_path, command_server):
        """What they cannot do is done here: slower, and with a warning that says what is wrong."""
        shared_project(build.repo)
        here, _ = build.here()
        (tmp_path / "elsewhere").mkdir()
        with running_cluster(tmp_path / "apart", 0, command_server) as apart:
            apart.start_worker(LPACK_REMOTE=str(tmp_path / "elsewhere"))
            apart.wait_for_workers()
            there, finished = build.run("--scheduler", apart.address)
        assert content(there) == content(here)
        assert finished.stderr.count("An object that another machine wrote is missing from the remote store (tickets).") == 1
        assert "Check that all machines use the same remote store" in finished.stderr
