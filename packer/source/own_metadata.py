"""The metadata of the project that a function is: its code may ask `importlib.metadata` for its own version or entry points.

A function's source is packed as it lies there, and no back end makes its dist-info folder, so that is made here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from builders.documents import decode_text
from packer.core.model import FILE_MODE, OWN_SOURCE, BytesContent, Entry, Function, Tree
from packer.core.names import PYPROJECT_FILE
from packer.formats.distribution_names import canonical_name
from packer.locks.formats import LOCK_FORMATS, PYLOCK
from packer.source.dependency_files import PYPROJECT

_OF_PROJECTS = frozenset((*LOCK_FORMATS, PYPROJECT)) - {PYLOCK}
"""Kinds of dependency files that are about one project and lie beside its pyproject.toml."""
_ASKS = re.compile(
    rb"(?:version|metadata|distribution|get_distribution|files|requires|require)\(\s*"
    rb"(?:[\"']([\w.-]+)[\"']|(__name__|__package__))"
)
_VERSION = re.compile(r"^(?:__version__|version|VERSION)(?:\s*:\s*[\w.]+)?\s*=\s*[\"']([^\"']+)[\"']", re.MULTILINE)
_WORD = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$")
_RELEASE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")
_SCRIPTS = {"scripts": "console_scripts", "gui-scripts": "gui_scripts"}


class OwnProject(Struct, frozen=True, kw_only=True):
    """The project of a function: ``files`` decide what its metadata is."""

    name: str
    version: str
    summary: str
    requires_python: str
    entry_points: Mapping[str, Mapping[str, str]]
    files: tuple[Path, ...]


def own_project_files(function: Function) -> tuple[Path, ...]:
    """Return the files that decide a function's own metadata; none where it has no project."""
    path = _find_pyproject(function)
    project = _read_project(path) if path else None
    return project.files if project else (path,) if path else ()


def make_own_metadata(function: Function, source: Tree, distributions: Collection[str]) -> tuple[Entry, ...]:
    """Return the dist-info folder of the project that a function is.

    There is one where a lock of the project or its pyproject.toml says what the function needs, or where its code asks for it
    by its name; not where it is among the ``distributions`` (normalized names), or in the source. Where the version is not
    written down, nothing is returned. RECORD is empty until it is known what is packed (`packer.trim.installed_record`).
    """
    path = _find_pyproject(function)
    project = _read_project(path) if path else None
    if path is None or project is None or canonical_name(project.name) in distributions:
        return ()
    requirements = function.requirements
    locked = requirements is not None and requirements.kind in _OF_PROJECTS and path.is_relative_to(requirements.path.parent)
    if not locked and not _asks_for(project.name, source):
        return ()
    if any(_info_name(entry.path) == canonical_name(project.name) for entry in source):
        return ()
    folder = f"{re.sub(r'[-_.]+', '_', project.name)}-{project.version}.dist-info"
    texts = {"METADATA": _metadata_text(project), "entry_points.txt": _entry_points_text(project), "RECORD": ""}
    return tuple(
        Entry(path=f"{folder}/{name}", mode=FILE_MODE, content=BytesContent.of(text.encode()), owner=OWN_SOURCE)
        for name, text in texts.items()
        if text or name == "RECORD"
    )


def _find_pyproject(function: Function) -> Path | None:
    """Return the nearest pyproject.toml, from the source up to the folder of the configuration or of the requirements."""
    tops = [function.root, *([function.requirements.path.parent] if function.requirements else [])]
    for folder in (function.source, *function.source.parents):
        if not any(folder.is_relative_to(top) for top in tops):
            return None
        if (folder / PYPROJECT_FILE).is_file():
            return folder / PYPROJECT_FILE
    return None


def _read_project(path: Path) -> OwnProject | None:
    """Return what a pyproject.toml says of its project: many functions may have the same one, which is read once."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _parse_project(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)
def _parse_project(path: Path, _changed: int, _size: int) -> OwnProject | None:
    """Read what a pyproject.toml says of its project; None where it has no name, or no version that is written down.

    A file that cannot be read says nothing either: what needs it for more says so.
    """
    try:
        document = tomllib.loads(decode_text(path.read_bytes()))
    except (OSError, ValueError):
        return None
    project = _table(document, "project")
    poetry = _table(document, "tool", "poetry")
    name = project.get("name") or poetry.get("name")
    version, files = _find_version(document, path.parent)
    if not isinstance(name, str) or not _WORD.match(name) or not version or not _RELEASE.match(version):
        return None
    summary = project.get("description") or poetry.get("description")
    requires = project.get("requires-python")
    return OwnProject(
        name=name,
        version=version,
        summary=" ".join(summary.split()) if isinstance(summary, str) else "",
        requires_python=requires.strip() if isinstance(requires, str) and "\n" not in requires else "",
        entry_points=_read_entry_points(project, poetry),
        files=(path, *files),
    )


def _table(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        found = document.get(key)
        document = found if isinstance(found, dict) else {}
    return document


def _find_version(document: Mapping[str, Any], folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Return a project's version, and the file that it stands in where that is another one (setuptools, Hatchling, PDM)."""
    written = _table(document, "project").get("version") or _table(document, "tool", "poetry").get("version")
    if isinstance(written, str):
        return written, ()
    dynamic = _table(document, "tool", "setuptools", "dynamic", "version")
    module = dynamic.get("attr")
    named = [dynamic.get("file"), *(_table(document, "tool", tool, "version").get("path") for tool in ("hatch", "pdm"))]
    if isinstance(module, str):
        place = module.rpartition(".")[0].replace(".", "/")
        named += [f"{base}{place}{end}" for base in ("", "src/") for end in (".py", "/__init__.py")]
    for path in (folder / name for name in named if isinstance(name, str)):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found = _VERSION.search(text)
            return (found[1] if found else text.strip()), (path,)
    return "", ()


def _read_entry_points(project: Mapping[str, Any], poetry: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the entry points of a project by their groups (PyPA, "Declaring project metadata"; Poetry, "plugins")."""
    groups: dict[str, dict[str, str]] = {}
    tables = {group: _table(project, key) for key, group in _SCRIPTS.items()} | dict(_table(project, "entry-points"))
    for group, table in (*tables.items(), ("console_scripts", _table(poetry, "scripts")), *_table(poetry, "plugins").items()):
        found = {name: value for name, value in table.items() if isinstance(value, str)} if isinstance(table, dict) else {}
        if found:
            groups.setdefault(group, {}).update(found)
    return groups


def _asks_for(name: str, source: Tree) -> bool:
    """Return whether sources ask for the metadata of a project, or a package for that of its own name."""
    wanted = canonical_name(name)
    for entry in source:
        if entry.path.endswith(".py"):
            for found in _ASKS.finditer(entry.content.read()):
                asked = found[1].decode() if found[1] else entry.path.partition("/")[0].removesuffix(".py")
                if canonical_name(asked) == wanted:
                    return True
    return False


def _info_name(path: str) -> str:
    """Return the normalized name of the distribution whose dist-info folder a path lies in; empty for another path."""
    folder, slash, _ = path.partition("/")
    is_info = slash and folder.endswith((".dist-info", ".egg-info"))
    return canonical_name(folder.rpartition(".")[0].partition("-")[0]) if is_info else ""


def _metadata_text(project: OwnProject) -> str:
    fields = {
        "Metadata-Version": "2.1",
        "Name": project.name,
        "Version": project.version,
        "Summary": project.summary,
        "Requires-Python": project.requires_python,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def _entry_points_text(project: OwnProject) -> str:
    return "\n".join("\n".join((f"[{group}]", *lines, "")) for group, lines in _entry_point_lines(project))


def _entry_point_lines(project: OwnProject) -> Iterator[tuple[str, list[str]]]:
    for group, points in sorted(project.entry_points.items()):
        yield group, [f"{name} = {value}" for name, value in sorted(points.items())]
