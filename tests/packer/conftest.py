"""Fixtures of the tests of packer."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from packer.cache.local import LocalStore
from packer.cache.store import digest_of
from packer.core.model import Function, Requirements
from packer.source.dependency_files import REQUIREMENTS
from tests.packer.world import TARGET, FakeBuilder, World
from tests.s3 import ACCESS_KEY, BUCKET, MOTO, RCLONE, SECRET_KEY, Proxy, server


@pytest.fixture
def world(tmp_path, index, index_folder) -> World:
    source = tmp_path / "source"
    source.mkdir()
    (source / "requirements.txt").write_text("")
    requirements = Requirements(kind=REQUIREMENTS, path=source / "requirements.txt")
    function = Function(
        name="orders",
        source=source,
        handler="app.handler",
        target=TARGET,
        requirements=requirements,
        lock_path=tmp_path / "pylock.orders.toml",
    )
    builders = {name: FakeBuilder(name) for name in ("host", "container", "cross")}
    return World(tmp_path, LocalStore(tmp_path / "store"), index_folder, builders, [], function)


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory) -> Iterator[str]:
    with server(RCLONE, tmp_path_factory.mktemp(RCLONE) / "objects") as address:
        yield address


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory) -> Iterator[str]:
    with server(MOTO, tmp_path_factory.mktemp(MOTO) / "objects") as address:
        yield address


def _use(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "LPACK_REMOTE")):
            monkeypatch.delenv(name)
    variables = {"ACCESS_KEY_ID": ACCESS_KEY, "SECRET_ACCESS_KEY": SECRET_KEY, "REGION": "us-east-1", "ENDPOINT_URL": address}
    for name, value in variables.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture(params=[RCLONE, MOTO])
def s3(request, monkeypatch) -> Iterator[Proxy]:
    """Give a proxy before each server that speaks S3 in turn, which the variables of AWS name."""
    with Proxy(request.getfixturevalue(f"{request.param}_server")) as proxy:
        _use(proxy.url, monkeypatch)
        yield proxy


@pytest.fixture
def signed_s3(rclone_server, monkeypatch) -> Iterator[Proxy]:
    """Give a proxy before the server that checks signatures."""
    with Proxy(rclone_server) as proxy:
        _use(proxy.url, monkeypatch)
        yield proxy


@pytest.fixture
def ranged_s3(moto_server, monkeypatch) -> Iterator[Proxy]:
    """Give a proxy before the server that gives a part of an object as such."""
    with Proxy(moto_server) as proxy:
        _use(proxy.url, monkeypatch)
        yield proxy


@pytest.fixture
def bucket(tmp_path) -> str:
    """Give the address of a place in the servers' bucket that no other test uses."""
    return f"s3://{BUCKET}/{digest_of(str(tmp_path))[:16]}"
