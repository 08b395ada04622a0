"""What tests of engines share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import BUILD_IMAGE, need_engine, save_image


@pytest.fixture(scope="session")
def saved_build_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give an archive of the build image, for engines of tests' own; it has 436 MB, and is removed at the end."""
    need_engine(BUILD_IMAGE)
    archive = save_image(BUILD_IMAGE, tmp_path_factory.mktemp("image") / "image.tar")
    yield archive
    archive.unlink()
