"""Folders that sources name piece by piece, from where they lie themselves: code may hand them to compilers and build tools.

``os.path.join(os.path.dirname(__file__), "share", "cmake")``, ``Path(__file__).parent / "include"`` and
``files("package").joinpath("include")`` name no file in them, and what they are handed to reads any.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator

_LOCATES = (b"__file__", b"__path__", b"__spec__", b"find_spec", b"files(", b"resource_filename", b"get_path(", b"pkgutil")
"""What a source uses to find out where a package lies; one of these."""
_DEFINES_INCLUDES = re.compile(rb"^def _?(?:get_)?includes?(?:_(?:dir|path)(?:ectory|ectories|s)?)?\(", re.MULTILINE)
"""Begins a function that returns a folder of headers: numpy's ``get_include`` is the model of many."""
_DISPLAYS = (ast.List, ast.Set, ast.Dict, ast.Compare)
"""What holds words that are compared or exported rather than joined."""


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
    """Return the parts of paths in strings, but for documentation and lists of words."""
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.split(r"[/\\]", node.value)
        if not isinstance(node, _DISPLAYS) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            waiting += ast.iter_child_nodes(node)


def _names(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
