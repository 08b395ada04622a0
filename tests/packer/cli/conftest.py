"""What tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.monorepo import Monorepo


@pytest.fixture
def repo(tmp_path: Path, lpack, cache: Path) -> Monorepo:
    """Give an empty project of many functions."""
    folder = tmp_path / "project"
    (folder / "wheels").mkdir(parents=True)
    return Monorepo(folder=folder, lpack=lpack)
