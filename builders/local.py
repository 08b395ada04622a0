"""Runs the build script on this machine, as the calling user: nothing confines it but a time limit, and nothing of it stays."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock, Thread

from builders.recipes import LONGEST_LOG, BuilderUnavailable, BuildFailure, BuildRequest, printed_too_much
from builders.runtimes import MACHINES, Runtime, Target
from builders.script import NAME, SCRIPTS, Answer, Outcome, read_answer, source_of_script, wheel_name

# All of the user's variables that a build gets: any other may be one that compilers or build tools listen to.
_KEPT = ("PATH", "LD_LIBRARY_PATH")
_PATIENCE = 5
"""Seconds to wait for the last output of a build that has ended: what it left running may hold it open."""


class LocalRunner:
    """Runs builds, each in a session of its own; ``listen`` gets (package, output). May be used from many threads."""

    def __init__(self, listen: Callable[[str, str], None]) -> None:
        self._listen = listen
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = Lock()
        self._closed = False

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _kill(process)

    def run(
        self, request: BuildRequest, interpreter: Path, document: bytes, into: Path, variables: Mapping[str, str]
    ) -> tuple[Path, str]:
        """Let an interpreter do what ``document`` asks in the folder ``into/work``; give the wheel and the log.

        Raises `BuildFailure` or `builders.recipes.MoreRequirements`.
        """
        for script in SCRIPTS:
            (into / script).write_bytes(source_of_script(script))
        (into / "request.json").write_bytes(document)
        environment = {**{name: os.environ[name] for name in _KEPT if name in os.environ}, **variables}
        command = [str(interpreter), "-I", str(into / NAME), str(into / "request.json")]
        outcome = self._ended(request, command, into, environment)
        name = wheel_name(outcome, _answer(into / "work"), request.settings, str(interpreter))
        return into / "work" / "out" / name, outcome.log

    def _ended(self, request: BuildRequest, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Outcome:
        """Run a command to its end, and leave nothing of it running."""
        lines: list[str] = []
        talkative = False

        def read() -> None:
            nonlocal talkative
            room = LONGEST_LOG
            with process:
                for line in process.stdout or ():
                    room -= len(line)
                    if room < 0:
                        talkative = True
                        _kill(process)
                        break
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
        log = "".join(lines)
        if self._closed:
            raise BuildFailure("it was interrupted", log=log)
        if talkative:
            raise printed_too_much(log)
        return Outcome(status=status, log=log, late=late)

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


def this_machine(runtime: Runtime) -> Target:
    """Give the target that wheels for a runtime's Python on this machine must fit; raises `BuilderUnavailable`."""
    library, version = platform.libc_ver()
    architecture = MACHINES.get(platform.machine())
    if platform.system() != "Linux" or library != "glibc" or architecture is None:
        what = "compiling without a container needs Linux with glibc on x86_64 or arm64"
        raise BuilderUnavailable(what, remedy="Start a container engine: `lpack doctor` tells what it sees of one.")
    return Target(runtime=runtime, architecture=architecture, ceiling=int(version.split(".")[1]))
