"""This machine's Python of a target's minor as a sandbox: in a root folder of its own, where the machine allows that."""

from __future__ import annotations

import os
import platform
import stat
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from builders.errors import BuildError, UnavailableError, interruption_error
from builders.inside import read_script
from builders.interpreters import Interpreter, find_interpreter
from builders.once import Once
from builders.runtimes import LAYERS_MOUNT, MACHINES, Target
from builders.sandbox.confined import ConfinedRunner
from builders.sandbox.root_plan import Fact, HostRoot, Remember, host_root
from builders.sandbox.script_cache import ScriptCache
from builders.sandbox.surroundings import find_refusal, withdrawn_error
from builders.sandbox.task import FLAGS, LAYERS_PLACEHOLDER, LONGEST_OUTPUT, Task, TaskResult, with_folders
from builders.sessions import Sessions, wait_for_end

_LOG, _ANSWER = "log", "answer"
_LONGEST_COMPILATION = 60
"""Seconds."""


def find_anew(_key: str, _form: type[Fact], find: Callable[[], Fact]) -> Fact:
    """Find a fact of this machine, without remembering it (`Remember`)."""
    return find()


def open_host_sandbox(target: Target, remember: Remember = find_anew) -> HostSandbox:
    """Return a sandbox of this machine's Python of a target's minor; raises `UnavailableError`."""
    minor = target.runtime.minor
    found = find_interpreter(minor)
    if found is None:
        what = f"no CPython 3.{minor} is on this machine"
        raise UnavailableError(what, remedy=f"`uv python install 3.{minor}` brings one.")
    return HostSandbox(found, remember)


class HostSandbox:
    """A Python of this machine; may be used from many threads. ``programs`` of this machine may be run by tasks.

    What it needs is found out when something is to run: often all that would is known already.
    """

    def __init__(self, found: Interpreter, remember: Remember = find_anew, programs: tuple[str, ...] = ()) -> None:
        self._found = found
        self._remember = remember
        self._programs = programs
        self._python = os.path.realpath(found.path)
        self._sessions = Sessions()
        self._scripts = ScriptCache(self._compile)
        self._opened: Once[None, tuple[HostRoot, ConfinedRunner]] = Once()
        self._refusals: Once[None, str] = Once()
        self.identity = found.version
        self.path: Path | None = found.path
        self.place = f"Python {found.version} of this machine"
        self.starts_programs = True
        self.has_packages = False

    @property
    def unconfined(self) -> str:
        """Why this machine does not confine what runs; empty where it does."""
        return _root_refusal() or self._refusals.get(None, self._find_refusal)

    def _find_refusal(self) -> str:
        return find_refusal(self._kind, self._remember, self._runner.refusal)

    @property
    def _kind(self) -> str:
        return f"{self._python} {self.identity}"

    @property
    def libraries(self) -> frozenset[str] | None:
        """The files that hold libraries of the runtime (`builders.sandbox.task.Sandbox`)."""
        return None if _root_refusal() else self._places(self._root.libraries)

    @property
    def private(self) -> Mapping[str, tuple[str, ...]]:
        """The files that hold libraries for the standard library alone (`builders.sandbox.task.Sandbox`)."""
        if _root_refusal():
            return {}
        return {file: modules for place, modules in self._root.private.items() for file in self._places([place])}

    def _places(self, places: Iterable[str]) -> frozenset[str]:
        """Return the paths at which a function sees libraries."""
        return frozenset(self._root.files[place] for place in places) if self.unconfined else frozenset(places)

    @property
    def _root(self) -> HostRoot:
        return self._opened.get(None, self._open)[0]

    @property
    def _runner(self) -> ConfinedRunner:
        return self._opened.get(None, self._open)[1]

    def _open(self) -> tuple[HostRoot, ConfinedRunner]:
        root = host_root(self._found, self._programs, self._remember)
        return root, ConfinedRunner(root.plan, root.python, self._scripts)

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._sessions.close()
        for _, runner in self._opened.values():
            runner.close()

    def run(self, task: Task, work: Path) -> TaskResult:
        """Run a script, confined where the machine allows it (``unconfined`` says why it does not); raises `BuildError`."""
        if not self.unconfined:
            done = self._runner.run(task, work)
            if done is None:
                raise withdrawn_error(self._kind, self._remember, self._runner.refusal)
            return done
        return self._plain_run(task, work / "plain")

    def _plain_run(self, task: Task, work: Path) -> TaskResult:
        """Run a script in a new folder, where all lies as it is."""
        work.mkdir()
        command, variables = self._command(task, work, str(task.tree or ""), str(task.merged_layers() or ""))
        with (work / _LOG).open("w+b") as log:  # and read by the same descriptor: what lies there afterwards may be anything
            try:
                process = self._sessions.start(command, task.tree or work, variables, stdout=log.fileno())
            except OSError as error:
                raise BuildError(f"{command[0]} cannot be started ({error.strerror})") from error
            try:
                late = not wait_for_end(process, task.seconds)
            finally:
                status = self._sessions.end(process)
            if self._sessions.closed:
                raise interruption_error()
            text = os.pread(log.fileno(), LONGEST_OUTPUT, 0).decode("utf-8", "replace")
        answer, excess = _read_answer(work / _ANSWER, task.longest)
        return TaskResult(status=status, log=text, answer=answer, late=late, excess=excess)

    def _command(self, task: Task, work: Path, tree: str, layers: str) -> tuple[list[str], dict[str, str]]:
        """Return a task's command and variables, for where its tree and its layers lie; its script is written."""
        script = str(self._scripts.write(task.script, work))
        words = {"in": str(task.inputs), "late": str(task.late or ""), "answer": str(work / _ANSWER)}
        words |= {"program": str(task.program or "")}
        words |= {"task": tree, "layers": layers if task.layers else ""}
        command = [self._python, *FLAGS, *task.flags, script, *(each.format(**words) for each in task.arguments)]
        variables = {**task.environment, "PATH": f"{os.environ.get('PATH', os.defpath)}:{LAYERS_PLACEHOLDER}/bin"}
        return command, with_folders(variables, tree, layers if task.layers else LAYERS_MOUNT)

    def _compile(self, name: str, work: Path) -> bytes:
        """Return a script's bytecode, empty where it cannot be made."""
        source, made = work / f"of-{name}", work / f"of-{name}c"
        source.write_bytes(read_script(name))
        code = f"import py_compile; py_compile.compile({str(source)!r}, {str(made)!r}, {name!r}, True)"
        command = [self._python, "-I", "-S", "-c", code]
        try:
            process = self._sessions.start(command, work, os.environ, stdout=subprocess.DEVNULL)
        except OSError:
            return b""
        try:
            wait_for_end(process, _LONGEST_COMPILATION)
        finally:
            status = self._sessions.end(process)
        return made.read_bytes() if status == 0 and made.is_file() else b""


def _root_refusal() -> str:
    """Return why a root for a Python cannot be put together on this machine, whatever it allows; empty where one can."""
    if platform.system() != "Linux":
        return f"{platform.system()} has no namespaces"
    return "" if platform.machine() in MACHINES else f"Lambda has no runtime for {platform.machine()}"


def _read_answer(path: Path, longest: int) -> tuple[bytes | None, int]:
    """Return the answer, or the bytes of one that is too long: what is no regular file is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None, 0
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return None, 0
        if facts.st_size > longest:
            return None, facts.st_size
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(longest), 0
    finally:
        os.close(descriptor)
