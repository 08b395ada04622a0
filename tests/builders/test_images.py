"""Images for builds: different ones are pulled and prepared side by side, the same one once, and after trouble again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Lock
from types import SimpleNamespace
from typing import Any

import pytest

from builders.engine.client import EngineImage, EngineInfo
from builders.engine.images import EngineImages
from builders.engine.job import ContainerJob
from builders.errors import BuildError, PullError, UnavailableError
from builders.recipes import BuildSettings
from builders.runtimes import Target

TARGET = Target.of("python3.12", "x86_64")


class Engine:
    """An engine whose images are only names; ``pulling`` and ``running`` are called while one is pulled or a job runs."""

    def __init__(self, pulling: Callable[[], object] = lambda: None, running: Callable[[], int] = lambda: 0) -> None:
        self.pulled: list[str] = []
        self.asked = 0
        self.ran: list[Sequence[str]] = []
        self._images: dict[str, EngineImage] = {}
        self._lock = Lock()
        self._pulling = pulling
        self._running = running

    def info(self) -> EngineInfo:
        self.asked += 1
        return EngineInfo(version="1", name="fake", architecture="amd64", storage="", processors=1)

    def image(self, reference: str) -> EngineImage | None:
        with self._lock:
            return self._images.get(reference)

    def pull(self, reference: str, platform: str) -> None:
        with self._lock:
            self.pulled.append(f"{reference} {platform}")
        self._pulling()
        self._add(reference, platform.partition("/")[2])

    @contextmanager
    def run(self, job: ContainerJob, _listen: Callable[[str], None]) -> Iterator[Any]:
        with self._lock:
            self.ran.append(job.command)
        status = self._running()
        ended = SimpleNamespace(status=status, log="said", late=False, out_of_memory=False)
        ended.commit = lambda repository, tag: self._add(f"{repository}:{tag}", "amd64")
        yield ended

    def _add(self, reference: str, architecture: str) -> None:
        identity = f"sha256:{reference}"
        with self._lock:
            self._images[reference] = EngineImage(
                reference=reference, identity=identity, digest=identity, architecture=architecture
            )


def images(engine: Engine) -> EngineImages:
    return EngineImages(engine, lambda _text: None, lambda _name, _text: None, offline=False)  # type: ignore[arg-type]


def ready(made: EngineImages, settings: list[BuildSettings]) -> list[EngineImage]:
    with ThreadPoolExecutor(8) as executor:
        return list(executor.map(lambda each: made.ready(TARGET, each), settings))


def fails_first(number: int = 1) -> Callable[[], int]:
    """Return what raises the first times, and then goes well."""
    calls: list[int] = []

    def call() -> int:
        calls.append(1)
        if len(calls) <= number:
            raise PullError("the network is away", detail="no route to host")
        return 0

    return call


def test_different_images_are_pulled_side_by_side():
    both = Barrier(2)
    engine = Engine(pulling=lambda: both.wait(10))
    found = ready(images(engine), [BuildSettings(image="one:1"), BuildSettings(image="two:1")])
    assert [each.reference for each in found] == ["one:1", "two:1"]


def test_same_image_is_pulled_once_for_eight_threads():
    engine = Engine()
    ready(images(engine), [BuildSettings(image="one:1")] * 8)
    assert engine.pulled == ["one:1 linux/amd64"]


def test_setup_commands_run_side_by_side_for_different_images_and_once_for_the_same():
    both = Barrier(2)
    engine = Engine(running=lambda: 0 * both.wait(10))
    settings = [BuildSettings(image="one:1", setup=(command,)) for command in ("first", "second")]
    ready(images(engine), settings * 3)
    assert sorted(command[-1] for command in engine.ran) == ["first", "second"]


def test_name_is_pulled_for_one_machine_at_a_time():
    engine = Engine()
    made = images(engine)
    targets = [TARGET, Target.of("python3.12", "arm64")] * 4
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda target: made.base(target, BuildSettings(image="one:1")), targets))
    assert [each.architecture for each in found] == ["amd64", "arm64"] * 4
    assert len(engine.pulled) == 2


def test_pull_is_tried_again_after_it_has_failed():
    engine = Engine(pulling=fails_first())
    made = images(engine)
    with pytest.raises(UnavailableError, match="no route to host"):
        made.base(TARGET, BuildSettings(image="one:1"))
    assert made.base(TARGET, BuildSettings(image="one:1")).reference == "one:1"


def test_threads_that_wait_for_a_setup_command_share_its_failure():
    everyone = Barrier(8)

    def fail() -> int:
        everyone.wait(10)
        time.sleep(0.3)  # until the others, who are about to ask, have asked
        return 1

    engine = Engine(running=fail)
    made = images(engine)

    def attempt(number: int) -> str:
        if number:
            everyone.wait(10)
        with pytest.raises(BuildError) as caught:
            made.ready(TARGET, BuildSettings(image="one:1", setup=("false",)))
        return caught.value.what

    with ThreadPoolExecutor(8) as executor:
        assert set(executor.map(attempt, range(8))) == {"the setup commands ended with status 1 in one:1"}
    assert len(engine.ran) == 1


@pytest.mark.parametrize("what", ["the container engine's disk is full", "it was interrupted"])
def test_what_is_not_the_registrys_refusal_is_passed_on(what):
    def pull() -> None:
        raise BuildError(what, remedy="Free some space.")

    with pytest.raises(BuildError, match=what) as caught:
        images(Engine(pulling=pull)).base(TARGET, BuildSettings(image="one:1"))
    assert caught.value.remedy == "Free some space."


def test_engine_is_asked_for_its_machine_once():
    engine = Engine()
    made = images(engine)
    for _ in range(3):
        made.ready(TARGET, BuildSettings(image="one:1"))
    assert engine.asked == 1
