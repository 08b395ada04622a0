"""Whether sources that several distributions have at one path are the same in effect, and which of them to take.

Distributions that share a package each bring an ``__init__.py`` that extends its path: with `pkgutil` or with setuptools'
``pkg_resources`` (Python Packaging User Guide, "Packaging namespace packages"). In one folder, it matters little whose is kept.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from enum import IntEnum

from packer.source.facts import called_name, parse_source

PACKAGE = "__init__.py"
"""The file that makes a folder a regular package."""
_IMPORTED = frozenset(("pkgutil", "pkg_resources", "modulefinder", "typing", "__future__"))
_CALLED = frozenset(("declare_namespace", "AddPackagePath"))


class NamespaceForm(IntEnum):
    """What an ``__init__.py`` that does nothing else extends its path with; the least one works in the most places."""

    PKGUTIL = 0
    EITHER = 1
    PKG_RESOURCES = 2
    NOTHING = 3


def find_namespace_form(source: bytes) -> NamespaceForm | None:
    """Return how an ``__init__.py`` extends its path; None where it does anything else, or cannot be parsed."""
    parsed = parse_source(source)
    if parsed is None or not _only_extend(parsed.body):
        return None
    called = {called_name(node) for node in ast.walk(parsed) if isinstance(node, ast.Call)}
    with_pkgutil, with_setuptools = "extend_path" in called, "declare_namespace" in called
    if with_setuptools:
        return NamespaceForm.EITHER if with_pkgutil else NamespaceForm.PKG_RESOURCES
    return NamespaceForm.PKGUTIL if with_pkgutil else NamespaceForm.NOTHING


def _only_extend(statements: Iterable[ast.stmt]) -> bool:
    return all(map(_only_extends, statements))


def _only_extends(statement: ast.stmt) -> bool:
    """Return whether a statement does nothing but extend the package's path, or prepare that."""
    match statement:
        case ast.Pass() | ast.Delete() | ast.Expr(value=ast.Constant()):
            found = True
        case ast.Import(names=names):
            found = all(alias.name in _IMPORTED for alias in names)
        case ast.ImportFrom(module=module, level=level):
            found = not level and module in _IMPORTED
        case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=value):
            found = _sets_path(target, value)
        case ast.Expr(value=ast.Call() as call):
            found = called_name(call) in _CALLED
        case ast.Try(body=body, orelse=orelse, finalbody=finalbody, handlers=handlers):
            found = all(map(_only_extend, (body, orelse, finalbody, *(handler.body for handler in handlers))))
        case ast.For(iter=iterated, body=body, orelse=orelse):
            found = _is_name(iterated, "__path__") and _only_extend((*body, *orelse))
        case _:
            found = False
    return found


def _sets_path(target: ast.expr, value: ast.expr | None) -> bool:
    """Return whether an assignment is that of the path, as `pkgutil.extend_path` returns it for the package itself."""
    return (
        _is_name(target, "__path__")
        and isinstance(value, ast.Call)
        and called_name(value) == "extend_path"
        and all(isinstance(each, (ast.Name, ast.Constant)) for each in value.args)
    )


def _is_name(expression: ast.expr, name: str) -> bool:
    return isinstance(expression, ast.Name) and expression.id == name


def choose_equivalent(path: str, sources: Sequence[bytes]) -> int | None:
    """Return which of several sources for one path to take, by its place; None where they differ in effect.

    Those that differ in comments and layout alone are the same. The choice depends on the contents, never on their order.
    """
    if not path.endswith(".py"):
        return None
    order = sorted(range(len(sources)), key=lambda place: sources[place])
    if path.rpartition("/")[2] == PACKAGE and "/" in path:
        forms = [find_namespace_form(source) for source in sources]
        if None not in forms:
            return min(order, key=lambda place: forms[place] or 0)
    parsed = [parse_source(source) for source in sources]
    same = len({ast.dump(each) for each in parsed if each}) == 1 and None not in parsed
    return order[0] if same else None
