"""Runs tasks in a root folder of their own, whatever that is made of, as on Lambda."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from builders.errors import BuildError
from builders.inside.isolate import ANSWER
from builders.runtimes import LAYERS_MOUNT, MEGABYTE, PROGRAMS_PATH, RUNTIME_FOLDER, TASK_FOLDER
from builders.sandbox.isolation import CommandEnd, IsolatedCommand, Isolation
from builders.sandbox.root_plan import SCRIPT_FOLDER, RootPlan
from builders.sandbox.script_cache import ScriptCache
from builders.sandbox.task import FLAGS, LayerStack, Task, TaskResult, with_folders

_PROGRAM = "program"
NO_VARIABLES: Mapping[str, str] = {}
_INPUTS, _LATE = f"{SCRIPT_FOLDER}/in", f"{SCRIPT_FOLDER}/late"
_LONGEST_MOUNT = 3500
"""Letters of a mount's options: the kernel reads one page of them (mount(2))."""
_LONGEST_START = 60.0
"""Seconds."""
_LONGEST_REASON = 200
"""Letters of what an interpreter prints that does not start."""


class ConfinedRunner:
    """Runs tasks by the interpreter ``python`` of a root; may be used from many threads.

    ``packages`` are the folders of the root in which the runtime's own packages lie; without any, tasks bring all that the
    runtime has. ``variables`` are those of the root, over which the ones of tasks go.
    """

    def __init__(
        self,
        plan: RootPlan,
        python: str,
        scripts: ScriptCache,
        packages: Sequence[str] = (),
        variables: Mapping[str, str] = NO_VARIABLES,
    ) -> None:
        self._isolation = Isolation(plan)
        self._python = python
        self._scripts = scripts
        self._packages = tuple(packages)
        self._variables = {"PATH": PROGRAMS_PATH, **variables}
        self._stacks = True  # some kernels let no unprivileged user stack folders

    def refusal(self) -> str:
        """Return why the machine does not allow it, or why the interpreter does not start there; empty where it does.

        Raises `BuildError`.
        """
        return self._isolation.refusal() or self._try_start()

    def _try_start(self) -> str:
        """Start the interpreter: some containers refuse what each command needs (proc(5)), some systems have other loaders."""
        order = IsolatedCommand(
            command=[self._python, *FLAGS, "-c", ""],
            variables=self._variables,
            start="/",
            shown=(),
            storage=MEGABYTE,
            memory=None,
            longest=MEGABYTE,
        )
        try:
            ended = self._isolation.run(order, _LONGEST_START)
        except BuildError as error:
            if self._isolation.closed:
                raise
            return error.what
        if ended is None:
            return "it allows a command no namespaces and file systems of its own"
        said = ended.output.decode("utf-8", "replace").strip() or f"status {ended.status}"
        return f"{self._python} does not start ({said[-_LONGEST_REASON:]})" if ended.status else ""

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._isolation.close()

    def run(self, task: Task, work: Path) -> TaskResult | None:
        """Run a task in the empty folder ``work``; None where the machine does not allow it. Raises `BuildError`."""
        folder = work / "rapid"
        for name in ("in", "late"):
            (folder / name).mkdir(parents=True)
        script = self._scripts.write(task.script, folder)
        if task.program:
            shutil.copy(task.program, folder / _PROGRAM)
        for each in (folder, folder / "in", folder / "late", script, task.inputs, *task.inputs.iterdir()):
            _let_read(each)
        if self._stacks and _stackable_folders(task):
            done = self._run_command(self._command(task, folder, script.name, _stackable_folders(task)), task)
            if done is not None:
                return done
            self._stacks = False
        layers = task.merged_layers()
        return self._run_command(self._command(task, folder, script.name, (layers,) if layers else ()), task)

    def _run_command(self, order: IsolatedCommand, task: Task) -> TaskResult | None:
        over = self._isolation.run(order, task.seconds)
        return _read_result(over) if over else None

    def _command(self, task: Task, folder: Path, script: str, layers: tuple[Path, ...]) -> IsolatedCommand:
        shown: list[tuple[tuple[Path, ...], str]] = [((folder,), SCRIPT_FOLDER), ((task.inputs,), _INPUTS)]
        if task.tree:
            shown.append(((task.tree,), TASK_FOLDER))
        if layers:
            shown.append((layers, LAYERS_MOUNT))
        packages = self._packages
        if task.late:
            late = _LATE if packages else RUNTIME_FOLDER
            shown.append(((task.late,), late))
            packages = (late, *packages)
        words = {"in": _INPUTS, "late": ":".join(packages), "answer": f"/proc/self/fd/{ANSWER}"}
        words |= {"program": f"{SCRIPT_FOLDER}/{_PROGRAM}" if task.program else ""}
        words |= {"task": TASK_FOLDER if task.tree else "", "layers": LAYERS_MOUNT if task.layers else ""}
        arguments = (each.format(**words) for each in task.arguments)
        return IsolatedCommand(
            command=[self._python, *FLAGS, *task.flags, f"{SCRIPT_FOLDER}/{script}", *arguments],
            variables={**self._variables, **with_folders(task.environment, TASK_FOLDER, LAYERS_MOUNT)},
            start=TASK_FOLDER,
            shown=shown,
            storage=task.storage,
            memory=task.memory,
            longest=task.longest,
        )


def _let_read(path: Path) -> None:
    """Let every user read a file or a folder: who runs in the root is none that this machine knows."""
    mode = path.stat().st_mode & 0o777
    wanted = mode | (0o555 if path.is_dir() else 0o444)
    if wanted != mode:
        path.chmod(wanted)


def _read_result(over: CommandEnd) -> TaskResult:
    return TaskResult(
        status=over.status,
        log=over.output.decode("utf-8", "replace"),
        answer=over.answer,
        late=over.late,
        memory=over.memory,
        excess=over.excess,
    )


def _stackable_folders(task: Task) -> tuple[Path, ...]:
    """Return the folders of layers that one mount can show, the uppermost first; none where it cannot."""
    parts = task.layers.parts if isinstance(task.layers, LayerStack) else ()
    text = "".join(f":{part}" for part in parts)
    possible = len(parts) > 1 and text.count(":") == len(parts) and not set(text) & {",", "\\", '"'}
    return tuple(reversed(parts)) if possible and len(text) <= _LONGEST_MOUNT else ()
