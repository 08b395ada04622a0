"""The tar of an image's layer: which files and folders it has, in which order, and the header of each."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

from packer.errors import ImageError
from packer.model import EXECUTABLE_MODE, FILE_MODE, Content, Tree

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
"""What a tar ends with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file or folder of the tar; ``content`` is None for a folder."""

    path: str
    mode: int
    content: Content | None = None


def members_of(parts: Iterable[tuple[str, Tree]]) -> list[Member]:
    """Lay trees out below their folders: sorted, each folder once and before what is in it.

    Raises `ImageError` for a path that is there twice, or is a file and a folder.
    """
    files: dict[str, Member] = {}
    for prefix, tree in parts:
        for entry in tree:
            path = f"{prefix}/{entry.path}" if prefix else entry.path
            if path in files:
                raise ImageError(f"Two files of an image's layer are called {path}.", remedy="Leave one of them out.")
            mode = EXECUTABLE_MODE if entry.mode & 0o111 else FILE_MODE
            files[path] = Member(path=path, mode=mode, content=entry.content)
    folders: set[str] = set()
    for path in files:
        above = path.rpartition("/")[0]
        while above and above not in folders:
            folders.add(above)
            above = above.rpartition("/")[0]
    for path in folders & files.keys():
        what = f"{path} would be a file and a folder of an image's layer."
        raise ImageError(what, remedy="Rename one of them.")
    made = [Member(path=path, mode=EXECUTABLE_MODE) for path in folders]
    return sorted((*made, *files.values()), key=lambda each: each.path.encode("utf-8", "surrogateescape"))


def header_of(member: Member, epoch: int) -> bytes:
    """Give the header of a file or folder; all are root's, and ``epoch`` is their time in seconds."""
    info = tarfile.TarInfo(member.path)
    info.mode, info.mtime = member.mode, epoch
    if member.content is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = member.content.size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
