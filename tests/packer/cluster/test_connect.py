"""What a connection to a cluster leaves behind where it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from packer.cluster import connect
from packer.core.events import Reporter
from packer.core.options import Policy


class FakeClient:
    def nthreads(self) -> dict[str, int]:
        return {"worker": 1}


def test_pulse_ends_where_the_cluster_cannot_be_used(monkeypatch):
    ended: list[bool] = []

    class WatchedPulse(connect.Pulse):
        def end(self) -> None:
            super().end()
            ended.append(True)

    @contextmanager
    def connect_client(_address: str) -> Iterator[Any]:
        yield FakeClient()

    def fail(*_: object) -> None:
        raise RuntimeError("no executor")

    monkeypatch.setattr(connect, "Pulse", WatchedPulse)
    monkeypatch.setattr(connect, "_connect_client", connect_client)
    monkeypatch.setattr(connect, "_make_submit", fail)
    monkeypatch.setenv("LPACK_REMOTE", "s3://bucket/prefix")
    with (
        pytest.raises(RuntimeError, match="no executor"),
        connect.open_cluster("tcp://nowhere:1", "", Policy(), Reporter()),
    ):
        pass
    assert ended == [True]
