"""Finding a Python for each target: side by side, each once, and again after trouble."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest

from builders.errors import BuildError, UnavailableError
from builders.runtimes import Target
from builders.sandbox.pythons import Pythons
from tests.shaped import ARCHITECTURE, RUNTIME

TARGET = Target.of(RUNTIME, ARCHITECTURE)


class Fake:
    """A Python that only knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def pythons(container: Callable[[Target], Any]) -> Pythons:
    """Return what finds Pythons in containers alone."""

    def nothing_here(_target: Target) -> Any:
        raise UnavailableError("no Python", remedy="Install one.")

    return Pythons(nothing_here, lambda target, _named: container(target))


def test_images_of_different_runtimes_are_prepared_side_by_side_and_each_once():
    both = Barrier(2)
    asked: list[Target] = []

    def container(target: Target) -> Fake:
        asked.append(target)
        both.wait(10)  # broken where one has to wait for the other
        return Fake()

    found = pythons(container)
    targets = [Target.of(runtime, ARCHITECTURE) for runtime in ("python3.12", "python3.13")] * 4
    with ThreadPoolExecutor(8) as executor:
        made = list(executor.map(lambda target: found.find(target, "container", "run"), targets))
    assert len(asked) == len(set(map(id, made))) == 2


def test_container_engine_that_was_away_is_asked_again():
    asked: list[Target] = []
    fake = Fake()

    def container(target: Target) -> Fake:
        asked.append(target)
        if len(asked) == 1:
            raise UnavailableError("no engine", remedy="Start it.")
        return fake

    found = pythons(container)
    with pytest.raises(UnavailableError, match="no engine"):
        found.find(TARGET, "container", "run")
    assert id(found.find(TARGET, "container", "run")) == id(fake)


def test_python_that_was_made_while_all_was_closed_is_closed():
    fake, begun, closed = Fake(), Event(), Event()

    def container(_target: Target) -> Fake:
        begun.set()
        assert closed.wait(10)
        return fake

    found = pythons(container)
    with ThreadPoolExecutor(1) as executor:
        finding = executor.submit(found.find, TARGET, "container", "run")
        assert begun.wait(10)
        found.close()
        closed.set()
        with pytest.raises(BuildError, match="interrupted"):
            finding.result()
    assert fake.closed
