"""The recipe that strips shared libraries: elfutils' eu-strip, which leaves alone what is loaded of a file.

GNU strip and llvm-strip move segments of libraries that patchelf or auditwheel have changed, which then no longer load.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from builders.errors import BuildError, UnavailableError
from builders.host.foreign_files import ForeignFileProgram
from builders.inside.strip import NO_FILE
from builders.runtimes import UNZIPPED_LIMIT
from builders.sandbox.task import Sandbox, Task

if TYPE_CHECKING:
    from builders.sandbox.root_plan import Remember

_PROGRAM = "eu-strip"
_SECONDS = 300
_LONGEST = 2 * UNZIPPED_LIMIT
"""Bytes of all stripped files of one run."""
_SCRIPT = "strip.py"
_HEAD = struct.Struct("<3q")
"""The number of a file, eu-strip's status, and the length of what follows, as the script writes them."""
_REMEDY = "Install elfutils (the package of that name in Debian, Ubuntu, Fedora and Amazon Linux; `brew install elfutils`)."


class StripRefusal(Struct, frozen=True, kw_only=True):
    """Why eu-strip does not strip a file that it could look at; ``log`` is what it printed."""

    reason: str
    log: str = ""


class StripTool(Protocol):
    """Strips files. ``identity`` decides the bytes that come of it; ``path`` is the program, if it is this machine's."""

    identity: str
    path: Path | None
    together: int
    """Bytes of files that are best stripped at once: 0 where one at a time is."""

    def strip(self, files: Sequence[bytes], work: Path) -> list[bytes | StripRefusal]:
        """Return each file without debug sections and symbols that nothing links to; ``work`` is an empty folder.

        Raises `BuildError` where it does not come to an end, `UnavailableError` where there is no eu-strip after all.
        """
        ...


class SandboxStrip:
    """The eu-strip of the image that the sandbox ``python`` is in; may be used from many threads."""

    path: Path | None = None
    together = 100_000_000
    _remedy = 'Prepare the image: setup = ["dnf install -y elfutils"] in the configuration.'

    def __init__(self, python: Sandbox) -> None:
        self._open: Callable[[], Sandbox] = lambda: python
        self.identity = f"{_PROGRAM} of {python.identity}"

    def strip(self, files: Sequence[bytes], work: Path) -> list[bytes | StripRefusal]:
        """Strip files (`StripTool`) in one run of the sandbox."""
        inputs = work / "in"
        inputs.mkdir()
        for number, data in enumerate(files):
            (inputs / str(number)).write_bytes(data)
        (work / "work").mkdir()
        task = Task(script=_SCRIPT, arguments=("{in}", "{answer}"), inputs=inputs, seconds=_SECONDS, longest=_LONGEST)
        python = self._open()
        done = python.run(task, work / "work")
        if done.late:
            raise BuildError(f"{_PROGRAM} did not end within {_SECONDS} s in {python.place}", detail=done.log)
        if done.answer is None and done.status < 0:
            raise BuildError(f"{_PROGRAM} was killed by signal {-done.status} in {python.place}", detail=done.log)
        if done.answer is None:
            what = f"{_PROGRAM} cannot be run in {python.place} ({done.log.strip() or f'status {done.status}'})"
            raise UnavailableError(what, remedy=self._remedy)
        found = dict(_read_answers(done.answer))
        if found.keys() != set(range(len(files))):
            raise BuildError(f"{_PROGRAM} has answered for {len(found)} of {len(files)} files", detail=done.log)
        return [found[number] for number in range(len(files))]


class HostStrip(SandboxStrip):
    """The eu-strip of this machine, which parses what others made: it runs in a sandbox, by lpack's own Python.

    ``notice`` is as for `builders.host.foreign_files.ForeignFileProgram`. Raises `UnavailableError` where there is none. May be
    used from many threads.
    """

    together = 16_000_000
    _remedy = _REMEDY

    def __init__(self, remember: Remember | None = None, notice: Callable[[Sandbox], None] = lambda _: None) -> None:
        program = shutil.which(_PROGRAM)
        if program is None:
            raise UnavailableError(f"there is no {_PROGRAM}", remedy=_REMEDY)
        try:
            finished = subprocess.run(
                [program, "--version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=True, text=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise UnavailableError(f"{program} cannot be run ({error})", remedy=_REMEDY) from None
        self.identity = finished.stdout.partition("\n")[0]
        self.path: Path | None = Path(program)
        self._open = ForeignFileProgram(Path(program), remember, notice).sandbox


def _read_answers(data: bytes) -> list[tuple[int, bytes | StripRefusal]]:
    """Return what came of each file, with its number; raises `BuildError` where the answer is cut short."""
    found: list[tuple[int, bytes | StripRefusal]] = []
    at = 0
    while at < len(data):
        if len(data) - at < _HEAD.size:
            raise BuildError(f"the answer of {_PROGRAM} is cut short")
        number, status, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if not 0 <= length <= len(data) - at:
            raise BuildError(f"the answer of {_PROGRAM} is cut short")
        found.append((number, _refusal(status, data[at : at + length]) or data[at : at + length]))
        at += length
    return found


def _refusal(status: int, said: bytes) -> StripRefusal | None:
    """Return how eu-strip ended, unless well; raises `BuildError` where it was killed."""
    if not status:
        return None
    what = f"{_PROGRAM} wrote no file" if status == NO_FILE else f"{_PROGRAM} ended with status {status}"
    log = said.decode("utf-8", "replace")
    if status < 0:
        raise BuildError(what, detail=log)
    return StripRefusal(reason=what, log=log)
