"""uv.lock, single projects and workspaces: uv itself exports what a member needs, and resolves nothing.

What one member needs is also read from the lock alone (`find_member_part`), to decide whether a change of the lock concerns it.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from builders.documents import decode_text, read_toml
from builders.interpreters import find_interpreter
from builders.runtimes import Target
from packer.core.errors import ResolveError, UsageError
from packer.core.model import Lock, LockedPackage, Requirements
from packer.core.names import PYPROJECT_FILE
from packer.core.process import Run, run, uv_command
from packer.formats.distribution_names import canonical_name
from packer.locks.adjustments import adjustments_of
from packer.locks.declared import DeclaredRequirement, read_project_requirements
from packer.locks.formats import Adjustments, LockPart, LockReader, ParsePylock
from packer.locks.pylock import parse_pylock

# What a function's own folder holds is its source: only its dependencies come from the lock, and never those for development.
_FLAGS = ("--frozen", "--offline", "--no-header", "--format", "pylock.toml", "--no-default-groups", "--no-emit-project")
_STALE = 1  # exit status of `uv lock --check` for a lock that needs to change; 2 stands for everything else


_MEMBER = r'^name = "{name}"\n(?:version = .*\n)?source = {{ (?:editable|directory|virtual) = "([^"]*)"'
_LOCAL = ("editable", "directory", "virtual", "path")
# What of a locked package says nothing of what is installed with it.
_WITHOUT_EFFECT = ("metadata", "dev-dependencies", "optional-dependencies")

Package = Mapping[str, Any]


class UvReader(LockReader):
    """Reads a uv.lock by means of uv."""

    follows_project = True
    command = "uv lock"

    def read(
        self, requirements: Requirements, target: Target, run: Run = run, parse: ParsePylock | None = None
    ) -> tuple[LockedPackage, ...]:
        """Return the packages that a member of the workspace needs; see `read_uv_lock`."""
        return read_uv_lock(requirements, target, run, parse or parse_pylock).packages

    def is_stale(self, requirements: Requirements, target: Target, run: Run = run) -> bool:
        """Return whether uv finds that the lock no longer fits its projects; see `is_uv_lock_stale`."""
        return is_uv_lock_stale(requirements, target, run)

    def declared(self, requirements: Requirements, target: Target) -> tuple[DeclaredRequirement, ...]:
        """Return what the member's pyproject.toml requires with the extras and groups that are asked for."""
        extras, groups = requirements.extras, requirements.groups
        files = self.declaring_files(requirements)
        return tuple(each for path in files for each in read_project_requirements(path.parent, extras, groups, target))

    def declaring_files(self, requirements: Requirements) -> tuple[Path, ...]:
        """Return the pyproject.toml of the member, or that beside the lock."""
        folder = _find_member_folder(requirements)
        return (folder / PYPROJECT_FILE,) if folder else ()

    def describe_absence(self, requirements: Requirements, target: Target, name: str, requirer: str) -> str:  # noqa: ARG002
        """Return under which markers the lock has a package for what requires it."""
        packages: Sequence[Package] = _read_lock(requirements).get("package", ())
        if not any(each["name"] == name for each in packages):
            return ""
        needing = [each for each in packages if (each["name"] == requirer if requirer else _is_member(each, requirements))]
        edges = (edge for each in needing for edge in (*each.get("dependencies", ()), *_asked_dependencies(each, requirements)))
        markers = dict.fromkeys(edge["marker"] for edge in edges if edge["name"] == name and "marker" in edge)
        return f"only where {' or '.join(markers)}" if markers else "only for other requirements"

    def adjusted(self, requirements: Requirements) -> Adjustments:
        """Return what uv was told to override when the lock was made."""
        return adjustments_of(_read_lock(requirements).get("manifest", {}))

    def part(self, requirements: Requirements, target: Target, data: bytes) -> LockPart:  # noqa: ARG002 any platform counts
        """Return what a member needs on any platform; nothing, where the lock's form is not known."""
        try:
            return find_member_part(_parse_toml(data), requirements)
        except (ValueError, KeyError, TypeError, AttributeError):
            return LockPart()


def _read_lock(requirements: Requirements) -> dict[str, Any]:
    try:
        return _parse_toml(requirements.path.read_bytes())
    except (OSError, ValueError) as error:
        raise ResolveError(f"{requirements.path} cannot be read: {error}.", remedy="Run `uv lock` there.") from error


def _is_member(package: Package, requirements: Requirements) -> bool:
    name = canonical_name(requirements.package)
    return bool(package["name"] == name) if name else _is_root(package)


def _find_member_folder(requirements: Requirements) -> Path | None:
    """Return the folder of the member that is asked for, or that of the lock; None for a member that the lock does not have."""
    folder = requirements.path.parent
    if not requirements.package:
        return folder
    try:
        text = requirements.path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    name = re.escape(canonical_name(requirements.package))
    found = re.search(_MEMBER.format(name=name), text, re.MULTILINE)  # to parse a large lock takes longer than all the rest
    return Path(os.path.normpath(folder / found[1])) if found else None


@lru_cache(maxsize=4)
def _parse_toml(data: bytes) -> dict[str, Any]:
    """Parse a lock, which many members of a workspace ask for in a row; nobody changes it."""
    return tomllib.loads(decode_text(data))


def read_uv_lock(requirements: Requirements, target: Target, run: Run, parse: ParsePylock = parse_pylock) -> Lock:
    """Read a uv.lock for a target: the packages of ``requirements.package``, or of the root project where that is empty.

    Raises `ResolveError` with uv's own words, or `UsageError` for a workspace without a root project.
    """
    folder = requirements.path.parent
    if not requirements.package:
        _check_root(requirements.path)
    arguments = [uv_command(), "export", "--quiet", "--color", "never", *_FLAGS]
    arguments += ["--package", requirements.package] if requirements.package else []
    arguments += [word for extra in requirements.extras for word in ("--extra", extra)]
    arguments += [word for group in requirements.groups for word in ("--group", group)]
    finished = run(arguments, folder, {})
    if finished.status:
        raise ResolveError(
            f"uv cannot read {requirements.path} (package {requirements.package or 'of the root'}).",
            detail=finished.stderr.rstrip(),
            remedy="Run `uv lock` there, or name another package, extra or group.",
        )
    # uv's paths start from the lock's folder, so its answer is read as if it stood there. Extras and groups are in it already.
    return parse(finished.stdout, requirements.path, target)


def is_uv_lock_stale(requirements: Requirements, target: Target, run: Run) -> bool:
    """Return whether the uv.lock no longer fits the pyproject.toml files beside and below it, as ``uv lock --check`` sees it.

    Needs no network and no warm cache. Where uv finds no Python for the project, the target's is tried. Where it cannot tell
    (the metadata of a ``setup.py`` project must be built, or no such Python is at hand) the answer is no. A lock made with
    another default index is stale to uv, and so it is here.
    """
    arguments = [uv_command(), "lock", "--check", "--offline", "--quiet", "--color", "never"]
    status = _check_status(arguments, requirements, run)
    if status not in {0, _STALE}:
        interpreter = find_interpreter(target.runtime.minor)
        status = _check_status([*arguments, "--python", str(interpreter.path)], requirements, run) if interpreter else status
    return status == _STALE


def _check_status(arguments: list[str], requirements: Requirements, run: Run) -> int:
    return run(arguments, requirements.path.parent, {"UV_PYTHON_DOWNLOADS": "never"}).status


def _check_root(path: Path) -> None:
    """Refuse a workspace without a root project where no member is named: uv would export all members, and themselves too."""
    project = path.with_name(PYPROJECT_FILE)
    if not project.is_file() or "project" in _read_document(project):
        return
    members = _read_document(path).get("manifest", {}).get("members", ())
    raise UsageError(
        f"{path} locks a workspace, and {project.name} beside it has no project of its own.",
        remedy=f"Name the member to pack (package = …): {', '.join(members) or 'none is known'}.",
    )


def _read_document(path: Path) -> dict[str, Any]:
    return read_toml(path, ResolveError, "Fix the file, or run `uv lock` there.")


def find_member_part(document: Mapping[str, Any], requirements: Requirements) -> LockPart:
    """Follow the dependencies of ``requirements.package``, or of the root project where that is empty.

    The form is that of uv's own lock (uv documentation, "The lockfile"); ``KeyError``, ``TypeError`` or ``AttributeError``
    where it is not. A member that is not there needs everything.
    """
    packages: Sequence[Package] = document.get("package", ())
    own = [each for each in packages if _is_member(each, requirements)]
    entries = _follow(packages, own, requirements) if own else [(package, "") for package in packages]
    parts = sorted({json.dumps(_relevant_fields(package, extra), sort_keys=True, default=str) for package, extra in entries})
    folder = requirements.path.parent
    found = {Path(os.path.normpath(folder / place)) for package, _ in entries for place in _local_paths(package)}
    return LockPart(packages="\n".join(parts), places=tuple(sorted(found)))


def _is_root(package: Package) -> bool:
    return any(package["source"].get(kind) == "." for kind in _LOCAL)


def _follow(packages: Sequence[Package], own: Sequence[Package], requirements: Requirements) -> list[tuple[Package, str]]:
    """Return all that members need, themselves left out, each with the extra for which it is needed or an empty text."""
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        by_name.setdefault(package["name"], []).append(package)
    waiting = [each for package in own for each in _asked_dependencies(package, requirements)]
    found: dict[tuple[int, str], tuple[Package, str]] = {}
    while waiting:
        dependency = waiting.pop()
        for package in by_name.get(dependency["name"], ()):
            if dependency.get("version", package.get("version")) != package.get("version"):
                continue
            for extra in ("", *dependency.get("extra", ())):
                if (id(package), extra) not in found:
                    found[id(package), extra] = (package, extra)
                    waiting += _needed_dependencies(package, extra)
    return list(found.values())


def _needed_dependencies(package: Package, extra: str) -> Sequence[Package]:
    table = package.get("optional-dependencies", {}).get(extra, ()) if extra else package.get("dependencies", ())
    return list(table)


def _asked_dependencies(package: Package, requirements: Requirements) -> Iterator[Package]:
    """Return the dependencies of a function's own project, with the extras and groups that the function asks for."""
    yield from package.get("dependencies", ())
    for key, names in (("optional-dependencies", requirements.extras), ("dev-dependencies", requirements.groups)):
        for name in names:
            yield from package.get(key, {}).get(canonical_name(name), ())


def _relevant_fields(package: Package, extra: str) -> Any:
    if extra:
        return [package["name"], package.get("version"), extra, _needed_dependencies(package, extra)]
    return {key: value for key, value in package.items() if key not in _WITHOUT_EFFECT}


def _local_paths(package: Package) -> Iterator[str]:
    yield from (package["source"][kind] for kind in _LOCAL if kind in package.get("source", {}))
