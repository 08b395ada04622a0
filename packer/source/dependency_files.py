"""Finds what no configuration names: a folder's dependency file and its handler."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec.structs import replace

from builders.documents import read_toml
from packer.core.errors import UsageError
from packer.core.model import Requirements
from packer.core.names import PYPROJECT_FILE
from packer.locks.formats import LOCK_FORMATS, UV_LOCK

REQUIREMENTS, PYPROJECT = "requirements", "pyproject"
"""The kinds of dependency files that are no locks; those of locks are in `packer.locks.formats`."""
ANY_DEPTH = "**"
"""The part of a pattern that stands for any number of folders."""
_WORKSPACE = ("tool", "uv", "workspace")
_FIX = "Fix the file at that place."
# Modules that hold a handler by habit, best first: the console's own, then those of the usual templates.
_MODULES = ("lambda_function", "app", "main", "handler", "index", "function")
_ATTRIBUTES = ("lambda_handler", "handler")


def standard_files() -> dict[str, str]:
    """Return the file name by which each kind of dependency file is found, in the order in which a folder is searched.

    Locks come first, because their exact versions decide.
    """
    locks = {kind: row.filename for kind, row in LOCK_FORMATS.items()}
    return {**locks, REQUIREMENTS: "requirements.txt", PYPROJECT: PYPROJECT_FILE}


def find_requirements(
    source: Path,
    named: Path | None,
    where: str,
    *,
    package: str = "",
    extras: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
) -> Requirements | None:
    """Return the dependency file that is named, or else the first that the source folder holds; None where there is none.

    ``where`` is the place to blame. Raises `UsageError`.
    """
    if named is None:
        found = _requirements_in_folder(source)
        if found is None:
            if package or extras or groups:
                raise UsageError(f"{where}: there is no dependency file to take these from.", remedy="Name one: requirements.")
            return None
    else:
        found = _requirements_of_file(named.absolute(), where)
    return replace(found, package=package or found.package, extras=extras, groups=groups)


def _requirements_of_file(path: Path, where: str) -> Requirements:
    if path.is_dir():
        found = _requirements_in_folder(path)
        if found is None:
            raise UsageError(f"{where}: the folder {path} holds no dependency file.", remedy="Name a file, or remove the key.")
        return found
    if not path.is_file():
        raise UsageError(f"{where}: there is no file {path}.", remedy="Name an existing file, or remove the key.")
    kind = _kind_of(path.name)
    if kind:
        return Requirements(kind=kind, path=path)
    raise UsageError(
        f"{where}: lpack does not know what kind of dependency file {path.name} is.",
        remedy=f"Known are: {', '.join(standard_files().values())}, pylock.NAME.toml, and files ending in .txt or .in.",
    )


def _kind_of(name: str) -> str:
    """Return the kind of a dependency file by its name, empty where the name says none."""
    for kind, row in LOCK_FORMATS.items():
        if row.is_named(name):
            return kind
    if name == PYPROJECT_FILE:
        return PYPROJECT
    return REQUIREMENTS if PurePosixPath(name).suffix in (".txt", ".in") else ""


def _requirements_in_folder(folder: Path) -> Requirements | None:
    for kind, name in standard_files().items():
        path = folder / name
        if path.is_file():
            if kind != PYPROJECT:
                return Requirements(kind=kind, path=path.absolute())
            found = _requirements_of_project(path.absolute())
            if found is not None:
                return found
    if (folder / "Pipfile").is_file():
        raise UsageError(f"{folder / 'Pipfile'} has no Pipfile.lock beside it.", remedy="Run `pipenv lock` there first.")
    return None


def _requirements_of_project(path: Path) -> Requirements | None:
    """Return a pyproject.toml as what it belongs to: the member of a uv workspace above it, or itself."""
    document = _read_document(path)
    project = get_table(document, path, "project")
    if project is None:
        if get_table(document, path, "tool", "poetry") is not None:
            raise UsageError(f"{path} is a Poetry project without a poetry.lock.", remedy="Run `poetry lock` there first.")
        return None
    name = project.get("name", "")
    if not isinstance(name, str):
        raise UsageError(f"{path}: project.name must be a string.", remedy=_FIX)
    workspace = find_workspace(path.parent) if name else None
    lock = workspace / LOCK_FORMATS[UV_LOCK].filename if workspace else None
    if lock is not None and lock.is_file():
        return Requirements(kind=UV_LOCK, path=lock, package=name)
    return Requirements(kind=PYPROJECT, path=path)


def find_workspace(folder: Path) -> Path | None:
    """Return this folder or the one above it whose pyproject.toml makes it a uv workspace with the folder as a member.

    As uv does: the nearest workspace decides, by its ``members`` and ``exclude`` (uv documentation, "Using workspaces").
    """
    for parent in (folder, *folder.parents):
        path = parent / PYPROJECT_FILE
        if not path.is_file():
            continue
        document = _read_document(path)
        if get_table(document, path, *_WORKSPACE) is not None:
            return parent if _has_member(document, path, folder.relative_to(parent)) else None
    return None


def _has_member(document: Mapping[str, Any], file: Path, path: Path) -> bool:
    members, exclude = (workspace_patterns(document, file, key) for key in ("members", "exclude"))
    if not path.parts:
        return True
    return any(matches_path(each, path.as_posix()) for each in members) and not any(
        matches_path(each, path.as_posix()) for each in exclude
    )


def workspace_patterns(document: Mapping[str, Any], path: Path, key: str) -> tuple[str, ...]:
    """Return the ``members`` or ``exclude`` of a uv workspace, relative to the folder of its pyproject.toml ``path``.

    Raises `UsageError` that names the file and the key.
    """
    patterns = get_strings(get_table(document, path, *_WORKSPACE) or {}, path, key, ".".join(_WORKSPACE))
    return tuple(os.path.relpath(each, path.parent) if Path(each).is_absolute() else each for each in patterns)


def get_table(document: Mapping[str, Any], path: Path, *keys: str) -> Mapping[str, Any] | None:
    """Return a table of a TOML file, None where there is none; raises `UsageError` that names the file ``path`` and the key."""
    table: Any = document
    for number, key in enumerate(keys, 1):
        if key not in table:
            return None
        table = table[key]
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {'.'.join(keys[:number])} must be a table.", remedy=_FIX)
    return table  # type: ignore[no-any-return]


def get_strings(table: Mapping[str, Any], path: Path, key: str, place: str, *, others: bool = False) -> tuple[str, ...]:
    """Return the strings of a list in a table, none where there is no list; ``place`` is where the table stands in the file.

    Raises `UsageError` that names the file ``path`` and the key; ``others`` leaves out members that are tables.
    """
    found = table.get(key, [])
    known = (str, dict) if others else (str,)
    if not isinstance(found, list) or not all(isinstance(each, known) for each in found):
        raise UsageError(f"{path}: {place}.{key} must be a list of strings.", remedy=_FIX)
    return tuple(each for each in found if isinstance(each, str))


def matches_path(pattern: str, path: str) -> bool:
    """Return whether a relative path fits a pattern, part by part; ``**`` stands for any number of folders, none included."""
    return _matches_parts(PurePosixPath(os.path.normpath(pattern)).parts, PurePosixPath(os.path.normpath(path)).parts)


def _matches_parts(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == ANY_DEPTH:
        return _matches_parts(pattern[1:], path) or (bool(path) and _matches_parts(pattern, path[1:]))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _matches_parts(pattern[1:], path[1:])


def _read_document(path: Path) -> dict[str, Any]:
    return read_toml(path, UsageError, _FIX)


def find_handler(folder: Path) -> str:
    """Find the one handler of a folder: a top-level function by its usual names, in a module by the usual names first.

    Raises `UsageError` where there is none, or more than one and no name decides.
    """
    found = dict(_find_handlers(folder))
    if not found:
        lost = [path.name for path in _list_modules(folder) if not path.exists()]
        more = f" ({', '.join(lost)} leads nowhere)" if lost else ""
        raise UsageError(
            f"{folder} holds no module with a function named {' or '.join(_ATTRIBUTES)}{more}.",
            remedy="Name the folder of a function, or write a configuration with its handler (`lpack init`).",
        )
    return _choose_handler(folder, found)


def find_optional_handler(folder: Path) -> str:
    """Find the handler of a folder that may have none: then it is empty.

    Raises `UsageError` where there is more than one and no name decides, and where a module that cannot be read may hold it.
    """
    found = dict(_find_handlers(folder))
    if found:
        return _choose_handler(folder, found)
    for path, data in _read_candidates(folder):
        try:
            ast.parse(data)
        except (SyntaxError, ValueError) as error:
            what = f"Whether {folder} holds a handler cannot be decided: {path.name} is not valid Python ({error})."
            raise UsageError(what, remedy="Fix it, or write a configuration that names the handler.") from None
    return ""


def _choose_handler(folder: Path, found: Mapping[str, str]) -> str:
    usual = [module for module in _MODULES if module in found]
    chosen = usual or sorted(found)
    if len(chosen) == 1 or usual:
        return f"{chosen[0]}.{found[chosen[0]]}"
    raise UsageError(
        f"{folder} holds several modules with a handler: {', '.join(f'{module}.py' for module in chosen)}.",
        remedy="Write a configuration that names the handler (`lpack init`).",
    )


def _read_candidates(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Return the modules that contain a handler's name at all: parsing the others too would take most of the time."""
    for path in _list_modules(folder):
        if not path.is_file():
            continue  # a folder, or a dangling link, which packing the folder reports unless it is ignored
        try:
            data = path.read_bytes()
        except OSError as error:
            what = f"Whether {folder} holds a handler cannot be decided: {path.name} cannot be read ({error.strerror})."
            raise UsageError(what, remedy="Fix it, or write a configuration that names the handler.") from None
        if any(name.encode() in data for name in _ATTRIBUTES):
            yield path, data


def _list_modules(folder: Path) -> list[Path]:
    """Return what may be a module by its name: nothing hidden, such as the links by which editors lock files."""
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("."))


def _find_handlers(folder: Path) -> Iterator[tuple[str, str]]:
    for path, data in _read_candidates(folder):
        try:
            body = ast.parse(data).body
        except (SyntaxError, ValueError):
            continue
        names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        names |= {
            target.id
            for node in body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for attribute in _ATTRIBUTES:
            if attribute in names:
                yield path.stem, attribute
                break
