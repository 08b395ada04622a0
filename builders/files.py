"""Files written whole or not at all, and their digests: one way for both packages."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import IO


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of ``data`` to a descriptor; raise ``OSError``.

    One write(2) may take fewer bytes than it is given, without an error: when the disk becomes full, or a limit is reached, in
    the middle of them.
    """
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest)
        if not written:
            raise OSError(errno.EIO, f"{len(rest)} of {len(data)} bytes could not be written")
        rest = rest[written:]


def check_length(path: Path, length: int) -> None:
    """Raise ``OSError`` unless a file has the ``length`` bytes that were written to it."""
    found = path.stat().st_size
    if found != length:
        raise OSError(errno.EIO, f"{found} bytes of {length} were written")


def place_file(temporary: Path, path: Path, length: int) -> None:
    """Rename a file of ``length`` bytes to its final path on the same file system, whose folders are created.

    Raises ``OSError``, also where the file has fewer bytes.
    """
    check_length(temporary, length)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(path)


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all: to a temporary file beside it, which is then renamed; raise ``OSError``."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".lpack-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.chmod(mode)
        place_file(temporary, path, len(data))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's content; raise ``OSError`` where it cannot be read."""
    with path.open("rb") as file:
        return stream_digest(file)


def stream_digest(file: IO[bytes]) -> str:
    """Return the SHA-256 (hex) of all that an open file holds, from its start; it is left at its end."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
