"""The builder of this machine: pure-Python sdists, project folders and repositories, in an isolated environment made by uv."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from builders.recipes import BuildFailure, BuildRequest

# 1980-01-01T00:00:00Z, the earliest time a ZIP member can carry: build back ends that write times all write this one.
_SOURCE_DATE_EPOCH = "315532800"


class HostBuilder:
    """Builds with ``uv build``, which makes an isolated environment with the source's own build requirements (PEP 517, 518).

    ``variables`` are set for it on top of the caller's environment (index settings, for example).
    """

    def __init__(self, uv: str, variables: Mapping[str, str], *, offline: bool = False) -> None:
        self._uv = uv
        self._variables = variables
        self._offline = offline

    @property
    def recipe(self) -> str:
        """Everything about this builder that can change a wheel's bytes: the Python that runs the back end."""
        return f"host 1 python{sys.version_info.major}.{sys.version_info.minor}"

    def build(self, request: BuildRequest, into: Path) -> Path:
        """Build, and give the path of the wheel in ``into``; raises `BuildFailure`, also for a wheel with native code."""
        source = request.path if request.path is not None else self._checkout(request.url, into / "source")
        out = into / "wheel"
        arguments = [self._uv, "build", "--wheel", "--out-dir", str(out), "--python", sys.executable]
        arguments += ["--no-python-downloads", "--no-create-gitignore", "--no-progress", "--color", "never"]
        arguments += ["--offline"] if self._offline else []
        log = self._run([*arguments, str(source)], into)
        wheels = sorted(out.glob("*.whl"))
        if len(wheels) != 1:
            raise BuildFailure(f"the build gave {len(wheels)} wheels, not one", log=log)
        if not wheels[0].name.endswith("-none-any.whl"):
            raise BuildFailure(f"it has native code: this machine made {wheels[0].name}, which is for this machine only")
        return wheels[0]

    def _checkout(self, url: str, folder: Path) -> Path:
        """Fetch the one commit of ``git+URL@commit#subdirectory=…`` and give the folder to build."""
        address, _, fragment = url.removeprefix("git+").partition("#")
        repository, _, commit = address.rpartition("@")
        folder.mkdir()
        self._run(["git", "init", "--quiet", "."], folder)
        self._run(["git", "fetch", "--quiet", "--depth", "1", "--", repository, commit], folder)
        self._run(["git", "-c", "advice.detachedHead=false", "checkout", "--quiet", "FETCH_HEAD"], folder)
        return folder / fragment.removeprefix("subdirectory=")

    def _run(self, arguments: list[str], folder: Path) -> str:
        environment = {
            **os.environ,
            **self._variables,
            "SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH,
            "PYTHONHASHSEED": "0",
            "GIT_TERMINAL_PROMPT": "0",
        }
        try:
            finished = subprocess.run(
                arguments,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise BuildFailure(f"{arguments[0]} cannot be started: {error.strerror}") from error
        if finished.returncode:
            raise BuildFailure(
                f"{Path(arguments[0]).name} {arguments[1]} ended with status {finished.returncode}", log=finished.stdout
            )
        return finished.stdout
