"""Files on their way into a container and out of it: always by the Engine API, as tar archives."""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from builders.engine.client import EndedContainer
from builders.errors import BuildError
from builders.recipes import SOURCE_DATE_EPOCH

JOB = "job"
"""The folder below `builders.engine.job.WORK` that belongs to the caller's user."""
_MOST_LINKS = 8
"""How many symbolic links are followed, one after the other, to a file."""


def pack_work(into: Path, mode: int = 0o755, owner: tuple[int, int] | None = None) -> Path:
    """Write the tar of the folder that the container may write to, which is the caller's, or of another user and group."""
    with new_tar(into / "work.tar") as archive:
        folder = tarfile.TarInfo(JOB)
        folder.type, folder.mode = tarfile.DIRTYPE, mode
        folder.uid, folder.gid = owner or (os.getuid(), os.getgid())
        archive.addfile(folder)
    return into / "work.tar"


@contextmanager
def new_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """Write a tar that ends right after its last two blocks: what Podman is sent behind them can break its pipe."""
    with tarfile.open(path, "w") as archive:
        yield archive
        end = archive.offset + 2 * tarfile.BLOCKSIZE
    os.truncate(path, end)


def add_bytes(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    """Add a file that everybody may read."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


def neutral_info(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return the member readable by all and without its owner: the user inside may have any id."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    info.mtime = int(SOURCE_DATE_EPOCH)
    return info


def copy_out(ended: EndedContainer, path: str, to: BinaryIO, most: int) -> bool:
    """Copy a regular file of the container, following symbolic links; False where there is none.

    Raises `BuildError` for one of more than ``most`` bytes.
    """
    for _ in range(_MOST_LINKS):
        facts = ended.look(path)
        if facts is None or not (facts.regular or facts.link):
            return False
        if not facts.link:
            break
        path = posixpath.join(posixpath.dirname(path), facts.link)
    else:
        return False
    if facts.size > most:
        what = f"it left {path} behind with {facts.size} bytes; at most {most} are accepted"
        raise BuildError(what, detail=ended.log)
    with tempfile.TemporaryFile() as packed:
        ended.read(path, packed)
        packed.seek(0)
        try:
            with tarfile.open(fileobj=packed) as archive:
                member = archive.next()
                content = archive.extractfile(member) if member is not None and member.isreg() else None
                if content is None:
                    return False
                shutil.copyfileobj(content, to)
        except tarfile.TarError as error:
            raise BuildError(f"the container engine did not give {path} whole ({error})", remedy="Build again.") from None
    return True
