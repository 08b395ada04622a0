"""The trees of wheels in the store: read once, and kept by the wheel's digest.

To check thousands of members and RECORD again takes a sixth of the time of a rebuild. A wheel entered the store only after
`packer.formats.wheel.check_wheel`, and the store proves that it is still the same.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from packer import __version__
from packer.cache.derived_values import derive
from packer.cache.store import Store, digest_of
from packer.core.model import Entry, Tree
from packer.formats.wheel import MemberContent, read_wheel
from packer.formats.zip_reader import ZipMember

_KIND = "wheel-trees"


class _KeptEntry(Struct, frozen=True, kw_only=True, array_like=True):
    """An entry that is a member of the wheel."""

    path: str
    mode: int
    digest: str
    member: ZipMember


class _KeptTree(Struct, frozen=True, kw_only=True):
    """The entries of a tree; None for one with a file that is not in the wheel as it is."""

    entries: tuple[_KeptEntry, ...] | None


def read_stored_wheel(store: Store, path: Path, filename: str, digest: str) -> Tree:
    """Return the tree of a wheel in the store, as `read_wheel` does; ``digest`` is its SHA-256. Raises `PackageError`."""
    found: list[Tree] = []

    def read() -> _KeptTree:
        tree = read_wheel(path, filename)
        found.append(tree)
        return _KeptTree(entries=_kept_entries(tree))

    kept = derive(store, _KIND, digest_of("2", __version__, digest, filename), _KeptTree, read).entries
    if found:
        return found[0]
    return read_wheel(path, filename) if kept is None else _restore_tree(kept, path, filename)


def _kept_entries(tree: Tree) -> tuple[_KeptEntry, ...] | None:
    """Return the entries of a tree in the form that is kept (`_KeptTree`)."""
    kept = []
    for entry in tree:
        content = entry.content
        if not isinstance(content, MemberContent):
            return None
        kept.append(_KeptEntry(path=entry.path, mode=entry.mode, digest=content.digest, member=content.member))
    return tuple(kept)


def _restore_tree(kept: tuple[_KeptEntry, ...], path: Path, filename: str) -> Tree:
    return Tree(
        tuple(
            Entry(
                path=each.path,
                mode=each.mode,
                content=MemberContent(path=path, member=each.member, digest=each.digest),
                owner=filename,
            )
            for each in kept
        )
    )
