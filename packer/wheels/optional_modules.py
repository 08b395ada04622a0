"""Whether Python code does without an extension module: whatever imports it catches that it cannot be imported."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import TypeGuard

from packer.core.model import Tree
from packer.formats.elf import EXTENSION_MODULE
from packer.source.facts import called_name, parse_source, source_modules

_CATCHING = frozenset(("ImportError", "Exception", "BaseException"))
"""What catches that a shared library is not found: Python raises ImportError itself for that, none of its subclasses."""


def is_optional(path: str, trees: Iterable[Tree]) -> bool:
    """Return whether sources import an extension module, and each time go on without it where that fails.

    ``path`` is that of the module, ``trees`` are all that may import it. Their test suites, and imports of names that are
    computed, do not count.
    """
    module = EXTENSION_MODULE.sub("", path).removesuffix(".so").replace("/", ".")
    word = module.rpartition(".")[2].encode()
    found = False
    for tree in trees:
        for entry in source_modules(tree):
            data = entry.content.read()
            if word not in data:
                continue
            parsed = parse_source(data)
            if parsed is None:
                return False
            caught = list(_find_imports(parsed, _Importer(entry.path, module)))
            if not all(caught):
                return False
            found = found or bool(caught)
    return found


class _Importer:
    """A source that may import a module."""

    def __init__(self, path: str, module: str) -> None:
        self._package = path.split("/")[:-1]
        self._module = module

    def imports(self, node: ast.AST) -> bool:
        """Return whether a node is an import of the module, by a statement or a call."""
        if isinstance(node, ast.Import):
            return any(alias.name == self._module for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = self._absolute(node.module or "", node.level)
            return base == self._module or any(f"{base}.{alias.name}".lstrip(".") == self._module for alias in node.names)
        if isinstance(node, ast.Call) and called_name(node) in ("import_module", "__import__"):
            names = [each.value for each in node.args[:1] if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            return any(self._absolute(name.lstrip("."), len(name) - len(name.lstrip("."))) == self._module for name in names)
        return False

    def _absolute(self, name: str, level: int) -> str:
        above = self._package[: len(self._package) - level + 1] if level else []
        return ".".join((*above, *([name] if name else [])))


def _find_imports(module: ast.Module, importer: _Importer) -> Iterator[bool]:
    """Return for each import of the extension module whether its failure is caught there."""
    waiting: list[tuple[ast.AST, bool]] = [(module, False)]
    while waiting:
        node, caught = waiting.pop()
        if importer.imports(node):
            yield caught
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            caught = False
        guarded = node.body if _guards(node) else []
        waiting += [(child, caught or child in guarded) for child in ast.iter_child_nodes(node)]


def _guards(node: ast.AST) -> TypeGuard[ast.Try | ast.With]:
    """Return whether a statement catches imports that fail in its body."""
    return (isinstance(node, ast.Try) and any(map(_goes_on, node.handlers))) or (
        isinstance(node, ast.With) and any(_suppresses(item.context_expr) for item in node.items)
    )


def _goes_on(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler catches what fails, and does not just raise something else."""
    return _catches(handler.type) and not any(isinstance(statement, ast.Raise) for statement in handler.body)


def _suppresses(context: ast.expr) -> bool:
    return isinstance(context, ast.Call) and called_name(context) == "suppress" and any(map(_catches, context.args))


def _catches(error: ast.expr | None) -> bool:
    """Return whether a failed import is among what an expression names; without any, everything is."""
    names = error.elts if isinstance(error, ast.Tuple) else [error]
    return error is None or any(
        (each.id if isinstance(each, ast.Name) else each.attr if isinstance(each, ast.Attribute) else "") in _CATCHING
        for each in names
    )
