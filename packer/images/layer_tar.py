"""The tar of an image's layer: which files and folders it has, in which order, and the header of each."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

from packer.core.errors import ImageError
from packer.core.model import EXECUTABLE_MODE, FILE_MODE, Content, Tree, folders_above

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
"""What a tar ends with."""
_LONGEST_PATH, _LARGEST = 99, 0o7777_7777_777
"""The most that a plain header takes: letters of ASCII, and a number; what is more stands in a header of its own before it."""
_SIZE, _CHECKSUM = slice(124, 136), slice(148, 156)


class TarMember(Struct, frozen=True, kw_only=True):
    """A file or folder of the tar; ``content`` is None for a folder."""

    path: str
    mode: int
    content: Content | None = None


def tar_members(parts: Iterable[tuple[str, Tree]]) -> list[TarMember]:
    """Lay trees out below their folders: sorted, each folder once and before what is in it.

    Raises `ImageError` for a path that occurs twice, or is a file and a folder.
    """
    files: dict[str, TarMember] = {}
    for prefix, tree in parts:
        for entry in tree:
            path = f"{prefix}/{entry.path}" if prefix else entry.path
            if path in files:
                raise ImageError(f"Two files of an image's layer are called {path}.", remedy="Leave one of them out.")
            mode = EXECUTABLE_MODE if entry.mode & 0o111 else FILE_MODE
            files[path] = TarMember(path=path, mode=mode, content=entry.content)
    folders = folders_above(files)
    for path in folders & files.keys():
        what = f"{path} would be a file and a folder of an image's layer."
        raise ImageError(what, remedy="Rename one of them.")
    made = [TarMember(path=path, mode=EXECUTABLE_MODE) for path in folders]
    return sorted((*made, *files.values()), key=lambda each: each.path.encode("utf-8", "surrogateescape"))


def tar_header(member: TarMember, epoch: int) -> bytes:
    """Return the header of a file or folder; all are root's, and ``epoch`` is their time in seconds."""
    size = member.content.size if member.content else None
    path = member.path + "/" * (size is None)
    if len(path) > _LONGEST_PATH or not path.isascii() or max(size or 0, epoch) > _LARGEST:
        return _make_header(member.path, member.mode, size, epoch)
    # Of thousands of headers most differ in path, size and checksum alone, and tarfile takes its time over each.
    block = bytearray(_like(member.mode, size is None, epoch))
    block[: len(path)] = path.encode("ascii")
    block[_SIZE] = b"%011o\0" % (size or 0)
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


@lru_cache
def _like(mode: int, is_folder: bool, epoch: int) -> bytes:
    """Return a header that lacks its path, and counts its checksum as spaces (POSIX ustar interchange format)."""
    block = bytearray(_make_header("", mode, None if is_folder else 0, epoch))
    block[: _LONGEST_PATH + 1] = bytes(_LONGEST_PATH + 1)
    block[_CHECKSUM] = b" " * 8
    return bytes(block)


def _make_header(path: str, mode: int, size: int | None, epoch: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = mode, epoch
    if size is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
