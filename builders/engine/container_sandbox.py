"""A container of the target's run-time image as a sandbox: no network, and the function is read-only."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from builders.engine.client import Engine
from builders.engine.file_transfer import JOB, add_bytes, copy_out, neutral_info, new_tar, pack_work
from builders.engine.images import EngineImages
from builders.engine.job import INPUTS, WORK, ContainerJob, process_status
from builders.inside import read_script
from builders.recipes import BuildSettings, Limits
from builders.runtimes import LANG_FOLDER, LAYERS_MOUNT, RUNTIME_FOLDER, TASK_FOLDER, UNZIPPED_LIMIT, Target
from builders.sandbox.task import FLAGS, Task, TaskResult, with_folders

_LONGEST_ANSWER = 2 * UNZIPPED_LIMIT
"""Bytes that an answer may have: bytecode is about as large as what it is made of."""


class ContainerSandbox:
    """Runs each script in a container of an image, the target's run-time image by default; may be used from many threads.

    Raises `UnavailableError` where the engine does not have the image and may not pull it.
    """

    def __init__(self, engine: Engine, images: EngineImages, target: Target, settings: BuildSettings | None = None) -> None:
        self._engine = engine
        self._target = target
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
        answer = f"{WORK}/{JOB}/answer"
        words = {"in": f"{INPUTS}/in", "task": TASK_FOLDER, "late": ":".join(self._packages(task)), "answer": answer}
        words |= {"layers": LAYERS_MOUNT if task.layers else "", "program": ""}
        arguments = [each.format(**words) for each in task.arguments]
        job = ContainerJob(
            image=self._image.identity,
            command=(f"python3.{self._target.runtime.minor}", *FLAGS, *task.flags, f"{INPUTS}/{task.script}", *arguments),
            limits=Limits(seconds=task.seconds),
            user=f"{os.getuid()}:{os.getgid()}",
            inputs=_pack_inputs(task, work / "inputs.tar"),
            work=pack_work(work),
            tree=_pack_folder(task.tree, work / "tree.tar") if task.tree else None,
            layers=_pack_folder(layers, work / "layers.tar") if (layers := task.merged_layers()) else None,
            platform=f"linux/{self._image.architecture}",
            environment=with_folders(task.environment, TASK_FOLDER, LAYERS_MOUNT),
        )
        with self._engine.run(job, lambda _text: None) as ended:
            buffer = io.BytesIO()
            there = copy_out(ended, answer, buffer, _LONGEST_ANSWER)
            data = buffer.getvalue() if there else None
            return TaskResult(status=process_status(ended.status), log=ended.log, answer=data, late=ended.late)

    def _packages(self, task: Task) -> Iterator[str]:
        """Return the folders with packages that the runtime has: the image's own, and what it may lack."""
        yield RUNTIME_FOLDER
        yield f"{LANG_FOLDER}/lib/python3.{self._target.runtime.minor}/site-packages"
        if task.late:
            yield f"{INPUTS}/late"


def _pack_inputs(task: Task, path: Path) -> Path:
    with new_tar(path) as archive:
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
