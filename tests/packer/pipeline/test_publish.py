"""A disk that is full, or files that cannot be removed, while a build is published: errors that say which file it is about."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from packer.cache.signatures import signature
from packer.config.load import Config
from packer.core.errors import StoreError
from packer.pipeline.publish import remove_unused, write_bills, write_descriptions


def refuse(number: int) -> Callable[..., Any]:
    def raise_error(*_: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number))

    return raise_error


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(root=tmp_path, out=tmp_path / "dist", functions=())


def test_full_disk_is_reported_when_descriptions_are_written(tmp_path: Path, config: Config, monkeypatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", refuse(errno.ENOSPC))
    with pytest.raises(StoreError, match=r"Cannot write .*lpack\.json: No space left on device"):
        write_descriptions(config, None, {}, tmp_path)


def test_full_disk_is_reported_when_bills_are_written(tmp_path: Path, config: Config, monkeypatch) -> None:
    monkeypatch.setattr("packer.pipeline.publish.make_bills", lambda *_: ({}, {"one.cdx.json": b"{}"}))
    monkeypatch.setattr(Path, "write_bytes", refuse(errno.ENOSPC))
    store: Any = None
    with pytest.raises(StoreError, match=r"Cannot write .*one\.cdx\.json: No space left on device"):
        write_bills(config, {}, {}, tmp_path, store)


def test_file_that_cannot_be_removed_is_reported(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "gone.zip"
    path.write_bytes(b"old")
    last: Any = SimpleNamespace(functions={"gone": SimpleNamespace(artifact={str(path): signature(path)})})
    monkeypatch.setattr(Path, "unlink", refuse(errno.EPERM))
    with pytest.raises(StoreError, match=r"Cannot remove .*gone\.zip: Operation not permitted"):
        remove_unused(last, {}, [])
    monkeypatch.undo()
    remove_unused(last, {}, [])
    assert not path.exists()
