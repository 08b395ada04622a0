"""Writing files whole, for both packages."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of ``data`` to a descriptor; raises ``OSError``.

    One write(2) may take fewer bytes than it is given, without an error: so it does where a disk becomes full, or a limit is
    reached, in the middle of them.
    """
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest)
        if not written:
            raise OSError(errno.EIO, f"{len(rest)} of {len(data)} bytes could not be written")
        rest = rest[written:]


def check_length(path: Path, length: int) -> None:
    """Check that a file that was written has ``length`` bytes; raises ``OSError``."""
    found = path.stat().st_size
    if found != length:
        raise OSError(errno.EIO, f"{found} bytes of {length} were written")
