"""Paths within a root folder: symbolic links are followed as if the folder were `/`, and never out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from builders.errors import BuildError

_MOST_LINKS = 40
"""Symbolic links that Linux follows, one after the other (path_resolution(7))."""


class RootPathError(BuildError):
    """A path that cannot be followed within a root folder: through a file, or through too many links."""


def resolve_within(root: str, path: str, missing: Callable[[str], None] | None = None) -> str:
    """Return where a path leads within a root folder, as a path of this machine without links below ``root``.

    Everything is followed, the last part too; what a link says is taken to begin at ``root``, and there is nothing above it.
    ``missing`` makes a folder where there is nothing; without it, what is missing raises ``FileNotFoundError``. Raises
    `RootPathError` for a path through a file or through more than 40 links. Nothing else may change the folder meanwhile.
    """
    left, done, links = path.split("/"), list[str](), 0
    left.reverse()
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        here = "/".join((root, *done, part))
        kind = _kind(here, missing)
        if stat.S_ISLNK(kind):
            links += 1
            if links > _MOST_LINKS:
                raise RootPathError(f"{path} leads through more than {_MOST_LINKS} symbolic links")
            target = os.readlink(here)
            left.extend(reversed(target.split("/")))
            done = [] if target.startswith("/") else done
        elif stat.S_ISDIR(kind) or not any(each not in ("", ".") for each in left):
            done.append(part)
        else:
            raise RootPathError(f"{path} leads through {'/'.join((*done, part))}, which is not a folder")
    return "/".join((root, *done))


def _kind(path: str, missing: Callable[[str], None] | None) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        if missing is None:
            raise
        missing(path)
        return stat.S_IFDIR
