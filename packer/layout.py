"""Unpacks a written archive as Lambda does, for code to be run on it: in memory where there is plenty, which is far faster."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path

import deflate

from packer.errors import PackageError
from packer.model import DEFLATED
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


def unpacked_size(archive: Path) -> int:
    """Give the bytes that an archive unpacks to; raises `packer.errors.LpackError`."""
    with explained(archive, "read"), archive.open("rb") as file:
        return sum(member.size for member in _members(file.fileno(), archive))


def _members(descriptor: int, archive: Path) -> tuple[Member, ...]:
    try:
        return read_members(descriptor)
    except ZipFormatError as error:
        raise PackageError(f"{archive} is no archive that can be read: {error.reason}.", remedy="Build again.") from None


def unpack(archive: Path, folder: Path, executor: Executor) -> None:
    """Unpack an archive into a new folder, with its modes; raises `packer.errors.LpackError`."""
    with explained(folder, "write to"), archive.open("rb") as file:
        members = _members(file.fileno(), archive)
        folder.mkdir()
        for path in sorted({os.path.dirname(member.name) for member in members}):  # noqa: PTH120 thousands of them
            os.makedirs(folder / path, exist_ok=True)  # noqa: PTH103
        batches = [members[start : start + _BATCH] for start in range(0, len(members), _BATCH)]
        futures = [executor.submit(_write, file.fileno(), batch, folder) for batch in batches]
        for future in futures:
            future.result()


def _write(descriptor: int, members: Sequence[Member], folder: Path) -> None:
    for member in members:
        stream = os.pread(descriptor, member.length, member.data_offset)
        data = _inflated(stream, member)
        mode = 0o755 if member.mode & 0o111 else 0o644
        to = os.open(folder / member.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            os.fchmod(to, mode)  # whatever the umask is
            os.write(to, data)
        finally:
            os.close(to)


def _inflated(stream: bytes, member: Member) -> bytes:
    if not member.size:
        return b""
    try:
        data = bytes(deflate.deflate_decompress(stream, member.size)) if member.method == DEFLATED else stream
    except deflate.DeflateError:
        data = b""
    if deflate.crc32(data) != member.crc32:
        raise PackageError(f"{member.name} in the archive is broken.", remedy="Run `lpack cache verify`, and build again.")
    return data
