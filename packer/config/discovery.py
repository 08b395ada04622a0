"""Finds the functions of a repository by the patterns of ``discover``: every folder that fits and holds a handler is one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from msgspec import Struct, field

from packer.config.section import Section
from packer.core.errors import UsageError
from packer.core.names import check_name
from packer.source.dependency_files import ANY_DEPTH, find_optional_handler, matches_path

DISCOVER = "discover"
"""The key that holds the patterns."""
_WILD = re.compile(r"[*?\[]")
# What a wildcard never stands for; a pattern that spells such a name out is followed.
_PASSED_OVER = re.compile(r"\..*|node_modules|__pycache__|cdk\.out")


class DiscoveredFunction(Struct, frozen=True, kw_only=True):
    """A folder that holds a function, absolute, and its handler."""

    source: Path
    handler: str


class Discovery(Struct, frozen=True, kw_only=True):
    """Functions by name.

    ``searched`` are the paths in which another one may appear; ``notes`` say what was passed over, ``warnings`` which patterns
    may not mean what they say.
    """

    functions: Mapping[str, DiscoveredFunction] = field(default_factory=dict)
    searched: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def discover(project: Section, root: Path, out: Path) -> Discovery:
    """Find the functions that the project's patterns mean, in folders below ``root``; ``out`` is never searched.

    A function is called as its folder is, or as the table [functions.NAME] that has the folder as its source. The
    configuration's own folder is never one: its name differs from checkout to checkout. Raises `UsageError` for a pattern that
    fits no folder, for a name that two folders share or no function can have, and for a handler that cannot be found.
    """
    patterns = project.strings(DISCOVER)
    if not patterns:
        return Discovery()
    return _FolderSearch(project, root, out).run(patterns)


def matches_patterns(patterns: tuple[str, ...], path: str) -> bool:
    """Return whether patterns mean a folder; its ``path`` is relative to the configuration's folder, with slashes."""
    above = [path, *(parent.as_posix() for parent in PurePosixPath(path).parents)]
    negative = [each[1:] for each in patterns if each.startswith("!")]
    if any(matches_path(each, folder) for each in negative for folder in above):
        return False
    return any(matches_path(each, path) for each in patterns if not each.startswith("!"))


class _FolderSearch:
    def __init__(self, project: Section, root: Path, out: Path) -> None:
        self._project = project
        self._root = root
        self._out = os.path.realpath(out)
        self._tables = {name: each for name, each in project.tables("functions").items() if isinstance(each, dict)}
        self._claims: dict[str, list[str]] = {}  # the functions of the configuration by the folder that they name
        for name, table in self._tables.items():
            if isinstance(table.get("source"), str):
                self._claims.setdefault(os.path.realpath(root / table["source"]), []).append(name)
        self._functions: dict[str, DiscoveredFunction] = {}
        self._seen: dict[Path, bool] = {}  # every folder that fits, and whether it is a function's
        self._negative: tuple[str, ...] = ()
        self._in_use: set[str] = set()
        self._searched: list[Path] = []
        self._notes: list[str] = []

    def run(self, patterns: tuple[str, ...]) -> Discovery:
        for pattern in patterns:
            self._check(pattern)
        where = self._project.where(DISCOVER)
        self._negative = tuple(each[1:] for each in patterns if each.startswith("!"))
        warnings = [f"{where}: {why}" for each in patterns if not each.startswith("!") for why in self._follow(each)]
        vain = sorted(set(self._negative) - self._in_use)
        return Discovery(
            functions=dict(sorted(self._functions.items())),
            searched=tuple(dict.fromkeys(self._searched)),
            warnings=(*warnings, *(f"{where}: '!{each}' leaves no folder out." for each in vain)),
            notes=tuple(self._notes),
        )

    def _check(self, pattern: str) -> None:
        path = PurePosixPath(pattern.removeprefix("!"))
        wild = next((number for number, part in enumerate(path.parts) if _WILD.search(part)), len(path.parts))
        if not path.parts or path.is_absolute() or ".." in path.parts[wild:]:
            what = f"{pattern!r} is no pattern for folders, relative to {self._root}"
            raise self._project.error(DISCOVER, what, 'Write discover = ["services/*"].')

    def _follow(self, pattern: str) -> Iterator[str]:
        """Take the functions that a pattern means; gives a warning where it means none."""
        fitting = set(self._walk(self._root, PurePosixPath(os.path.normpath(pattern)).parts))
        if not fitting:
            what = f"no folder fits {pattern!r} in {self._root}"
            raise self._project.error(DISCOVER, what, "Fix the pattern, or remove it.")
        if not any(self._seen[folder] for folder in fitting):
            yield f"no folder that fits {pattern!r} holds a handler; {len(fitting)} looked into (-v lists them)."

    def _walk(self, folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """Return the folders below a folder that the rest of a pattern means; those with a handler are taken."""
        if self._is_left_out(folder):
            return
        if not parts:
            if folder != self._root:
                self._look_into(folder)
                yield folder
        elif parts[0] == ANY_DEPTH:
            yield from self._walk_down(folder, parts)
        elif _WILD.search(parts[0]):
            for child in self._children(folder):
                if fnmatchcase(child.name, parts[0]):
                    yield from self._walk(child, parts[1:])
        else:
            child = Path(os.path.normpath(folder / parts[0]))
            self._searched.append(child)
            if child.is_dir():
                yield from self._walk(child, parts[1:])

    def _walk_down(self, folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """Return the folders that fit in a folder and in all below it but those of functions: what lies there is theirs."""
        yield from self._walk(folder, parts[1:])
        if not self._seen.get(folder):
            for child in self._children(folder):
                if not child.is_symlink():
                    yield from self._walk(child, parts)

    def _children(self, folder: Path) -> Iterator[Path]:
        """Return the folders in a folder that a wildcard may stand for, sorted."""
        self._searched.append(folder)
        try:
            children = sorted(child for child in folder.iterdir() if not _PASSED_OVER.fullmatch(child.name))
        except OSError as error:
            what = f"the folder {folder} cannot be searched: {error.strerror}"
            raise self._project.error(DISCOVER, what, f'Leave it out: "!{self._relative(folder)}".') from error
        for child in children:
            # What is left out is not looked at: whoever gets it goes no further.
            if self._fitting(child) or (self._is_folder(child) and os.path.realpath(child) != self._out):
                yield child

    def _is_folder(self, path: Path) -> bool:
        """Return whether something is a folder, and no virtual environment."""
        try:
            return path.is_dir() and not (path / "pyvenv.cfg").exists()
        except OSError as error:
            what = f"{path} cannot be looked into: {error.strerror}"
            raise self._project.error(DISCOVER, what, f'Leave it out: "!{self._relative(path)}".') from error

    def _is_left_out(self, folder: Path) -> bool:
        found = self._fitting(folder)
        self._in_use.update(found)
        return bool(found)

    def _fitting(self, folder: Path) -> list[str]:
        """Return the patterns that leave a folder out."""
        path = self._relative(folder)
        return [pattern for pattern in self._negative if matches_path(pattern, path)]

    def _relative(self, folder: Path) -> str:
        return Path(os.path.relpath(folder, self._root)).as_posix()

    def _look_into(self, folder: Path) -> None:
        if folder in self._seen:
            return
        claimed = self._claims.get(os.path.realpath(folder))
        names = claimed or [folder.name]
        named = {name: str(self._tables.get(name, {}).get("handler") or "") for name in names}
        found = "" if all(named.values()) else find_optional_handler(folder)
        self._seen[folder] = any(named.values()) or bool(found)
        if not self._seen[folder]:
            self._searched += [folder, *sorted(folder.glob("*.py"))]
            self._notes.append(f"{folder} holds no handler, and is passed over.")
        for name, handler in named.items():
            if handler or found:
                self._take(name, DiscoveredFunction(source=folder, handler=handler or found), claimed=bool(claimed))

    def _take(self, name: str, found: DiscoveredFunction, *, claimed: bool) -> None:
        path = self._relative(found.source)
        table = f"{self._project.prefix}.functions.NAME".lstrip(".")
        remedy = f'Give it another name, [{table}] with source = "{path}", or leave it out: "!{path}".'
        other = self._functions[name].source if name in self._functions else None
        if not claimed:
            other = other or self._tables.get(name, {}).get("source")
            try:
                check_name(name, self._project.where(DISCOVER))
            except UsageError as error:
                raise UsageError(f"{error.what} It is the folder {found.source}.", remedy=remedy) from None
        if other:
            what = f"{found.source} and {self._root / other} would both be the function {name!r}"
            raise self._project.error(DISCOVER, what, remedy)
        self._functions[name] = found
