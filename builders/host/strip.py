"""The recipe that strips shared libraries: elfutils' eu-strip, which leaves alone what is loaded of a file.

GNU strip and llvm-strip move segments of libraries that patchelf or auditwheel have changed, which then no longer load.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from builders.errors import BuildError, UnavailableError
from builders.inside.strip import NO_FILE
from builders.sandbox.task import Sandbox, Task

_PROGRAM = "eu-strip"
_SECONDS = 300
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


class HostStrip:
    """The eu-strip of this machine; raises `UnavailableError` where there is none. May be used from many threads."""

    together = 0

    def __init__(self) -> None:
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

    def strip(self, files: Sequence[bytes], work: Path) -> list[bytes | StripRefusal]:
        """Strip files (`StripTool`)."""
        return [self._strip_one(data, work) for data in files]

    def _strip_one(self, data: bytes, work: Path) -> bytes | StripRefusal:
        before, after = work / "before", work / "after"
        before.write_bytes(data)
        after.unlink(missing_ok=True)
        try:
            finished = subprocess.run(
                [_PROGRAM, "-o", str(after), str(before)],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                start_new_session=True,  # it takes moments, and Ctrl-C is for who waits for it
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BuildError(f"{_PROGRAM} did not end well ({error})") from None
        status = finished.returncode or (0 if after.is_file() else NO_FILE)
        return _refusal(status, finished.stderr) or after.read_bytes()


class ContainerStrip:
    """The eu-strip of the image that ``python`` is in; may be used from many threads."""

    path: Path | None = None
    together = 100_000_000

    def __init__(self, python: Sandbox) -> None:
        self._python = python
        self.identity = f"{_PROGRAM} of {python.identity}"

    def strip(self, files: Sequence[bytes], work: Path) -> list[bytes | StripRefusal]:
        """Strip files (`StripTool`) in one container."""
        inputs = work / "in"
        inputs.mkdir()
        for number, data in enumerate(files):
            (inputs / str(number)).write_bytes(data)
        (work / "work").mkdir()
        task = Task(script=_SCRIPT, arguments=("{in}", "{answer}"), inputs=inputs, seconds=_SECONDS)
        done = self._python.run(task, work / "work")
        if done.late:
            raise BuildError(f"{_PROGRAM} did not end within {_SECONDS} s in {self._python.place}", detail=done.log)
        if done.answer is None and done.status < 0:
            raise BuildError(f"{_PROGRAM} was killed by signal {-done.status} in {self._python.place}", detail=done.log)
        if done.answer is None:
            what = f"{_PROGRAM} cannot be run in {self._python.place} ({done.log.strip() or f'status {done.status}'})"
            remedy = 'Prepare the image: setup = ["dnf install -y elfutils"] in the configuration.'
            raise UnavailableError(what, remedy=remedy)
        found = dict(_read_answers(done.answer))
        if found.keys() != set(range(len(files))):
            raise BuildError(f"{_PROGRAM} has answered for {len(found)} of {len(files)} files", detail=done.log)
        return [found[number] for number in range(len(files))]


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
