"""The builder of this machine: pure-Python sdists, project folders and repositories, in an isolated environment."""

from __future__ import annotations

import platform
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from builders.errors import NativeCodeError, UnavailableError
from builders.host.script_run import LocalRunner, host_target
from builders.recipes import BuildSettings, BuiltWheel, Recipe, WheelRequest
from builders.runtimes import DEFAULT_ARCHITECTURE, MACHINES, RUNTIMES, Target
from builders.script import ScriptPaths, request_document, script_digest
from builders.sources import UNREADABLE

_NATIVE = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""How ELF files and Mach-O files, of one machine or several, begin."""


class HostBuilder:
    """Builds with the Python that lpack runs on; ``listen`` gets (package, output) as it comes.

    What it builds must be for every machine: this one is not the runtime's.
    """

    def __init__(self, listen: Callable[[str, str], None]) -> None:
        self._runner = LocalRunner(listen)

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._runner.close()

    def recipe(self, _target: Target, _settings: BuildSettings) -> Recipe:
        """Return the recipe of a build with the Python that lpack runs on; raises `UnavailableError`."""
        version = platform.python_version()
        return Recipe(key=f"host 2 python{version} {script_digest()}", requirements_for=_own_target())

    @contextmanager
    def build(self, request: WheelRequest, into: Path) -> Iterator[BuiltWheel]:
        """Build a wheel; raises `BuildError`, `MissingRequirementsError`, or `NativeCodeError` for native code."""
        into = into.resolve()
        (into / "work").mkdir()
        place = ScriptPaths(
            source=str(request.path.absolute()),
            work=str(into / "work"),
            wheels=[str(each.absolute()) for each in request.wheels],
        )
        path, log = self._runner.run(request, Path(sys.executable), request_document(request, place), into, {})
        native = _native_member(path)
        if native or not path.name.endswith("-none-any.whl"):
            holding = f" with {native}" if native else ""
            raise NativeCodeError(
                f"it has native code: this machine made {path.name}{holding}, which is for this machine only",
                remedy='Give it to another builder: builder = "container", or "cross".',
            )
        yield BuiltWheel(path=path, log=log)


def _native_member(path: Path) -> str:
    """Return the first member of a wheel that is native code of Linux or macOS, whatever its tag says; empty where none is."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    if file.read(4) in _NATIVE:
                        return name
    except UNREADABLE:
        return ""  # accepting the wheel reports what is wrong with it
    return ""


def _own_target() -> Target:
    """Return what build requirements must run on; raises `UnavailableError`."""
    minor = sys.version_info.minor
    runtime = RUNTIMES.get(f"python3.{minor}")
    if runtime is None:
        remedy = f'Run lpack on an older Python (Lambda has no 3.{minor}), or write builder = "container".'
        raise UnavailableError(f"lpack runs on Python 3.{minor}, for which it knows no build requirements", remedy=remedy)
    try:
        return host_target(runtime)
    except UnavailableError:
        # Elsewhere requirements in pure Python serve, as nearly all back ends are, and they are the same for every machine.
        return Target(runtime=runtime, architecture=MACHINES.get(platform.machine(), DEFAULT_ARCHITECTURE))
