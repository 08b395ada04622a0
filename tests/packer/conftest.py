"""Fixtures of the tests of packer."""

from __future__ import annotations

import pytest

from packer.discover import REQUIREMENTS
from packer.model import Function, Requirements
from packer.store import Store
from tests.packer.world import TARGET, FakeBuilder, World


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
    return World(tmp_path, Store(tmp_path / "store"), index_folder, builders, [], function)
