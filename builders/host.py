"""The builder of this machine: pure-Python sdists, project folders and repositories, in an isolated environment made by uv."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from builders.commands import run_logged
from builders.recipes import SOURCE_DATE_EPOCH, BuildFailure, BuildRequest, BuildSettings, BuiltWheel, NativeResult, Recipe
from builders.runtimes import Target


class HostBuilder:
    """Builds with ``uv build``, which makes an isolated environment with the source's own build requirements (PEP 517, 518).

    ``variables`` are set for it on top of the caller's environment (index settings, for example). What it builds must be for
    every machine: this one is not the runtime's.
    """

    def __init__(self, uv: str, variables: Mapping[str, str], *, offline: bool = False) -> None:
        self._uv = uv
        self._variables = variables
        self._offline = offline

    def recipe(self, _target: Target, _settings: BuildSettings) -> Recipe:
        """Say what decides a wheel's bytes: the Python that runs the back end."""
        return Recipe(key=f"host 1 python{sys.version_info.major}.{sys.version_info.minor}")

    @contextmanager
    def build(self, request: BuildRequest, into: Path) -> Iterator[BuiltWheel]:
        """Build, and give the wheel; raises `BuildFailure`, and `NativeResult` for a wheel with native code."""
        out = into / "wheel"
        arguments = [self._uv, "build", "--wheel", "--out-dir", str(out), "--python", sys.executable]
        arguments += ["--no-python-downloads", "--no-create-gitignore", "--no-progress", "--color", "never"]
        arguments += ["--offline"] if self._offline else []
        log = self._run([*arguments, str(request.path)], into)
        wheels = sorted(out.glob("*.whl"))
        if len(wheels) != 1:
            raise BuildFailure(f"the build gave {len(wheels)} wheels, not one", log=log)
        if not wheels[0].name.endswith("-none-any.whl"):
            raise NativeResult(
                f"it has native code: this machine made {wheels[0].name}, which is for this machine only",
                remedy='Give it to another builder: builder = "container", or "cross".',
            )
        yield BuiltWheel(path=wheels[0])

    def _run(self, arguments: list[str], folder: Path) -> str:
        return run_logged(arguments, folder, {**self._variables, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, "PYTHONHASHSEED": "0"})
