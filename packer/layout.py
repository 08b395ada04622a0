"""Unpacks a written archive as Lambda does, for code to be run on it: in memory where there is plenty, which is far faster."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from packer.compress import inflated
from packer.errors import PackageError
from packer.model import EXECUTABLE_MODE, FILE_MODE
from packer.process import is_running
from packer.store import Store, explained
from packer.zipformat import Member, ZipFormatError, read_members

_MEMORY = Path("/dev/shm")  # noqa: S108 a folder of one's own is made in it
"""Where Linux has a file system in memory for everybody (shm_overview(7))."""
_PREFIX = "lpack-"
_PLENTY = 6
"""How many times what is unpacked must be free in memory: other functions are unpacked at the same time, and run."""
_BATCH = 256
"""Files that one piece of work unpacks."""


@contextmanager
def room_for(size: int, store: Store) -> Iterator[Path]:
    """Give a new folder for ``size`` bytes, in memory or in the store; it is removed at the end."""
    if not _fits_in_memory(size):
        with store.workspace() as folder:
            yield folder
        return
    _sweep()
    made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_MEMORY))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fits_in_memory(size: int) -> bool:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        facts = os.statvfs(_MEMORY)
    except (OSError, ValueError, StopIteration):
        return False
    free = min(available, facts.f_bavail * facts.f_frsize)
    return size * _PLENTY < free and not facts.f_flag & os.ST_NOEXEC and os.access(_MEMORY, os.W_OK)


def _sweep() -> None:
    """Remove what killed processes of this user have left in memory."""
    for left in _MEMORY.glob(_PREFIX + "*"):
        with suppress(OSError):
            if left.stat().st_uid == os.getuid() and not is_running(left.name.removeprefix(_PREFIX).partition("-")[0]):
                shutil.rmtree(left, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An archive whose directory was read, which is open for as long as its descriptor is."""

    path: Path
    descriptor: int
    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        """Bytes that it unpacks to."""
        return sum(member.size for member in self.members)

    def unpack(self, folder: Path, executor: Executor) -> None:
        """Unpack it into a new folder, with its modes; raises `packer.errors.LpackError`."""
        with explained(folder, "write to"):
            folder.mkdir()
            for path in sorted({os.path.dirname(member.name) for member in self.members}):  # noqa: PTH120 thousands of them
                os.makedirs(folder / path, exist_ok=True)  # noqa: PTH103
            batches = [self.members[start : start + _BATCH] for start in range(0, len(self.members), _BATCH)]
            futures = [executor.submit(self._write, batch, str(folder)) for batch in batches]
            for future in futures:
                future.result()

    def _write(self, members: Sequence[Member], folder: str) -> None:
        for member in members:
            try:
                data = inflated(member.span(self.path), self.descriptor)
            except ValueError:
                raise PackageError(
                    f"{member.name} in the archive is broken.", remedy="Run `lpack cache verify`, and build again."
                ) from None
            mode = EXECUTABLE_MODE if member.mode & 0o111 else FILE_MODE
            to = os.open(f"{folder}/{member.name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                os.fchmod(to, mode)  # whatever the umask is
                os.write(to, data)
            finally:
                os.close(to)


@contextmanager
def opened_archive(archive: Path) -> Iterator[Packed]:
    """Open an archive to be unpacked; raises `packer.errors.LpackError`."""
    with explained(archive, "read"):
        file = archive.open("rb", buffering=0)
    with file:
        try:
            with explained(archive, "read"):
                members = read_members(file.fileno())
        except ZipFormatError as error:
            raise PackageError(f"{archive} is no archive that can be read: {error.reason}.", remedy="Build again.") from None
        yield Packed(path=archive, descriptor=file.fileno(), members=members)


def unpack(archive: Path, folder: Path, executor: Executor) -> None:
    """Unpack an archive into a new folder; raises `packer.errors.LpackError`."""
    with opened_archive(archive) as packed:
        packed.unpack(folder, executor)
