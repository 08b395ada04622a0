"""The row of the runtimes' own file systems in the table of sandboxes."""

from __future__ import annotations

import platform
from collections.abc import Callable

from builders.errors import LpackError, UnavailableError
from builders.runtimes import Target
from builders.sandbox.root_plan import Remember
from builders.sandbox.table import SandboxKind
from builders.sandbox.task import Sandbox
from packer.cache.store import Store


def runtime_kind(store: Store, remember: Remember, pull: Callable[[Target], object] | None) -> SandboxKind:
    """Return the row; ``pull`` pulls a target's runtime into the store, where the configuration lets a build do that itself.

    None where nothing may be pulled.
    """
    return SandboxKind(
        name="runtime",
        open=lambda target, _asked: open_runtime_sandbox(target, store, remember, pull),
        runs=_runs,
    )


def open_runtime_sandbox(
    target: Target, store: Store, remember: Remember, pull: Callable[[Target], object] | None = None
) -> Sandbox:
    """Return a sandbox in the file system of a target's runtime; raises `UnavailableError`, also where it was not pulled."""
    from packer.verify.runtime_images import absent_error, find_runtime_files

    if not _runs(target):
        what = f"this machine runs no programs of Linux for {target.architecture}"
        raise UnavailableError(what, remedy="Start a container engine that runs them." if platform.system() != "Linux" else "")
    files = find_runtime_files(target, store)
    if files is None and target.image.pull and pull is not None:
        try:
            pull(target)
        except LpackError as error:
            raise UnavailableError(error.what.rstrip("."), remedy=error.remedy) from None
        files = find_runtime_files(target, store)
    if files is None:
        raise absent_error(target)
    from builders.sandbox.runtime_sandbox import RuntimeSandbox

    return RuntimeSandbox(files, remember)


def _runs(target: Target) -> bool:
    from builders.rootfs.emulation import runs_programs

    return runs_programs(target.architecture)
