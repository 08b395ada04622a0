"""Starts what was built in the target's own Python, by the clocks of lpack's own verification (`packer.verify.runner`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from bench.peers import PYTHON
from builders.errors import UnavailableError
from builders.runtimes import RUNTIMES, Target
from builders.sandbox.host_sandbox import open_host_sandbox
from builders.sandbox.table import Sandboxes, SandboxKind, runs_here
from builders.sandbox.task import Sandbox
from packer.cache.deflate import Deflater
from packer.cache.local import LocalStore
from packer.core.model import Function, Tree
from packer.core.options import VerifyLevel, VerifyOptions
from packer.formats.unpack import unpack
from packer.formats.zip_writer import WrittenArchive, write_zip
from packer.verify.runner import Event, Outcome, UnpackedFunction, Verifier

TARGET = Target(runtime=RUNTIMES[f"python{PYTHON}"], architecture="x86_64")
HANDLER = "app.handler"


class Starts(Struct, frozen=True, kw_only=True):
    """Starts functions whose handler is `HANDLER`; each start is one of its own, and none is remembered."""

    verifier: Verifier
    sandbox: Sandbox
    executor: Executor

    def unpack(self, archive: Path, folder: Path, late: Path | None = None) -> UnpackedFunction:
        """Unpack an archive into a new folder; ``late`` is a folder of what the runtime has of packages."""
        unpack(archive, folder, self.executor)
        return UnpackedFunction(task=folder, late=late)

    def start(self, laid: UnpackedFunction, level: VerifyLevel, events: Sequence[Event] = ()) -> Outcome:
        """Start once: at level ``rie`` in AWS's Runtime Interface Emulator, else by importing the handler."""
        function = Function(
            name="bench",
            source=laid.task,
            handler=HANDLER,
            target=TARGET,
            requirements=None,
            lock_path=laid.task / "pylock.toml",
            verify=VerifyOptions(level=level),
        )
        outcome, _ = self.verifier.run(function, laid, self.sandbox, events)
        return outcome


@contextmanager
def opened(folder: Path) -> Iterator[Starts]:
    """Give what starts functions, with its temporary files in ``folder``; `SystemExit` where the target's Python is missing."""
    store = LocalStore(folder)
    deflater = Deflater(store)

    def write(tree: Tree, path: Path) -> WrittenArchive:
        with path.open("wb") as file:
            return write_zip(tree, file, deflater.span)

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        host = SandboxKind(name="host", open=lambda target, _asked: open_host_sandbox(target), runs=runs_here)
        sandboxes = Sandboxes((host,))
        try:
            sandbox = sandboxes.find(TARGET, "host", "run")
        except UnavailableError as error:
            raise SystemExit(f"Nothing here runs {TARGET}: {error.what}. {error.remedy}") from None
        try:
            yield Starts(verifier=Verifier(store, sandboxes, executor, write), sandbox=sandbox, executor=executor)
        finally:
            sandboxes.close()
