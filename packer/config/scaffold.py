"""Finds the functions of a folder, for a first configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from msgspec import Struct

from packer.core.errors import UsageError
from packer.core.model import Requirements
from packer.source.dependency_files import find_handler, find_requirements

_PASSED_OVER = re.compile(r"\..*|node_modules|__pycache__|tests?|dist|build|cdk\.out|s?venv|env")
_MOST_DEPTH = 4
_LONGEST_NAME = 64
"""Characters of a function's name that Lambda takes (AWS "CreateFunction", FunctionName)."""
_MANY = 3
"""Functions side by side from which on a pattern says it better."""


class FoundFunction(Struct, frozen=True, kw_only=True):
    """A folder with a handler, and its dependency file where it has one."""

    name: str
    source: Path
    handler: str
    requirements: Requirements | None


def find_functions(folder: Path) -> tuple[FoundFunction, ...]:
    """Find every folder with a handler, the given one included; raises `UsageError` where there is none."""
    found: dict[str, FoundFunction] = {}
    for place in _folders(folder):
        try:
            handler = find_handler(place)
            requirements = find_requirements(place, None, str(place))
        except UsageError:
            continue  # a folder without a handler, or one that only its owner can make sense of
        name = _free_name(place, folder, found)
        found[name] = FoundFunction(name=name, source=place, handler=handler, requirements=requirements)
    if not found:
        raise UsageError(
            f"No folder in {folder} holds a module with a function named handler or lambda_handler.",
            remedy="Name another folder, or write lpack.toml by hand.",
        )
    return tuple(found.values())


def _folders(folder: Path) -> list[Path]:
    places: list[Path] = []
    for place, below, _ in os.walk(folder):
        here = Path(place)
        depth = len(here.relative_to(folder).parts)
        below[:] = sorted(name for name in below if depth < _MOST_DEPTH and not _PASSED_OVER.fullmatch(name))
        if not (here / "pyvenv.cfg").exists():
            places.append(here)
        else:
            below.clear()
    return places


def _free_name(place: Path, folder: Path, taken: dict[str, FoundFunction]) -> str:
    """Return a name that no other function has: the folder's own, or else its path's, or else that with a number."""
    own, path = _make_name(place.name), _make_name("-".join(place.relative_to(folder).parts))
    numbered = (f"{path[: _LONGEST_NAME - len(end)]}{end}" for end in (f"-{number}" for number in count(2)))
    return next(name for name in chain((own, path), numbered) if name not in taken)


def _make_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", text).strip("-_")[:_LONGEST_NAME] or "function"


def config_text(functions: Sequence[FoundFunction], folder: Path, runtime: str, architecture: str) -> str:
    """Return the text of an lpack.toml."""
    lines = [f'runtime = "{runtime}"', f'arch = "{architecture}"', 'out = "dist"']
    above = {function.source.parent for function in functions}
    if len(functions) >= _MANY and len(above) == 1:
        pattern = _relative(above.pop() / "*", folder)
        lines.append(f'# Instead of the tables below, and for functions yet to come: discover = ["{pattern}"]')
    for function in functions:
        lines += ["", f"[functions.{function.name}]", f'source = "{_relative(function.source, folder)}"']
        lines.append(f'handler = "{function.handler}"')
        if function.requirements is not None:
            lines.append(f'requirements = "{_relative(function.requirements.path, folder)}"')
            if function.requirements.package:
                lines.append(f'package = "{function.requirements.package}"')
    return "\n".join(lines) + "\n"


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
