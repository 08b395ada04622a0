"""Real git repositories for tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_VARIABLES = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *words: str) -> str:
    """Run git, and give what it printed."""
    command = ["git", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", *words]
    variables = {**os.environ, **_VARIABLES}
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=variables).stdout.strip()


def make_repository(folder: Path) -> Path:
    """Make a repository of what a folder holds, with one commit on the branch main, and go on on the branch work."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    commit(folder)
    git(folder, "checkout", "-q", "-b", "work")
    return folder


def commit(folder: Path) -> str:
    """Commit everything, and give the commit."""
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "--allow-empty", "-m", "change")
    return git(folder, "rev-parse", "HEAD")
