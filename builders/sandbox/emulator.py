"""AWS's Runtime Interface Emulator, as far as it is on this machine: it comes with the SAM CLI, and by itself."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from builders.runtimes import ELF_MACHINES, ELF_MAGIC, MACHINES, Architecture

VARIABLE = "LPACK_RIE"
CLIENT = "awslambdaric"
"""The distribution that connects a Python handler to the emulator, as the runtimes themselves have it."""
REMEDY = f"Install the SAM CLI, which has it (`pip install aws-sam-cli`), or name the program: {VARIABLE}=PATH."
_MACHINE_AT = 18


def find_emulator(architecture: Architecture | None = None) -> Path | None:
    """Find the emulator for an architecture, or this machine's; None where there is none.

    It is the one that LPACK_RIE names, PATH's, or the SAM CLI's.
    """
    wanted = architecture or MACHINES.get(platform.machine())
    return next((path for path in _candidates(wanted) if _runs_on(path, wanted)), None)


def _candidates(architecture: str | None) -> Iterator[Path]:
    named = os.environ.get(VARIABLE)
    if named:
        yield Path(named)
        return
    found = shutil.which("aws-lambda-rie")
    if found:
        yield Path(found)
    sam = shutil.which("sam")
    if sam and architecture:
        environment = Path(os.path.realpath(sam)).parent.parent
        yield from environment.glob(f"lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-{architecture}")


def _runs_on(path: Path, architecture: Architecture | None) -> bool:
    """Return whether a program can be run, and is for an architecture; what is no program of Linux itself may start one."""
    if not os.access(path, os.X_OK):
        return False
    with path.open("rb") as file:
        head = file.read(_MACHINE_AT + 2)
    if not head.startswith(ELF_MAGIC):
        return True
    return architecture is not None and ELF_MACHINES[architecture] == int.from_bytes(head[_MACHINE_AT:], "little")
