"""The real Docker Engine in tests: what they need of it, what they may leave there, and engines of their own to break."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

BUILD_IMAGE = "lpack-test/build-python3.11:bookworm"
"""The stand-in for the build image of python3.11 on x86_64, with glibc 2.36 (fixtures/images/build.sh)."""
ARM_IMAGE = "lpack-test/build-python3.11-arm64:bookworm"
"""The same for arm64, with C alone (fixtures/images/build-arm64.sh)."""
RUNTIME_IMAGE = "public.ecr.aws/lambda/python:3.11-x86_64"
"""The stand-in for its run-time image, which has no compiler (fixtures/images/runtime.sh)."""

RUNTIME_312_IMAGE = "lpack-test/runtime-python3.12:bookworm"
"""A stand-in for the run-time image of python3.12, with boto3 and its family (fixtures/images/runtime-3.12.sh)."""


def need_engine(*images: str) -> None:
    """Skip the test where there is no engine, or one without these images."""
    if shutil.which("docker") is None:
        pytest.skip("needs the docker command")
    host = os.environ.get("DOCKER_HOST", "")
    if not _answers(host, "info"):
        pytest.skip("needs a Docker Engine that answers")
    for image in images:
        if not _answers(host, "image", "inspect", image):
            pytest.skip(f"needs the image {image}: make a stand-in with the scripts in fixtures/images")


@cache
def _answers(host: str, *question: str) -> bool:
    return docker(*question, host=host).returncode == 0


def docker(*arguments: str, host: str = "") -> subprocess.CompletedProcess[str]:
    """Run docker's own command line, which knows nothing of lpack."""
    variables = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    return subprocess.run(["docker", *arguments], env=variables, capture_output=True, text=True, check=False)


_there_before: set[str] = set()


def forget_what_is_there() -> None:
    """Let `left_behind` tell of nothing that is in the machine's engine now: others use it, and tests may have been killed."""
    _there_before.clear()
    if shutil.which("docker"):
        _there_before.update(line.split()[0] for line in left_behind())


def left_behind(host: str = "") -> list[str]:
    """Give every container and volume that lpack has made and not removed."""
    containers = docker("ps", "--all", "--filter", "label=lpack.expires", "--format", "{{.ID}} {{.Status}}", host=host)
    volumes = docker("volume", "ls", "--filter", "label=lpack.expires", "--format", "{{.Name}}", host=host)
    found = containers.stdout.splitlines() + volumes.stdout.splitlines()
    return [line for line in found if host or line.split()[0] not in _there_before]


def bundled_pip() -> Path:
    """Give the wheel of pip that CPython carries, so that a build needs no index."""
    folder = Path(sysconfig.get_path("stdlib")) / "ensurepip" / "_bundled"
    found = sorted(folder.glob("pip-*.whl"))
    if not found:
        pytest.skip("needs a Python that carries pip's wheel (ensurepip)")
    return found[-1]


def run_in_runtime(task: Path, code: str) -> str:
    """Run Python code in a fresh container of the run-time image, with a folder as /var/task; gives what it printed."""
    name = f"lpack-test-{os.getpid()}-{time.monotonic_ns()}"
    made = docker("create", "--name", name, "--network", "none", RUNTIME_IMAGE, "python3.11", "-c", code)
    assert made.returncode == 0, made.stderr
    try:
        copied = docker("cp", f"{task}/.", f"{name}:/var/task")
        assert copied.returncode == 0, copied.stderr
        ran = docker("start", "--attach", name)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout.strip()
    finally:
        docker("rm", "--force", name)


class OwnEngine:
    """An engine for one test, on a socket and a disk of its own, which may be killed or filled."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.host = f"unix://{folder}/engine.sock"
        self._folder = folder
        self._data = data
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        folder = self._folder
        # In a network of its own: an engine without a bridge removes the one that the machine's engine has.
        command = [
            "unshare",
            "--net",
            "dockerd",
            "--host",
            self.host,
            "--data-root",
            str(self._data),
            "--exec-root",
            str(folder / "exec"),
        ]
        command += ["--pidfile", str(folder / "pid"), "--bridge", "none", "--iptables=false", "--ip-forward=false"]
        with (folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        for _ in range(300):
            if docker("info", host=self.host).returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        pytest.fail((folder / "dockerd.log").read_text()[-3000:])

    def kill(self) -> None:
        """End it at once, as a crash does, with its containers."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            # Its containerd died with it. Where nobody collects that process, the next engine would wait for it.
            (self._folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def end(self) -> None:
        """End it with all that it has started, which outlives an engine that was killed."""
        if self._process is None:
            self.start()
        self.stop()

    def load(self, saved: Path) -> None:
        """Load an image that `save_image` has saved."""
        loaded = docker("load", "--input", str(saved), host=self.host)
        assert loaded.returncode == 0, loaded.stderr


def save_image(image: str, to: Path) -> Path:
    """Write an image of the machine's engine to an archive, and return that."""
    saved = docker("save", "--output", str(to), image)
    assert saved.returncode == 0, saved.stderr
    return to


@contextmanager
def own_engine(data: Path | None = None) -> Iterator[OwnEngine]:
    """Give a running engine of one's own, which keeps its images and containers in the folder ``data``."""
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        pytest.skip("needs dockerd, and root to start it")
    # The path of a socket has room for about a hundred characters, and a test's own folder can take all of them.
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder:
        engine = OwnEngine(Path(folder), data or Path(folder) / "data")
        engine.start()
        try:
            yield engine
        finally:
            engine.end()
