"""Which functions a set of changed paths affects: pure comparison of paths, nothing is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct


class Folder(Struct, frozen=True, kw_only=True):
    """A folder whose content counts; ``holds`` returns whether a path in it does (relative, with slashes; maybe deleted)."""

    path: str
    holds: Callable[[str], bool]


class InputPaths(Struct, frozen=True, kw_only=True):
    """The inputs of a function, as absolute paths without links.

    ``files`` need not exist; ``reasons`` are paths that are known to affect it already.
    """

    files: frozenset[str] = frozenset()
    folders: tuple[Folder, ...] = ()
    reasons: frozenset[str] = frozenset()


def match_changes(functions: Mapping[str, InputPaths], changed: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the changed paths that affect each function, sorted; functions that none affects are left out.

    ``changed`` are absolute paths without links. One that is a folder (git shows a submodule as one path) affects whatever uses
    anything in it. For example, of a (folder /r/a, file /r/lock) and b (folder /r/b), the change of /r/a/x affects a, and so
    does that of /r/lock; that of /r affects both.
    """
    users = _Users(functions)
    found: dict[str, set[str]] = {name: set(inputs.reasons) for name, inputs in functions.items()}
    for path in changed:
        for name in users.of(path):
            found[name].add(path)
    return {name: tuple(sorted(paths)) for name, paths in found.items() if paths}


class _Users:
    """Functions by the paths that they use: one lookup for each folder above a changed path, however many functions exist."""

    def __init__(self, functions: Mapping[str, InputPaths]) -> None:
        self._files: dict[str, set[str]] = {}
        self._folders: dict[str, list[tuple[str, Folder]]] = {}
        self._within: dict[str, set[str]] = {}  # by each folder above anything that is used
        for name, inputs in functions.items():
            for path in inputs.files:
                self._files.setdefault(path, set()).add(name)
            for folder in inputs.folders:
                self._folders.setdefault(folder.path, []).append((name, folder))
            for path in (*inputs.files, *(folder.path for folder in inputs.folders)):
                for above in (path, *_above(path)):
                    self._within.setdefault(above, set()).add(name)

    def of(self, path: str) -> Iterator[str]:
        yield from self._files.get(path, ())
        yield from self._within.get(path, ())
        for above in _above(path):
            rest = path[len(above) :].lstrip("/")
            yield from (name for name, folder in self._folders.get(above, ()) if folder.holds(rest))


def _above(path: str) -> Iterator[str]:
    while len(path) > 1:
        path = path.rpartition("/")[0] or "/"
        yield path
