"""Reads sources for what decides whether something may be removed: imports of tests, files read at run time, calls of AWS.

Only files in which a plain search finds something worth a look are parsed, and what is found of a wheel is kept in the store,
together with which of its files are native code of other systems.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from threading import Lock

from msgspec import Struct

from builders.once import Once
from packer.cache.derived_values import derive
from packer.cache.store import Store, digest_of
from packer.core.model import Distribution, Entry, Tree
from packer.source.named_paths import find_named_files, find_named_folders
from packer.source.test_suites import (
    TEST_FOLDERS,
    existing_folders,
    find_test_suites,
    named_test_folders,
    names_test_folder,
    suites_above,
    test_prefixes,
)

_FORM = "8"
"""Part of the key of what is remembered of a wheel; raised whenever something else is looked for."""
_WORDS = (re.compile(rb"tests?\b"), re.compile(rb"SelfTest\b"), re.compile(rb"conftest\b"))
_IMPORTS = re.compile(rb"(?:^|[;:])[ \t]*(?:from|import)[ \t]|import_module\(|__import__\(")
_CONTINUED = re.compile(rb"import[ \t]*\\\s*$|(?:import_module|__import__)\(\s*$")
_CLOSED = re.compile(rb"^[^#\n]*\)", re.MULTILINE)
_STUBS = (b"attach_stub", b'.pyi"', b".pyi'")
HEADERS = r"\.(?:h|hh|hpp|hxx|cuh|inl|pxd|pxi)(?:\.in)?"
NATIVE_SOURCES = r"\.(?:c|cc|cpp|cxx|cu|f|f90|for|pyx|tp)(?:\.in)?|\.(?:pyx|pxd|pxi)\.tp"
"""Names of what compilers read."""
LINKED = r"\.(?:a|la|lib|o|obj|def|exp)"
"""Names of what linkers read, and of some other data."""
BUILD_FILES = r"\.(?:cmake|pc)(?:\.in)?|(?:^|/)(?:CMakeLists\.txt|meson\.build|Makefile(?:\.am|\.in)?)"
"""Names of what build tools read."""
BUILT_WITH = re.compile(rf"(?:{HEADERS}|{NATIVE_SOURCES}|{LINKED}|{BUILD_FILES})$")
"""Files that only builds read, by their names."""
_READS_SOURCES = re.compile(
    rb"\bgetsource(?:lines|file)?\s*\(|\bfindsource\s*\(|\bjit\.script\b|\btriton\.jit\b|\blinecache\.getline"
)
_UNREMARKABLE = frozenset(("__init__.py", "__main__.py", "setup.py"))
"""Names of modules that stand in strings without being read: many packages have one."""
_VALUE = re.compile(rb"^[^\[\n=]+=\s*([\w.]+)", re.MULTILINE)
_SDK = b"boto"
_CALLS, _WAYS = (b"client(", b"resource("), (b"client", b"resource", b"get_available_")
SDK = frozenset(("boto3", "botocore", "s3transfer"))
"""Distributions whose own code makes clients only of what their callers name."""
_MAKERS = frozenset(("client", "resource", "create_client"))
_LISTS = frozenset(("get_available_services", "get_available_resources"))

PARSING = Lock()
"""Held by the one thread that parses: the parser of some Pythons counts its depth for all threads together, and is put out by
what fails in another one (CPython issue 106905); filters of warnings are everybody's too."""


class FactScan(Struct, frozen=True, kw_only=True):
    """What sources say.

    ``tests`` are folders of tests, and modules named conftest, that something else imports or names a path in, or an entry
    point leads to, ``test_data`` those that are named with nothing in them: modules of theirs nobody asks for by that.
    ``reads_stubs`` says that type stubs are read at run time, ``reads_sources`` that sources are. ``named`` are names of files
    that stand in a string, and ``suffixes`` their endings that do: code may read them. Of a wheel, these are only such as it
    has itself. ``folders`` are those with files for compilers and build tools that a wheel's own code names piece by piece.
    ``foreign`` are files of native code for other systems that the sources do not name, or that a copy for Linux explains.
    ``services`` are those of AWS that are called by name, and ``dynamic`` is the place where the name is computed, or empty.
    """

    tests: tuple[str, ...] = ()
    test_data: tuple[str, ...] = ()
    reads_stubs: bool = False
    reads_sources: bool = False
    named: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    dynamic: str = ""


class FactScanner:
    """Scans wheels and sources; may be used from many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wheels: Once[str, FactScan] = Once()

    def of_wheel(self, distribution: Distribution, tree: Tree) -> FactScan:
        """Return what the sources of a wheel in the store say; nothing of one that is only outlined."""
        if distribution.outlined:
            return FactScan()
        return self._wheels.get(distribution.digest, lambda: self._remembered(distribution, tree))

    def _remembered(self, distribution: Distribution, tree: Tree) -> FactScan:
        key = digest_of("scan", _FORM, distribution.digest)
        look_for_calls = False if distribution.name in SDK else None
        return derive(
            self._store, "scans", key, FactScan, lambda: scan_sources(tree, look_for_calls=look_for_calls, whole=False)
        )


def scan_sources(tree: Tree, *, look_for_calls: bool | None = True, whole: bool = True) -> FactScan:
    """Read the sources of a tree, for calls of the SDK as well: None where only if one of them names it.

    Where one does, a session may be handed to any other; and a function's own source may get one from a distribution. ``whole``
    says that the names of other trees' files count too, as those do that a function's own source names.
    """
    tests, test_data = set(_entry_points(tree)), set[str]()
    is_there = existing_folders(tree)
    services: set[str] = set()
    dynamic = ""
    sources = [(entry, entry.content.read()) for entry in source_modules(tree)]
    if look_for_calls is None:
        look_for_calls = any(_SDK in data for _, data in sources)
    for entry, data in sources:
        looks_at_tests = _mentions_tests(data)
        looks_at_calls = look_for_calls and _mentions_calls(data)
        if not looks_at_tests and not looks_at_calls:
            continue
        parsed = parse_source(data)
        if looks_at_tests:
            tests.update(_imported_tests(entry.path, parsed) if parsed else _all_tests(entry.path, tree))
            for folder, inside in named_test_folders(entry.path, parsed) if parsed else ():
                if is_there(folder):
                    (tests if inside else test_data).add(folder)
        if looks_at_calls:
            calls = _service_names(parsed) if parsed else iter((("", 1),))
            for name, line in calls:
                services.add(name)
                dynamic = dynamic or ("" if name else f"{entry.path}:{line}")
    services.discard("")
    named, suffixes = _named_files([data for _, data in sources], None if whole else tree)
    return FactScan(
        tests=tuple(sorted(tests)),
        test_data=tuple(sorted(test_data - tests)),
        reads_stubs=any(word in data for _, data in sources for word in _STUBS),
        reads_sources=any(_READS_SOURCES.search(data) for _, data in sources),
        named=named,
        suffixes=suffixes,
        folders=() if whole else _named_folders([(entry.path, data) for entry, data in sources], tree),
        foreign=() if whole else tuple(_find_foreign(tree, frozenset(named), frozenset(suffixes))),
        services=tuple(sorted(services)),
        dynamic=dynamic,
    )


def _named_files(sources: Sequence[bytes], tree: Tree | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names and the endings of files that strings have; those of a ``tree`` alone, if there is one."""
    found = find_named_files(sources)
    if tree is None:
        return tuple(sorted(found.names - _UNREMARKABLE)), tuple(sorted(found.suffixes))
    held = {part for entry in tree for parts in (entry.path.split("/"),) for part in (*parts[:2], parts[-1])}
    suffixes = (suffix for suffix in found.suffixes if any(name.endswith(suffix) for name in held))
    return tuple(sorted((found.names - _UNREMARKABLE) & held)), tuple(sorted(suffixes))


def _named_folders(sources: Sequence[tuple[str, bytes]], tree: Tree) -> tuple[str, ...]:
    """Return the folders with files for compilers and build tools that sources name piece by piece, without those in others."""
    held = {str(parent) for entry in tree if BUILT_WITH.search(entry.path) for parent in PurePosixPath(entry.path).parents}
    found: list[str] = []
    for folder in sorted(find_named_folders(sources, held - {"."}, parse_source)):
        if not found or not f"{folder}/".startswith(f"{found[-1]}/"):
            found.append(folder)
    return tuple(found)


def _find_foreign(tree: Tree, named: frozenset[str], suffixes: frozenset[str]) -> Iterator[str]:
    """Return the files of native code for other systems, but for those that the sources name and no copy for Linux explains."""
    from packer.source.foreign_code import is_elf, is_foreign, read_beginning

    foreign, linux = list[str](), set[str]()
    for entry in tree:
        if entry.path.endswith(".py"):
            continue
        beginning = read_beginning(entry.content)
        if is_elf(beginning):
            linux.add(_program(entry.path))
        elif is_foreign(beginning):
            foreign.append(entry.path)
    for path in foreign:
        name = path.rpartition("/")[2]
        is_named = name in named or name.endswith(tuple(suffixes))
        if not is_named or _program(path) in linux:
            yield path


def _program(path: str) -> str:
    """Return what a program or library is called on every system."""
    return path.rpartition("/")[2].partition(".")[0].removeprefix("lib")


def _mentions_calls(data: bytes) -> bool:
    """Return whether a source may make a client: by a call, or, where it names the SDK, in any other way."""
    return any(word in data for word in _CALLS) or (_SDK in data and any(word in data for word in _WAYS))


def _entry_points(tree: Tree) -> Iterator[str]:
    """Return the folders of tests that entry points lead to (PyPA, "Entry points specification")."""
    for entry in tree:
        if entry.path.endswith(".dist-info/entry_points.txt"):
            for found in _VALUE.finditer(entry.content.read()):
                yield from test_prefixes(found[1].decode().split("."))


def _mentions_tests(data: bytes) -> bool:
    """Return whether a word for tests stands in an import: on its line, the next one, or in brackets that it has opened.

    A string that may name a folder of tests is as good.
    """
    if names_test_folder(data):
        return True
    for found in (each for word in _WORDS for each in word.finditer(data)):
        at = found.start()
        if data[at - 1 : at].isalnum() or data[at - 1 : at] == b"_":
            continue
        line = data.rfind(b"\n", 0, at) + 1
        before = data.rfind(b"\n", 0, max(line - 1, 0)) + 1
        if _IMPORTS.search(data[line:at]) or _CONTINUED.search(data[before:line]):
            return True
        opened = max(data.rfind(b"import (", 0, at), data.rfind(b"import(", 0, at))
        if opened >= 0 and not _CLOSED.search(data, opened, at):
            return True
    return False


def source_modules(tree: Tree) -> Iterator[Entry]:
    """Return the modules that are no tests themselves."""
    suites = find_test_suites(tree)
    for entry in tree:
        if entry.path.endswith(".py") and not entry.path.endswith("conftest.py") and not any(suites_above(entry.path, suites)):
            yield entry


def parse_source(data: bytes) -> ast.Module | None:
    """Return a module's syntax tree; None where it cannot be parsed."""
    try:
        with PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return ast.parse(data)
            except SystemError:  # its depth was wrong from before, and is right from now on
                return ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def imported_names(data: bytes) -> frozenset[str]:
    """Return the full names of the modules that a source imports anywhere by a statement; none where it cannot be parsed."""
    parsed = parse_source(data)
    found: set[str] = set()
    for node in ast.walk(parsed) if parsed else ():
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return frozenset(found)


def _all_tests(path: str, tree: Tree) -> Iterator[str]:
    """Return every folder of tests in the package of a module that cannot be parsed."""
    top = path.partition("/")[0]
    for entry in tree:
        folders = entry.path.split("/")[:-1]
        if folders[:1] == [top]:
            yield from ("/".join(folders[: number + 1]) for number, name in enumerate(folders) if name in TEST_FOLDERS)


def _imported_tests(path: str, module: ast.Module) -> Iterator[str]:
    """Return the folders of tests that a module's imports lead to."""
    package = path.split("/")[:-1]
    for node in ast.walk(module):
        names: Iterable[list[str]] = ()
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            names = [[*base, alias.name] for alias in node.names]
        elif isinstance(node, ast.Call) and called_name(node) in ("import_module", "__import__"):
            names = [_module_parts(each.value, package) for each in _arguments(node) if isinstance(each, ast.Constant)]
        for parts in names:
            yield from test_prefixes(parts)


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]


def _module_parts(name: object, package: list[str]) -> list[str]:
    """Return the parts of a module's name, which may be relative to a package."""
    if not isinstance(name, str):
        return []
    rest = name.lstrip(".")
    level = len(name) - len(rest)
    return [*(package[: len(package) - level + 1] if level else []), *rest.split(".")]


def called_name(node: ast.Call) -> str:
    """Return the name that is called, without what it belongs to; empty where there is none."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def _service_names(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Return the services that clients are made of, with their lines; an empty name where it is computed."""
    modules, makers = _sdk_names(module)
    called: set[int] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            called.add(id(node.func))
            if _is_maker(node.func, makers):
                yield from ((name, node.lineno) for name in _service_argument(node))
            elif called_name(node) == "getattr" and node.args and _is_sdk(node.args[0], modules):
                yield "", node.lineno
        elif isinstance(node, ast.Attribute) and node.attr in _LISTS:
            yield "", node.lineno
    for node in ast.walk(module):  # what is not called here may be called anywhere
        if isinstance(getattr(node, "ctx", None), ast.Load) and id(node) not in called:
            taken = isinstance(node, ast.Attribute) and node.attr in _MAKERS and _is_sdk(node.value, modules)
            if taken or (isinstance(node, ast.Name) and node.id in makers):
                yield "", getattr(node, "lineno", 1)


def _service_argument(node: ast.Call) -> Iterator[str]:
    """Return the service that a call names, an empty name where it is computed, and nothing where it has no argument."""
    given = node.args[0] if node.args else next((each.value for each in node.keywords if each.arg == "service_name"), None)
    if isinstance(given, ast.Constant) and isinstance(given.value, str):
        yield given.value
    elif given is not None or any(each.arg is None for each in node.keywords):
        yield ""


def _sdk_names(module: ast.Module) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that stand for modules of the SDK, and for functions of it that make clients."""
    modules, makers = set(SDK), set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            modules |= {alias.asname for alias in node.names if alias.asname and alias.name.partition(".")[0] in SDK}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in SDK:
            makers |= {alias.asname or alias.name for alias in node.names if alias.name in _MAKERS}
    return frozenset(modules), frozenset(makers)


def _is_maker(node: ast.expr, makers: frozenset[str]) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr in _MAKERS) or (isinstance(node, ast.Name) and node.id in makers)


def _is_sdk(node: ast.expr, modules: frozenset[str]) -> bool:
    """Return whether an expression is a module of the SDK, or a session, by its name."""
    if isinstance(node, ast.Call):
        return "session" in called_name(node).lower()
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in modules or "session" in name.lower()
