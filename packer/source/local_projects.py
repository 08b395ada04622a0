"""The local projects that a declaration leads to, as far as the files say it themselves: nothing is resolved."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from builders.documents import decode_text
from packer.core.errors import UsageError
from packer.core.names import PYPROJECT_FILE
from packer.formats.distribution_names import canonical_name
from packer.formats.requirements_txt import local_path
from packer.source.dependency_files import find_workspace, get_strings, get_table, workspace_patterns

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_FILE_URL = re.compile(r"@\s*(file:[^\s;]+)")


def find_local_projects(places: Iterable[Path]) -> tuple[Path, ...]:
    """Return local projects and archives, and all that these lead to in turn, each once; absolute paths."""
    found: dict[Path, None] = {}
    waiting = list(places)
    while waiting:
        place = waiting.pop(0)
        if place not in found:
            found[place] = None
            waiting += read_local_paths(place / PYPROJECT_FILE)
    return tuple(found)


def read_local_paths(path: Path) -> tuple[Path, ...]:
    """Return the local projects that a pyproject.toml names: by [tool.uv.sources], Poetry's paths, or ``file:`` URLs.

    Nothing where it is no TOML. A member inherits the sources of its uv workspace (uv documentation, "Using workspaces").
    Raises `UsageError` that names the file and the key for values of a wrong kind.
    """
    document = _read_document(path)
    if not document:
        return ()
    words = tuple(_requirement_texts(document, path))
    names = {canonical_name(found[1]) for found in map(_NAME.match, words) if found}
    workspace = find_workspace(path.parent)
    found = [_path_of(url, path) for word in words for url in _FILE_URL.findall(word)]
    sources: dict[str, list[Path]] = {}
    for folder in dict.fromkeys((workspace or path.parent, path.parent)):
        own = _uv_sources(_read_document(folder / PYPROJECT_FILE))
        sources |= {canonical_name(name): list(_source_places(name, each, folder, workspace)) for name, each in own.items()}
    found += [place for name in sorted(names & sources.keys()) for place in sources[name]]
    found += [path.parent / place for place in _poetry_places(document)]
    return tuple(dict.fromkeys(Path(os.path.normpath(place)) for place in found))


def _read_document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(decode_text(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def _get_table(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    table: Any = document
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else {}


def _uv_sources(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return _get_table(document, "tool", "uv", "sources")


def _path_of(url: str, path: Path) -> Path:
    try:
        return local_path(url, path.parent)
    except ValueError:
        raise UsageError(f"{path}: {url} is not a valid URL.", remedy="Write file:///PATH.") from None


def _requirement_texts(document: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Return every requirement that a project declares, those of its extras and groups too."""
    yield from get_strings(get_table(document, path, "project") or {}, path, "dependencies", "project")
    for keys in (("project", "optional-dependencies"), ("dependency-groups",)):
        table = get_table(document, path, *keys) or {}
        for key in table:
            yield from get_strings(table, path, key, ".".join(keys), others=keys == ("dependency-groups",))


def _source_places(name: str, source: Any, folder: Path, workspace: Path | None) -> Iterator[Path]:
    """Return where a source of uv leads to; one may be split by markers into several."""
    for each in source if isinstance(source, list) else [source]:
        if isinstance(each, dict) and isinstance(each.get("path"), str):
            yield folder / each["path"]
        elif isinstance(each, dict) and each.get("workspace") is True and workspace is not None:
            yield from (member for member in _workspace_members(workspace) if _called_name(member) == canonical_name(name))


def _workspace_members(workspace: Path) -> Iterator[Path]:
    path = workspace / PYPROJECT_FILE
    for pattern in workspace_patterns(_read_document(path), path, "members"):
        try:
            found = sorted(workspace.glob(f"{pattern.rstrip('/') or '.'}/pyproject.toml"))
        except (NotImplementedError, ValueError) as error:  # how pathlib refuses absolute patterns and wrong ones
            what = f"{path}: tool.uv.workspace.members: {pattern!r} is not a pattern of folders: {error}."
            raise UsageError(what, remedy="Fix the file at that place.") from None
        yield from (each.parent for each in found)


def _called_name(folder: Path) -> str:
    name = _get_table(_read_document(folder / PYPROJECT_FILE), "project").get("name")
    return canonical_name(name) if isinstance(name, str) else ""


def _poetry_places(document: Mapping[str, Any]) -> Iterator[str]:
    poetry = _get_table(document, "tool", "poetry")
    groups = [_get_table(group, "dependencies") for group in _get_table(poetry, "group").values() if isinstance(group, dict)]
    for dependencies in (_get_table(poetry, "dependencies"), *groups):
        for each in dependencies.values():
            for one in each if isinstance(each, list) else [each]:
                if isinstance(one, dict) and isinstance(one.get("path"), str):
                    yield one["path"]
