"""What sources name: files and endings of files in strings, and folders piece by piece, from where they lie themselves.

Code may read such a file. ``os.path.join(os.path.dirname(__file__), "share", "cmake")``, ``Path(__file__).parent / "include"``
and ``files("package").joinpath("include")`` name no file in a folder: what they are handed to, compilers and build tools, reads
any.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator

from msgspec import Struct

_LAST_PART = re.compile(rb"[\"'/]([\w.+*?%{}\[\]()-]{1,100})(?=[\"'])")
"""The last part of a path that stands in a string, patterns and placeholders included."""
_SUFFIX = re.compile(r"(?:^|[*?%{}\[\]()][\w-]*)((?:\.\w+)+)$")
"""An ending by itself, or after a placeholder: ``.h``, ``*.h``, ``%s.exe``, ``{name}-64.exe``."""
_LOCATES = (b"__file__", b"__path__", b"__spec__", b"find_spec", b"files(", b"resource_filename", b"get_path(", b"pkgutil")
"""What a source uses to find out where a package lies; one of these."""
_DEFINES_INCLUDES = re.compile(rb"^def _?(?:get_)?includes?(?:_(?:dir|path)(?:ectory|ectories|s)?)?\(", re.MULTILINE)
"""Begins a function that returns a folder of headers: numpy's ``get_include`` is the model of many."""
_DISPLAYS = (ast.List, ast.Set, ast.Dict)
"""What holds words of its own that are listed or exported rather than joined."""


class NamedFiles(Struct, frozen=True, kw_only=True):
    """The last parts of paths that stand in strings, and the endings of files that do, with their dots."""

    names: frozenset[str]
    suffixes: frozenset[str]


def find_named_files(sources: Iterable[bytes]) -> NamedFiles:
    """Return the files that the strings of sources name, in code or in comments."""
    found = {part for data in sources for part in set(_LAST_PART.findall(data))}
    names = frozenset(part.decode("utf-8", "replace") for part in found)
    suffixes = {suffix[1] for name in names if (suffix := _SUFFIX.search(name))}
    return NamedFiles(names=names, suffixes=frozenset(suffixes))


def find_named_folders(
    sources: Iterable[tuple[str, bytes]], folders: Collection[str], parse: Callable[[bytes], ast.Module | None]
) -> Iterator[str]:
    """Return those of ``folders`` that a module names by all their pieces below a package that the module lies in.

    ``sources`` are paths and contents of modules. The last piece must stand in a string; those before it may also be names, as
    of modules. A module that names none and defines ``get_include`` or the like means the folder that it lies in.
    """
    pieces = {folder.rpartition("/")[2] for folder in folders}
    for path, data in sources if pieces else ():
        if not any(word in data for word in _LOCATES):
            continue
        quoted = {piece for piece in pieces if _is_quoted(piece.encode(), data)}
        own = path.rpartition("/")[0] if _DEFINES_INCLUDES.search(data) else ""
        wanted = [folder for folder in folders if folder == own or folder.rpartition("/")[2] in quoted]
        parsed = parse(data) if wanted else None
        if parsed is None:
            continue
        strings, names = frozenset(_string_pieces(parsed)), frozenset(_names(parsed))
        found = [folder for folder in wanted if _is_named(path, folder, strings, names)]
        yield from found or ([own] if own in folders else ())


def _is_quoted(piece: bytes, data: bytes) -> bool:
    """Return whether a part of a path stands in a string."""
    return piece in data and re.search(rb"[\"'/\\]" + re.escape(piece) + rb"[\"'/\\]", data) is not None


def _is_named(path: str, folder: str, strings: Collection[str], names: Collection[str]) -> bool:
    """Return whether all pieces of a folder are named that follow a folder which the module lies in."""
    above, below = path.split("/")[:-1], folder.split("/")
    shared = next((number for number, pair in enumerate(zip(above, below, strict=False)) if pair[0] != pair[1]), None)
    pieces = below[min(len(above), len(below)) if shared is None else shared :]
    return bool(pieces) and pieces[-1] in strings and all(piece in strings or piece in names for piece in pieces)


def _string_pieces(module: ast.Module) -> Iterator[str]:
    """Return the parts of paths in strings, but for documentation, what is compared, and words that are listed."""
    waiting: list[tuple[ast.AST, bool]] = [(module, False)]  # with whether a string would be such a word
    while waiting:
        node, listed = waiting.pop()
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and not listed:
                yield from re.split(r"[/\\]", node.value)
        elif not isinstance(node, ast.Compare) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            joined = [each for each in _joined(node) if not listed]
            lists = isinstance(node, _DISPLAYS) or (listed and isinstance(node, (ast.Tuple, ast.Starred)))
            waiting += [(each, False) for display in joined for each in ast.iter_child_nodes(display)]
            waiting += [(each, lists) for each in ast.iter_child_nodes(node) if each not in joined]


def _joined(node: ast.AST) -> list[ast.expr]:
    """Return the lists whose elements a node joins or hands on one by one: `*["share", "cmake"]`, `os.sep.join(["share"])`."""
    found: list[ast.expr] = [node.value] if isinstance(node, ast.Starred) else []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join":
        by = node.func.value
        name = by.attr if isinstance(by, ast.Attribute) else by.id if isinstance(by, ast.Name) else ""
        if name == "sep" or (isinstance(by, ast.Constant) and by.value in {"/", "\\"}):
            found = node.args
    return [each for each in found if isinstance(each, (ast.List, ast.Set))]


def _names(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
