"""Requirements that users override: what uv's and PDM's own settings replace, and so what locks need not meet."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from builders.documents import decode_text
from builders.errors import LpackError
from packer.core.names import PYPROJECT_FILE
from packer.formats.distribution_names import canonical_name
from packer.formats.metadata import parse_requirement
from packer.formats.requirements_txt import read_requirements
from packer.locks.formats import Adjustments


def adjustments_of(table: Mapping[str, Any]) -> Adjustments:
    """Return what the manifest of a uv.lock overrides (its form is uv's own; there is no other specification)."""
    overridden = (*_names(table.get("overrides")), *_names(table.get("excludes")))
    return Adjustments(overridden=frozenset(overridden), described=frozenset(_names(table.get("dependency-metadata"))))


def read_adjustments(folder: Path, variables: Mapping[str, str]) -> Adjustments:
    """Return what the nearest settings of uv, in this folder or above, override, and PDM's beside them.

    What the environment ``variables`` name to override comes on top. The keys are those of uv's documentation ("Settings":
    override-dependencies, exclude-dependencies, dependency-metadata), and of PDM's ("[tool.pdm.resolution]").
    """
    named = [name for word in variables.get("UV_OVERRIDE", "").split() for name in _names_in_file(folder / word)]
    for place in (folder, *folder.parents):
        settings = _read(place / "uv.toml")
        project = _table(_read(place / PYPROJECT_FILE), "tool")
        resolution = _table(_table(project, "pdm"), "resolution")
        settings = settings or _table(project, "uv")
        if settings or resolution:
            overridden = (
                *named,
                *_names(settings.get("override-dependencies")),
                *_names(settings.get("exclude-dependencies")),
                *map(canonical_name, _table(resolution, "overrides")),
                *_names(resolution.get("excludes")),
            )
            described = frozenset(_names(settings.get("dependency-metadata")))
            return Adjustments(overridden=frozenset(overridden), described=described)
    return Adjustments(overridden=frozenset(named))


def _names_in_file(path: Path) -> Iterator[str]:
    """Return the packages that a requirements file names; none where it cannot be read, which uv reports."""
    try:
        lines = read_requirements(path).lines
    except LpackError:
        return
    yield from (line.name for line in lines if line.name)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(decode_text(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _names(found: Any) -> Iterator[str]:
    """Return the packages that a list names by requirements, or in tables."""
    for each in found if isinstance(found, list) else ():
        text = each.get("name") if isinstance(each, dict) else each
        requirement = parse_requirement(text) if isinstance(text, str) else None
        if requirement:
            yield canonical_name(requirement.name)
