"""An unpacked image and what is known of it: its digest, its variables, and the Pythons that it has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from builders.rootfs.listing import TreeListing, list_tree
from builders.rootfs.paths import RootPathError, resolve_within
from builders.runtimes import ELF_MACHINES, ELF_MAGIC, LANG_FOLDER, RUNTIME_FOLDER, Architecture

ROOT, RECORD = "root", "root.json"
"""The folder of an unpacked image holds both: its files, and what is known of them, which is written last."""
_FORM = 1
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of an image that sets none, as engines have it."""
_PYTHON = re.compile(r"python3\.([0-9]{1,2})")
_VERSION_LINE = re.compile(rb'#define\s+PY_VERSION\s+"(3\.[0-9]+\.[0-9]+[^"\s]{0,16})"')
_HEAD = 20
_MACHINE = slice(18, 20)
_LONGEST_HEADER = 1 << 16
_LONGEST_PROGRAM = 64 << 20
"""Bytes of a Python, or of its library, that are searched for its version."""


class ImagePython(Struct, frozen=True, kw_only=True):
    """A Python of an image: its path there, its version (``3.12.7``), and the folders of distributions that come with it."""

    path: str
    version: str
    packages: tuple[str, ...] = ()

    @property
    def minor(self) -> int:
        """The minor version."""
        return int(self.version.split(".")[1])


class WitnessedFile(Struct, frozen=True, kw_only=True):
    """A file by which a changed folder is found out cheaply: its path, bytes, and time in seconds."""

    path: str
    size: int
    modified: int

    def is_unchanged(self, root: Path) -> bool:
        """Return whether the file is as it was; cheap, and no proof."""
        with suppress(OSError):
            found = os.lstat(root / self.path)
            return (found.st_size, int(found.st_mtime)) == (self.size, self.modified)
        return False


class RootRecord(Struct, frozen=True, kw_only=True):
    """What is known of an unpacked image: ``tree`` is the digest of its listing, ``environment`` its configuration's."""

    form: int
    digest: str
    architecture: Architecture
    tree: str
    entries: int
    size: int
    environment: Mapping[str, str]
    pythons: tuple[ImagePython, ...]
    witnesses: tuple[WitnessedFile, ...]

    def encode(self) -> bytes:
        """Return the bytes of its file."""
        return msgspec.json.encode(self)


class UnpackedImage(Struct, frozen=True, kw_only=True):
    """An image's root file system in a folder, with its record."""

    root: Path
    record: RootRecord

    def python(self, minor: int) -> ImagePython | None:
        """Return the Python of a minor version that the image would start."""
        return next((each for each in self.record.pythons if each.minor == minor), None)


def describe_root(root: Path, digest: str, architecture: Architecture, environment: Mapping[str, str]) -> RootRecord:
    """Return the record of a folder that was just unpacked: all of it is read. Raises ``OSError``."""
    listing: TreeListing = list_tree(root)
    pythons = tuple(_find_pythons(root, architecture, environment.get("PATH", DEFAULT_PATH)))
    return RootRecord(
        form=_FORM,
        digest=digest,
        architecture=architecture,
        tree=listing.digest,
        entries=listing.entries,
        size=listing.size,
        environment=environment,
        pythons=pythons,
        witnesses=tuple(_witnesses(root, pythons)),
    )


def read_root(folder: Path, digest: str) -> UnpackedImage | None:
    """Return an image that was unpacked; None where there is none, or it has visibly changed.

    Looks at a few files alone: `is_whole` reads all.
    """
    try:
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=RootRecord)
    except (OSError, msgspec.DecodeError):
        return None
    root = folder / ROOT
    known = record.form == _FORM and record.digest == digest
    if not known or not all(each.is_unchanged(root) for each in record.witnesses):
        return None
    return UnpackedImage(root=root, record=record)


def is_whole(folder: Path, digest: str) -> bool:
    """Return whether an unpacked image is exactly as it was; reads all of it. Raises ``OSError``."""
    found = read_root(folder, digest)
    return found is not None and list_tree(found.root).digest == found.record.tree


def _find_pythons(root: Path, architecture: Architecture, path: str) -> Iterator[ImagePython]:
    """Return the Pythons of an image: of each minor the first one that AWS's folder and PATH lead to."""
    seen = set()
    for folder in dict.fromkeys((f"{LANG_FOLDER}/bin", *(each.rstrip("/") for each in path.split(":")))):
        if not folder.startswith("/"):
            continue
        for name in sorted(_names(root, folder)):
            found = _PYTHON.fullmatch(name)
            if not found or found[1] in seen:
                continue
            version = _version(root, f"{folder}/{name}", int(found[1]), architecture)
            if version:
                seen.add(found[1])
                yield ImagePython(
                    path=f"{folder}/{name}", version=version, packages=tuple(_packages(root, folder, int(found[1])))
                )


def _names(root: Path, folder: str) -> list[str]:
    with suppress(OSError, RootPathError):
        return [path.name for path in Path(resolve_within(str(root), folder)).iterdir()]
    return []


def _packages(root: Path, folder: str, minor: int) -> Iterator[str]:
    """Return the folders, of those that are there, in which a runtime has its own distributions."""
    prefix = folder.rpartition("/")[0]
    for path in (RUNTIME_FOLDER, f"{prefix}/lib/python3.{minor}/site-packages", f"{prefix}/lib/python3/dist-packages"):
        if _names(root, path):
            yield path


def _version(root: Path, path: str, minor: int, architecture: Architecture) -> str:
    """Return the version of a Python, from its headers, or else from what it is made of; empty where it is none to run."""
    try:
        program = Path(resolve_within(str(root), path))
        head = _read(program, _HEAD)
    except (OSError, RootPathError):
        return ""
    if not head.startswith(ELF_MAGIC) or int.from_bytes(head[_MACHINE], "little") != ELF_MACHINES[architecture]:
        return ""
    prefixes = dict.fromkeys((program.parent.parent, root / path.strip("/").rpartition("/")[0] / ".."))
    wanted = f"3.{minor}."
    for prefix in prefixes:
        header = _inside(root, prefix / f"include/python3.{minor}/patchlevel.h")
        found = _VERSION_LINE.search(_read(header, _LONGEST_HEADER)) if header else None
        if found and found[1].decode().startswith(wanted):
            return found[1].decode()
    libraries = (_inside(root, prefix / f"lib/libpython3.{minor}.so.1.0") for prefix in prefixes)
    return _search_version((program, *filter(None, libraries)), minor)


def _inside(root: Path, path: Path) -> Path | None:
    """Return where a path leads within the root folder; None where it leads nowhere."""
    with suppress(OSError, RootPathError):
        return Path(resolve_within(str(root), str(path.relative_to(root))))
    return None


def _search_version(programs: Iterable[Path], minor: int) -> str:
    """Return the version that a program has as a string (PY_VERSION, which Py_GetVersion gives)."""
    pattern = re.compile(rb"\0(3\.%d\.[0-9]{1,3}(?:(?:a|b|rc)[0-9]{1,2})?\+?)\0" % minor)
    for program in programs:
        found = pattern.search(_read(program, _LONGEST_PROGRAM))
        if found:
            return found[1].decode()
    return ""


def _read(path: Path, most: int) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        return file.read(most)
    return b""


def _witnesses(root: Path, pythons: Iterable[ImagePython]) -> Iterator[WitnessedFile]:
    """Return the files that every run of a Python needs first: itself, its library, and the loader's list of libraries."""
    for python in pythons:
        prefix = python.path.rpartition("/bin/")[0]
        names = (python.path, f"{prefix}/lib/libpython3.{python.minor}.so.1.0", f"{prefix}/lib/python3.{python.minor}/os.py")
        for name in (*names, "/etc/ld.so.cache", "/lib64/libc.so.6"):
            path = _inside(root, root / name.strip("/"))
            if path is not None:
                found = path.lstat()
                kept = str(path.relative_to(root))
                yield WitnessedFile(path=kept, size=found.st_size, modified=int(found.st_mtime))
