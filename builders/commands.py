"""Runs programs of this machine for builders."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from builders.errors import BuildError

# What git sets for the hooks that it runs (git documentation, githooks; `git rev-parse --local-env-vars`), without the settings
# among them (GIT_CONFIG_*), by which users give credentials.
_SET_FOR_HOOKS = frozenset(
    (
        *("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"),
        *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE"),
    )
)


def git_environment() -> dict[str, str]:
    """Return this process's environment variables, without those that lead git to the repository whose hook is running."""
    return {name: value for name, value in os.environ.items() if name not in _SET_FOR_HOOKS}


def run_logged(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command in an existing folder, and return what it printed.

    Raises `BuildError` where it is not installed, cannot be started, or fails.
    """
    try:
        finished = subprocess.run(
            arguments,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise BuildError(f"{arguments[0]} is not installed", remedy=f"Install {arguments[0]}.") from None
    except OSError as error:
        raise BuildError(f"{arguments[0]} cannot be started: {error.strerror}") from error
    if finished.returncode:
        raise BuildError(
            f"{Path(arguments[0]).name} {arguments[1]} ended with status {finished.returncode}", detail=finished.stdout
        )
    return finished.stdout
