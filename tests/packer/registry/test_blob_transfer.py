"""Uploads in parts to a registry that forgets what it has acknowledged."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from packer.core.errors import RegistryError
from packer.net.retry import TransientError
from packer.registry import blob_transfer as transfer

PARTS = 3
MOST = 1000


class Forgetful:
    """A registry that takes the first part each time, breaks off at the second, and then knows of none ``losses`` times."""

    def __init__(self, losses: int) -> None:
        self.losses = losses
        self.asked: list[str] = []

    def url(self, found: str, _before: str = "") -> str:
        return found

    def ask(self, *_arguments: Any, **_options: Any) -> Any:
        return SimpleNamespace(status=202, headers={"Location": "/upload"})

    def retry(self, attempt, _doing):
        for _ in range(3):
            try:
                return attempt()
            except TransientError:
                continue
        raise RegistryError("too many attempts")

    @contextmanager
    def request_once(self, method, _url, _scopes, *, headers=None, **_options):
        self.asked.append(method)
        if len(self.asked) > MOST:
            raise AssertionError("it never ends")
        start = int((headers or {}).get("Content-Range", "0-0").partition("-")[0])
        if method == "PATCH" and start and self.losses:
            self.losses -= 1
            raise TransientError("broken off")
        yield SimpleNamespace(status_code=202, headers={"Location": "/upload", "Range": "0-0"})


def push(registry: Any, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "_CHUNK", 10)
    path = tmp_path / "blob"
    path.write_bytes(b"x" * 10 * PARTS)
    blob: Any = SimpleNamespace(size=10 * PARTS, digest="sha256:" + "0" * 64, sha256="0" * 64)
    to: Any = SimpleNamespace(repository="shop/orders", name="registry/shop/orders")

    @contextmanager
    def following(*_arguments):
        yield

    reporter: Any = SimpleNamespace(transfer=following, transfer_advanced=lambda *_: None)
    transfer.upload(registry, to, blob, lambda: path, ["push"], mount="", reporter=reporter)


def test_a_registry_that_loses_some_parts_gets_them_again(tmp_path, monkeypatch):
    registry = Forgetful(losses=3)
    push(registry, tmp_path, monkeypatch)
    assert registry.asked[-1] == "PUT"
    assert registry.asked.count("PATCH") == PARTS + 2 * 3


def test_a_registry_that_loses_parts_each_time_ends_the_push(tmp_path, monkeypatch):
    with pytest.raises(RegistryError, match="loses the upload each time"):
        push(Forgetful(losses=MOST), tmp_path, monkeypatch)
