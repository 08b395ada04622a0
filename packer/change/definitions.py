"""Finds functions whose definition in the configuration or the template has changed."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builders.documents import decode_text
from packer.config.discovery import DISCOVER, matches_patterns
from packer.config.project import Project
from packer.config.project_reader import read_project_template
from packer.core.errors import UsageError
from packer.core.model import Function
from packer.core.names import PYPROJECT_FILE
from packer.sam.function_reader import TemplateFunction

_FUNCTIONS = "functions"
# Keys of a project that decide nothing of what a function is: which there are is compared function by function.
_OF_NO_FUNCTION = (_FUNCTIONS, DISCOVER, "out")
# Keys of which only the function's own value counts where it has one.
_HIDING = ("runtime", "arch", "glibc")


def find_redefined(functions: Sequence[Function], path: Path, before: bytes | None) -> frozenset[str]:
    """Return the names of the functions whose definition in a configuration file has changed.

    ``before`` is its earlier content, None for a new file: then all functions are returned, as for one that cannot be parsed.
    """
    then, now = _tables(before, path.name), _tables(path.read_bytes(), path.name)
    root = path.parent.absolute()
    return frozenset(
        each.name
        for each in functions
        if then is None or now is None or _settings_of(then, each, root) != _settings_of(now, each, root)
    )


def find_redefined_in_template(functions: Sequence[Function], project: Project, before: bytes | None) -> frozenset[str]:
    """Return the names of the functions whose definition in a template has changed; all if that is not known.

    ``before`` is its earlier content.
    """
    try:
        then = _of_template(project, decode_text(before or b""))
    except (UsageError, UnicodeDecodeError):
        return frozenset(each.name for each in functions)
    now = _of_template(project, None)
    return frozenset(each.name for each in functions if then.get(each.name) != now.get(each.name))


def _of_template(project: Project, text: str | None) -> dict[str, Any]:
    return {each.name: _facts(each) for each in read_project_template(project, text).functions}


def _facts(function: TemplateFunction) -> tuple[object, ...]:
    """Return what a template says of a function; an error in its layers counts without its line number, which may move."""
    uncounted = function.uncounted is not None
    what = (function.runtime, function.architecture, function.handler, function.environment)
    return (*what, function.source, function.only, function.package, function.undecided, function.attached, uncounted)


def _tables(data: bytes | None, filename: str) -> Mapping[str, Any] | None:
    """Return lpack's keys in a file; None where it cannot be parsed."""
    try:
        document = tomllib.loads(decode_text(data or b""))
    except ValueError:
        return None
    tool = document.get("tool")
    table = tool.get("lpack") if isinstance(tool, dict) else None
    if table is None and filename != PYPROJECT_FILE and data is not None:
        table = document
    well_formed = isinstance(table, dict) and isinstance(table.get(_FUNCTIONS, {}), dict)
    return table if well_formed else None


def _settings_of(table: Mapping[str, Any], function: Function, root: Path) -> Any:
    """Return all that a configuration says of a function, and whether it defines it at all."""
    own = table.get(_FUNCTIONS, {}).get(function.name)
    patterns = table[DISCOVER] if isinstance(table.get(DISCOVER), list) else ()
    path = Path(os.path.relpath(function.source, root)).as_posix()
    is_one = own is not None or matches_patterns(tuple(map(str, patterns)), path)
    hidden = (*_OF_NO_FUNCTION, *(key for key in _HIDING if isinstance(own, dict) and key in own))
    return is_one, own or {}, {key: value for key, value in table.items() if key not in hidden}
