"""Runs programs of this machine for builders."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from builders.errors import BuildError


def run_logged(arguments: list[str], folder: Path, variables: Mapping[str, str]) -> str:
    """Run a command and return what it printed; raises `BuildError` where it cannot be started or fails."""
    try:
        finished = subprocess.run(
            arguments,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise BuildError(f"{arguments[0]} cannot be started: {error.strerror}") from error
    if finished.returncode:
        raise BuildError(
            f"{Path(arguments[0]).name} {arguments[1]} ended with status {finished.returncode}", detail=finished.stdout
        )
    return finished.stdout
