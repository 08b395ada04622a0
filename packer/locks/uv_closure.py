"""What one member of a uv.lock needs, read from the lock alone: to tell whether a change of the lock concerns it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from packaging.utils import canonicalize_name

from packer.core.model import Requirements

_LOCAL = ("editable", "directory", "virtual", "path")
# What of a locked package says nothing of what is installed with it.
_NO_MATTER = ("metadata", "dev-dependencies", "optional-dependencies")

Package = Mapping[str, Any]


class Closure(Struct, frozen=True, kw_only=True):
    """Everything that a member needs on any platform: ``packages`` changes when one of them does.

    ``places`` are the absolute paths of what lies on this machine: local projects, and archives.
    """

    packages: str
    places: tuple[Path, ...]


def uv_closure(document: Mapping[str, Any], requirements: Requirements) -> Closure:
    """Follow the dependencies of ``requirements.package``, or of the root project where that is empty.

    The form is that of uv's own lock (uv documentation, "The lockfile"); ``KeyError``, ``TypeError`` or ``AttributeError``
    where it is not. A member that is not there needs everything.
    """
    packages: Sequence[Package] = document.get("package", ())
    name = canonicalize_name(requirements.package)
    own = [each for each in packages if (each["name"] == name if name else _is_root(each))]
    entries = _follow(packages, own, requirements) if own else [(package, "") for package in packages]
    parts = sorted({json.dumps(_relevant(package, extra), sort_keys=True, default=str) for package, extra in entries})
    folder = requirements.path.parent
    found = {Path(os.path.normpath(folder / place)) for package, _ in entries for place in _places(package)}
    return Closure(packages="\n".join(parts), places=tuple(sorted(found)))


def _is_root(package: Package) -> bool:
    return any(package["source"].get(kind) == "." for kind in _LOCAL)


def _follow(packages: Sequence[Package], own: Sequence[Package], requirements: Requirements) -> list[tuple[Package, str]]:
    """Return all that members need, themselves left out, each with the extra for which it is needed or an empty text."""
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        by_name.setdefault(package["name"], []).append(package)
    waiting = [each for package in own for each in _asked(package, requirements)]
    found: dict[tuple[int, str], tuple[Package, str]] = {}
    while waiting:
        dependency = waiting.pop()
        for package in by_name.get(dependency["name"], ()):
            if dependency.get("version", package.get("version")) != package.get("version"):
                continue
            for extra in ("", *dependency.get("extra", ())):
                if (id(package), extra) not in found:
                    found[id(package), extra] = (package, extra)
                    waiting += _needed(package, extra)
    return list(found.values())


def _needed(package: Package, extra: str) -> Sequence[Package]:
    table = package.get("optional-dependencies", {}).get(extra, ()) if extra else package.get("dependencies", ())
    return list(table)


def _asked(package: Package, requirements: Requirements) -> Iterator[Package]:
    """Return the dependencies of a function's own project, with the extras and groups that the function asks for."""
    yield from package.get("dependencies", ())
    for key, names in (("optional-dependencies", requirements.extras), ("dev-dependencies", requirements.groups)):
        for name in names:
            yield from package.get(key, {}).get(canonicalize_name(name), ())


def _relevant(package: Package, extra: str) -> Any:
    if extra:
        return [package["name"], package.get("version"), extra, _needed(package, extra)]
    return {key: value for key, value in package.items() if key not in _NO_MATTER}


def _places(package: Package) -> Iterator[str]:
    yield from (package["source"][kind] for kind in _LOCAL if kind in package.get("source", {}))
