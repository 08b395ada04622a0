"""A disk that is full, or files that cannot be removed, while a build is published: errors that say which file it is about."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from packer.cache.signatures import signature
from packer.config.load import Config
from packer.core.errors import StoreError, VerificationError
from packer.pipeline.publish import check_archives, remove_unused, write_bills, write_descriptions


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


@pytest.mark.parametrize("changed", [None, "one.zip", "shared.zip"])
def test_archive_that_was_changed_after_it_was_written_is_not_published(tmp_path: Path, changed: str | None) -> None:
    paths = {name: tmp_path / name for name in ("one.zip", "shared.zip")}
    digests = {}
    for name, path in paths.items():
        path.write_bytes(name.encode())
        digests[name] = hashlib.sha256(name.encode()).hexdigest()
    layer = SimpleNamespace(path="layers/shared.zip", sha256=digests["shared.zip"])
    artifact = SimpleNamespace(sha256=digests["one.zip"], zip_bytes=7)
    state = SimpleNamespace(report=SimpleNamespace(artifact=artifact, layers={"shared": layer}))
    built: Any = SimpleNamespace(state=state, staged=paths["one.zip"], layers={"layers/shared.zip": paths["shared.zip"]})
    if changed is None:
        check_archives([built])
        return
    paths[changed].write_bytes(b"changed")
    with pytest.raises(VerificationError, match=rf"^{changed} has changed since it was written") as caught:
        check_archives([built])
    assert caught.value.exit_status == 4
