"""What a project's own files require directly, which the lock beside them has to contain."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from builders.documents import decode_text
from builders.runtimes import Target
from packer.core.names import PYPROJECT_FILE
from packer.formats.distribution_names import canonical_name
from packer.formats.metadata import parse_requirement, requirement_applies


class DeclaredRequirement(Struct, frozen=True, kw_only=True):
    """One requirement of a function's own files that holds on the target.

    ``name`` is normalized, ``words`` are those of the ``file``. ``specifiers`` are version specifiers (PEP 440) one of which
    must hold; without any, every version will do.
    """

    name: str
    words: str
    file: Path
    extras: tuple[str, ...] = ()
    specifiers: tuple[str, ...] = ()

    def allows(self, version: str) -> bool:
        """Return whether a version will do; True where the version, or what is asked for, cannot be compared."""
        from packaging.specifiers import InvalidSpecifier, SpecifierSet
        from packaging.version import InvalidVersion

        try:
            return not self.specifiers or any(
                SpecifierSet(each).contains(version, prereleases=True) for each in self.specifiers
            )
        except (InvalidSpecifier, InvalidVersion):
            return True


def parse_declared(texts: Iterable[str], file: Path, target: Target) -> Iterator[DeclaredRequirement]:
    """Return the requirements (PEP 508) that hold on a target; what is no valid one is left for others to report."""
    for requirement in filter(None, map(parse_requirement, texts)):
        if requirement_applies(requirement, frozenset(), target):
            bound = str(requirement.specifier)
            extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            yield DeclaredRequirement(
                name=canonical_name(requirement.name),
                words=f"{requirement.name}{extras}{bound}",
                file=file,
                extras=tuple(sorted(requirement.extras)),
                specifiers=(bound,) if bound else (),
            )


def read_project_document(path: Path) -> Mapping[str, Any]:
    """Return a pyproject.toml, empty where there is none or it is not valid: what needs it for more says so."""
    try:
        return tomllib.loads(decode_text(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def read_project_name(document: Mapping[str, Any]) -> str:
    """Return the normalized name of a pyproject.toml's project; empty where it has none."""
    tables = (_table(document, "project"), _table(_table(document, "tool"), "poetry"))
    return next((canonical_name(name) for table in tables if isinstance(name := table.get("name"), str)), "")


def list_project_requirements(document: Mapping[str, Any], extras: Sequence[str], groups: Sequence[str]) -> Iterator[str]:
    """Return what a pyproject.toml requires (PEP 621, PEP 735), with these extras and groups, its own extras expanded."""
    project, own = _table(document, "project"), read_project_name(document)
    optional = {canonical_name(key): value for key, value in _table(project, "optional-dependencies").items()}
    seen = set[str]()

    def expand(found: Any, names: Iterable[str] = ()) -> Iterator[str]:
        for name in map(canonical_name, names):
            if name not in seen:
                seen.add(name)
                yield from expand(optional.get(name))
        for text in _strings(found):
            requirement = parse_requirement(text) if own else None
            if requirement and canonical_name(requirement.name) == own:
                yield from expand((), sorted(requirement.extras))
            else:
                yield text

    yield from expand(project.get("dependencies"))
    yield from expand((), extras)
    for group in _list_groups(document, groups):
        yield from expand(group)


def _list_groups(document: Mapping[str, Any], groups: Sequence[str]) -> Iterator[list[str]]:
    """Return the requirements of dependency groups, and of the groups that these include (PEP 735)."""
    table = {canonical_name(key): value for key, value in _table(document, "dependency-groups").items()}
    waiting, seen = list(map(canonical_name, groups)), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        members = table.get(name)
        yield _strings(members)
        for member in members if isinstance(members, list) else ():
            included = member.get("include-group") if isinstance(member, dict) else None
            waiting += [canonical_name(included)] if isinstance(included, str) else []


def read_project_requirements(
    folder: Path, extras: Sequence[str], groups: Sequence[str], target: Target
) -> tuple[DeclaredRequirement, ...]:
    """Return what the pyproject.toml of a folder requires on a target; nothing where there is none."""
    path = folder / PYPROJECT_FILE
    texts = list_project_requirements(read_project_document(path), extras, groups)
    return tuple(parse_declared(texts, path, target))


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _strings(found: Any) -> list[str]:
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
