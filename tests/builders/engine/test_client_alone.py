"""An engine that is no real one: what can be told without waiting for a registry or a container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from docker.errors import APIError, ImageNotFound

from builders.engine.client import Engine
from builders.engine.job import ContainerJob
from builders.errors import BuildError, PullError
from builders.recipes import Limits


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
    with pytest.raises(BuildError, match="interrupted") as caught:
        made.pull("one:1", "linux/amd64")
    assert read == ["layer 0", "layer 1"]
    assert not isinstance(caught.value, PullError)


def pull_error(answer: Exception | str) -> BuildError:
    """Return the error of a pull to which the engine answers with an error, at once or in its stream."""

    def pull(*_: object, **__: object) -> list[dict[str, str]]:
        if isinstance(answer, Exception):
            raise answer
        return [{"status": "begun"}, {"error": answer}]

    client = SimpleNamespace(api=SimpleNamespace(pull=pull), close=lambda: None)
    with pytest.raises(BuildError) as caught:
        Engine(client).pull("one:1", "linux/amd64")  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize(
    "answer", ["manifest unknown", ImageNotFound("gone", explanation="manifest unknown"), APIError("manifest unknown")]
)
def test_refusal_of_the_registry_is_a_pull_error(answer):
    error = pull_error(answer)
    assert isinstance(error, PullError)
    assert error.detail == "manifest unknown"


FULL = "failed to register layer: write /x: no space left on device"


@pytest.mark.parametrize("answer", [FULL, APIError("500", explanation=FULL)])
def test_full_disk_of_the_engine_is_not_the_registrys_fault(answer):
    error = pull_error(answer)
    assert not isinstance(error, PullError)
    assert error.what == "the container engine's disk is full"


def test_engine_that_is_gone_is_not_the_registrys_fault():
    error = pull_error(requests.ConnectionError("gone"))
    assert not isinstance(error, PullError)
    assert "could not pull the image one:1" in error.what


class Container:
    """A container that calls something once it has started, and then ends."""

    labels: dict[str, str] = {}  # noqa: RUF012 never changed
    attrs: dict[str, Any] = {"State": {}}  # noqa: RUF012 never changed

    def __init__(self) -> None:
        self.running: Callable[[], object] = lambda: None
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def logs(self, **_: object) -> Iterator[bytes]:
        self.running()
        yield b"said"

    def wait(self, **_: object) -> dict[str, int]:
        return {"StatusCode": 0}

    def reload(self) -> None: ...

    def kill(self) -> None:
        self.calls.append("kill")

    def remove(self, **_: object) -> None:
        self.calls.append("remove")


def test_connection_is_closed_when_the_last_job_has_ended():
    calls: list[str] = []
    container = Container()
    containers = SimpleNamespace(create=lambda *_, **__: container)
    client = SimpleNamespace(containers=containers, close=lambda: calls.append(container.calls[-1]))
    made = Engine(client)  # type: ignore[arg-type]
    container.running = made.close
    job = ContainerJob(image="one", command=("true",), limits=Limits(seconds=10))
    with pytest.raises(BuildError, match="interrupted"), made.run(job, lambda _text: None):
        pass
    assert container.calls == ["start", "kill", "remove"]
    assert calls == ["remove"]
