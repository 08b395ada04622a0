"""Test suites in a tree: which folders are of tests, and which of them sources name as a path or as a module."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence

from packer.core.model import Tree

TEST_FOLDERS = frozenset(("test", "tests", "SelfTest"))
_TEST_MODULE = re.compile(r"(?:test_.*|.*_test|conftest)\.py$")
"""Names of modules that pytest collects (pytest, "Conventions for Python test discovery"), and of its configuration."""
_FOLDER_IN_STRING = re.compile(rb"[\"'/.](?:tests?|SelfTest)[\"'/.]")
_PATH_CALLS = frozenset(
    (
        *("join", "joinpath", "Path", "PurePath", "PosixPath", "PurePosixPath", "abspath", "realpath", "relative_to", "path"),
        *("open", "read_text", "read_binary", "open_text", "open_binary", "contents", "is_resource", "get_data", "files"),
        *("glob", "iglob", "rglob", "listdir", "scandir", "walk", "iterdir", "exists", "isdir", "is_dir", "isfile"),
        *("copytree", "copy", "resource_filename", "resource_string", "resource_stream", "resource_listdir", "resource_exists"),
        *("resource_isdir", "PackageLoader", "FileSystemLoader", "with_name", "load", "loadtxt", "read"),
    )
)
"""Functions of the standard library, setuptools and Jinja that take a path, or a part of one."""


def find_test_suites(tree: Tree) -> frozenset[str]:
    """Return the folders named for tests that hold test modules, themselves or in other folders below them.

    Where folders of tests lie within each other, a test module counts for the innermost alone.
    """
    found = set()
    for entry in tree:
        *folders, name = entry.path.split("/")
        if _TEST_MODULE.match(name):
            places = [number for number, folder in enumerate(folders) if folder in TEST_FOLDERS]
            if places:
                found.add("/".join(folders[: places[-1] + 1]))
    return frozenset(found)


def is_test_module(path: str) -> bool:
    """Return whether a file is a module that test tools collect, in a folder named for tests: nothing imports it to run."""
    *folders, name = path.split("/")
    return not TEST_FOLDERS.isdisjoint(folders) and name != "conftest.py" and _TEST_MODULE.match(name) is not None


def suites_above(path: str, suites: frozenset[str]) -> Iterator[str]:
    """Return those of ``suites`` that a path lies in, the outermost first."""
    parts = path.split("/")
    for number, part in enumerate(parts[:-1]):
        if part in TEST_FOLDERS and (folder := "/".join(parts[: number + 1])) in suites:
            yield folder


def names_test_folder(data: bytes) -> bool:
    """Return whether a string of a source may name a folder of tests."""
    return _FOLDER_IN_STRING.search(data) is not None


def named_test_folders(path: str, module: ast.Module) -> Iterator[tuple[str, bool]]:
    """Return the folders of tests that the strings of a module may name, and whether something in them is named too.

    A relative path may start at any folder above the module, or at any package that the module names: all are returned, the
    outermost folder of tests and those below it. The name of a module in them, as settings have it, counts for something too.
    """
    bases = ["", *_folders_above(path), *_named_packages(module)]
    for parts, is_path in _named_parts(module):
        for prefix in test_prefixes(parts):
            inside = not is_path or len(prefix) < len("/".join(parts)) or prefix.endswith("conftest.py")
            yield prefix, inside
            if is_path:
                yield from ((f"{base}/{prefix}", inside) for base in bases if base)


def test_prefixes(parts: Sequence[str]) -> Iterator[str]:
    """Return the beginnings of a path, or of a module's name, that end in a folder of tests, or in a conftest."""
    for number, part in enumerate(parts):
        if part in TEST_FOLDERS:
            yield "/".join(parts[: number + 1])
        elif part in ("conftest", "conftest.py"):
            yield "/".join((*parts[:number], "conftest.py"))


def existing_folders(tree: Tree) -> Callable[[str], bool]:
    """Return what tells of a folder, or a conftest.py, whether it is in a tree, or may be in another: its package is not."""
    paths = {entry.path for entry in tree if entry.path.endswith("conftest.py")}
    for entry in tree:
        paths.update(_folders_above(entry.path))
    packages = {entry.path.partition("/")[0] for entry in tree}
    return lambda path: path in paths or path.partition("/")[0] not in packages


def _folders_above(path: str) -> Iterator[str]:
    folder = path.rpartition("/")[0]
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _named_packages(module: ast.Module) -> set[str]:
    """Return the packages that a module imports, or names in strings, as folders."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.replace(".", "/") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            base = node.module.replace(".", "/")
            found |= {base, *(f"{base}/{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_module_name(node.value):
            found.add(node.value.replace(".", "/"))
    return found


def _is_module_name(text: str) -> bool:
    return len(text) < 200 and all(part.isidentifier() for part in text.split("."))


def _named_parts(module: ast.Module) -> Iterator[tuple[list[str], bool]]:
    """Return the parts of every string that names a folder of tests, and whether it is a path or a module's name."""
    in_paths = _strings_in_paths(module)
    for node in ast.walk(module):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        text = node.value
        if "/" in text and "\n" not in text:
            yield [part for part in text.split("/") if part not in ("", ".", "..")], True
            continue
        if id(node) in in_paths:
            yield [text], True
        if "." in text and _is_module_name(text):
            yield text.split("."), False


def _strings_in_paths(module: ast.Module) -> set[int]:
    """Return the ids of strings that take part in a path: by ``/``, as an argument, or by a name that does."""
    parts: list[ast.expr] = []
    for node in ast.walk(module):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts += [node.left, node.right]
        elif isinstance(node, ast.Call) and _last_name(node.func) in _PATH_CALLS:
            parts += [*node.args, *(each.value for each in node.keywords)]
    inside = [each for part in parts for each in ast.walk(part)]
    names = {_last_name(each) for each in inside if isinstance(each, ast.Name | ast.Attribute)}
    for node in ast.walk(module):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        value = getattr(node, "value", None)
        if value is not None and any(_last_name(target) in names for target in targets):
            inside += ast.walk(value)
    return {id(each) for each in inside if isinstance(each, ast.Constant)}


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
