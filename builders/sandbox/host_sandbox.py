"""This machine's Python of a target's minor as a sandbox, with a function at Lambda's paths where the machine allows that."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from pathlib import Path
from threading import Lock

from builders.errors import BuildError, UnavailableError, interruption_error
from builders.inside import read_script
from builders.interpreters import Interpreter, find_interpreter
from builders.runtimes import LAYERS_MOUNT, MACHINES, TASK_FOLDER, Target
from builders.sandbox.isolation import CommandEnd, IsolatedCommand, Isolation
from builders.sandbox.table import SandboxKind
from builders.sandbox.task import FLAGS, LAYERS_PLACEHOLDER, LayerStack, Sandbox, Task, TaskResult, with_folders
from builders.sessions import Sessions, wait_for_end

_LONGEST_LOG = 1 << 20
_LOG, _ANSWER = "log", "answer"
_OFTEN = 20
"""Runs of a script from which on it is bytecode."""
_LONGEST_COMPILATION = 60
"""Seconds."""
_LONGEST_MOUNT = 3500
"""Letters of a mount's options: the kernel reads one page of them (mount(2))."""


def open_host_sandbox(target: Target) -> Sandbox:
    """Return a sandbox of this machine's Python of a target's minor; raises `UnavailableError`."""
    minor = target.runtime.minor
    found = find_interpreter(minor)
    if found is None:
        what = f"no CPython 3.{minor} is on this machine"
        raise UnavailableError(what, remedy=f"`uv python install 3.{minor}` brings one.")
    return HostSandbox(found)


def runs_here(target: Target) -> bool:
    """Return whether this machine loads the target's native code."""
    return platform.system() == "Linux" and MACHINES.get(platform.machine()) == target.architecture


HOST = SandboxKind(name="host", open=lambda target, _asked: open_host_sandbox(target), runs=runs_here)
"""The row of this machine in the table of sandboxes."""


class HostSandbox:
    """A Python of this machine; may be used from many threads."""

    def __init__(self, found: Interpreter) -> None:
        self._found = found
        self._python = os.path.realpath(found.path)  # not a virtual environment's link to it, which may lie in a hidden /tmp
        self._sessions = Sessions()
        self._isolation = Isolation((TASK_FOLDER, LAYERS_MOUNT))
        self._confined = True
        self._runs: Counter[str] = Counter()
        self._bytecode: dict[str, bytes] = {}
        self._lock = Lock()
        self._stacks = True  # some kernels let no unprivileged user stack folders
        self.identity = found.version
        self.path: Path | None = found.path
        self.place = f"Python {found.version} of this machine"

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._sessions.close()
        self._isolation.close()

    def run(self, task: Task, work: Path) -> TaskResult:
        """Run a script, confined where the machine allows it; raises `BuildError`."""
        if task.tree is not None and self._confined and not self._is_hidden(task, work):
            if self._stacks and _stackable_folders(task):
                done = self._confined_run(task, task.tree, work / "stacked")
                if done is not None:
                    return done
                self._stacks = False
            done = self._confined_run(task, task.tree, work / "confined")
            if done is not None:
                return done
            self._confined = False
        return self._plain_run(task, work / "plain")

    def _is_hidden(self, task: Task, work: Path) -> bool:
        """Return whether confinement would hide what the task needs: what lies where its layers, or itself, are to lie."""
        places = (TASK_FOLDER, *((LAYERS_MOUNT,) if task.layers else ()))
        return any(self._needs(place, task, work) for place in places)

    def _needs(self, folder: str, task: Task, work: Path) -> bool:
        """Return whether a task needs something of this machine's below a folder, beside its tree and its layers."""
        paths = (self._python, self._found.prefix, work, task.inputs, task.late, *task.programs)
        inside = os.path.realpath(folder) + "/"
        return any(os.path.realpath(path).startswith(inside) for path in paths if path)

    def _confined_run(self, task: Task, tree: Path, work: Path) -> TaskResult | None:
        """Run a script where Lambda's paths are, in a new folder; None where the machine does not allow it."""
        work.mkdir()
        command, variables = self._command(task, work, TASK_FOLDER, LAYERS_MOUNT)
        layers = (_stackable_folders(task) if self._stacks else ()) or tuple(filter(None, [task.merged_layers()]))
        order = IsolatedCommand(
            command=command,
            variables=variables,
            start=TASK_FOLDER,
            log=work / _LOG,
            shown=[((tree,), TASK_FOLDER), *([(layers, LAYERS_MOUNT)] if layers else [])],
            empty_tmp=not self._needs("/tmp", task, work),  # noqa: S108 Lambda's own
        )
        over = self._isolation.run(order, task.seconds, work)
        return _read_task_result(over, work) if over else None

    def _plain_run(self, task: Task, work: Path) -> TaskResult:
        """Run a script in a new folder, where all lies as it is."""
        work.mkdir()
        command, variables = self._command(task, work, str(task.tree or ""), str(task.merged_layers() or ""))
        with (work / _LOG).open("ab") as log:
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
        return _read_task_result(CommandEnd(status=status, late=late), work)

    def _command(self, task: Task, work: Path, tree: str, layers: str) -> tuple[list[str], dict[str, str]]:
        """Return a task's command and variables, for where its tree and its layers lie; its script and log are made."""
        (work / _LOG).touch()
        script = str(self._script(task.script, work))
        words = {"in": str(task.inputs), "late": str(task.late or ""), "answer": str(work / _ANSWER)}
        words |= {"task": tree, "layers": layers if task.layers else ""}
        command = [self._python, *FLAGS, *task.flags, script, *(each.format(**words) for each in task.arguments)]
        variables = {**task.environment, "PATH": f"{os.environ.get('PATH', os.defpath)}:{LAYERS_PLACEHOLDER}/bin"}
        return command, with_folders(variables, tree, layers if task.layers else LAYERS_MOUNT)

    def _script(self, name: str, work: Path) -> Path:
        """Write a script, as bytecode from the time on when that is worth a start of this Python that makes it."""
        with self._lock:
            self._runs[name] += 1
            due = self._runs[name] == _OFTEN
        if due:
            self._bytecode[name] = self._compile(name, work)
        compiled = self._bytecode.get(name)
        path = work / (f"{name}c" if compiled else name)
        path.write_bytes(compiled or read_script(name))
        return path

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


def _read_task_result(over: CommandEnd, work: Path) -> TaskResult:
    """Return how a script that ran in a folder has ended."""
    with (work / _LOG).open("rb") as log:
        text = log.read(_LONGEST_LOG).decode("utf-8", "replace")
    answer = work / _ANSWER
    return TaskResult(status=over.status, log=text, answer=answer.read_bytes() if answer.is_file() else None, late=over.late)


def _stackable_folders(task: Task) -> tuple[Path, ...]:
    """Return the folders of layers that one mount can show, the uppermost first; none where it cannot."""
    parts = task.layers.parts if isinstance(task.layers, LayerStack) else ()
    text = "".join(f":{part}" for part in parts)
    possible = len(parts) > 1 and text.count(":") == len(parts) and not set(text) & {",", "\\", '"'}
    return tuple(reversed(parts)) if possible and len(text) <= _LONGEST_MOUNT else ()
