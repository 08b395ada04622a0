"""Reads the handler's module without running it: which names it has, and what fails wherever it is imported."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Collection, Iterator

from msgspec import Struct

from builders.runtimes import RUNTIME_MODULES
from packer.core.model import OWN_SOURCE, Function, Tree, handler_sources
from packer.source.facts import PARSING
from packer.trim.material import Material
from packer.verify.diagnosis import HANDLER_NOT_FOUND
from packer.verify.module_names import is_standard

_MOST_NAMES = 5
_NEWEST_KNOWN = 14
# What may be syntax of Python 3.12 to 3.14 alone (their "What's New": PEP 695, 696, 701, 750, 758): where a source has none of
# it, an older Python finds no other faults in it.
_NEWER_SYNTAX = re.compile(
    rb"\b(?:[fFtT][rR]?|[rR][fFtT])[\"']|^\s*type\s+\w+|\b(?:def|class)\s+\w+\s*\[|\bexcept\b[^:\n(]*,", re.MULTILINE
)
# Statements that others hold, and expressions of which not all is evaluated.
_DECIDING = (ast.BoolOp, ast.IfExp, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_IMPORT_CHANGES = (b"sys.path", b"sys.meta_path", b"sys.modules", b"site.addsitedir", b"__path__")


class ModuleNames(Struct, frozen=True, kw_only=True):
    """The names that a module binds, those of ``callables`` among them, which are surely functions.

    ``open`` says whether it may have others, too.
    """

    names: tuple[str, ...]
    callables: tuple[str, ...]
    open: bool


class SourceFault(Struct, frozen=True, kw_only=True):
    """What fails wherever a function's module is imported; ``module`` is one that is nowhere, and is imported at ``place``."""

    reason: str = ""
    module: str = ""
    place: str = ""


def offer_names(material: Material, found: str | None) -> str:
    """Return a sentence with the functions that the handler's module has, the closest first; empty where that cannot be said.

    ``found`` are their names as a run has found them, with commas between them; None where it was not run.
    """
    import difflib

    function = material.function
    if found is None:
        source = _find_source(dict(material.parts)[OWN_SOURCE], handler_sources(function.handler))
        parsed = _parse(source[1], source[0], function) if source else None
        if not isinstance(parsed, ast.Module):
            return ""
        names = module_names(parsed).callables
    else:
        names = tuple(filter(str.isidentifier, found.split(", ")))  # foreign input
    wanted = function.handler.rpartition(".")[2]
    close = difflib.get_close_matches(wanted, names, n=_MOST_NAMES, cutoff=0.4)
    listed = list(dict.fromkeys((*close, *names)))[:_MOST_NAMES]
    return f"The module has {', '.join(listed)}. " if listed else "The module has no function. "


def module_names(module: ast.Module) -> ModuleNames:
    """Return the names that a module binds at its top."""
    functions = [each.name for each in module.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    for each in module.body:
        if isinstance(each, ast.Assign) and _is_function(each.value, functions):
            functions += [target.id for target in each.targets if isinstance(target, ast.Name)]
    bound = [name for statement in module.body for name in _bound_names(statement)]
    open_ended = any(
        (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names))
        or (isinstance(node, ast.Name) and node.id in {"globals", "setattr", "exec", "locals", "vars"})
        or (isinstance(node, ast.Attribute) and node.attr in {"modules", "__dict__"})
        or (isinstance(node, ast.Global))
        for node in ast.walk(module)
    )
    return ModuleNames(
        names=tuple(dict.fromkeys((*functions, *bound))),
        callables=tuple(dict.fromkeys(name for name in functions if not name.startswith("_"))),
        open=open_ended or "__getattr__" in functions,
    )


def _is_function(value: ast.expr, functions: Collection[str]) -> bool:
    """Return whether a value is a function: a lambda, one of those that are known, or what is made of one by a call."""
    if isinstance(value, ast.Call):
        return any(isinstance(each, ast.Name) and each.id in functions for each in value.args)
    return isinstance(value, ast.Lambda) or (isinstance(value, ast.Name) and value.id in functions)


def may_bind(source: bytes, name: str, line: int = 0) -> bool:
    """Return whether a source may bind a name that a line of it does not find: any statement may have been reached before.

    A function that binds it only by adding to it never does.
    """
    module = _parse_quietly(source)
    if module is None:
        return True
    around = [each for each in ast.walk(module) if isinstance(each, _FUNCTIONS) and _holds(each, line)]
    if around and _only_adds_to(max(around, key=lambda each: each.lineno), name):
        return False
    return module_names(module).open or any(name in _names_bound_by(node) for node in ast.walk(module))


def _only_adds_to(function: ast.AST, name: str) -> bool:
    """Return whether a function binds a name by augmented assignments alone, so that it is local there and has no value."""
    nodes = [*ast.walk(function)]
    added = {id(node.target) for node in nodes if isinstance(node, ast.AugAssign)}
    bound = [node for node in nodes if name in _names_bound_by(node)]
    named = any(isinstance(node, ast.Global | ast.Nonlocal | ast.arg) and name in ast.unparse(node) for node in nodes)
    return bool(bound) and all(id(node) in added for node in bound) and not named


def is_reached(source: bytes, line: int) -> bool:
    """Return whether a line is run whenever a module is imported that raises nothing before it, whatever it is given."""
    module = _parse_quietly(source)
    found = next((each for each in module.body if _holds(each, line)), None) if module else None
    return found is not None and not hasattr(found, "body") and not any(isinstance(node, _DECIDING) for node in ast.walk(found))


def is_chosen(source: bytes, line: int) -> bool:
    """Return whether a condition decides if a line of a module is run."""
    module = _parse_quietly(source)
    return module is None or any(isinstance(each, ast.If | ast.IfExp) and _holds(each, line) for each in ast.walk(module))


def surely_ends(material: Material) -> bool:
    """Return whether the handler's module calls `os._exit` at its top, or one of the function's that it imports in any case."""
    own = dict(material.parts)[OWN_SOURCE]
    todo, seen = [_find_source(own, handler_sources(material.function.handler))], set[str]()
    while todo:
        found = todo.pop()
        module = _parse_quietly(found[1]) if found and found[0] not in seen else None
        if found is None or module is None:
            continue
        seen.add(found[0])
        if any(_ends_process(each) for each in module.body):
            return True
        names = (name.replace(".", "/") for name, _ in _sure_imports(module))
        todo += [_find_source(own, (f"{name}.py", f"{name}/__init__.py")) for name in names]
    return False


def _ends_process(statement: ast.stmt) -> bool:
    called = statement.value.func if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) else None
    return getattr(called, "attr", getattr(called, "id", "")) == "_exit"


def _holds(node: ast.stmt | ast.expr, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _parse_quietly(source: bytes) -> ast.Module | None:
    """Return a source's statements; None where this Python does not understand it."""
    try:
        with PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement may bind, whichever way it goes, but not those in functions and classes."""
    for node in _own_nodes(statement):
        yield from _names_bound_by(node)


def _names_bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that one node binds; an import binds the first of its names' parts."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, _FUNCTIONS | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and those below it, but not what functions and classes hold."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _own_nodes(child)


def find_fault(material: Material, layered: Collection[str] = ()) -> SourceFault | None:
    """Return what surely fails when the handler is imported; None where that cannot be said without running it.

    ``layered`` are the paths of what Python can import from the layers whose content is known.
    """
    function, own = material.function, dict(material.parts)[OWN_SOURCE]
    source = _find_source(own, handler_sources(function.handler))
    if source is None:
        return None
    parsed = _parse(source[1], source[0], function)
    if not isinstance(parsed, ast.Module):
        return parsed
    names, wanted = module_names(parsed), function.handler.rpartition(".")[2]
    if wanted not in names.names and not names.open:
        module = function.handler.rpartition(".")[0].replace("/", ".")
        return SourceFault(reason=f"{HANDLER_NOT_FOUND}: Handler {wanted!r} missing on module {module!r}")
    return None if _changes_imports(source[1]) else _find_absent(material, layered, source[0], parsed)


def _find_absent(material: Material, layered: Collection[str], path: str, module: ast.Module) -> SourceFault | None:
    """Follow the imports that are done in any case through the function's own modules to one that nothing provides."""
    function, own = material.function, dict(material.parts)[OWN_SOURCE]
    tops = {_top(entry.path) for _, tree in material.parts for entry in tree} | {_top(path) for path in layered}
    todo, seen, minor = [(path, module)], {path}, function.target.runtime.minor
    if function.layers.unknown or "PYTHONPATH" in function.variables:
        return None
    absent: SourceFault | None = None
    while todo:
        path, module = todo.pop()
        for name, line in _sure_imports(module):
            top = name.partition(".")[0]
            found = _find_source(own, (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"))
            if found and found[0] not in seen:
                seen.add(found[0])
                if _changes_imports(found[1]):
                    return None
                parsed = _parse(found[1], found[0], function)
                if isinstance(parsed, SourceFault):
                    absent = absent or parsed
                elif parsed:
                    todo.append((found[0], parsed))
            elif not found and not (top in tops or top in RUNTIME_MODULES or is_standard(top, minor) or top.startswith("_")):
                absent = absent or SourceFault(module=name, place=f"{path}:{line}")
    return absent


def _changes_imports(data: bytes) -> bool:
    """Return whether a source may change where modules are found."""
    return any(word in data for word in _IMPORT_CHANGES)


def _sure_imports(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield what a module imports in any case, and on which line: absolute imports among its statements, not within others."""
    for node in module.body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module and node.module != "__future__":
            yield node.module, node.lineno


def _top(path: str) -> str:
    return path.partition("/")[0].partition(".")[0]


def _find_source(tree: Tree, paths: Collection[str]) -> tuple[str, bytes] | None:
    return next(((entry.path, entry.content.read()) for entry in tree if entry.path in paths), None)


def _parse(data: bytes, path: str, function: Function) -> ast.Module | SourceFault | None:
    """Return a source's statements, or the fault that the target's Python finds in it; None where this one cannot tell."""
    minor = function.target.runtime.minor
    try:
        with PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = ast.parse(data, path, feature_version=(3, min(minor, sys.version_info.minor)))
            compile(parsed, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        if sys.version_info.minor < minor and (minor > _NEWEST_KNOWN or _NEWER_SYNTAX.search(data)):
            return None
        return SourceFault(reason=f"{type(error).__name__}: {error.msg} ({path}, line {error.lineno or 1})")
    except (ValueError, RecursionError, MemoryError, SystemError):
        return None
    return parsed
