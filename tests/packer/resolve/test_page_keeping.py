"""A build asks PyPI for each page once, however many functions need it; where the user told uv anything, uv decides."""

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from builders.runtimes import Target
from packer.cache.local import LocalStore
from packer.cache.signatures import Digests
from packer.core.events import Reporter
from packer.core.model import Function
from packer.core.options import Policy
from packer.core.process import ProcessResult, run
from packer.net.credentials import Credentials
from packer.resolve.resolver import Resolver
from packer.source.dependency_files import find_requirements


class Uv:
    """Runs the real uv, and remembers its configuration file's text and what it said of its cache."""

    def __init__(self) -> None:
        self.configurations: list[str] = []
        self.cached: list[list[str]] = []

    def __call__(self, arguments: Sequence[str], folder: Path, variables: Mapping[str, str]) -> ProcessResult:
        if "--output-file" not in arguments:
            return run(arguments, folder, variables)
        given = [Path(after).read_text() for option, after in pairwise(arguments) if option == "--config-file"]
        self.configurations += given
        talkative = [argument for argument in arguments if argument != "--quiet"]
        finished = run([*talkative, "--verbose"], folder, variables)
        lines = finished.stderr.splitlines()
        self.cached.append([line for line in lines if "revalidation request" in line or "No cache entry" in line])
        return finished


def lock(uv: Uv, folder: Path, text: str, policy: Policy | None = None) -> None:
    """Resolve what one requirements file asks for."""
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text(text)
    function = Function(
        name="fn",
        source=folder,
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=find_requirements(folder, None, "here"),
        lock_path=folder / "pylock.fn.toml",
    )
    store = LocalStore(folder.parent / "cache")
    resolver = Resolver(uv, store, Credentials((), os.environ), Digests(), Reporter(), policy or Policy())
    assert resolver.lock_text(function)


@pytest.mark.network
def test_functions_with_the_same_requirements_ask_once(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    uv = Uv()
    lock(uv, tmp_path / "one", "idna==3.10\n")
    lock(uv, tmp_path / "two", "idna==3.10\n")
    asked_first, asked_again = uv.cached
    assert asked_first
    assert asked_again == []
    (configuration, _) = uv.configurations
    assert "default = true" in configuration


@pytest.mark.network
def test_upgrading_asks_again(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    uv = Uv()
    lock(uv, tmp_path / "one", "idna==3.10\n", Policy(upgrade=True))
    assert uv.configurations == []


def test_an_index_of_the_environment_keeps_its_own_ways(tmp_path, index):
    uv = Uv()
    lock(uv, tmp_path / "one", "alpha\n")
    assert len(uv.cached) == 1
    assert uv.configurations == []


@pytest.fixture
def bare(monkeypatch, tmp_path) -> None:
    """Leave no variable that names an index, or anything else for uv."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_")) and name != "UV_CACHE_DIR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_an_index_of_the_requirements_keeps_its_own_ways(tmp_path, index, bare):
    uv = Uv()
    lock(uv, tmp_path / "one", f"--index-url {index.url}\nalpha\n")
    assert len(uv.cached) == 1
    assert uv.configurations == []


def test_a_configuration_of_uv_keeps_its_own_ways(tmp_path, index, bare):
    (tmp_path / "pyproject.toml").write_text(f'[[tool.uv.index]]\nurl = "{index.url}"\ndefault = true\n')
    uv = Uv()
    lock(uv, tmp_path / "one", "alpha\n")
    assert len(uv.cached) == 1
    assert uv.configurations == []
