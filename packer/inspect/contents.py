"""What is in an artifact, file by file: sizes, kinds, and the distribution that each file belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from packer.core.bytecode_paths import sourceless_path
from packer.core.model import OWN_SOURCE, Tree
from packer.formats.distribution_names import canonical_name
from packer.formats.unpack import open_archive

Kind = Literal["source", "bytecode", "native", "metadata", "data"]
KINDS: tuple[Kind, ...] = ("source", "bytecode", "native", "metadata", "data")
_NATIVE = re.compile(r"\.so(\.[0-9.]+)?$")
_INFO = re.compile(r"(?:^|/)(?P<name>[^/]+?)-(?P<version>[^/-]+)\.dist-info/")
_CACHED = re.compile(r"(?P<folder>.*/|)__pycache__/(?P<name>[^/]+)\.cpython-\d+(?:\.opt-\d)?\.pyc")
# Where modules lie in an artifact: in a function, a layer, an image (AWS "Packaging your layer content"; base images).
_ROOTS = re.compile(r"(?:var/task/|python/(?:lib/python3\.\d+/site-packages/)?)")


class PackedFile(Struct, frozen=True, kw_only=True):
    """One file of an artifact: bytes unpacked and packed, and ``mark``, which is the same where the content is.

    ``owner`` is the normalized name of a distribution, or `packer.core.model.OWN_SOURCE`.
    """

    path: str
    size: int
    packed: int
    mark: str
    owner: str = OWN_SOURCE

    @property
    def kind(self) -> Kind:
        """The kind of the file."""
        return kind_of(self.path)


def kind_of(path: str) -> Kind:
    """Return the kind of a file, by its path."""
    if ".dist-info/" in path:
        return "metadata"
    if path.endswith(".py"):
        return "source"
    if path.endswith(".pyc"):
        return "bytecode"
    return "native" if _NATIVE.search(path) else "data"


def read_packed_files(path: Path) -> list[PackedFile]:
    """Return the files of a ZIP archive, without their owners; raises `PackageError`."""
    with open_archive(path) as packed:
        return [
            PackedFile(path=each.name, size=each.size, packed=each.length, mark=f"{each.crc32:08x}") for each in packed.members
        ]


def distribution_versions(files: Iterable[PackedFile]) -> dict[str, str]:
    """Return the versions of distributions whose metadata is among files, by their normalized names."""
    found = (_INFO.search(each.path) for each in files)
    return {canonical_name(each["name"]): each["version"] for each in found if each}


def assign_owners(files: Sequence[PackedFile], trees: Mapping[str, Tree]) -> list[PackedFile]:
    """Return files with their owners; ``trees`` are what distributions install, by their names, as far as that is known.

    Other distributions own the folder of their name, and their metadata.
    """
    known = {entry.path: name for name, tree in trees.items() for entry in tree}
    guess = _guesses(files, frozenset(trees))
    return [
        PackedFile(path=each.path, size=each.size, packed=each.packed, mark=each.mark, owner=_owner(each.path, known, guess))
        for each in files
    ]


def _owner(path: str, known: Mapping[str, str], guess: Callable[[str], str | None]) -> str:
    inner = _ROOTS.sub("", path, count=1) if _ROOTS.match(path) else path
    return known.get(inner) or known.get(_source_of(inner)) or guess(inner) or OWN_SOURCE


def _source_of(path: str) -> str:
    """Return the path of the source that bytecode was compiled from."""
    cached = _CACHED.fullmatch(path)
    if cached:
        return f"{cached['folder']}{cached['name']}.py"
    return path.removesuffix("c") if path.endswith(".pyc") and sourceless_path(path.removesuffix("c")) == path else path


def _guesses(files: Sequence[PackedFile], without: frozenset[str]) -> Callable[[str], str | None]:
    """Return a function that guesses a file's owner from the distributions whose metadata is among the files."""
    names = {name.replace("-", "_"): name for name in distribution_versions(files) if name not in without}

    def guess(path: str) -> str | None:
        top = path.partition("/")[0]
        info = _INFO.match(path)
        if info:
            return canonical_name(info["name"])
        plain = canonical_name(top.removesuffix(".py").removesuffix(".libs").partition(".")[0]).replace("-", "_")
        return names.get(plain)

    return guess
