"""Builds through Podman's socket, which DOCKER_HOST names."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builders.engine.client import connect
from builders.errors import BuildError
from tests.builders.engine.test_client import build, connected
from tests.builders.engine.test_container_builder import REACH, request, sdist

pytestmark = [pytest.mark.docker, pytest.mark.slow]
# What a container gets by default may be more than a sandboxed machine lets anybody have.
SETTINGS = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'


class Podman:
    """Podman with storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.host = f"unix://{folder}/podman.sock"
        self._folder = folder
        # crun, its usual runtime, does not work where cgroups of both versions are mounted.
        self._command = ["podman", "--runtime", "runc", "--storage-driver", "overlay"]
        self._command += ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]

    def run(self, *arguments: str) -> str:
        return subprocess.run([*self._command, *arguments], capture_output=True, text=True, check=True).stdout

    def load(self, saved: Path) -> None:
        """Load an image that `save_image` has saved."""
        self.run("load", "--input", str(saved))

    def let_go(self) -> None:
        """Undo the mount that Podman makes of its storage, so that the folder can be removed."""
        storage = self._folder / "storage" / "overlay"
        while storage.is_mount():
            subprocess.run(["umount", "--recursive", str(storage)], check=True)

    @contextmanager
    def service(self) -> Iterator[None]:
        """Let the service answer on the socket."""
        settings, log = self._folder / "containers.conf", self._folder / "log"
        settings.write_text(SETTINGS)
        command = [*self._command, "system", "service", "--time", "0", self.host]
        environment = {**os.environ, "CONTAINERS_CONF": str(settings)}
        with log.open("wb") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process:
            try:
                deadline = time.monotonic() + 60
                while not (self._folder / "podman.sock").exists() and time.monotonic() < deadline:
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.1)
                yield
            finally:
                process.kill()  # asked to end, it waits for long for whoever may still ask something


@pytest.fixture
def podman(saved_build_image: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("needs podman and runc (apt-get install podman runc), and root for storage on overlays")
    # The path of a socket has room for about a hundred characters, and a test's own folder can take all of them.
    with tempfile.TemporaryDirectory(prefix="podman-") as folder:
        own = Podman(Path(folder))
        own.load(saved_build_image)
        monkeypatch.setenv("DOCKER_HOST", own.host)
        with own.service():
            yield own
        own.let_go()


def test_podman_builds_as_docker_does(podman, tmp_path):
    engine = connect()
    assert engine.info().name == "Podman Engine"
    engine.close()
    with connected() as builder:
        assert build(builder, request(sdist(tmp_path)), tmp_path / "good").is_file()
        with pytest.raises(BuildError) as caught:
            build(builder, request(sdist(tmp_path, REACH)), tmp_path / "reaching")
        assert "Network is unreachable" in caught.value.detail
    assert podman.run("ps", "--all", "--quiet") == ""
    assert podman.run("volume", "ls", "--quiet") == ""
