"""The builder without an engine: compiles C and C++ for the target with zig, against the headers of a CPython of this machine.

The build runs on this machine as the calling user, with nothing to confine it but a time limit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from builders.errors import BuildError, UnavailableError
from builders.host.script_run import LocalRunner, host_target
from builders.host.zig import find_zig, make_toolchain
from builders.interpreters import Interpreter, find_interpreter
from builders.recipes import BuildSettings, BuiltWheel, Recipe, WheelRequest
from builders.runtimes import Target
from builders.script import ScriptPaths, request_document, script_digest

_USE_CONTAINER = 'Let a container build it (builder = "container" in the configuration; `lpack doctor` tells whether one can).'


class CrossBuilder:
    """Builds with zig. ``cache`` is where zig keeps what it has compiled of its own; ``listen`` gets (package, output)."""

    def __init__(self, listen: Callable[[str, str], None], cache: Path) -> None:
        self._runner = LocalRunner(listen)
        self._cache = cache

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._runner.close()

    def recipe(self, target: Target, _settings: BuildSettings) -> Recipe:
        """Return the recipe of a build that cross-compiles; raises `UnavailableError`."""
        host, zig = host_target(target.runtime), find_zig()
        interpreter, include = _interpreter(target.runtime.minor)
        tools = make_toolchain(target, "zig", {})
        configured = hashlib.sha256(_configuration(include, target.machine).read_bytes()).hexdigest()
        parts = [zig.version, interpreter.version, configured, script_digest(), repr(tools)]
        key = hashlib.sha256("\0".join(["cross 1", *parts]).encode()).hexdigest()
        return Recipe(key=key, requirements_for=host)

    @contextmanager
    def build(self, request: WheelRequest, into: Path) -> Iterator[BuiltWheel]:
        """Build, and return the wheel; raises `BuildError`, `UnavailableError` or `MissingRequirementsError`."""
        into = into.resolve()
        interpreter, include = _interpreter(request.target.runtime.minor)
        work, tools = into / "work", into / "tools"
        for folder in (work, tools, self._cache):
            folder.mkdir(parents=True, exist_ok=True)
        os.utime(self._cache)  # it is in use: nobody prunes it
        document = _prepare(request, include, work, tools)
        caches = {"ZIG_GLOBAL_CACHE_DIR": str(self._cache.resolve()), "ZIG_LOCAL_CACHE_DIR": str(into / "zig")}
        try:
            path, log = self._runner.run(request, interpreter.path, document, into, caches)
        except BuildError as failure:
            failure.remedy = failure.remedy or _USE_CONTAINER
            raise
        yield BuiltWheel(path=path, log=log)


def _prepare(request: WheelRequest, include: Path, work: Path, tools: Path) -> bytes:
    """Write the target's compiler, and return what the script is asked; raises `UnavailableError` or `BuildError`."""
    zig = find_zig()
    places = {str(work): "/lpack/work", str(include): "/lpack/include", str(zig.program.parent): "/lpack/zig"}
    headers = _debian_headers(include, request.target.machine, tools / "include")
    made = make_toolchain(request.target, str(zig.program), places, headers)
    wheel = made.write(tools)
    place = ScriptPaths(
        source=str(request.path.absolute()),
        work=str(work),
        wheels=[str(each.absolute()) for each in request.wheels] + [str(wheel)],
        # The modules are in the environment; but every other Python that a build may run is asked to import them as well.
        variables={**made.variables, "PYTHONPATH": str(wheel)},
        folders=[str(tools)],
    )
    return request_document(request, place)


def _interpreter(minor: int) -> tuple[Interpreter, Path]:
    """Return the CPython that runs the back end, and the folder of its headers; raises `UnavailableError`."""
    found = find_interpreter(minor)
    if found is None:
        remedy = f"Install one, with its C headers: `uv python install 3.{minor}`, or `pyenv install 3.{minor}`."
        raise UnavailableError(f"this machine has no CPython 3.{minor} to compile against", remedy=remedy)
    if found.include is None:
        remedy = (
            f"Install them (on Debian and Ubuntu: `apt install python3.{minor}-dev`), or run `uv python install 3.{minor}`."
        )
        raise UnavailableError(f"the CPython 3.{minor} of this machine ({found.path}) has no C headers", remedy=remedy)
    return found, found.include


def _configuration(include: Path, machine: str) -> Path:
    """Return the pyconfig.h that counts: Debian's own only leads to one for each machine, in a folder beside."""
    others = sorted(include.parent.glob(f"*-linux-gnu/{include.name}/pyconfig.h"))
    own = include.parent / f"{machine}-linux-gnu" / include.name / "pyconfig.h"
    return own if own in others else next(iter(others), include / "pyconfig.h")


def _debian_headers(include: Path, machine: str, folder: Path) -> str:
    """Put a pyconfig.h where Debian's Python.h looks for the target's, and return the folder; empty where there is no need.

    What differs between those of x86_64 and aarch64 matters to CPython's own sources alone (3.9 to 3.13).
    """
    configuration = _configuration(include, machine)
    if configuration.parent == include:
        return ""
    to = folder / f"{machine}-linux-gnu" / include.name
    to.mkdir(parents=True)
    (to / "pyconfig.h").write_bytes(configuration.read_bytes())
    return str(folder)
