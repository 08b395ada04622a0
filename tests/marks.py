"""Marks of runs. A function can leave none outside its sandbox, so the sandbox leaves one for it, whenever it starts one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.forkserver import LPACK, CommandServer

PAUSE = "LPACK_TEST_PAUSE"
"""Variable of a function with the seconds that it is to pause for when it is imported."""
_PATIENCE = 600
_WRAPPED = """\
from msgspec.structs import replace
from builders.sandbox.host_sandbox import HostSandbox

def _wrapped(run):
    def marked_run(self, task, work):
        if task.script == "probe.py":
            with open({marks!r}, "a+") as file:
                file.seek(0)
                if {pause} and not file.read():
                    task = replace(task, environment={{**task.environment, {variable!r}: str({pause})}})
                file.write("x")
        return run(self, task, work)
    return marked_run

HostSandbox.run = _wrapped(HostSandbox.run)
"""


def marking_code(marks: Path, pause: int = 0) -> str:
    """Return code after which a process writes an ``x`` to a file for each run of a function on a Python of this machine.

    The first of all, where the file is empty, has the function see `PAUSE` with so many seconds, unless they are none.
    """
    return _WRAPPED.format(marks=str(marks), pause=pause, variable=PAUSE)


def marking_lpack(server: CommandServer, marks: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command line as the fixture ``lpack`` does, and marks each run of a function."""

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        assert server.can_run(os.environ)
        return server.run(arguments, cwd, _PATIENCE, marking_code(marks) + LPACK)

    return run
