"""A download's file: bytes are appended as they arrive, and errors of the disk are told from those of the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from builders.files import stream_digest, write_whole
from packer.cache.store import store_errors


class PartialFile:
    """The first ``size`` bytes of a download, in the file ``path``. All methods raise `StoreError`."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.size = 0
        self._path = path
        self._file = file

    def append(self, data: bytes) -> None:
        """Write the next bytes."""
        with store_errors(self._path, "write"):
            write_whole(self._file.fileno(), data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget what has arrived."""
        with store_errors(self._path, "write"):
            self._file.seek(0)
            self._file.truncate()
        self.size = 0

    def digest(self) -> str:
        """Return the SHA-256 (hex) of what has arrived."""
        with store_errors(self._path, "read"):
            return stream_digest(self._file)


@contextmanager
def open_partial_file(path: Path) -> Iterator[PartialFile]:
    """Open a new, empty file to download to; raise `StoreError`."""
    with store_errors(path, "write"):
        file = path.open("w+b", buffering=0)
    try:
        yield PartialFile(path, file)
    finally:
        with store_errors(path, "write"):
            file.close()
