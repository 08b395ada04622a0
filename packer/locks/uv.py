"""uv.lock, single projects and workspaces: uv itself exports what a member needs, and resolves nothing."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from builders.interpreters import find_interpreter
from builders.runtimes import Target
from packer.core.errors import ResolveError, UsageError
from packer.core.model import Lock, Requirements
from packer.core.process import Run, uv_command
from packer.locks.pylock import parse_pylock

# What a function's own folder holds is its source: only its dependencies come from the lock, and never those for development.
_FLAGS = ("--frozen", "--offline", "--no-header", "--format", "pylock.toml", "--no-default-groups", "--no-emit-project")
_STALE = 1  # exit status of `uv lock --check` for a lock that needs to change; 2 stands for everything else


def read_uv_lock(requirements: Requirements, target: Target, run: Run) -> Lock:
    """Read a uv.lock for a target: the packages of ``requirements.package``, or of the root project where that is empty.

    Raises `ResolveError` with uv's own words, or `UsageError` for a workspace without a root project.
    """
    folder = requirements.path.parent
    if not requirements.package:
        _check_root(requirements.path)
    arguments = [uv_command(), "export", "--quiet", "--color", "never", *_FLAGS]
    arguments += ["--package", requirements.package] if requirements.package else []
    arguments += [word for extra in requirements.extras for word in ("--extra", extra)]
    arguments += [word for group in requirements.groups for word in ("--group", group)]
    finished = run(arguments, folder, {})
    if finished.status:
        raise ResolveError(
            f"uv cannot read {requirements.path} (package {requirements.package or 'of the root'}).",
            detail=finished.stderr.rstrip(),
            remedy="Run `uv lock` there, or name another package, extra or group.",
        )
    # uv's paths start from the lock's folder, so its answer is read as if it stood there. Extras and groups are in it already.
    return parse_pylock(finished.stdout, requirements.path, target)


def uv_lock_is_stale(requirements: Requirements, target: Target, run: Run) -> bool:
    """Return whether the uv.lock no longer fits the pyproject.toml files beside and below it, as ``uv lock --check`` sees it.

    Needs no network and no warm cache. Where uv finds no Python for the project, the target's is tried. Where it cannot tell
    (the metadata of a ``setup.py`` project must be built, or no such Python is at hand) the answer is no. A lock made with
    another default index is stale to uv, and so it is here.
    """
    arguments = [uv_command(), "lock", "--check", "--offline", "--quiet", "--color", "never"]
    status = _status(arguments, requirements, run)
    if status not in {0, _STALE}:
        interpreter = find_interpreter(target.runtime.minor)
        status = _status([*arguments, "--python", str(interpreter.path)], requirements, run) if interpreter else status
    return status == _STALE


def _status(arguments: list[str], requirements: Requirements, run: Run) -> int:
    return run(arguments, requirements.path.parent, {"UV_PYTHON_DOWNLOADS": "never"}).status


def _check_root(path: Path) -> None:
    """Refuse a workspace without a root project where no member is named: uv would export all members, and themselves too."""
    project = path.with_name("pyproject.toml")
    if not project.is_file() or "project" in _document(project):
        return
    members = _document(path).get("manifest", {}).get("members", ())
    raise UsageError(
        f"{path} locks a workspace, and {project.name} beside it has no project of its own.",
        remedy=f"Name the member to pack (package = …): {', '.join(members) or 'none is known'}.",
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ResolveError(f"{path} cannot be read: {error}.", remedy="Fix the file, or run `uv lock` there.") from error
