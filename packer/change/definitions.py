"""What the configuration and the template said of each function then and now: whose definition has changed."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packer.config.discovery import DISCOVER, matches_patterns
from packer.core.errors import UsageError
from packer.core.model import Function
from packer.core.names import PROJECT_FILE
from packer.sam.template import TemplateFunction, read_template

_FUNCTIONS = "functions"
# Keys of a project that decide nothing of what a function is: which there are is compared function by function.
_OF_NO_FUNCTION = (_FUNCTIONS, DISCOVER, "out")
# Keys of which only the function's own value counts where it has one.
_HIDING = ("runtime", "arch", "glibc")


def redefined(functions: Sequence[Function], path: Path, before: bytes | None) -> frozenset[str]:
    """Give the names of the functions for which a configuration file says something else than it did.

    ``before`` is its content then, None where there was none: then all are meant, as where it cannot be understood.
    """
    then, now = _tables(before, path.name), _tables(path.read_bytes(), path.name)
    root = path.parent.absolute()
    return frozenset(
        each.name for each in functions if then is None or now is None or _said(then, each, root) != _said(now, each, root)
    )


def redefined_by_template(
    functions: Sequence[Function], path: Path, before: bytes | None, parameters: Mapping[str, str]
) -> frozenset[str]:
    """Give the names of the functions for which a template says something else than it did; all where that cannot be told."""
    try:
        then = _of_template(path, parameters, (before or b"").decode("utf-8-sig"))
    except (UsageError, UnicodeDecodeError):
        return frozenset(each.name for each in functions)
    now = _of_template(path, parameters, None)
    return frozenset(each.name for each in functions if then.get(each.name) != now.get(each.name))


def _of_template(path: Path, parameters: Mapping[str, str], text: str | None) -> dict[str, Any]:
    found = read_template(path, parameters, text).functions
    return {each.logical_id: _facts(each) for each in found}


def _facts(function: TemplateFunction) -> tuple[object, ...]:
    """Give what a template says of a function; an error of its layers counts without its place, which other lines move."""
    uncounted = function.uncounted is not None
    what = (function.runtime, function.architecture, function.handler, function.source, function.environment)
    return (*what, function.attached, uncounted)


def _tables(data: bytes | None, filename: str) -> Mapping[str, Any] | None:
    """Give lpack's keys as a file holds them, or None."""
    try:
        document = tomllib.loads((data or b"").decode())
    except ValueError:
        return None
    tool = document.get("tool")
    table = tool.get("lpack") if isinstance(tool, dict) else None
    if table is None and filename != PROJECT_FILE and data is not None:
        table = document
    well_formed = isinstance(table, dict) and isinstance(table.get(_FUNCTIONS, {}), dict)
    return table if well_formed else None


def _said(table: Mapping[str, Any], function: Function, root: Path) -> Any:
    """Give all that a configuration says of a function, and whether it makes it one."""
    own = table.get(_FUNCTIONS, {}).get(function.name)
    patterns = table[DISCOVER] if isinstance(table.get(DISCOVER), list) else ()
    path = Path(os.path.relpath(function.source, root)).as_posix()
    is_one = own is not None or matches_patterns(tuple(map(str, patterns)), path)
    hidden = (*_OF_NO_FUNCTION, *(key for key in _HIDING if isinstance(own, dict) and key in own))
    return is_one, own or {}, {key: value for key, value in table.items() if key not in hidden}
