"""The builder without an engine: compiles C and C++ for the target with zig, against the headers of this machine's CPython.

It runs the build on this machine, as the calling user and with nothing to confine it but a time limit.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Lock, Timer

from builders.interpreters import Interpreter, find_interpreter
from builders.recipes import BuilderUnavailable, BuildFailure, BuildRequest, BuildSettings, BuiltWheel, Recipe
from builders.runtimes import ARCHITECTURES, DEFAULT_RUNTIME, Target
from builders.script import (
    NAME,
    SCRIPTS,
    Outcome,
    Place,
    read_answer,
    request_document,
    script_digest,
    source_of_script,
    wheel_name,
)

_SYSCONFIG = "_sysconfigdata_lpack"
# What would lead the compiler to this machine's own headers and libraries, or to the user's taste in options.
_DROPPED = frozenset(
    (
        *("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "ARCHFLAGS", "CC", "CXX", "LDSHARED", "AR"),
        *("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "LD_LIBRARY_PATH"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"),
    )
)
_COMPILE = "-O2 -g0 -fPIC -fwrapv -fno-strict-aliasing -fno-sanitize=undefined -DNDEBUG"
"""What CPython's own extension modules are compiled with; zig would add traps for undefined behaviour."""


class CrossBuilder:
    """Builds with `zig cc`. ``cache`` is where zig keeps what it has compiled of its libraries."""

    def __init__(self, listen: Callable[[str, str], None], cache: Path) -> None:
        self._listen = listen
        self._cache = cache
        self._running: set[int] = set()
        self._lock = Lock()
        self._closed = False

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _kill_group(process)

    def recipe(self, target: Target, _settings: BuildSettings) -> Recipe:
        """Say with what it would build; raises `BuilderUnavailable`."""
        interpreter = _interpreter(target)
        parts = (_zig_version(), interpreter.version, str(target.glibc), target.machine, script_digest(), _COMPILE)
        return Recipe(
            key=hashlib.sha256("\0".join(["cross 1", *parts]).encode()).hexdigest(), requirements_for=_this_machine(target)
        )

    @contextmanager
    def build(self, request: BuildRequest, into: Path) -> Iterator[BuiltWheel]:
        """Build, and give the wheel; raises `BuildFailure`, `BuilderUnavailable` or `MoreRequirements`."""
        interpreter = _interpreter(request.target)
        work, tools = into / "work", into / "tools"
        for folder in (work, tools):
            folder.mkdir()
        variables = _write_tools(tools, work, request.target)
        place = Place(
            source=str(request.path),
            work=str(work),
            wheels=[str(wheel) for wheel in request.wheels],
            variables=variables,
            folders=[str(tools)],
        )
        for name in SCRIPTS:
            (into / name).write_bytes(source_of_script(name))
        (into / "request.json").write_bytes(request_document(request, place))
        command = [str(interpreter.path), "-I", str(into / NAME), str(into / "request.json")]
        outcome = self._run(request, command, into)
        said = work / "answer.json"
        answer = read_answer(said.read_bytes()) if said.is_file() else None
        wheel = wheel_name(outcome, answer, request.settings, str(interpreter.path))
        yield BuiltWheel(path=work / "out" / wheel)

    def _run(self, request: BuildRequest, command: list[str], into: Path) -> Outcome:
        environment = {name: value for name, value in os.environ.items() if name not in _DROPPED}
        environment["ZIG_GLOBAL_CACHE_DIR"] = str(self._cache)
        environment["ZIG_LOCAL_CACHE_DIR"] = str(into / "zig")
        with self._lock:
            if self._closed:
                raise BuildFailure("it was interrupted")
            process = subprocess.Popen(
                command,
                cwd=into,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all that it starts can be stopped with it
            )
            self._running.add(process.pid)
        late = Event()

        def stop() -> None:
            late.set()
            _kill_group(process.pid)

        timer = Timer(request.settings.limits.seconds, stop)
        timer.daemon = True
        timer.start()
        lines: list[str] = []
        try:
            with process:
                for line in process.stdout or ():
                    lines.append(line.decode("utf-8", "replace"))
                    self._listen(request.name, lines[-1])
        finally:
            timer.cancel()
            with self._lock:
                self._running.discard(process.pid)
        if self._closed:
            raise BuildFailure("it was interrupted")
        return Outcome(status=process.returncode, log="".join(lines), late=late.is_set())


def _kill_group(process: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _zig_version() -> str:
    try:
        return version("ziglang")
    except PackageNotFoundError:
        raise BuilderUnavailable(
            "the compiler zig is not installed", remedy="Install it: pip install 'lambda-lpack[cross]'."
        ) from None


def _zig() -> Path:
    found = find_spec("ziglang")
    assert found is not None  # noqa: S101 its version was asked for before
    assert found.origin is not None  # noqa: S101 it is a package on disk
    return Path(found.origin).parent / "zig"


def _interpreter(target: Target) -> Interpreter:
    """Give the CPython whose headers the target needs; raises `BuilderUnavailable`."""
    _this_machine(target)
    minor = target.runtime.minor
    found = find_interpreter(minor)
    if found is None or found.include is None:
        missing = f"no CPython 3.{minor}" if found is None else f"{found.path} has no C headers"
        remedy = f"Install CPython 3.{minor} with its headers: `pyenv install 3.{minor}` or `uv python install 3.{minor}` do."
        raise BuilderUnavailable(f"this machine has {missing} to compile for" if found is None else missing, remedy=remedy)
    return found


def _this_machine(target: Target) -> Target:
    """Give what build requirements must run on, which is this machine with the target's Python."""
    machines = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
    name, _, glibc = (*platform.libc_ver()[:1], "", platform.libc_ver()[1])
    architecture = machines.get(platform.machine(), "")
    if sys.platform != "linux" or name != "glibc" or architecture not in ARCHITECTURES:
        raise BuilderUnavailable(
            "cross building needs Linux with glibc on x86_64 or arm64", remedy="Use a container engine (DOCKER_HOST) instead."
        )
    ceiling = int(glibc.split(".")[1])
    return Target(runtime=target.runtime, architecture=Target.of(DEFAULT_RUNTIME, architecture).architecture, ceiling=ceiling)


def _write_tools(folder: Path, work: Path, target: Target) -> dict[str, str]:
    """Write compilers for the target, and what tells Python's build tools of them; gives the back end's variables."""
    triple = f"{target.machine}-linux-gnu.2.{target.glibc}"
    # Paths in what is compiled (assertions, __FILE__) must not tell where it was compiled.
    same = f"-ffile-prefix-map={work}=/lpack/work"
    for name, command in {"cc": "cc", "c++": "c++", "ar": "ar", "ranlib": "ranlib"}.items():
        options = f' -target {triple} -fno-sanitize=undefined -g0 "{same}"' if command in ("cc", "c++") else ""
        path = folder / f"lpack-{name}"
        path.write_text(f'#!/bin/sh\nexec "{_zig()}" {command}{options} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
    minor, machine = target.runtime.minor, target.machine
    compiler = {
        "CC": "lpack-cc",
        "CXX": "lpack-c++",
        "AR": "lpack-ar",
        "RANLIB": "lpack-ranlib",
        "CFLAGS": _COMPILE,
        "CXXFLAGS": _COMPILE,
        "LDSHARED": "lpack-cc -shared",
        "LDCXXSHARED": "lpack-c++ -shared",
    }
    sysconfig = {
        **compiler,
        "OPT": "",
        "BASECFLAGS": "",
        "PY_CFLAGS": _COMPILE,
        "PY_LDFLAGS": "",
        "LDFLAGS": "",
        "CCSHARED": "-fPIC",
        "LINKCC": "lpack-cc",
        "BLDSHARED": "lpack-cc -shared",
        "ARFLAGS": "rcs",
        "Py_ENABLE_SHARED": 0,
        "HOST_GNU_TYPE": f"{machine}-unknown-linux-gnu",
        "MULTIARCH": f"{machine}-linux-gnu",
        "SOABI": f"cpython-3{minor}-{machine}-linux-gnu",
        "EXT_SUFFIX": f".cpython-3{minor}-{machine}-linux-gnu.so",
    }
    (folder / f"{_SYSCONFIG}.py").write_text(_OVERRIDE.format(changes=sysconfig), encoding="utf-8")
    return {
        **compiler,
        "PYTHONPATH": str(folder),
        "_PYTHON_SYSCONFIGDATA_NAME": _SYSCONFIG,
        "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
    }


_OVERRIDE = '''\
"""The build-time variables of this interpreter as they would be on the target."""
import importlib, sys
_own = "_sysconfigdata_" + sys.abiflags + "_" + sys.platform + "_" + getattr(sys.implementation, "_multiarch", "")
build_time_vars = dict(importlib.import_module(_own).build_time_vars)
build_time_vars.update({changes!r})
'''
