"""The inputs of functions as paths, to compare with what git has changed; nothing is resolved, fetched or built."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from builders.documents import decode_text
from builders.errors import LpackError
from builders.runtimes import Target
from packer.change.affected import Folder, InputPaths, match_changes
from packer.config.layer_table import list_layer_files
from packer.core.model import Function, Requirements
from packer.core.names import PYPROJECT_FILE
from packer.formats.requirements_txt import ARCHIVE_SUFFIXES, read_requirements
from packer.images.builder import files_of_image
from packer.locks.formats import LOCK_FORMATS, UV_LOCK, LockPart, LockReader, find_lock_reader
from packer.locks.pylock import find_pylock_places
from packer.resolve.joint_declaration import can_share_versions
from packer.source.dependency_files import PYPROJECT, REQUIREMENTS, get_strings, standard_files
from packer.source.function_source import Outline, scan_outline
from packer.source.local_projects import find_local_projects, read_local_paths
from packer.source.package_source import PROJECT_IGNORE
from packer.verify.runner import event_files

# What of [tool.uv] concerns one member of a workspace alone, or development; and what a uv.lock says for each member.
_OF_OTHERS = frozenset({"workspace", "dev-dependencies", "package"})
_IN_THE_LOCK = _OF_OTHERS | {"sources"}


class Change(Struct, frozen=True, kw_only=True):
    """What git says: the repository's folder, the absolute paths that changed, and the content of a path before, or None."""

    top: Path
    paths: frozenset[str]
    before: Callable[[str], bytes | None]


class _Found(Struct, frozen=True, kw_only=True):
    """What a part of a function depends on; ``locals`` are local projects and archives."""

    files: tuple[Path, ...] = ()
    folders: tuple[Folder, ...] = ()
    locals: tuple[Path, ...] = ()
    reasons: tuple[Path, ...] = ()


class Inventory:
    """Finds the inputs of functions; what several share is read once.

    ``remembered`` gives the local projects that a function was last built from: without a lock, only the resolver
    knows what local projects need of others.
    """

    def __init__(self, change: Change, out: Path, remembered: Callable[[str], Iterable[str]]) -> None:
        self._change = change
        self._out = out
        self._remembered = remembered
        self._projects: dict[Path, _Found] = {}
        self._documents: dict[tuple[Path, bool], Mapping[str, Any] | None] = {}
        self._contents: dict[tuple[Path, bool], bytes | None] = {}
        self._locked: dict[tuple[Requirements, Target], tuple[LockPart, bool]] = {}
        self._shared: dict[tuple[str, ...], frozenset[str]] = {}

    def of(self, function: Function) -> InputPaths:
        """Return a function's inputs; raises `LpackError` for what a build could not read either."""
        requirements = function.requirements
        parts = [self._source(function), self._proof(function), self._own_lock(function), self._settings(function)]
        if requirements is not None:
            parts.append(self._declared(function, requirements))
        parts += [self._project(place) for place in dict.fromkeys(place for part in parts for place in part.locals)]
        gone = (path for path in self._vanished(function) if not path.exists())
        files = [*(path for part in parts for path in part.files), *gone]
        folders = tuple(folder for part in parts for folder in part.folders)
        reasons = self._outside(files, folders) | self._shared_reasons(function)
        return _inputs(files, folders, reasons, parts)

    def _shared_reasons(self, function: Function) -> frozenset[str]:
        """Return the changed paths that decide the versions which a function shares with others for its target."""
        if not can_share_versions(function) or function.lock_path.is_file():
            return frozenset()  # what is locked keeps its versions
        peers = [each for each in function.sharing if each.target == function.target and each.requirements]
        key = (str(function.target), *(each.name for each in peers))
        if key not in self._shared:
            found = match_changes({each.name: self._versions(each) for each in peers}, self._change.paths)
            self._shared[key] = frozenset(path for paths in found.values() for path in paths)
        return self._shared[key]

    def _versions(self, function: Function) -> InputPaths:
        """Return what decides which versions a function can have; of its local projects that is what they declare."""
        requirements = function.requirements
        assert requirements is not None  # noqa: S101 see _shared_reasons
        try:
            parts = [self._own_lock(function), self._settings(function), self._declared(function, requirements)]
        except LpackError:  # a build goes on without it
            parts = [_Found(files=(function.lock_path, requirements.path))]
        parts += [self._declared_by(place) for place in dict.fromkeys(place for part in parts for place in part.locals)]
        gone = (path for path in self._vanished(function) if not path.exists())
        files = [*(path for part in parts for path in part.files), *gone]
        return _inputs(files, [folder for part in parts for folder in part.folders], (), parts)

    def _declared_by(self, place: Path) -> _Found:
        """Return what decides the dependencies of a local project: all of it, where its build back end finds them out."""
        path = place / PYPROJECT_FILE
        project = (self._document(path) or {}).get("project")
        if not isinstance(project, dict) or _is_dynamic(project, path):
            return self._project(place)
        return _Found(reasons=(path,) if self._differs(path, _project_tables) else ())

    def _outside(self, files: Sequence[Path], folders: Sequence[Folder]) -> set[str]:
        """Return the paths outside of the repository: whether they have changed is not known, and so they count."""
        found = {folder.path for folder in folders} | {_real_path(path) for path in files if path.exists()}
        return {path for path in found if not Path(path).is_relative_to(self._change.top)}

    def _source(self, function: Function) -> _Found:
        skip = [self._out, *([function.requirements.path] if function.requirements else [])]
        outline = partial(scan_outline, function.source, root=function.root, ignore=function.ignore, skip=skip)
        now = outline()
        rules = [path for path in now.rules if self._has_changed(Path(path))]
        reasons: tuple[Path, ...] = ()
        if rules:
            before = outline(replaced={path: self._change.before(_real_path(Path(path))) for path in rules})
            reasons = tuple(map(Path, rules)) if before.files != now.files else ()
        return _Found(files=_linked_files(now), folders=_folders(now), reasons=reasons)

    def _proof(self, function: Function) -> _Found:
        """Return the profile, the events (more may appear), and the files of layers and of the image."""
        profile = function.trim.profile if function.trim.level == "max" else None
        searched = (Folder(path=_real_path(path), holds=_is_event) for path in function.verify.searched)
        files = (
            *event_files(function),
            *([profile] if profile else []),
            *list_layer_files(function.layers),
            *files_of_image(function),
        )
        return _Found(files=files, folders=tuple(searched))

    def _own_lock(self, function: Function) -> _Found:
        lock = function.lock_path
        return _Found(files=(lock,), locals=find_pylock_places(lock, self._content(lock) or b""))

    def _settings(self, function: Function) -> _Found:
        """Return uv's own settings, in every folder above that uv reads."""
        requirements = function.requirements
        folder = Path(_real_path(requirements.path.parent if requirements else function.source))
        above = [each for each in (folder, *folder.parents) if each.is_relative_to(self._change.top)]
        projects = (each / PYPROJECT_FILE for each in above)
        without = _IN_THE_LOCK if requirements and requirements.kind == UV_LOCK else _OF_OTHERS
        changed = (path for path in projects if self._differs(path, partial(_uv_settings, without)))
        return _Found(files=tuple(each / "uv.toml" for each in above), reasons=tuple(changed))

    def _declared(self, function: Function, requirements: Requirements) -> _Found:
        reader = find_lock_reader(requirements)
        if reader:
            return self._of_lock(requirements, function.target, reader)
        declared = self._of_requirements if requirements.kind == REQUIREMENTS else self._of_pyproject
        return declared(function, requirements.path)

    def _of_lock(self, requirements: Requirements, target: Target, reader: LockReader) -> _Found:
        """Return what a lock says: it counts by the part that the function takes, or as a whole where no part is known."""
        path, project = requirements.path, requirements.path.with_name(PYPROJECT_FILE)
        key = (requirements, target)
        if key not in self._locked:
            now = then = reader.part(requirements, target, self._content(path) or b"")
            if now.packages and self._has_changed(path):
                then = reader.part(requirements, target, self._content(path, then=True) or b"")
            self._locked[key] = now, now.packages != then.packages
        part, differs = self._locked[key]
        if part.packages:
            return _Found(locals=part.places, reasons=(path,) if differs else ())
        reasons = (project,) if reader.follows_project and self._differs(project, _project_tables) else ()
        return _Found(files=(path,), locals=part.places, reasons=reasons)

    def _of_requirements(self, function: Function, path: Path) -> _Found:
        file = read_requirements(path)
        links = tuple(Folder(path=_real_path(folder), holds=_is_archive) for folder in file.links)
        return _Found(files=file.files, folders=links, locals=self._with_more(function, file.local_paths))

    def _of_pyproject(self, function: Function, path: Path) -> _Found:
        places = self._with_more(function, read_local_paths(path))
        project = (self._document(path) or {}).get("project")
        if isinstance(project, dict) and _is_dynamic(project, path):
            places = (path.parent, *places)  # a build back end may find them anywhere
        return _Found(locals=places, reasons=(path,) if self._differs(path, _project_tables) else ())

    def _with_more(self, function: Function, places: Iterable[Path]) -> tuple[Path, ...]:
        """Return these projects with the local projects that they need, as they declare them and the last build found them."""
        known = find_local_projects(places)
        if not function.lock_path.is_file():
            known += tuple(map(Path, self._remembered(function.name)))
        return known

    def _project(self, place: Path) -> _Found:
        """Return what decides a local project: everything that its build may see; an archive is one file."""
        if place not in self._projects:
            if place.is_dir():
                outline = scan_outline(place, ignore=PROJECT_IGNORE, git=False)
                self._projects[place] = _Found(files=_linked_files(outline), folders=_folders(outline))
            else:
                self._projects[place] = _Found(files=(place,), folders=(Folder(path=_real_path(place), holds=lambda _: True),))
        return self._projects[place]

    def _vanished(self, function: Function) -> Iterator[Path]:
        """Return the dependency files that would come first if they existed: one may have been removed."""
        requirements = function.requirements
        names = list(standard_files().values())
        if requirements:
            names = names[: list(standard_files()).index(requirements.kind)]
        folders = dict.fromkeys((function.source, *([requirements.path.parent] if requirements else [])))
        yield from (folder / name for folder in folders for name in names)
        if requirements and requirements.kind == PYPROJECT:
            yield from (parent / LOCK_FORMATS[UV_LOCK].filename for parent in function.source.parents)

    def _has_changed(self, path: Path) -> bool:
        return not self._change.paths.isdisjoint((_path_in_git(path), _real_path(path)))

    def _differs(self, path: Path, relevant: Callable[[Mapping[str, Any]], Any]) -> bool:
        """Return whether the relevant part of a TOML file has changed."""
        if not self._has_changed(path):
            return False
        return bool(relevant(self._document(path) or {}) != relevant(self._document(path, then=True) or {}))

    def _document(self, path: Path, *, then: bool = False) -> Mapping[str, Any] | None:
        """Return a TOML file's content, now or before; None where it does not exist or cannot be parsed."""
        then = then and self._has_changed(path)
        if (path, then) not in self._documents:
            data = self._content(path, then=then)
            try:
                self._documents[path, then] = None if data is None else tomllib.loads(decode_text(data))
            except ValueError:
                self._documents[path, then] = None
        return self._documents[path, then]

    def _content(self, path: Path, *, then: bool = False) -> bytes | None:
        """Return a file's content, now or before the change; None where it cannot be read."""
        then = then and self._has_changed(path)
        if (path, then) not in self._contents:
            try:
                self._contents[path, then] = self._change.before(_real_path(path)) if then else path.read_bytes()
            except OSError:
                self._contents[path, then] = None
        return self._contents[path, then]


def _inputs(files: Iterable[Path], folders: Iterable[Folder], reasons: Iterable[str], parts: Iterable[_Found]) -> InputPaths:
    known = (_real_path(path) for part in parts for path in part.reasons)
    return InputPaths(
        files=frozenset(name for path in files for name in (_path_in_git(path), _real_path(path))),
        folders=tuple(folders),
        reasons=frozenset((*reasons, *known)),
    )


def _is_dynamic(project: Mapping[str, Any], path: Path) -> bool:
    return "dependencies" in get_strings(project, path, "dynamic", "project")


def _uv_settings(without: frozenset[str], document: Mapping[str, Any]) -> Any:
    tool = document.get("tool")
    settings = tool.get("uv") if isinstance(tool, dict) else None
    return {key: value for key, value in settings.items() if key not in without} if isinstance(settings, dict) else {}


def _project_tables(document: Mapping[str, Any]) -> Any:
    """Return what a project declares about its dependencies, for any tool."""
    tool = document.get("tool")
    tools = [tool.get(name) for name in ("uv", "poetry")] if isinstance(tool, dict) else [None, None]
    return [document.get("project"), document.get("dependency-groups"), *tools]


def _folders(outline: Outline) -> tuple[Folder, ...]:
    """Return the folder and those that links in it lead to, each with paths as they are in the folder."""
    return tuple(
        Folder(path=true, holds=partial(_holds, outline, path))
        for path, true in outline.links.items()
        if not path or path.endswith("/")
    )


def _holds(outline: Outline, prefix: str, rest: str) -> bool:
    return outline.holds(prefix + rest)


def _linked_files(outline: Outline) -> tuple[Path, ...]:
    return tuple(Path(true) for path, true in outline.links.items() if path and not path.endswith("/"))


def _is_event(path: str) -> bool:
    return path.endswith(".json") and "/" not in path


def _is_archive(path: str) -> bool:
    return path.endswith(ARCHIVE_SUFFIXES) and "/" not in path


def _real_path(path: Path) -> str:
    return os.path.realpath(path)


def _path_in_git(path: Path) -> str:
    """Return the path as git names it, which may be a link itself."""
    return str(Path(os.path.realpath(path.parent)) / path.name)
