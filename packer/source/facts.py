"""Reads sources for what decides whether something may be removed: imports of tests, files read at run time, calls of AWS.

Only files in which a plain search finds something worth a look are parsed, and what is found of a wheel is kept in the store.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

from msgspec import Struct

from builders.once import Once
from packer.cache.derived_values import derive
from packer.cache.store import Store, digest_of
from packer.core.model import Distribution, Entry, Tree

_FORM = "5"
"""Part of the key of what is remembered of a wheel; raised whenever something else is looked for."""
TEST_FOLDERS = frozenset(("test", "tests", "SelfTest"))
_WORDS = (re.compile(rb"tests?\b"), re.compile(rb"SelfTest\b"))
_IMPORTS = re.compile(rb"(?:^|[;:])[ \t]*(?:from|import)[ \t]|import_module\(|__import__\(")
_CONTINUED = re.compile(rb"import[ \t]*\\\s*$|(?:import_module|__import__)\(\s*$")
_CLOSED = re.compile(rb"^[^#\n]*\)", re.MULTILINE)
_STUBS = (b"attach_stub", b'.pyi"', b".pyi'")
HEADERS = r"\.(?:h|hh|hpp|hxx|cuh|inl|pxd|pxi)(?:\.in)?"
NATIVE_SOURCES = r"\.(?:c|cc|cpp|cxx|cu|f|f90|for|pyx|tp)(?:\.in)?|\.(?:pyx|pxd|pxi)\.tp"
"""Names of what compilers read."""
_TEXTS = re.compile(rf"(?:{HEADERS}|{NATIVE_SOURCES})$")
_NAMED = re.compile(rb"[\"'/]([\w.+-]{1,100})[\"']")
_VALUE = re.compile(rb"^[^\[\n=]+=\s*([\w.]+)", re.MULTILINE)
_SDK = b"boto"
_CALLS, _WAYS = (b"client(", b"resource("), (b"client", b"resource", b"get_available_")
SDK = frozenset(("boto3", "botocore", "s3transfer"))
"""Distributions whose own code makes clients only of what their callers name."""
_MAKERS = frozenset(("client", "resource", "create_client"))
_LISTS = frozenset(("get_available_services", "get_available_resources"))

_PARSING = Lock()
"""Held by the one thread that parses: the parser of some Pythons counts its depth for all threads together, and is put out by
what fails in another one (CPython issue 106905); filters of warnings are everybody's too."""


class FactScan(Struct, frozen=True, kw_only=True):
    """What sources say.

    ``tests`` are folders of tests that something else imports, or an entry point names; ``reads_stubs`` says that type stubs
    are read at run time; ``named`` are the names of headers and native sources that stand in a string, for code may read them;
    ``services`` are those of AWS that are called by name, and ``dynamic`` is the place where the name is computed, or empty.
    """

    tests: tuple[str, ...] = ()
    reads_stubs: bool = False
    named: tuple[str, ...] = ()
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
        return derive(self._store, "scans", key, FactScan, lambda: scan_sources(tree, look_for_calls=look_for_calls))


def scan_sources(tree: Tree, *, look_for_calls: bool | None = True) -> FactScan:
    """Read the sources of a tree, for calls of the SDK as well: None where only if one of them names it.

    Where one does, a session may be handed to any other; and a function's own source may get one from a distribution.
    """
    tests = set(_entry_points(tree))
    services: set[str] = set()
    named: set[bytes] = set()
    dynamic, stubs = "", False
    texts = {entry.path.rpartition("/")[2].encode() for entry in tree if _TEXTS.search(entry.path)}
    sources = [(entry, entry.content.read()) for entry in _sources(tree)]
    if look_for_calls is None:
        look_for_calls = any(_SDK in data for _, data in sources)
    for entry, data in sources:
        stubs = stubs or any(word in data for word in _STUBS)
        named.update(texts.intersection(_NAMED.findall(data)) if texts else ())
        looks_at_tests = _mentions_tests(data)
        looks_at_calls = look_for_calls and _mentions_calls(data)
        if not looks_at_tests and not looks_at_calls:
            continue
        parsed = _parse_source(data)
        if looks_at_tests:
            tests.update(_imported_tests(entry.path, parsed) if parsed else _all_tests(entry.path, tree))
        if looks_at_calls:
            calls = _service_names(parsed) if parsed else iter((("", 1),))
            for name, line in calls:
                services.add(name)
                dynamic = dynamic or ("" if name else f"{entry.path}:{line}")
    services.discard("")
    return FactScan(
        tests=tuple(sorted(tests)),
        reads_stubs=stubs,
        named=tuple(sorted(name.decode() for name in named)),
        services=tuple(sorted(services)),
        dynamic=dynamic,
    )


def _mentions_calls(data: bytes) -> bool:
    """Return whether a source may make a client: by a call, or, where it names the SDK, in any other way."""
    return any(word in data for word in _CALLS) or (_SDK in data and any(word in data for word in _WAYS))


def _entry_points(tree: Tree) -> Iterator[str]:
    """Return the folders of tests that entry points lead to (PyPA, "Entry points specification")."""
    for entry in tree:
        if entry.path.endswith(".dist-info/entry_points.txt"):
            for found in _VALUE.finditer(entry.content.read()):
                yield from _folders_of_tests(found[1].decode().split("."))


def _mentions_tests(data: bytes) -> bool:
    """Return whether a word for tests stands in an import: on its line, the next one, or in brackets that it has opened."""
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


def _sources(tree: Tree) -> Iterator[Entry]:
    """Return the modules that are no tests themselves."""
    for entry in tree:
        if entry.path.endswith(".py") and not _is_test(entry.path):
            yield entry


def _is_test(path: str) -> bool:
    *folders, name = path.split("/")
    return name == "conftest.py" or not TEST_FOLDERS.isdisjoint(folders)


def _parse_source(data: bytes) -> ast.Module | None:
    try:
        with _PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return ast.parse(data)
            except SystemError:  # its depth was wrong from before, and is right from now on
                return ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


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
        elif isinstance(node, ast.Call) and _called_name(node) in ("import_module", "__import__"):
            names = [_module_parts(each.value, package) for each in _arguments(node) if isinstance(each, ast.Constant)]
        for parts in names:
            yield from _folders_of_tests(parts)


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]


def _module_parts(name: object, package: list[str]) -> list[str]:
    """Return the parts of a module's name, which may be relative to a package."""
    if not isinstance(name, str):
        return []
    rest = name.lstrip(".")
    level = len(name) - len(rest)
    return [*(package[: len(package) - level + 1] if level else []), *rest.split(".")]


def _folders_of_tests(parts: Sequence[str]) -> Iterator[str]:
    return ("/".join(parts[: number + 1]) for number, part in enumerate(parts) if part in TEST_FOLDERS)


def _called_name(node: ast.Call) -> str:
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
            elif _called_name(node) == "getattr" and node.args and _is_sdk(node.args[0], modules):
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
        return "session" in _called_name(node).lower()
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in modules or "session" in name.lower()
