"""Unpacks a written archive as Lambda does, for code to be run on it."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from pathlib import Path

import deflate

from packer.errors import PackageError
from packer.model import DEFLATED
from packer.store import explained
from packer.zipformat import Member, ZipFormatError, read_members

_BATCH = 256
"""Files that one piece of work unpacks."""


def unpack(archive: Path, folder: Path, executor: Executor) -> None:
    """Unpack an archive into a new folder, with its modes; raises `packer.errors.LpackError`."""
    with explained(folder, "write to"), archive.open("rb") as file:
        try:
            members = list(read_members(file.fileno()))
        except ZipFormatError as error:
            raise PackageError(f"{archive} is no archive that can be read: {error.reason}.", remedy="Build again.") from None
        folder.mkdir()
        for path in sorted({os.path.dirname(member.name) for member in members}):  # noqa: PTH120 thousands of them
            os.makedirs(folder / path, exist_ok=True)  # noqa: PTH103
        batches = [members[start : start + _BATCH] for start in range(0, len(members), _BATCH)]
        futures = [executor.submit(_write, file.fileno(), batch, folder) for batch in batches]
        for future in futures:
            future.result()


def _write(descriptor: int, members: list[Member], folder: Path) -> None:
    for member in members:
        stream = os.pread(descriptor, member.length, member.data_offset)
        data = deflate.deflate_decompress(stream, member.size) if member.method == DEFLATED and member.size else stream
        mode = 0o755 if member.mode & 0o111 else 0o644
        to = os.open(folder / member.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            os.write(to, data if member.size else b"")
        finally:
            os.close(to)
