"""What a root folder holds, as one digest; and the modes that its removal needs."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from builders.files import file_digest


class TreeListing(Struct, frozen=True, kw_only=True):
    """What a folder holds: the SHA-256 (hex) of its listing, the number of entries, and the bytes of its files."""

    digest: str
    entries: int
    size: int


def list_tree(root: Path) -> TreeListing:
    """Read all of a folder; raise ``OSError`` where that is not possible.

    The listing has, in order, each entry's path, kind and mode, with a file's time in seconds and SHA-256, or a link's target.
    """
    total, entries, size = hashlib.sha256(), 0, 0
    for path, found in _entries(str(root), ""):
        entries += 1
        said = b""
        if stat.S_ISREG(found.st_mode):
            size += found.st_size
            said = f"{int(found.st_mtime)} {file_digest(root / path)}".encode()
        elif stat.S_ISLNK(found.st_mode):
            said = os.fsencode(os.readlink(root / path))
        for part in (os.fsencode(path), f"{found.st_mode:o}".encode(), said):
            total.update(len(part).to_bytes(8, "big") + part)
    return TreeListing(digest=total.hexdigest(), entries=entries, size=size)


def tree_signature(root: Path) -> str:
    """Return a digest that changes with every change of a folder, without reading files; raise ``OSError``.

    Nobody but root can give a file back the time of its last change (inode(7), ctime). A copy has another signature.
    """
    total = hashlib.sha256()
    for path, found in _entries(str(root), ""):
        facts = (found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        total.update(os.fsencode(path) + b"\0" + repr(facts).encode())
    return total.hexdigest()


def tree_size(root: Path) -> tuple[int, int]:
    """Return the number of files and links below a folder and their bytes; raise ``OSError``."""
    found = [each.st_size for _, each in _entries(str(root), "") if not stat.S_ISDIR(each.st_mode)]
    return len(found), sum(found)


def make_removable(folder: str | Path) -> None:
    """Let its owner enter and change a folder and all those in it, whatever their modes are; raise ``OSError``."""
    waiting = [os.fspath(folder)]
    while waiting:
        found = waiting.pop()
        os.chmod(found, 0o700)
        with os.scandir(found) as listed:
            waiting += [each.path for each in listed if each.is_dir(follow_symlinks=False)]


def _entries(root: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(os.path.join(root, below)) as listed:
        names = sorted(each.name for each in listed)
    for name in names:
        path = os.path.join(below, name)
        found = os.lstat(os.path.join(root, path))
        yield path, found
        if stat.S_ISDIR(found.st_mode):
            yield from _entries(root, path)
