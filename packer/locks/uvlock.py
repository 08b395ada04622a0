"""uv.lock, single projects and workspaces: uv itself exports what a member needs, and resolves nothing."""

from __future__ import annotations

from dataclasses import replace

from builders.runtimes import Target
from packer.errors import ResolveError
from packer.locks.pylock import parse_pylock
from packer.model import Lock, Requirements
from packer.process import Run, uv_command

# What a function's own folder holds is its source: only its dependencies come from the lock, and never those for development.
_FLAGS = ("--frozen", "--offline", "--no-header", "--format", "pylock.toml", "--no-default-groups", "--no-emit-project")


def read_uv_lock(requirements: Requirements, target: Target, run: Run) -> Lock:
    """Read a uv.lock for a target: the packages of ``requirements.package``, or of the root project where that is empty.

    Raises `ResolveError` with uv's own words.
    """
    folder = requirements.path.parent
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
    # uv's paths start from the lock's folder, so its answer is read as if it stood there.
    lock = parse_pylock(finished.stdout, folder / "pylock.toml", target, extras=requirements.extras, groups=requirements.groups)
    return replace(lock, origin=requirements.path.name)
