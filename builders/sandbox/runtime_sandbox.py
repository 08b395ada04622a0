"""A runtime's own file system as a sandbox: its Python, its shared libraries and its packages, without an engine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import MAGIC_NUMBER
from marshal import dumps
from pathlib import Path

from builders.errors import BuildError, UnavailableError
from builders.inside import read_script
from builders.once import Once
from builders.rootfs.listing import tree_signature
from builders.rootfs.record import is_whole
from builders.rootfs.runtime_files import RuntimeFiles
from builders.sandbox.confined import ConfinedRunner
from builders.sandbox.root_plan import UNSET, Remember, RootPlan
from builders.sandbox.script_cache import ScriptCache
from builders.sandbox.surroundings import find_refusal, withdrawn_error
from builders.sandbox.task import Task, TaskResult

_ALLOW = "Allow user namespaces (user_namespaces(7)), or start a container engine that has the runtime's image."


class RuntimeSandbox:
    """The Python of a runtime in its own file system; may be used from many threads.

    Raises `UnavailableError` where the machine allows no namespaces.
    """

    def __init__(self, files: RuntimeFiles, remember: Remember) -> None:
        self._files = files
        self._remember = remember
        self._checks: Once[None, None] = Once()
        self._minor = int(files.version.split(".")[1])
        scripts = ScriptCache(self._compile)
        plan = RootPlan(base=(str(files.root),))
        variables = {name: value for name, value in sorted(files.environment.items()) if name not in UNSET}
        self._runner = ConfinedRunner(plan, files.python, scripts, files.packages, variables)
        self._kind = f"overlay {files.identity} {files.python} {variables}"
        refusal = find_refusal(self._kind, remember, self._runner.refusal)
        if refusal:
            self._runner.close()
            what = f"the file system of {files.image} cannot be used on this machine ({refusal})"
            raise UnavailableError(what, remedy=_ALLOW)
        self.identity = files.identity
        self.path: Path | None = None
        self.place = f"Python {files.version} of {files.image}"
        self.starts_programs = True
        self.has_packages = True
        self.unconfined = ""
        self.libraries: frozenset[str] | None = None
        self.private: Mapping[str, tuple[str, ...]] = {}

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._runner.close()

    def run(self, task: Task, work: Path) -> TaskResult:
        """Run a script in the empty folder ``work``; raises `BuildError`."""
        self._checks.get(None, self._check)
        done = self._runner.run(task, work)
        if done is None:
            raise withdrawn_error(self._kind, self._remember, self._runner.refusal)
        return done

    def _check(self) -> None:
        """Raise `BuildError` where anything of the file system has changed since it was unpacked."""
        if find_change(self._files.root, self._files.digest, self._remember):
            what = f"the file system of {self._files.image} is no longer what was pulled"
            raise BuildError(what, remedy="`lpack runtime pull` unpacks it again.")

    def _compile(self, name: str, _work: Path) -> bytes:
        """Return a script's bytecode where this Python is of the same minor, and else nothing: releases read each other's."""
        if sys.version_info[:2] != (3, self._minor) or sys.implementation.name != "cpython":
            return b""
        code = compile(read_script(name), name, "exec", dont_inherit=True)
        return MAGIC_NUMBER + bytes(12) + dumps(code)  # PEP 552: no flags, time or size


def find_change(root: Path, digest: str, remember: Remember) -> str:
    """Return how an unpacked image is not what was unpacked; empty where it is. All of it is read once after each change."""
    try:
        known = f"whole {digest} {tree_signature(root)}"
        return remember(known, str, lambda: "" if is_whole(root.parent, digest) else "it has changed")
    except OSError as error:
        return str(error)
