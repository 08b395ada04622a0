"""AWS's Runtime Interface Emulator, as far as it is on this machine: it comes with the SAM CLI, and by itself."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from builders.runtimes import MACHINES

VARIABLE = "LPACK_RIE"
CLIENT = "awslambdaric"
"""The distribution that connects a Python handler to the emulator, as the runtimes themselves have it."""
REMEDY = f"Install the SAM CLI, which has it (`pip install aws-sam-cli`), or name the program: {VARIABLE}=PATH."


def find_emulator() -> Path | None:
    """Find the emulator for this machine: the one that LPACK_RIE names, PATH's, or the SAM CLI's; None where there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    found = shutil.which("aws-lambda-rie")
    if found:
        return Path(found)
    sam = shutil.which("sam")
    machine = MACHINES.get(platform.machine())
    if sam and machine:
        environment = Path(os.path.realpath(sam)).parent.parent
        for path in environment.glob(f"lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"):
            if os.access(path, os.X_OK):
                return path
    return None
