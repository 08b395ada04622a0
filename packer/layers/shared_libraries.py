"""Gathers the shared libraries of a layer in its folder ``lib``, and says which distributions must not be parted.

A library goes there only where every file that links to it finds the same bytes as before; in doubt, it stays where it is
(docs/shared-libraries.md).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from posixpath import normpath

from msgspec import Struct
from msgspec.structs import replace

from builders.runtimes import LIBRARY_FOLDER, Target
from packer.core.function_tree import Part
from packer.core.model import OWN_SOURCE, Entry, Tree
from packer.formats.elf import EXTENSION_MODULE, ElfFile
from packer.wheels.abi_check import files_of_machine, library_name, sonames

_COPIED_IN = re.compile(r"(?:.*/)?(?P<folder>[^/]*)\.libs/lib[^/]*?(?:-[0-9a-f]{8})+\.(?:[^/]*\.)?so(?:\.[^/]*)?")
"""Where auditwheel and `packer.wheels.repair` put libraries, under names with a digest, which no machine has beside them."""
_SHARED_LIBRARY = re.compile(r"\.so(\.|$)")
# What sources name: libraries, by the beginnings of their names, and folders of libraries, nameless where they are computed.
_LIBRARY_NAMED, _BEFORE_A_NAME = re.compile(rb"lib[\w+-]+"), b"\"'/\\"
_FOLDER_NAMED = re.compile(rb"(?:%s|[\"'}*/\\]|([\w+-]+))\.libs\b")


class GatheredLibraries(Struct, frozen=True, kw_only=True):
    """``parts`` are the distributions without what moved, ``libraries`` what stands at the layer's root, beside ``python/``.

    ``saved`` are the unzipped bytes that were there more than once.
    """

    parts: tuple[Part, ...]
    libraries: Tree
    saved: int


class _Copy(Struct, frozen=True, kw_only=True):
    """A native file of a part."""

    distribution: str
    entry: Entry
    file: ElfFile

    @property
    def name(self) -> str:
        return _last(self.entry.path)


def gather_libraries(
    parts: Sequence[Part],
    native: Mapping[str, Sequence[ElfFile]],
    *,
    others: Mapping[str, Sequence[ElfFile]],
    built: frozenset[str],
    target: Target,
) -> GatheredLibraries:
    """Move to the layer's ``lib`` what several of its distributions hold, and what lpack copied into those that it ``built``.

    ``native`` is the native code of each part, stripped or not; ``others`` that of all else which functions with this layer
    load, their own sources too. Raises what reading a source raises.
    """
    trees = dict(parts)
    copies = tuple(copy for name, tree in parts for copy in _copies(name, tree, native.get(name, ())))
    elsewhere = tuple(file for name, files in others.items() if name not in trees for file in files)
    settle = _Settle(copies, built, target)
    movable = _not_run_by_programs(_linked_to(copies, target), [*(copy.file for copy in copies), *elsewhere])
    movable = settle(_unmistakable(movable, parts, copies, elsewhere))
    named = {name: _Named.by(trees[name]) for name in dict.fromkeys(copy.distribution for copy in movable)}
    return _move_libraries(parts, settle([copy for copy in movable if not named[copy.distribution].has(copy.entry.path)]))


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _copies(name: str, tree: Tree, files: Sequence[ElfFile]) -> Iterator[_Copy]:
    """Return the native files that a part still holds."""
    by_path = {file.path: file for file in files}
    for entry in tree if by_path else ():
        if entry.path in by_path:
            yield _Copy(distribution=name, entry=entry, file=by_path[entry.path])


def _linked_to(copies: Iterable[_Copy], target: Target) -> list[_Copy]:
    """Return the libraries that were copied in, and that another file of the same distribution needs by their own name."""
    copies = [copy for copy in copies if copy.distribution != OWN_SOURCE and copy.file.machine == target.machine]
    needed = {(copy.distribution, name) for copy in copies for name in copy.file.needed if name != copy.name}
    return [
        copy
        for copy in copies
        if _COPIED_IN.fullmatch(copy.entry.path)
        and not copy.file.module
        and copy.file.soname in ("", copy.name)
        and (copy.distribution, copy.name) in needed
    ]


def _not_run_by_programs(copies: Iterable[_Copy], files: Sequence[ElfFile]) -> list[_Copy]:
    """Leave out what programs lead to: who starts one may leave LD_LIBRARY_PATH out of its environment."""
    needed: dict[str, set[str]] = {}
    for file in files:
        for name in sonames((file,)):
            needed.setdefault(name, set()).update(map(_last, file.needed))
    waiting = {_last(name) for file in files if not _SHARED_LIBRARY.search(_last(file.path)) for name in file.needed}
    reached: set[str] = set()
    while waiting:
        reached |= waiting
        waiting = {name for each in waiting for name in needed.get(each, ())} - reached
    return [copy for copy in copies if copy.name not in reached]


def _unmistakable(
    movable: Sequence[_Copy], parts: Sequence[Part], copies: Iterable[_Copy], elsewhere: Iterable[ElfFile]
) -> list[_Copy]:
    """Leave out what shares its name with anything else, for the loader looks into ``lib`` before it follows a DT_RUNPATH.

    Of the files elsewhere no content is known, and so they count as different. Nor may anything need it by its path.
    """
    contents: dict[str, set[str]] = {copy.name: set() for copy in movable}
    held = ((_last(entry.path), entry) for _, tree in parts for entry in tree)
    for name, entry in (*held, *((copy.file.soname, copy.entry) for copy in copies)):
        if name in contents:
            contents[name].add(entry.content.digest)
    files = (*(copy.file for copy in copies), *elsewhere)
    taken = sonames(elsewhere).union(_last(name) for file in files for name in file.needed if "/" in name)
    return [copy for copy in movable if len(contents[copy.name]) == 1 and copy.name not in taken]


class _Settle:
    """Leaves those of a choice that can move together: kept once by that, or copied in by lpack, and complete in ``lib``.

    What they need must be there by its name; a path would lead elsewhere from there.
    """

    def __init__(self, copies: Iterable[_Copy], built: frozenset[str], target: Target) -> None:
        # Beside a library that has the name of one of the runtime's, it may be that one which was found.
        self._runtime = target.libraries - sonames(copy.file for copy in copies)
        self._built = built

    def __call__(self, copies: Sequence[_Copy]) -> list[_Copy]:
        settled = list(copies)
        while True:
            holders: dict[str, set[str]] = {}
            for copy in settled:
                holders.setdefault(copy.name, set()).add(copy.distribution)
            names = {name for name, who in holders.items() if len(who) > 1 or who <= self._built}
            left = [copy for copy in settled if copy.name in names and self._runtime.union(names).issuperset(copy.file.needed)]
            if len(left) == len(settled):
                return settled
            settled = left


class _Named(Struct, frozen=True, kw_only=True):
    """What the Python code of a distribution names: beginnings of libraries' names, and folders without their ``.libs``."""

    libraries: tuple[str, ...]
    folders: frozenset[str]

    @classmethod
    def by(cls, tree: Tree) -> _Named:
        libraries: set[bytes] = set()
        folders: set[bytes] = set()
        for entry in tree:
            if entry.path.endswith((".py", ".pth", ".pyc")) and "__pycache__/" not in entry.path:
                data = entry.content.read()
                compiled = entry.path.endswith(".pyc")  # strings stand in it without their quotes
                for found in _LIBRARY_NAMED.finditer(data):
                    if compiled or data[found.start() - 1 : found.start()] in _BEFORE_A_NAME:
                        libraries.add(found[0])
                if b".libs" in data:  # the expression alone would take a hundred times as long
                    folders.update([b""] if compiled else _FOLDER_NAMED.findall(data))
        return cls(libraries=tuple(map(_text, libraries)), folders=frozenset(map(_text, folders)))

    def has(self, path: str) -> bool:
        """Return whether a library may be loaded by its path: its name or its folder is named, or some folder's is computed."""
        found = _COPIED_IN.fullmatch(path)
        folder = found["folder"] if found else ""
        return not self.folders.isdisjoint(("", folder)) or _last(path).startswith(self.libraries)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _move_libraries(parts: Sequence[Part], copies: Sequence[_Copy]) -> GatheredLibraries:
    """Take copies out of the parts, and return each of them once, as the first distribution by name has it."""
    libraries: dict[str, Entry] = {}
    for copy in sorted(copies, key=lambda copy: (copy.distribution, copy.entry.path)):
        held = libraries.setdefault(copy.name, replace(copy.entry, path=f"{LIBRARY_FOLDER}/{copy.name}"))
        if copy.entry.mode > held.mode:
            libraries[copy.name] = replace(held, mode=copy.entry.mode)
    gone = {(copy.distribution, copy.entry.path) for copy in copies}
    changed = {copy.distribution for copy in copies}
    tree = Tree.of(libraries.values())
    return GatheredLibraries(
        parts=tuple((name, _without(name, tree, gone) if name in changed else tree) for name, tree in parts),
        libraries=tree,
        saved=sum(copy.entry.content.size for copy in copies) - tree.size,
    )


def _without(name: str, tree: Tree, gone: Collection[tuple[str, str]]) -> Tree:
    return Tree(tuple(entry for entry in tree if (name, entry.path) not in gone))


def find_entangled(
    parts: Sequence[Part], native: Mapping[str, Sequence[ElfFile]], target: Target
) -> tuple[frozenset[str], ...]:
    """Return groups of parts that must lie on one side: in layers, which merge in ``/opt/python``, or in the function.

    They are sorted, and no part is in two. The side of a group with `packer.core.model.OWN_SOURCE`, which it may have though
    that is not among the parts, is the function.
    """
    ties = _Ties()
    _tie_paths(ties, [_Place(part=name, entries=tree.entries, start=0, end=len(tree), path="") for name, tree in parts])
    _tie_libraries(ties, [(name, files_of_machine(native.get(name, ()), target)) for name, _ in parts], target)
    return ties.groups()


class _Ties:
    """Groups of names that grow together."""

    def __init__(self) -> None:
        self._groups: dict[str, set[str]] = {}

    def tie(self, names: Iterable[str]) -> None:
        tied = set(names)
        if len(tied) > 1:
            tied.update(*(self._groups.get(name, ()) for name in tied))
            self._groups.update(dict.fromkeys(tied, tied))

    def groups(self) -> tuple[frozenset[str], ...]:
        return tuple(sorted(set(map(frozenset, self._groups.values())), key=sorted))


class _Place(Struct, frozen=True, kw_only=True):
    """A file of a part, or a folder, whose ``path`` ends in a slash: what it holds are entries ``start`` to ``end``.

    Thousands of entries are left alone: those of one folder follow each other, and only folders of several parts are opened.
    """

    part: str
    entries: tuple[Entry, ...]
    start: int
    end: int
    path: str

    @property
    def module(self) -> str:
        """What it is imported as, with slashes; another file's is its path."""
        if self.path.endswith((".py", ".pyc", ".so")):
            return EXTENSION_MODULE.sub(".so", self.path).rpartition(".")[0]
        return self.path.removesuffix("/")

    def inside(self) -> Iterator[_Place]:
        """Return the files and folders that lie directly in a folder."""
        start = self.start
        while start < self.end:
            path = self.entries[start].path
            slash = path.find("/", len(self.path))
            # The character after the slash comes after all that the folder holds.
            end = start + 1 if slash < 0 else self._first(path[:slash] + "0", start)
            yield replace(self, start=start, end=end, path=path if slash < 0 else path[: slash + 1])
            start = end

    def beginning(self) -> Entry | None:
        """Return what makes a folder a regular package (PEP 420 has none)."""
        start = self._first(f"{self.path}__init__.", self.start)
        names = [f"{self.path}__init__{suffix}" for suffix in (".py", ".pyc", ".so")]
        for entry in self.entries[start : self.end]:
            if EXTENSION_MODULE.sub(".so", entry.path) in names:
                return entry
        return None

    def files(self) -> frozenset[tuple[str, str]]:
        return frozenset((entry.path, entry.content.digest) for entry in self.entries[self.start : self.end])

    def _first(self, path: str, start: int) -> int:
        return bisect_left(self.entries, path, start, self.end, key=attrgetter("path"))


def _tie_paths(ties: _Ties, folders: Iterable[_Place]) -> None:
    """Tie the parts that have one module, or one package, in different ways, in one folder that they share and below."""
    found: dict[str, list[_Place]] = {}
    for folder in folders:
        for place in folder.inside():
            found.setdefault(place.module, []).append(place)
    for places in found.values():
        if len({place.part for place in places}) > 1:
            _tie_places(ties, places)


def _tie_places(ties: _Ties, places: Sequence[_Place]) -> None:
    shared = [place for place in places if place.path.endswith("/")]
    beginnings = [place.beginning() for place in shared]
    modules: dict[str, set[tuple[str, str]]] = {}
    for place in places:
        if not place.path.endswith("/"):
            modules.setdefault(place.part, set()).update(place.files())
    if len(set(map(frozenset, modules.values()))) > 1 or (modules and any(beginnings)):
        ties.tie(place.part for place in places)
    if not any(beginnings) or all(entry is not None and _is_namespace(entry) for entry in beginnings):
        _tie_paths(ties, shared)
    elif len({place.files() for place in shared}) > 1:
        ties.tie(place.part for place in shared)


def _is_namespace(beginning: Entry) -> bool:
    """Return whether a package looks for its modules in every folder of its name (pkgutil and setuptools documentation)."""
    if not beginning.path.endswith(".py"):
        return False
    data = beginning.content.read()
    return b"extend_path" in data or b"declare_namespace" in data


def _tie_libraries(ties: _Ties, parts: Sequence[tuple[str, Sequence[ElfFile]]], target: Target) -> None:
    """Tie what links to a library with the only parts that have it."""
    brought: dict[str, list[tuple[str, ElfFile]]] = {}
    for part, files in parts:
        for file in files:
            for name in sonames((file,)):
                brought.setdefault(name, []).append((part, file))
    for part, files in parts:
        for file in files:
            for name in file.needed:
                if name not in target.libraries and (found := brought.get(library_name(name))):
                    ties.tie(_companions(part, file, [each for each in found if each[0] == part] or found))


def _companions(part: str, user: ElfFile, found: Sequence[tuple[str, ElfFile]]) -> set[str]:
    """Return whose side matters to a file and the libraries that it links to.

    Those that no run path leads to are found all the same in two folders of the function, and from wherever.
    """
    folder = _folder(user.path)
    led = {normpath(re.sub(r"\$(ORIGIN|\{ORIGIN\})", f"/{folder}", path)).strip("/") for path in user.run_paths}
    owners = {owner for owner, _ in found}
    if all(_folder(file.path) in {"", LIBRARY_FOLDER} - led for _, file in found):
        return {OWN_SOURCE, *owners}
    return {part, *owners}


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
