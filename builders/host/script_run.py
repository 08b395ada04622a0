"""Runs the build script on this machine, as the calling user: nothing confines it but a time limit, and nothing of it stays."""

from __future__ import annotations

import io
import os
import platform
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event, Thread

from msgspec.structs import replace

from builders.errors import BuildError, UnavailableError, interruption_error
from builders.inside import read_script
from builders.recipes import LONGEST_LOG, WheelRequest, output_limit_error
from builders.runtimes import IMAGE_LIMIT, MACHINES, Runtime, Target
from builders.script import LONGEST_ANSWER, NAME, SCRIPTS, ScriptAnswer, ScriptOutcome, built_wheel_name, read_answer
from builders.sessions import Sessions, kill_session

# All of the user's variables that a build gets: any other may be one that compilers or build tools listen to.
_KEPT = ("PATH", "LD_LIBRARY_PATH")
_LINE = 1 << 16
_GRACE_SECONDS = 5
"""Seconds to wait for the last output of a build that has ended: what it left running may hold it open."""


class LocalRunner:
    """Runs builds, each in a session of its own; ``listen`` gets (package, output). May be used from many threads."""

    def __init__(self, listen: Callable[[str, str], None]) -> None:
        self._listen = listen
        self._sessions = Sessions()

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._sessions.close()

    def run(
        self, request: WheelRequest, interpreter: Path, document: bytes, into: Path, variables: Mapping[str, str]
    ) -> tuple[Path, str]:
        """Let an interpreter do what ``document`` asks in the folder ``into/work``; return the wheel and the log.

        Raises `BuildError` or `builders.errors.MissingRequirementsError`.
        """
        for script in SCRIPTS:
            (into / script).write_bytes(read_script(script))
        (into / "request.json").write_bytes(document)
        environment = {**{name: os.environ[name] for name in _KEPT if name in os.environ}, **variables}
        command = [str(interpreter), "-I", str(into / NAME), str(into / "request.json")]
        outcome = self._run_to_end(request, command, into, environment)
        name = built_wheel_name(outcome, _read_work_answer(into / "work"), request.settings, str(interpreter))
        path = into / "work" / "out" / name
        if not _is_file(path, IMAGE_LIMIT):
            raise BuildError(f"the build did not leave {name} behind", detail=outcome.log)
        return path, outcome.log

    def _run_to_end(
        self, request: WheelRequest, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> ScriptOutcome:
        """Run a command to its end, and leave nothing of it running."""
        lines: list[str] = []
        over = Event()
        talkative = False

        def read() -> None:
            nonlocal talkative
            room = LONGEST_LOG
            stdout = process.stdout or io.StringIO()
            with process:
                # Some lines never end.
                for line in iter(partial(stdout.readline, _LINE), ""):
                    if over.is_set():
                        break
                    room -= len(line)
                    if room < 0:
                        talkative = True
                        kill_session(process)
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
            status = self._sessions.end(process)
        reader.join(_GRACE_SECONDS)
        over.set()
        log = "".join(lines)
        if self._sessions.closed:
            raise interruption_error(log)
        if talkative:
            raise output_limit_error(log)
        return ScriptOutcome(status=status, log=log, late=late)

    def _start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        try:
            return self._sessions.start(
                command, folder, environment, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
            )
        except OSError as error:
            remedy = "Reinstall that Python, or let a container build it."
            raise UnavailableError(f"{command[0]} cannot be started ({error.strerror})", remedy=remedy) from error


def _is_file(path: Path, most: int) -> bool:
    """Return whether a build left a regular file of at most ``most`` bytes: reading anything else might never end."""
    try:
        facts = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_size <= most


def _read_work_answer(work: Path) -> ScriptAnswer | None:
    path = work / "answer.json"
    answer = read_answer(path.read_bytes()) if _is_file(path, LONGEST_ANSWER) else None
    # The control group's count is this machine's: others may have been refused, long before.
    return replace(answer, processes_refused=0) if answer else None


def host_target(runtime: Runtime) -> Target:
    """Return the target that wheels for a runtime's Python on this machine must fit; raises `UnavailableError`."""
    library, version = platform.libc_ver()
    architecture = MACHINES.get(platform.machine())
    if platform.system() != "Linux" or library != "glibc" or architecture is None:
        what = "compiling without a container needs Linux with glibc on x86_64 or arm64"
        raise UnavailableError(what, remedy="Start a container engine: `lpack doctor` tells what it sees of one.")
    return Target(runtime=runtime, architecture=architecture, ceiling=int(version.split(".")[1]))
