"""A container of the target's run-time image as a sandbox: what runs in it may do what a function may do on Lambda.

Its first process, `builders.inside.contain`, is lpack's own; what is to be run is another user, which can write to /tmp alone.
"""

from __future__ import annotations

import io
import marshal
from collections.abc import Iterator, Mapping
from pathlib import Path

from builders.engine.client import EndedContainer, Engine, EngineImage
from builders.engine.file_transfer import JOB, add_bytes, copy_out, neutral_info, new_tar, pack_work
from builders.engine.images import EngineImages
from builders.engine.job import INPUTS, WORK, ContainerJob, process_status
from builders.errors import BuildError
from builders.inside import read_script
from builders.inside.isolate import ANSWER, UNAVAILABLE
from builders.recipes import BuildSettings, Limits
from builders.runtimes import (
    FUNCTION_GROUP,
    FUNCTION_USER,
    LANG_FOLDER,
    LAYERS_MOUNT,
    MEGABYTE,
    RUNTIME_FOLDER,
    TASK_FOLDER,
    Target,
)
from builders.sandbox.root_plan import UNSET, USER_FILES
from builders.sandbox.seccomp import system_call_filter
from builders.sandbox.task import FLAGS, Task, TaskResult, with_folders

_FIRST, _MODULES = "contain.py", ("isolate.py", "held_memory.py", "mounts.py", "runtime_api.py")
"""The script of the first process, and what it imports."""
_CAPABILITIES = ("KILL", "SETGID", "SETPCAP", "SETUID")
"""What the first process needs to start the command as another user, without any capabilities, and to kill it."""
_PATHS = ("PATH", "LD_LIBRARY_PATH")
_FOLDER = f"{WORK}/{JOB}"
_ROOM = 64 * MEGABYTE
"""Bytes that a container may hold beside a function's memory and its /tmp: the first process, and the kernel's own."""
_PAGE = 4096
"""Bytes."""


class ContainerSandbox:
    """Runs each script in a container of an image, the target's run-time image by default; may be used from many threads.

    Raises `UnavailableError` where the engine does not have the image and may not pull it.
    """

    def __init__(self, engine: Engine, images: EngineImages, target: Target, settings: BuildSettings | None = None) -> None:
        self._engine = engine
        self._images = images
        self._target = target
        self._python = f"python3.{target.runtime.minor}"
        self._image = images.ready(target, settings or BuildSettings(image=target.runtime_image))
        self.identity = f"3.{target.runtime.minor} of {self._image.digest}"
        self.path: Path | None = None
        self.starts_programs = False
        self.has_packages = False  # not every image has those of AWS's runtimes
        self.unconfined = ""
        self.libraries: frozenset[str] | None = None
        self.private: Mapping[str, tuple[str, ...]] = {}
        self.place = f"the image {self._image.reference}"

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._engine.close()

    def run(self, task: Task, work: Path) -> TaskResult:
        """Run a script in the empty folder ``work``; raises `builders.errors.BuildError`."""
        first = self._images.with_files(self._image, {path: text.encode() for path, text in USER_FILES.items()})
        limits = Limits(seconds=task.seconds)
        if task.memory:
            limits = Limits(seconds=task.seconds, memory=task.memory + task.storage + _ROOM)
        job = ContainerJob(
            image=first.identity,
            command=(self._python, "-I", "-S", "-B", f"{INPUTS}/{_FIRST}", f"{INPUTS}/order", _FOLDER),
            limits=limits,
            inputs=_pack_inputs(task, self._order(task), work / "inputs.tar"),
            work=pack_work(work, 0o700, (0, 0)),
            tree=_pack_folder(task.tree, work / "tree.tar") if task.tree else None,
            layers=_pack_folder(layers, work / "layers.tar") if (layers := task.merged_layers()) else None,
            platform=f"linux/{self._image.architecture}",
            environment=_trusted_paths(self._image),
            as_function=True,
            capabilities=_CAPABILITIES,
            storage=task.storage,
        )
        with self._engine.run(job, lambda _text: None) as ended:
            return _read_result(ended, task, limits.memory)

    def _order(self, task: Task) -> bytes:
        """Return what the first process is to run, as `builders.inside.contain` reads it."""
        words = {"in": f"{INPUTS}/in", "task": TASK_FOLDER if task.tree else "", "late": ":".join(self._packages(task))}
        words |= {"layers": LAYERS_MOUNT if task.layers else "", "program": "", "answer": f"/proc/self/fd/{ANSWER}"}
        arguments = [each.format(**words) for each in task.arguments]
        variables = {name: value for name, value in self._image.environment.items() if name not in UNSET}
        order = {
            "command": ["", *FLAGS, *task.flags, f"{INPUTS}/{task.script}", *arguments],
            "variables": {**variables, **with_folders(task.environment, TASK_FOLDER, LAYERS_MOUNT)},
            "start": TASK_FOLDER if task.tree else "/",
            "memory": task.memory or 0,
            "file": max(task.storage + _PAGE, task.longest),  # /tmp is full before a file in it is too long
            "seconds": max(1, round(task.seconds)),
            "user": (FUNCTION_USER, FUNCTION_GROUP),
            "filter": system_call_filter(self._target.machine),
        }
        return marshal.dumps(order, 2)

    def _packages(self, task: Task) -> Iterator[str]:
        """Return the folders with packages that the runtime has: the image's own, and what it may lack."""
        yield RUNTIME_FOLDER
        yield f"{LANG_FOLDER}/lib/python3.{self._target.runtime.minor}/site-packages"
        if task.late:
            yield f"{INPUTS}/late"


def _trusted_paths(image: EngineImage) -> dict[str, str]:
    """Return the image's own search paths for the first process, which must load nothing that the function brings."""
    found = {name: image.environment[name].split(":") for name in _PATHS if name in image.environment}
    foreign = (f"{TASK_FOLDER}/", f"{LAYERS_MOUNT}/")
    return {name: ":".join(each for each in paths if not f"{each}/".startswith(foreign)) for name, paths in found.items()}


def _read_result(ended: EndedContainer, task: Task, most: int) -> TaskResult:
    """Return how it has ended, in a container that could hold so many bytes; raises `BuildError` where it has not begun."""
    status = process_status(ended.status)
    memory = most if ended.out_of_memory else 0
    if status == -9 and not ended.late:
        memory = int(_read(ended, "memory", _PAGE) or memory)
    facts = ended.look(f"{_FOLDER}/answer")  # the first process makes it before anything else is run
    refusal = _read(ended, "refusal", _PAGE).decode("ascii", "replace") if status == UNAVAILABLE else ""
    if refusal or not (facts or ended.late or memory):
        what = f"nothing can be run in the container as a function is ({refusal or f'status {status}'})"
        raise BuildError(what, detail=ended.log, remedy="See what the engine denies its containers, and allow that.")
    size = facts.size if facts else 0
    fits = 0 < size <= task.longest
    return TaskResult(
        status=status,
        log=ended.log,
        answer=_read(ended, "answer", task.longest) if fits else None,
        late=ended.late,
        memory=memory,
        excess=size if size > task.longest else 0,
    )


def _read(ended: EndedContainer, name: str, most: int) -> bytes:
    buffer = io.BytesIO()
    copy_out(ended, f"{_FOLDER}/{name}", buffer, most)
    return buffer.getvalue()


def _pack_inputs(task: Task, order: bytes, path: Path) -> Path:
    with new_tar(path) as archive:
        add_bytes(archive, _FIRST, read_script(_FIRST))
        for name in _MODULES:
            add_bytes(archive, f"builders/inside/{name}", read_script(name))
        add_bytes(archive, "order", order)
        add_bytes(archive, task.script, read_script(task.script))
        archive.add(task.inputs, "in", filter=neutral_info)
        if task.late:
            archive.add(task.late, "late", filter=neutral_info)
    return path


def _pack_folder(folder: Path, path: Path) -> Path:
    with new_tar(path) as archive:
        for each in sorted(folder.iterdir()):
            archive.add(each, each.name, filter=neutral_info)
    return path
