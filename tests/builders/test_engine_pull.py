"""Pulling by an engine that is no real one: what can be told without waiting for a registry."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from builders.engine.client import Engine
from builders.errors import BuildError


def engine(*messages: dict[str, str]) -> tuple[Engine, list[str]]:
    """Return an engine that sends these messages while it pulls, and is closed after the first; and which of them were read."""
    read: list[str] = []

    def pull(*_: object, **__: object) -> Iterator[dict[str, Any]]:
        for number, message in enumerate(messages):
            read.append(message["status"])
            yield message
            if not number:
                made.close()

    client = SimpleNamespace(api=SimpleNamespace(pull=pull), close=lambda: None)
    made = Engine(client)  # type: ignore[arg-type]
    return made, read


def test_pull_ends_when_the_engine_is_closed():
    made, read = engine(*({"status": f"layer {number}"} for number in range(5)))
    with pytest.raises(BuildError, match="interrupted"):
        made.pull("one:1", "linux/amd64")
    assert read == ["layer 0", "layer 1"]
