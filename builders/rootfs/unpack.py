"""Unpacks the layers of an image into a folder, as any user: what needs privileges is left out, and nothing leads out of it.

Source: the OCI image specification 1.1, layer.md ("Applying Changesets", "Whiteouts"). A layer is hostile until proved
otherwise: each path is followed within the folder alone, and what it holds is counted before it is written.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from builders.errors import BuildError
from builders.rootfs.paths import resolve_within

_WHITEOUT, _OPAQUE, _RESERVED = ".wh.", ".wh..wh..opq", ".wh..wh."
_PIECE = 1 << 20
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
"""What the owner, who is the calling user, may always do."""
_KEPT_MODE = 0o755
"""What is kept of a mode: not setuid, setgid and sticky, and nobody but the owner writes."""
_DEEPEST = 200
"""Folders within each other: Python removes and lists far deeper ones by recursion, which has a limit."""
_LATEST = (1 << 32) - 1
"""The latest time that files get, in seconds: all file systems know it."""


class UnsafeLayerError(BuildError):
    """A layer that cannot be unpacked safely, or at all."""


class RootFolder:
    """A root file system that is built up in an empty folder, layer by layer; for one thread, and nobody else may write there.

    Files belong to the calling user, who can read all of them. Devices, FIFOs and extended attributes are left out.
    ``most_bytes`` are those of all files together.
    """

    def __init__(self, root: Path, most_bytes: int) -> None:
        self._root = str(root)
        self._most = most_bytes
        self._written = 0
        self._folders: dict[str, str] = {}  # by their paths in layers
        self._own: set[str] = set()  # what the current layer has brought, and all folders above that

    def begin_layer(self) -> None:
        """Take what was added so far as lower layers, which opaque whiteouts hide."""
        self._own.clear()

    def add(self, path: str, info: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        """Apply one member of a layer: ``path`` is its name without a slash at either end, ``content`` is a file's.

        Raises `UnsafeLayerError`, or ``OSError`` where the folder cannot be written.
        """
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise UnsafeLayerError(f"the path {path[:200]!r} leads out of it")
        if len(parts) > _DEEPEST:
            raise UnsafeLayerError(f"{path[:200]!r} lies in more than {_DEEPEST} folders")
        folder, _, name = "/".join(part for part in parts if part not in ("", ".")).rpartition("/")
        if not name:  # the root itself
            return
        parent = self._folder(folder)
        if name.startswith(_WHITEOUT):
            self._white_out(parent, name, path)
            return
        self._place(os.path.join(parent, name), path, info, content)

    def _folder(self, path: str) -> str:
        found = self._folders.get(path)
        if found is None:
            found = resolve_within(self._root, path, _make_folder)
            if found.count("/") - self._root.count("/") > _DEEPEST:  # through links
                raise UnsafeLayerError(f"{path[:200]!r} leads into more than {_DEEPEST} folders")
            if not _is_folder(found):
                raise UnsafeLayerError(f"something lies below {path[:200]}, which is not a folder")
            self._folders[path] = found
        return found

    def _white_out(self, parent: str, name: str, path: str) -> None:
        """Hide what lower layers have: everything in a folder, or one name in it."""
        if name == _OPAQUE:
            self._hide_lower(parent)
        elif not name.startswith(_RESERVED):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in ("", ".", ".."):
                raise UnsafeLayerError(f"the whiteout {path[:200]!r} leads out of its folder")
            self._remove(os.path.join(parent, hidden))

    def _hide_lower(self, folder: str) -> None:
        """Remove what the current layer has not brought."""
        with os.scandir(folder) as listed:
            found = list(listed)
        for each in found:
            if each.path not in self._own:
                self._remove(each.path)
            elif each.is_dir(follow_symlinks=False):
                self._hide_lower(each.path)

    def _place(self, target: str, path: str, info: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        if info.isdir():
            self._place_folder(target, info)
        elif info.isreg():
            self._remove(target)
            self._write(target, path, info, content)
        elif info.islnk():
            self._link(target, path, info)
        elif info.issym():
            self._remove(target)
            if not info.linkname or "\0" in info.linkname:
                raise UnsafeLayerError(f"the symbolic link {path[:200]!r} leads nowhere")
            os.symlink(info.linkname, target)
        else:  # a device or a FIFO, which a sandbox has of its own where it needs one
            self._remove(target)
            return
        self._remember(target)

    def _place_folder(self, target: str, info: tarfile.TarInfo) -> None:
        if not _is_folder(target):
            self._remove(target)
            os.mkdir(target)
        os.chmod(target, info.mode & _KEPT_MODE | _FOLDER_MODE)

    def _write(self, target: str, path: str, info: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        self._written += info.size
        if self._written > self._most:
            raise UnsafeLayerError(f"its files have more than {self._most:,} bytes")
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, _PIECE)
            if file.tell() != info.size:
                raise UnsafeLayerError(f"{path[:200]!r} has {file.tell():,} bytes of {info.size:,}")
            os.fchmod(file.fileno(), info.mode & _KEPT_MODE | _FILE_MODE)
        seconds = min(max(int(info.mtime), 0), _LATEST)
        os.utime(target, (seconds, seconds))  # bytecode may be valid for a source of this time alone (PEP 552)

    def _link(self, target: str, path: str, info: tarfile.TarInfo) -> None:
        linked = info.linkname.removeprefix("./").rstrip("/")
        if linked.startswith("/") or ".." in linked.split("/") or "\0" in linked:
            raise UnsafeLayerError(f"the hard link {path[:200]!r} leads out of it")
        folder, _, name = linked.rpartition("/")
        source = os.path.join(self._folder(folder), name)
        if source == target:
            raise UnsafeLayerError(f"{path[:200]!r} is a link to itself")
        if not name or not os.path.lexists(source) or _is_folder(source):
            raise UnsafeLayerError(f"the hard link {path[:200]!r} leads to {linked[:200]!r}, which is no file of it")
        self._remove(target)
        if not os.path.lexists(source):  # it lay in the folder that was in the way
            raise UnsafeLayerError(f"the hard link {path[:200]!r} takes the place of what it leads to")
        os.link(source, target, follow_symlinks=False)

    def _remove(self, target: str) -> None:
        """Remove a file, a link, or a folder with all that is in it, if it exists."""
        if _is_folder(target):
            shutil.rmtree(target)
            self._folders.clear()
            return
        with suppress(FileNotFoundError):
            if os.path.islink(target):
                self._folders.clear()
            os.unlink(target)

    def _remember(self, target: str) -> None:
        while target not in self._own and target != self._root:
            self._own.add(target)
            target = os.path.dirname(target)


def _make_folder(path: str) -> None:
    """Make a folder that a layer does not list, as engines do, whatever the umask is."""
    os.mkdir(path)
    os.chmod(path, _KEPT_MODE)


def _is_folder(path: str) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False
