"""What all tests share: a package index of their own, a cache of their own, and no way to the network unless marked so."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.engine import forget_what_is_there
from tests.forkserver import CommandServer
from tests.index import LocalIndex
from tests.packages import write_packages
from tests.samcli import sam_server, validate
from tests.sharing import run_folder

NOWHERE = "http://127.0.0.1:9/simple"
"""An index that refuses every connection at once: nothing listens on the discard port."""
NO_ENGINE = "unix:///nowhere/docker.sock"
"""An engine that cannot be reached."""
_ENGINE_LOCK = Path(tempfile.gettempdir()) / "lpack-test-engine.lock"
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "PIP_INDEX_URL")
_PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_PATIENCE = 600
RunLpack = Callable[..., subprocess.CompletedProcess[str]]

# Tests start lpack thousands of times: where Python may not write bytecode, each start would compile all of it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where tests were skipped and none may be: in continuous integration, which brings all that they need."""
    if os.environ.get("LPACK_TEST_NO_SKIPS") and _skipped and not hasattr(session.config, "workerinput"):
        sys.stderr.write("\nSkipped, and none may be: " + ", ".join(_skipped) + "\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker begin with all that use the engine, one at a time, and the next with those that take long.

    Workers begin with equal shares of all tests in this order. What is left at the end, and shared out anew, is then small.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    groups: dict[str, list[pytest.Item]] = {"docker": [], "slow": [], "": []}
    for item in items:
        groups[next((mark for mark in groups if mark and item.get_closest_marker(mark)), "")].append(item)
    between = max(0, len(items) // workers - len(groups["docker"]))
    items[:] = groups["docker"] + groups[""][:between] + groups["slow"] + groups[""][between:]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let one test at a time use the machine's container engine: many look at what they have left there.

    All others are kept from it, with what their fixtures start: where an engine has the runtime's image, lpack runs in it.
    """
    if not item.get_closest_marker("docker"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", NO_ENGINE)
            return (yield)
    with FileLock(_ENGINE_LOCK):
        forget_what_is_there()
        return (yield)


@pytest.fixture(scope="session")
def _uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of this run that all workers share: what one has made there, none makes again (tests/sharing.py)."""
    return run_folder(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def _network_cache(shared_folder: Path) -> Path:
    """Give a cache that all workers share: what one has downloaded, none downloads again."""
    folder = shared_folder / "network-cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _apart(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    _uv_cache: Path,
    _network_cache: Path,
) -> None:
    """Keep a test from the user's caches, settings and passwords, and from the network unless it is marked for it.

    Tests marked ``network`` keep the machine's own index settings and proxies, and share one lpack cache.
    """
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    if request.node.get_closest_marker("network"):
        monkeypatch.setenv("LPACK_CACHE_DIR", str(_network_cache))
        return
    for name in os.environ:
        if name.startswith(("UV_", "PIP_", "LPACK_")) or name.lower() in _PROXY_VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(_uv_cache))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache-of-no-test"))
    for name in _INDEX_VARIABLES:
        monkeypatch.setenv(name, NOWHERE)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of a fresh lpack cache, which `LPACK_CACHE_DIR` names."""
    folder = tmp_path / "lpack-cache"
    monkeypatch.setenv("LPACK_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def command_server() -> Iterator[CommandServer]:
    with CommandServer() as server:
        yield server


@pytest.fixture(scope="session")
def _sam_server() -> Iterator[CommandServer | None]:
    with sam_server() as server:
        yield server


@pytest.fixture
def sam_validate(_sam_server: CommandServer | None) -> Callable[[Path], None]:
    """Give a function that has SAM CLI check a template, which must be right; skips the test where there is no SAM CLI."""

    def run(template: Path) -> None:
        done = validate(_sam_server, template)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture
def lpack(command_server: CommandServer, fresh_lpack: RunLpack) -> RunLpack:
    """Give a function that runs the command line in a process of its own: ``lpack("build", "-q", cwd=folder)``."""

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        if command_server.can_run(os.environ):
            return command_server.run(arguments, cwd, _PATIENCE)
        return fresh_lpack(*arguments, cwd=cwd)

    return run


@pytest.fixture
def fresh_lpack() -> RunLpack:
    """Give a function that does the same in a new Python, which has imported nothing."""

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "packer.cli", *arguments]
        return subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False, timeout=_PATIENCE
        )

    return run


@pytest.fixture(scope="session")
def _packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    write_packages(folder)
    return folder


@pytest.fixture
def index_folder(_packages: Path, tmp_path: Path) -> Path:
    """Give a folder with all packages, to which a test may add."""
    folder = tmp_path / "index"
    folder.mkdir()
    for path in _packages.iterdir():
        os.link(path, folder / path.name)
    return folder


@pytest.fixture
def index(index_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalIndex]:
    """Give a running index with the packages of tests/packages.py; uv's and pip's index variables name it."""
    with LocalIndex(index_folder) as running:
        for name in _INDEX_VARIABLES:
            monkeypatch.setenv(name, running.url)
        yield running


@pytest.fixture
def private_index(index_folder: Path) -> Iterator[LocalIndex]:
    """Give the same index behind a user name and a password; no variable names it."""
    with LocalIndex(index_folder, user="deploy", password="s3cret/with@signs") as running:
        yield running
