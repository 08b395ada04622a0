"""Opening a sandbox for each target: the first that is available, side by side, each once, and again after trouble."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest

from builders.errors import BuildError, UnavailableError
from builders.runtimes import ARCHITECTURES, Target
from builders.sandbox.host_sandbox import HostSandbox, open_host_sandbox
from builders.sandbox.table import Sandboxes, SandboxKind, runs_here
from builders.sandbox.task import Sandbox, Task, TaskResult
from tests.shaped import ARCHITECTURE, RUNTIME

TARGET = Target.of(RUNTIME, ARCHITECTURE)
HOST = SandboxKind(name="host", open=lambda target, _asked: open_host_sandbox(target), runs=runs_here)


class Fake:
    """A sandbox that runs nothing, and knows whether it was closed."""

    identity, place, path, unconfined = "fake", "a fake place", None, ""
    starts_programs = has_packages = False
    libraries: frozenset[str] | None = None
    private: Mapping[str, tuple[str, ...]] = {}

    def __init__(self) -> None:
        self.closed = False

    def run(self, _task: Task, _work: Path) -> TaskResult:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


def away(name: str, reason: str) -> SandboxKind:
    """Return a kind of sandbox that is never available."""

    def refuse(_target: Target, _asked: bool) -> Sandbox:
        raise UnavailableError(reason, remedy=f"Fix: {reason}.")

    return SandboxKind(name=name, open=refuse)


def containers(container: Callable[[Target], Sandbox]) -> Sandboxes:
    """Return a table in which only containers are available."""
    return Sandboxes((away("host", "no Python"), SandboxKind(name="container", open=lambda target, _asked: container(target))))


def test_sandbox_is_added_from_outside():
    class Elsewhere(Fake):
        identity, place = "3.12.9", "a machine elsewhere"

        def run(self, task: Task, _work: Path) -> TaskResult:
            return TaskResult(status=0, log=f"{task.script} ran elsewhere", answer=None)

    table = Sandboxes((HOST, SandboxKind(name="elsewhere", open=lambda _target, _asked: Elsewhere())))
    found = table.find(TARGET, "elsewhere", "run")
    task = Task(script="probe.py", arguments=(), inputs=Path("/nowhere"))
    assert (found.place, found.run(task, Path("/nowhere")).log) == ("a machine elsewhere", "probe.py ran elsewhere")


def test_this_machine_goes_before_a_container():
    fake = Fake()
    here = SandboxKind(name="host", open=lambda _target, _asked: fake)
    assert Sandboxes((here, away("container", "no engine"))).find(TARGET, "auto", "run") is fake
    assert containers(lambda _target: fake).find(TARGET, "auto", "run") is fake


def test_confined_one_goes_before_one_that_is_not_which_is_noticed_where_it_is_the_only_one():
    def kind(name: str, unconfined: str) -> tuple[Fake, SandboxKind]:
        fake = Fake()
        fake.unconfined = unconfined
        return fake, SandboxKind(name=name, open=lambda _target, _asked: fake)

    (open_one, here), (confined, container) = kind("host", "no namespaces"), kind("container", "")
    noticed: list[Sandbox] = []
    assert Sandboxes((here, container), noticed.append).find(TARGET, "auto", "run") is confined
    assert noticed == []
    assert Sandboxes((here, away("container", "no engine")), noticed.append).find(TARGET, "auto", "run") is open_one
    assert noticed == [open_one]


def test_code_for_another_machine_is_compiled_but_not_run_here():
    other = Target.of(RUNTIME, next(each for each in ARCHITECTURES if each != ARCHITECTURE))
    found = Sandboxes((HOST, away("container", "no engine")))
    assert runs_here(TARGET)
    assert isinstance(found.find(other, "auto", "compile"), HostSandbox)
    with pytest.raises(UnavailableError, match=f"this machine cannot run native code for {other.architecture}; no engine"):
        found.find(other, "auto", "run")


def test_all_reasons_are_reported_and_a_named_place_is_asked_alone():
    asked: list[bool] = []

    def container(_target: Target, named: bool) -> Sandbox:
        asked.append(named)
        raise UnavailableError("no engine", remedy="Start it.")

    found = Sandboxes((away("host", "no Python"), SandboxKind(name="container", open=container)))
    with pytest.raises(UnavailableError) as caught:
        found.find(TARGET, "auto", "run")
    assert caught.value.what == "no Python; no engine"
    with pytest.raises(UnavailableError) as caught:
        found.find(TARGET, "container", "run")
    assert caught.value.what == "no engine"
    assert asked == [False, True]


def test_images_of_different_runtimes_are_prepared_side_by_side_and_each_once():
    both = Barrier(2)
    asked: list[Target] = []

    def container(target: Target) -> Fake:
        asked.append(target)
        both.wait(10)  # broken where one has to wait for the other
        return Fake()

    found = containers(container)
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

    found = containers(container)
    with pytest.raises(UnavailableError, match="no engine"):
        found.find(TARGET, "container", "run")
    assert found.find(TARGET, "container", "run") is fake


def test_sandbox_that_was_opened_while_all_was_closed_is_closed():
    fake, begun, closed = Fake(), Event(), Event()

    def container(_target: Target) -> Fake:
        begun.set()
        assert closed.wait(10)
        return fake

    found = containers(container)
    with ThreadPoolExecutor(1) as executor:
        finding = executor.submit(found.find, TARGET, "container", "run")
        assert begun.wait(10)
        found.close()
        closed.set()
        with pytest.raises(BuildError, match="interrupted"):
            finding.result()
    assert fake.closed


def test_sandbox_that_stands_in_for_the_first_one_is_told_of_where_it_runs_something():
    told: list[tuple[Target, str, str]] = []
    fake = SandboxKind(name="second", open=lambda _target, _asked: Fake())
    found = Sandboxes(
        (away("first", "it is not there"), fake),
        stood_in=lambda target, sandbox, why: told.append((target, sandbox.place, why.remedy)),
    )
    found.find(TARGET, "auto", "compile")
    found.find(TARGET, "second", "run")
    assert told == []
    found.find(TARGET, "auto", "run")
    assert told == [(TARGET, "a fake place", "Fix: it is not there.")]


def test_reason_that_several_kinds_share_is_reported_once():
    with pytest.raises(UnavailableError) as caught:
        Sandboxes((away("one", "no way"), away("two", "no way"))).find(TARGET, "auto", "run")
    assert (caught.value.what, caught.value.remedy) == ("no way", "Fix: no way.")
