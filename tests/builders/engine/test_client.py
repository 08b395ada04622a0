"""What a real engine can do to a build: die, come back, run full. Each time the error is clear and the next build succeeds."""

from __future__ import annotations

import gc
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from builders.engine.client import connect
from builders.engine.container_builder import ContainerBuilder
from builders.engine.images import EngineImages
from builders.engine.job import ContainerJob
from builders.errors import BuildError, UnavailableError
from builders.recipes import Limits, WheelRequest
from tests.builders.engine.test_container_builder import request, sdist
from tests.engine import BUILD_IMAGE, OwnEngine, docker, left_behind, need_engine, own_engine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    # The docker package never closes a socket on which nobody answered.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collect():
    yield
    gc.collect()  # here, and not in a test that knows nothing of engines


@pytest.fixture(scope="module")
def _own(saved_build_image):
    with own_engine() as engine:
        engine.load(saved_build_image)
        yield engine


@pytest.fixture
def own(_own: OwnEngine, monkeypatch: pytest.MonkeyPatch) -> OwnEngine:
    monkeypatch.setenv("DOCKER_HOST", _own.host)
    return _own


@contextmanager
def connected(listen: Callable[[str, str], None] = lambda _name, _text: None):
    engine = connect()
    try:
        yield ContainerBuilder(engine, EngineImages(engine, lambda _text: None, listen, offline=True), listen)
    finally:
        engine.close()


def build(builder: ContainerBuilder, asked: WheelRequest, into: Path) -> Path:
    into.mkdir()
    with builder.build(asked, into) as built:
        return built.path


def broken_build(tmp_path: Path, breaking: Callable[[], None]) -> BuildError:
    """Start a build that waits, break something meanwhile, and give its error; no wheel must be there."""
    heard: list[str] = []
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        builder = stack.enter_context(connected(lambda _name, text: heard.append(text)))
        waiting = request(sdist(tmp_path, "print('begun', flush=True)\nimport time; time.sleep(600)"))
        future = pool.submit(build, builder, waiting, tmp_path / "broken")
        deadline = time.monotonic() + 60
        while "begun" not in "".join(heard) and time.monotonic() < deadline and not future.done():
            time.sleep(0.05)
        breaking()
        with pytest.raises(BuildError) as caught:
            future.result(60)
    assert not list((tmp_path / "broken").glob("*.whl"))
    return caught.value


def test_engine_that_dies_during_a_build_is_an_error(own: OwnEngine, tmp_path):
    failure = broken_build(tmp_path, own.kill)
    assert failure.what == "the container engine could not run the build to its end"
    assert "engine" in failure.remedy
    own.start()
    with connected() as builder:
        assert build(builder, request(sdist(tmp_path)), tmp_path / "after").is_file()


def test_engine_that_restarts_during_a_build_is_an_error(own: OwnEngine, tmp_path):
    def restart() -> None:
        own.stop()
        own.start()

    failure = broken_build(tmp_path, restart)
    assert "container" in failure.what
    with connected() as builder:
        assert build(builder, request(sdist(tmp_path)), tmp_path / "after").is_file()


def names(lines: Sequence[str]) -> set[str]:
    """Leave out what changes by itself: how long ago a container ended."""
    return {line.split()[0] for line in lines}


def test_container_removed_during_a_build_is_an_error(own: OwnEngine, tmp_path):
    before = left_behind(own.host)  # an engine that died could remove nothing

    def remove() -> None:
        for name in names(left_behind(own.host)) - names(before):
            docker("rm", "--force", name, host=own.host)

    failure = broken_build(tmp_path, remove)
    assert "container" in failure.what or failure.what == "the build ended with status 137"
    assert names(left_behind(own.host)) <= names(before)


def test_container_removed_slowly_leaves_no_volume(tmp_path):
    need_engine(BUILD_IMAGE)
    before = names(left_behind())
    with tarfile.open(tmp_path / "inputs.tar", "w"):
        pass
    writing = "echo begun; dd if=/dev/zero of=/var/tmp/much bs=1M count=300; sync; echo written; sleep 600"
    job = ContainerJob(
        image=BUILD_IMAGE,
        command=("sh", "-c", writing),
        limits=Limits(),
        inputs=tmp_path / "inputs.tar",
        sealed=False,
    )
    heard: list[str] = []

    with ThreadPoolExecutor(1) as pool:
        engine = connect()

        def listen(text: str) -> None:
            heard.append(text)
            if "written" in text:
                for name in names(left_behind()) - before:
                    pool.submit(docker, "rm", "--force", name)

        with suppress(BuildError), engine.run(job, listen):
            pass
        engine.close()
        assert "written" in "".join(heard)
        assert names(left_behind()) <= before


def test_full_disk_of_the_engine_is_an_error(tmp_path, saved_build_image, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(tmp_path, disk, megabytes=1400), own_engine(disk / "data") as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        engine.load(saved_build_image)
        filler = disk / "filler"
        with filler.open("wb") as file:
            free = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize // 2)
            file.seek(0, os.SEEK_END)
            while True:
                try:
                    file.write(b"x" * 1_000_000)
                    file.flush()
                except OSError:
                    break
        with connected() as builder, pytest.raises(BuildError) as caught:
            build(builder, request(sdist(tmp_path)), tmp_path / "full")
        assert caught.value.what == "the container engine's disk is full"
        assert "space" in caught.value.remedy
        assert not list((tmp_path / "full").glob("*.whl"))
        filler.unlink()
        with connected() as builder:
            assert build(builder, request(sdist(tmp_path)), tmp_path / "after").is_file()
        assert left_behind(engine.host) == []


@contextmanager
def small_disk(tmp_path: Path, at: Path, megabytes: int):
    """Mount a small file system at a folder."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(at)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs to mount a file: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True, capture_output=True)


def test_leftovers_of_killed_builds_are_removed(monkeypatch):
    need_engine(BUILD_IMAGE)
    labels = {"old": "1000000000", "new": str(int(time.time()) + 3600)}
    made = {age: f"lpack-test-sweep-{age}-{time.monotonic_ns()}" for age in labels}
    try:
        for age, expires in labels.items():
            docker("volume", "create", "--label", f"lpack.expires={expires}", made[age])
            docker("create", "--name", made[age], "--label", f"lpack.expires={expires}", BUILD_IMAGE, "true")
        engine = connect()
        engine.sweep()
        engine.close()
        assert docker("inspect", made["new"]).returncode == 0
        assert docker("container", "inspect", made["old"]).returncode != 0
        assert docker("volume", "inspect", made["old"]).returncode != 0
    finally:
        for name in made.values():
            docker("rm", "--force", name)
            docker("volume", "rm", "--force", name)


def test_closing_stops_running_builds(tmp_path):
    need_engine(BUILD_IMAGE)
    engine = connect()
    job = ContainerJob(image=BUILD_IMAGE, command=("sleep", "600"), limits=Limits())

    def run() -> None:
        with engine.run(job, lambda _text: None):
            pass

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run)
        while not any("Up" in line for line in left_behind()):
            time.sleep(0.05)
        engine.close()
        with pytest.raises(BuildError, match="interrupted"):
            future.result(30)
    assert left_behind() == []


def test_missing_engine_is_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(UnavailableError, match=r"no container engine answers at unix://.*nobody\.sock"):
        connect()
