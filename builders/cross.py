"""The builder without an engine: compiles C and C++ for the target with zig, against the headers of a CPython of this machine.

The build runs on this machine as the calling user, with nothing to confine it but a time limit.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock, Thread

from builders.interpreters import Interpreter, find_interpreter
from builders.recipes import BuilderUnavailable, BuildFailure, BuildRequest, BuildSettings, BuiltWheel, Recipe
from builders.runtimes import Architecture, Target
from builders.script import (
    NAME,
    SCRIPTS,
    Answer,
    Outcome,
    Place,
    read_answer,
    request_document,
    script_digest,
    source_of_script,
    wheel_name,
)
from builders.zig import find_zig, toolchain

_ARCHITECTURES: dict[str, Architecture] = {"x86_64": "x86_64", "aarch64": "arm64"}
# All of the user's variables that a build gets: any other may be one that compilers or build tools listen to.
_KEPT = ("PATH", "LD_LIBRARY_PATH")
_PATIENCE = 5
"""Seconds to wait for the last output of a build that has ended: what it left running may hold it open."""
_USE_CONTAINER = 'Let a container build it (builder = "container" in the configuration; `lpack doctor` tells whether one can).'


class CrossBuilder:
    """Builds with zig. ``cache`` is where zig keeps what it has compiled of its own; ``listen`` gets (package, output)."""

    def __init__(self, listen: Callable[[str, str], None], cache: Path) -> None:
        self._listen = listen
        self._cache = cache
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = Lock()
        self._closed = False

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _kill(process)

    def recipe(self, target: Target, _settings: BuildSettings) -> Recipe:
        """Say with what it would build; raises `BuilderUnavailable`."""
        host, zig = _this_machine(target), find_zig()
        interpreter, include = _interpreter(target.runtime.minor)
        tools = toolchain(target, "zig", {})
        configured = hashlib.sha256(_configuration(include, target.machine).read_bytes()).hexdigest()
        parts = [zig.version, interpreter.version, configured, script_digest(), repr(tools)]
        key = hashlib.sha256("\0".join(["cross 1", *parts]).encode()).hexdigest()
        return Recipe(key=key, requirements_for=host)

    @contextmanager
    def build(self, request: BuildRequest, into: Path) -> Iterator[BuiltWheel]:
        """Build, and give the wheel; raises `BuildFailure`, `BuilderUnavailable` or `MoreRequirements`."""
        into = into.resolve()
        interpreter, include = _interpreter(request.target.runtime.minor)
        work, tools = into / "work", into / "tools"
        for folder in (work, tools, self._cache):
            folder.mkdir(parents=True, exist_ok=True)
        os.utime(self._cache)  # it is in use: nobody prunes it
        document = _prepare(request, include, work, tools)
        for script in SCRIPTS:
            (into / script).write_bytes(source_of_script(script))
        (into / "request.json").write_bytes(document)
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"ZIG_GLOBAL_CACHE_DIR": str(self._cache.resolve()), "ZIG_LOCAL_CACHE_DIR": str(into / "zig")}
        command = [str(interpreter.path), "-I", str(into / NAME), str(into / "request.json")]
        outcome = self._run(request, command, into, environment)
        try:
            name = wheel_name(outcome, _answer(work), request.settings, str(interpreter.path))
        except BuildFailure as failure:
            failure.remedy = failure.remedy or _USE_CONTAINER
            raise
        yield BuiltWheel(path=work / "out" / name)

    def _run(self, request: BuildRequest, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Outcome:
        """Run a command to its end, and leave nothing of it running."""
        lines: list[str] = []

        def read() -> None:
            with process:
                for line in process.stdout or ():
                    lines.append(line)
                    self._listen(request.name, line)

        process = self._start(command, folder, environment)
        reader = Thread(target=read, daemon=True)
        late = False
        try:
            reader.start()
            process.wait(request.settings.limits.seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _kill(process)
            status = process.wait()
            with self._lock:
                self._running.discard(process)
        reader.join(_PATIENCE)
        if self._closed:
            raise BuildFailure("it was interrupted", log="".join(lines))
        return Outcome(status=status, log="".join(lines), late=late)

    def _start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise BuildFailure("it was interrupted")
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # so that all that it starts can be ended with it
            )
            self._running.add(process)
        return process


def _prepare(request: BuildRequest, include: Path, work: Path, tools: Path) -> bytes:
    """Write the target's compiler, and give what the script is asked; raises `BuilderUnavailable` or `BuildFailure`."""
    zig = find_zig()
    places = {str(work): "/lpack/work", str(include): "/lpack/include", str(zig.program.parent): "/lpack/zig"}
    headers = _debian_headers(include, request.target.machine, tools / "include")
    made = toolchain(request.target, str(zig.program), places, headers)
    wheel = made.write(tools)
    place = Place(
        source=str(request.path.absolute()),
        work=str(work),
        wheels=[str(each.absolute()) for each in request.wheels] + [str(wheel)],
        # The modules are in the environment; but every other Python that a build may run is asked to import them as well.
        variables={**made.variables, "PYTHONPATH": str(wheel)},
        folders=[str(tools)],
    )
    return request_document(request, place)


def _answer(work: Path) -> Answer | None:
    try:
        answer = read_answer((work / "answer.json").read_bytes())
    except OSError:
        return None
    # The control group's count is this machine's: others may have been refused, long before.
    return replace(answer, processes_refused=0) if answer else None


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _this_machine(target: Target) -> Target:
    """Give what build requirements must run on: the target's Python on this machine. Raises `BuilderUnavailable`."""
    library, version = platform.libc_ver()
    architecture = _ARCHITECTURES.get(platform.machine())
    if platform.system() != "Linux" or library != "glibc" or architecture is None:
        what = "compiling without a container needs Linux with glibc on x86_64 or arm64"
        raise BuilderUnavailable(what, remedy="Start a container engine: `lpack doctor` tells what it sees of one.")
    return Target(runtime=target.runtime, architecture=architecture, ceiling=int(version.split(".")[1]))


def _interpreter(minor: int) -> tuple[Interpreter, Path]:
    """Give the CPython that runs the back end, and the folder of its headers; raises `BuilderUnavailable`."""
    found = find_interpreter(minor)
    if found is None:
        remedy = f"Install one, with its C headers: `uv python install 3.{minor}`, or `pyenv install 3.{minor}`."
        raise BuilderUnavailable(f"this machine has no CPython 3.{minor} to compile against", remedy=remedy)
    if found.include is None:
        remedy = (
            f"Install them (on Debian and Ubuntu: `apt install python3.{minor}-dev`), or run `uv python install 3.{minor}`."
        )
        raise BuilderUnavailable(f"the CPython 3.{minor} of this machine ({found.path}) has no C headers", remedy=remedy)
    return found, found.include


def _configuration(include: Path, machine: str) -> Path:
    """Give the pyconfig.h that counts: Debian's own only leads to one for each machine, in a folder beside."""
    others = sorted(include.parent.glob(f"*-linux-gnu/{include.name}/pyconfig.h"))
    own = include.parent / f"{machine}-linux-gnu" / include.name / "pyconfig.h"
    return own if own in others else next(iter(others), include / "pyconfig.h")


def _debian_headers(include: Path, machine: str, folder: Path) -> str:
    """Put a pyconfig.h where Debian's Python.h looks for the target's, and give the folder; empty where there is no need.

    What differs between those of x86_64 and aarch64 matters to CPython's own sources alone (3.9 to 3.13).
    """
    configuration = _configuration(include, machine)
    if configuration.parent == include:
        return ""
    to = folder / f"{machine}-linux-gnu" / include.name
    to.mkdir(parents=True)
    (to / "pyconfig.h").write_bytes(configuration.read_bytes())
    return str(folder)
