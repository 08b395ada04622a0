"""Programs of this machine that parse files of others: they run in a sandbox, by lpack's own Python."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from builders.errors import BuildError
from builders.interpreters import Interpreter
from builders.once import Once
from builders.sandbox.task import Sandbox, Task

if TYPE_CHECKING:
    from builders.sandbox.root_plan import Remember

_SECONDS = 300


class ForeignFileProgram:
    """A program, by its path, in a sandbox that is opened when it is first needed; may be used from many threads.

    ``notice`` is called with the sandbox where that is not confined; it may raise an error instead.
    """

    def __init__(
        self, program: Path, remember: Remember | None = None, notice: Callable[[Sandbox], None] = lambda _: None
    ) -> None:
        self._program = program
        self._remember = remember
        self._notice = notice
        self._opened: Once[None, Sandbox] = Once()

    def sandbox(self) -> Sandbox:
        """Return the sandbox that has the program in its PATH."""
        return self._opened.get(None, self._open)

    def _open(self) -> Sandbox:
        from builders.sandbox.host_sandbox import HostSandbox, find_anew  # many builds have nothing to parse

        own = Interpreter(path=Path(sys.executable), version=platform.python_version())
        opened = HostSandbox(own, self._remember or find_anew, (str(self._program),))
        if opened.unconfined:
            self._notice(opened)
        return opened

    def rewrite(self, data: bytes, words: tuple[str, ...], work: Path) -> bytes:
        """Return a file as the program, called with ``words`` and its path, has changed it; ``work`` is an empty folder.

        Raises `BuildError`.
        """
        inputs = work / "in"
        inputs.mkdir()
        (inputs / "file").write_bytes(data)
        (work / "work").mkdir()
        name = self._program.name
        longest = 2 * len(data) + (64 << 20)
        arguments = ("{in}", "{answer}", name, *(word.replace("{", "{{").replace("}", "}}") for word in words))
        task = Task(script="rewrite.py", arguments=arguments, inputs=inputs, seconds=_SECONDS, longest=longest)
        done = self.sandbox().run(task, work / "work")
        if done.answer is None or done.status:
            raise BuildError(f"{name} could not rewrite a library", detail=done.log, remedy="Report it with this output.")
        return done.answer
