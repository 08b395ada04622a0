"""Runs images of functions in the engine: without network and privileges, nothing writable but /tmp."""

from __future__ import annotations

import io
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from builders.engine.client import Engine
from builders.engine.file_transfer import JOB, add_bytes, copy_out, new_tar, pack_work
from builders.engine.job import INPUTS, WORK, ContainerJob, process_status
from builders.inside import read_script
from builders.recipes import Limits
from builders.runtimes import FUNCTION_GROUP, FUNCTION_USER, PROGRAMS_PATH, TASK_FOLDER
from builders.sandbox.root_plan import UNSET
from builders.sandbox.task import FLAGS, TaskResult

LAMBDAS_USER = f"{FUNCTION_USER}:{FUNCTION_GROUP}"
_SCRIPT = "emulate.py"
_LONGEST_ANSWER = 64 << 20
"""Where the interpreter that runs the emulator is looked for behind the image's own PATH, which need not lead to it."""


def run_image(
    engine: Engine,
    image: str,
    emulator: Path,
    work: Path,
    *,
    python: str,
    command: Sequence[str],
    request: Mapping[str, Any],
    environment: Mapping[str, str],
    path: str,
    own_names: Container[str],
    user: str = LAMBDAS_USER,
    seconds: float,
) -> TaskResult:
    """Start an image's own ``command`` by the emulator, and send it events, as `builders.inside.emulate` does.

    ``image`` is an id in the engine, ``python`` the name of an interpreter in it, ``path`` the PATH that the image itself has,
    ``own_names`` the variables that it sets, ``work`` an empty folder. Raises `builders.errors.BuildError` where the engine
    fails.
    """
    answer = f"{WORK}/{JOB}/answer"
    own = {"PATH": environment.get("PATH", path)}
    unset = [name for name in UNSET if name not in environment and name not in own_names]  # the engine sets them
    full = {**request, "command": list(command), "variables": own, "unset": unset, "packages": ()}
    with new_tar(work / "inputs.tar") as archive:
        add_bytes(archive, _SCRIPT, read_script(_SCRIPT))
        add_bytes(archive, "request", json.dumps(full).encode())
        add_bytes(archive, "emulator", emulator.read_bytes(), mode=0o755)
    job = ContainerJob(
        image=image,
        command=(python, *FLAGS, f"{INPUTS}/{_SCRIPT}", f"{INPUTS}/request", answer, TASK_FOLDER, "", "", f"{INPUTS}/emulator"),
        limits=Limits(seconds=seconds),
        user=user,
        as_function=True,
        inputs=work / "inputs.tar",
        work=pack_work(work, 0o777),
        environment={**environment, "PATH": f"{own['PATH']}:{PROGRAMS_PATH}"},
    )
    with engine.run(job, lambda _text: None) as ended:
        buffer = io.BytesIO()
        there = copy_out(ended, answer, buffer, _LONGEST_ANSWER)
        data = buffer.getvalue() if there else None
        return TaskResult(status=process_status(ended.status), log=ended.log, answer=data, late=ended.late)
