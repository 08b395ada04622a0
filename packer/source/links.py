"""Symbolic links in sources: how far they may lead.

One that leads out of the repository would pack what the machine has there, its keys too, whoever made the link.
"""

from __future__ import annotations

import os
from pathlib import Path

from packer.core.errors import UsageError

REPOSITORY = ".git"


def function_boundary(source: Path, root: Path) -> str:
    """Return the folder, itself without links, that links in a function's source may not lead out of.

    That is the repository of ``root``, the configuration's folder, or ``root`` where there is none; for a source that lies
    elsewhere its own repository, or the source. Raises `UsageError` where only a link leads from the one to the other.
    """
    base = os.path.realpath(root)
    top = _repository_of(base) or base
    return _outer_boundary(source, Path(base, os.path.relpath(source.absolute(), root.absolute())), top) or top


def project_boundary(folder: Path) -> str:
    """Return the folder, itself without links, that links in a local project may not lead out of.

    That is its repository, or the project. Raises `UsageError` where it lies in a repository that a link leads out of.
    """
    above = os.path.realpath(folder.absolute().parent)
    own = _outer_boundary(folder, Path(above, folder.name), _repository_of(above))
    real = os.path.realpath(folder)
    return own or _repository_of(real) or real


def _outer_boundary(folder: Path, named: Path, top: str) -> str:
    """Return the boundary of a folder that lies out of ``top``, empty for one in it.

    ``named`` is where its path leads but for links. Raises `UsageError` where that is in ``top`` while the folder is not.
    """
    real = os.path.realpath(folder)
    if top and is_within(real, top):
        return ""
    if top and is_within(os.path.normpath(named), top):
        what = f"A link leads from {folder} out of {top}, to {real}."
        raise UsageError(what, remedy="Name that folder itself, or put a copy of it in the place of the link.")
    return _repository_of(real) or real


def check_link(place: str, boundary: str) -> None:
    """Check that a link, and what it leads to, stays within a boundary, and is no part of git's own; raises `UsageError`."""
    real = os.path.realpath(place)
    if not is_within(real, boundary) or REPOSITORY in Path(os.path.relpath(real, boundary)).parts:
        what = f"The link {place} leads out of the files of {boundary}, to {real}, and is not followed."
        remedy = "Leave it out with a line in .lpackignore, or put a copy of what it leads to in its place."
        raise UsageError(what, remedy=remedy)


def is_within(path: str, folder: str) -> bool:
    """Return whether a path is a folder or below it; neither has links."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _repository_of(folder: str) -> str:
    """Return the nearest folder at or above this one that git has its own in; empty where there is none."""
    above = (Path(folder), *Path(folder).parents)
    return next((str(each) for each in above if (each / REPOSITORY).exists()), "")
