"""The target's own Python, which runs scripts of `builders.inside`: this machine's of its minor, or the run-time image's."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

from msgspec import Struct, field

from builders.errors import BuildError, UnavailableError, interruption
from builders.interpreters import Interpreter, find_interpreter
from builders.once import Once
from builders.runtimes import LAYERS_FOLDER, MACHINES, TASK_FOLDER, Target
from builders.sandbox.isolation import Ended, Isolation, Order
from builders.script import source_of_script
from builders.sessions import Sessions, ended

FLAGS = ("-S", "-s", "-B", "-W", "ignore")
_LONGEST_LOG = 1 << 20
_LOG, _ANSWER = "log", "answer"
_OFTEN = 20
"""Runs of a script from which on it is bytecode."""
_LONGEST_MOUNT = 3500
"""Letters of a mount's options: the kernel reads one page of them (mount(2))."""
TREE, LAYERS = "\0tree", "\0layers"
"""Stand in the variables of a task for where its tree and its layers lie; no variable of a user's can hold them."""


class LayerStack(Struct, frozen=True, kw_only=True):
    """Folders of layers, each on top of those before it; ``merged`` makes one folder of them, for who cannot stack them."""

    parts: tuple[Path, ...]
    merged: Callable[[], Path]


class Task(Struct, frozen=True, kw_only=True):
    """A script to run: ``python SCRIPT ARGUMENTS…``; in these, ``{in}``, ``{task}``, ``{layers}``, ``{late}`` and ``{answer}``
    stand for paths, empty ones for what is not there.

    ``inputs`` is a folder that it may read, ``programs`` are files of this machine that it starts. ``tree``, if there is one,
    lies at /var/task, and ``layers``, merged in one folder, at /opt; both lie elsewhere where the machine does not allow that.
    ``late`` are packages that the runtime has. ``flags`` are for the interpreter.
    """

    script: str
    arguments: Sequence[str]
    inputs: Path
    tree: Path | None = None
    layers: Path | LayerStack | None = None
    late: Path | None = None
    programs: Sequence[Path] = ()
    flags: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 600.0

    def merged_layers(self) -> Path | None:
        """Give its layers as one folder."""
        return self.layers.merged() if isinstance(self.layers, LayerStack) else self.layers


class Done(Struct, frozen=True, kw_only=True):
    """How a script has ended: its exit status (negative: a signal), what it printed, and its answer if it wrote one."""

    status: int
    log: str
    answer: bytes | None
    late: bool = False


class TargetPython(Protocol):
    """Runs scripts in a Python that the target has.

    ``identity`` is its version, which decides the bytes that it makes; ``place`` says for messages where it is, and ``path``
    where among this machine's files, if it is there.
    """

    @property
    def identity(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def path(self) -> Path | None: ...
    def run(self, task: Task, work: Path) -> Done:
        """Run a script in the empty folder ``work``; raises `BuildError` where it cannot be run at all."""
        ...

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        ...


def find_host_python(target: Target) -> TargetPython:
    """Find this machine's Python of a target's minor; raises `UnavailableError`."""
    minor = target.runtime.minor
    found = find_interpreter(minor)
    if found is None:
        what = f"no CPython 3.{minor} is on this machine"
        raise UnavailableError(what, remedy=f"`uv python install 3.{minor}` brings one.")
    return HostPython(found)


def can_run_here(target: Target) -> bool:
    """Say whether this machine loads the target's native code."""
    return platform.system() == "Linux" and MACHINES.get(platform.machine()) == target.architecture


class HostPython:
    """A Python of this machine; may be used from many threads."""

    def __init__(self, found: Interpreter) -> None:
        self._found = found
        self._python = os.path.realpath(found.path)  # not a virtual environment's link to it, which may lie in a hidden /tmp
        self._sessions = Sessions()
        self._isolation = Isolation((TASK_FOLDER, LAYERS_FOLDER))
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

    def run(self, task: Task, work: Path) -> Done:
        """Run a script, confined where the machine allows it; raises `BuildError`."""
        if task.tree is not None and self._confined and not self._is_hidden(task, work):
            if self._stacks and _stacked(task):
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
        """Say whether confinement would hide what the task needs: what lies where its layers, or itself, are to lie."""
        places = (TASK_FOLDER, *((LAYERS_FOLDER,) if task.layers else ()))
        return any(self._needs(place, task, work) for place in places)

    def _needs(self, folder: str, task: Task, work: Path) -> bool:
        """Say whether a task needs something of this machine's below a folder, beside its tree and its layers."""
        paths = (self._python, self._found.prefix, work, task.inputs, task.late, *task.programs)
        inside = os.path.realpath(folder) + "/"
        return any(os.path.realpath(path).startswith(inside) for path in paths if path)

    def _confined_run(self, task: Task, tree: Path, work: Path) -> Done | None:
        """Run a script where Lambda's paths are, in a new folder; None where the machine does not allow it."""
        work.mkdir()
        command, variables = self._command(task, work, TASK_FOLDER, LAYERS_FOLDER)
        layers = (_stacked(task) if self._stacks else ()) or tuple(filter(None, [task.merged_layers()]))
        order = Order(
            command=command,
            variables=variables,
            start=TASK_FOLDER,
            log=work / _LOG,
            shown=[((tree,), TASK_FOLDER), *([(layers, LAYERS_FOLDER)] if layers else [])],
            empty_tmp=not self._needs("/tmp", task, work),  # noqa: S108 Lambda's own
        )
        over = self._isolation.run(order, task.seconds, work)
        return _done(over, work) if over else None

    def _plain_run(self, task: Task, work: Path) -> Done:
        """Run a script in a new folder, where all lies as it is."""
        work.mkdir()
        command, variables = self._command(task, work, str(task.tree or ""), str(task.merged_layers() or ""))
        with (work / _LOG).open("ab") as log:
            try:
                process = self._sessions.start(command, task.tree or work, variables, stdout=log.fileno())
            except OSError as error:
                raise BuildError(f"{command[0]} cannot be started ({error.strerror})") from error
        try:
            late = not ended(process, task.seconds)
        finally:
            status = self._sessions.end(process)
        if self._sessions.closed:
            raise interruption()
        return _done(Ended(status=status, late=late), work)

    def _command(self, task: Task, work: Path, tree: str, layers: str) -> tuple[list[str], dict[str, str]]:
        """Give a task's command and variables, for where its tree and its layers lie; its script and log are made."""
        (work / _LOG).touch()
        script = str(self._script(task.script, work))
        words = {"in": str(task.inputs), "late": str(task.late or ""), "answer": str(work / _ANSWER)}
        words |= {"task": tree, "layers": layers if task.layers else ""}
        command = [self._python, *FLAGS, *task.flags, script, *(each.format(**words) for each in task.arguments)]
        variables = {**task.environment, "PATH": f"{os.environ.get('PATH', os.defpath)}:{LAYERS}/bin"}
        return command, located(variables, tree, layers if task.layers else LAYERS_FOLDER)

    def _script(self, name: str, work: Path) -> Path:
        """Write a script, as bytecode from the time on when that is worth a start of this Python that makes it."""
        with self._lock:
            self._runs[name] += 1
            if self._runs[name] == _OFTEN:
                self._bytecode[name] = self._compile(name, work)
            compiled = self._bytecode.get(name)
        path = work / (f"{name}c" if compiled else name)
        path.write_bytes(compiled or source_of_script(name))
        return path

    def _compile(self, name: str, work: Path) -> bytes:
        """Give a script's bytecode, empty where it cannot be had."""
        source, made = work / f"of-{name}", work / f"of-{name}c"
        source.write_bytes(source_of_script(name))
        code = f"import py_compile; py_compile.compile({str(source)!r}, {str(made)!r}, {name!r}, True)"
        done = subprocess.run([self._python, "-I", "-S", "-c", code], capture_output=True, check=False)
        return made.read_bytes() if done.returncode == 0 and made.is_file() else b""


def _done(over: Ended, work: Path) -> Done:
    """Say how a script that ran in a folder has ended."""
    with (work / _LOG).open("rb") as log:
        text = log.read(_LONGEST_LOG).decode("utf-8", "replace")
    answer = work / _ANSWER
    return Done(status=over.status, log=text, answer=answer.read_bytes() if answer.is_file() else None, late=over.late)


def _stacked(task: Task) -> tuple[Path, ...]:
    """Give the folders of layers that one mount can show, the uppermost first; none where it cannot."""
    parts = task.layers.parts if isinstance(task.layers, LayerStack) else ()
    text = "".join(f":{part}" for part in parts)
    possible = len(parts) > 1 and text.count(":") == len(parts) and not set(text) & {",", "\\", '"'}
    return tuple(reversed(parts)) if possible and len(text) <= _LONGEST_MOUNT else ()


def located(variables: Mapping[str, str], tree: str, layers: str) -> dict[str, str]:
    """Give variables with paths in the place of `TREE` and `LAYERS`."""
    return {name: value.replace(TREE, tree).replace(LAYERS, layers) for name, value in variables.items()}


class Pythons:
    """Finds a Python for each target, once; ``host`` and ``container`` make them. May be used from many threads.

    ``container`` is told whether it was asked for by name, and may then pull the image.
    """

    def __init__(self, host: Callable[[Target], TargetPython], container: Callable[[Target, bool], TargetPython]) -> None:
        self._ways: dict[str, Callable[[Target, bool], TargetPython]] = {
            "host": lambda target, _asked: host(target),
            "container": container,
        }
        self._made: Once[tuple[str, Target, bool], TargetPython] = Once()
        self._closed = False

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._closed = True
        for each in self._made.values():
            each.close()

    def find(self, target: Target, place: str, purpose: str) -> TargetPython:
        """Give a Python for a purpose (``compile``, which any machine can, or ``run``) at a place.

        ``auto`` takes this machine's before a container's. Raises `UnavailableError`, for `auto` with all reasons.
        """
        names = tuple(self._ways) if place == "auto" else (place,)
        refusals = []
        for name in names:
            try:
                return self._get(name, target, purpose, asked=place == name)
            except UnavailableError as refusal:
                refusals.append(refusal)
        raise UnavailableError("; ".join(each.what for each in refusals), remedy=" Or: ".join(each.remedy for each in refusals))

    def _get(self, name: str, target: Target, purpose: str, *, asked: bool) -> TargetPython:
        if name == "host" and purpose == "run" and not can_run_here(target):
            what = f"this machine cannot run native code for {target.architecture}"
            raise UnavailableError(what, remedy="Start a container engine with emulation, or build on such a machine.")
        try:
            found = self._made.get((name, target, asked), lambda: self._opened(name, target, asked=asked))
        except UnavailableError:
            if self._closed:
                raise interruption() from None
            raise
        if self._closed:  # perhaps while it was made
            found.close()
            raise interruption()
        return found

    def _opened(self, name: str, target: Target, *, asked: bool) -> TargetPython:
        """Make a Python; raises `UnavailableError`."""
        try:
            return self._ways[name](target, asked)
        except BuildError as error:
            raise UnavailableError(error.what, remedy=error.remedy or "Mend the container engine.") from None
