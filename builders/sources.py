"""Sources before they are built: brings commits here, and tells what a source is built with and whether it has native code."""

from __future__ import annotations

import lzma
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from builders.commands import git_environment, run_logged
from builders.documents import decode_text
from builders.errors import BuildError

_PROJECT_FILE = "pyproject.toml"
_DEFAULT_REQUIRES = ("setuptools>=40.8.0",)
"""What a source without a build system needs (PEP 518; pip's documentation of its build system interface)."""
_NATIVE_SUFFIXES = frozenset(
    (".c", ".cc", ".cpp", ".cxx", ".pyx", ".rs", ".f", ".f90", ".f95", ".go", ".cu", ".s", ".asm", ".swg", ".zig")
)
_NATIVE_FILES = frozenset(("Cargo.toml", "meson.build", "CMakeLists.txt"))
# Where native files are no part of the build.
_ASIDE = frozenset(
    ("test", "tests", "testing", "doc", "docs", "example", "examples", "benchmark", "benchmarks", "vendor-tests")
)
_LARGEST = 1 << 20
"""Largest pyproject.toml of an archive in bytes."""
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError)
"""What the readers of archives raise: the last for encrypted members, and for methods of compression that they lack."""


def read_build_system(path: Path) -> dict[str, Any]:
    """Return the table [build-system] of a source, with ``requires`` always there (PEP 518).

    Raises `BuildError` where the source or its pyproject.toml cannot be read.
    """
    data = _project_file(path)
    if data is None:
        return {"requires": list(_DEFAULT_REQUIRES)}
    try:
        document = tomllib.loads(decode_text(data))
    except ValueError as error:
        raise BuildError(f"its pyproject.toml is not valid TOML ({error})") from None
    table = document.get("build-system", {})
    if not isinstance(table, dict):
        raise BuildError("its pyproject.toml has a build-system that is no table")
    requires = table.get("requires", list(_DEFAULT_REQUIRES))
    if not isinstance(requires, list) or not all(isinstance(each, str) for each in requires):
        raise BuildError("its pyproject.toml has a build-system.requires that is no list of strings")
    return {**table, "requires": requires}


def find_native_file(path: Path) -> str:
    """Return the first file by which a source shows that it has native code; empty where it looks like pure Python."""
    for name in sorted(_names(path)):
        parts = PurePosixPath(name)
        if _ASIDE.isdisjoint(parts.parts[:-1]) and (parts.suffix.lower() in _NATIVE_SUFFIXES or parts.name in _NATIVE_FILES):
            return name
    return ""


def _project_file(path: Path) -> bytes | None:
    try:
        if path.is_dir():
            file = path / _PROJECT_FILE
            return file.read_bytes() if file.is_file() else None
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if _is_project_file(info.filename):
                        _check_size(info.file_size)
                        return archive.read(info)
                return None
        with tarfile.open(path) as packed:
            for member in packed:
                if member.isreg() and _is_project_file(member.name):
                    _check_size(member.size)
                    content = packed.extractfile(member)
                    return content.read() if content else None
    except UNREADABLE as error:
        raise BuildError(f"{path.name} cannot be read ({error})") from None
    return None


def _check_size(size: int) -> None:
    """Raise `BuildError` for a pyproject.toml of too many bytes to be read into memory."""
    if size > _LARGEST:
        raise BuildError(f"its pyproject.toml has {size:,} bytes, more than the {_LARGEST:,} that lpack reads")


def _is_project_file(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return len(parts) == 2 and parts[1] == _PROJECT_FILE


def _names(path: Path) -> Iterator[str]:
    """Return the files of a source, relative to its root."""
    try:
        if path.is_dir():
            yield from (each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
            return
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
        else:
            with tarfile.open(path) as packed:
                names = [member.name for member in packed if member.isreg()]
    except UNREADABLE as error:
        raise BuildError(f"{path.name} cannot be read ({error})") from None
    yield from (name.partition("/")[2] for name in names if "/" in name)


def check_out(url: str, folder: Path) -> Path:
    """Fetch the one commit of ``git+URL@commit#subdirectory=…`` and return the folder to build; raises `BuildError`."""
    address, _, fragment = url.removeprefix("git+").partition("#")
    repository, _, commit = address.rpartition("@")
    folder.mkdir()
    quiet = git_environment() | {"GIT_TERMINAL_PROMPT": "0"}
    run_logged(["git", "init", "--quiet", "."], folder, quiet)
    run_logged(["git", "fetch", "--quiet", "--depth", "1", "--", repository, commit], folder, quiet)
    run_logged(["git", "-c", "advice.detachedHead=false", "checkout", "--quiet", "FETCH_HEAD"], folder, quiet)
    return folder / fragment.removeprefix("subdirectory=")
