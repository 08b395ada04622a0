"""poetry.lock of Poetry 1.1 and later: exact versions and hashes, without addresses.

Format: Poetry's ``poetry.packages.locker`` (there is no other specification). Version 2.1 says of every package which groups
and markers bring it in. Versions 1.1 and 2.0 do not: there the graph is walked from the pyproject.toml beside the lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from builders.documents import parse_toml
from builders.runtimes import Target
from packer.core.errors import ResolveError, UsageError
from packer.core.model import LockedPackage, Requirements
from packer.core.names import PYPROJECT_FILE
from packer.formats.distribution_names import canonical_name
from packer.locks.declared import DeclaredRequirement, read_project_requirements
from packer.locks.formats import PinnedLockReader
from packer.locks.pins import (
    LockValue,
    Pin,
    archive_package,
    folder_package,
    marker_applies,
    normalized_names,
    read_lock_text,
    repository_package,
    sha256_digests,
    unique_packages,
)

_REMEDY = "Lock again with Poetry (`poetry lock`), or fix the file."
_MAIN = "main"
_WALKED, _MARKED = ("1.1", "2.0"), ("2.1",)
_EXTRA_MEMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# An operator may stand apart from its version, and several constraints apart from each other: ">= 1.0, <2" and ">=1.0 <2".
_COMPARISON = re.compile(r"(?P<operator>\^|~=|~|===|==|!=|<=|>=|<|>|=)?\s*(?P<version>[^\s,|<>=!~^]+)")


class _Dependency(Struct, frozen=True, kw_only=True):
    """One edge of the graph: ``constraint`` is in Poetry's own language, ``extras`` are what it asks of the package."""

    name: str
    constraint: str
    extras: frozenset[str]
    place: LockValue


class PoetryReader(PinnedLockReader):
    """Reads a poetry.lock."""

    command = "poetry lock"

    def read_packages(self, requirements: Requirements, target: Target) -> tuple[Pin | LockedPackage, ...]:
        """Read a poetry.lock for a target: the main group, ``requirements.groups`` and ``requirements.extras``, sorted by name.

        Raises `ResolveError` that names the file and the key, and `UsageError` for a group or an extra that is not there.
        """
        path = requirements.path
        lock = _read_document(path)
        metadata = lock["metadata"]
        version = metadata["lock-version"]
        if version.text() not in (*_WALKED, *_MARKED):
            raise version.error(f"is {version.text()!r}, and lpack knows {', '.join((*_WALKED, *_MARKED))}")
        _check_python(metadata["python-versions"], target)
        found = lock.find("package")
        packages = tuple(found.members()) if found else ()
        project = path.parent / PYPROJECT_FILE
        extras = _asked_extras(requirements, lock)
        if version.text() in _MARKED:
            groups = _asked_groups(requirements, _marked_groups(packages) | _project_groups(project))
            chosen = [package for package in packages if _is_marked(package, groups, target, extras)]
        else:
            if not project.is_file():
                raise version.error(
                    f"is {version.text()}, which needs the {PYPROJECT_FILE} beside it to tell what belongs to which group"
                )
            document = _read_document(project)
            groups = _asked_groups(requirements, frozenset(_dependency_tables(document)))
            chosen = _walk_graph(packages, _roots(document, groups, extras, lock, target), target)
        return unique_packages(((package, _read_package(package, lock)) for package in chosen), target)

    def declared(self, requirements: Requirements, target: Target) -> tuple[DeclaredRequirement, ...]:
        """Return what the pyproject.toml beside the lock requires in the groups and extras that are asked for."""
        (project,) = self.declaring_files(requirements)
        if not project.is_file():
            return ()
        document, groups = _read_document(project), normalized_names((_MAIN, *requirements.groups))
        roots = _roots(document, groups, normalized_names(requirements.extras), _read_document(requirements.path), target)
        standard = read_project_requirements(project.parent, (), requirements.groups, target) if requirements.groups else ()
        return (*map(_declare, roots), *standard)

    def describe_absence(self, requirements: Requirements, target: Target, name: str, requirer: str) -> str:  # noqa: ARG002
        """Return under which marker, for which Python or in which groups the lock has a package."""
        packages = _read_document(requirements.path).find("package")
        found = [each for each in packages.members() if canonical_name(each["name"].text()) == name] if packages else []
        if not found:
            return ""
        groups = frozenset().union(*(normalized_names(each["groups"].texts()) for each in found if each.find("groups")))
        wanted = normalized_names((_MAIN, *requirements.groups))
        if groups and not groups & wanted:
            return f"only in the group {' and '.join(sorted(groups))}"
        markers = [marker.text() for each in found for group in sorted(wanted) if (marker := _marker_of(each, group))]
        pythons = [each.text_at("python-versions") for each in found if not _allows_python(each["python-versions"], target)]
        conditions = dict.fromkeys((*markers, *(f"Python is {each}" for each in pythons)))
        return f"only where {' or '.join(conditions)}" if conditions else "only for other requirements"


def _declare(root: _Dependency) -> DeclaredRequirement:
    extras = f"[{','.join(sorted(root.extras))}]" if root.extras else ""
    bounds = tuple(_specifiers(each) for each in re.split(r"\|\|?", root.constraint))
    return DeclaredRequirement(
        name=root.name,
        words=f"{root.name}{extras} {'' if root.constraint == '*' else root.constraint}".rstrip(),
        file=root.place.file,
        extras=tuple(sorted(root.extras)),
        specifiers=bounds if all(bounds) else (),
    )


def _read_document(path: Path) -> LockValue:
    text = read_lock_text(path, _REMEDY)
    return LockValue(file=path, place="", raw=parse_toml(text, path, ResolveError, _REMEDY), remedy=_REMEDY)


def _check_python(versions: LockValue, target: Target) -> None:
    if not _allows_python(versions, target):
        raise ResolveError(
            f"{versions.file}: {versions.place} is {versions.text()}, and {target} has Python {target.python_version}.",
            remedy="Choose another runtime, or lock again for this one.",
        )


# What is asked for


def _asked_extras(requirements: Requirements, lock: LockValue) -> frozenset[str]:
    table = lock.find("extras")
    known = normalized_names(name for name, _ in table.items()) if table else frozenset()
    return _check_known("extras", requirements, requirements.extras, known)


def _asked_groups(requirements: Requirements, known: frozenset[str]) -> frozenset[str]:
    return _check_known("groups", requirements, (_MAIN, *requirements.groups), known | {_MAIN})


def _check_known(key: str, requirements: Requirements, asked: Iterable[str], known: frozenset[str]) -> frozenset[str]:
    for name in asked:
        if canonical_name(name) not in known:
            raise UsageError(
                f"{requirements.path} has no {key.removesuffix('s')} {name!r}, which {key} names.",
                remedy=f"Known are: {', '.join(sorted(known)) or 'none'}.",
            )
    return normalized_names(tuple(asked))


def _marked_groups(packages: Iterable[LockValue]) -> frozenset[str]:
    return normalized_names(group for package in packages for group in package["groups"].texts())


def _project_groups(project: Path) -> frozenset[str]:
    """Return the groups that a pyproject.toml names: those that bring in nothing are in no lock."""
    if not project.is_file():
        return frozenset()
    document = _read_document(project)
    standard = document.find("dependency-groups")
    return normalized_names((*_dependency_tables(document), *(name for name, _ in (standard.items() if standard else ()))))


def _find_path(value: LockValue, *keys: str) -> LockValue | None:
    found: LockValue | None = value
    for key in keys:
        found = found.find(key) if found else None
    return found


# Version 2.1: every package says what brings it in


def _is_marked(package: LockValue, groups: frozenset[str], target: Target, extras: frozenset[str]) -> bool:
    wanted = normalized_names(package["groups"].texts()) & groups
    return any(marker_applies(_marker_of(package, group), target, extras) for group in wanted)


def _marker_of(package: LockValue, group: str) -> LockValue | None:
    """Return the marker under which a group brings the package in: one for all groups, or a table of them by group."""
    markers = package.find("markers")
    if markers is None or not isinstance(markers.raw, dict):
        return markers
    return next((marker for name, marker in markers.items() if canonical_name(name) == group), None)


# Versions 1.1 and 2.0: the graph tells


def _roots(
    project: LockValue, groups: frozenset[str], extras: frozenset[str], lock: LockValue, target: Target
) -> Iterator[_Dependency]:
    """Return what the pyproject.toml itself asks for."""
    asked = lock.find("extras")
    optional = _named_by(asked, extras) if asked else frozenset()
    standard = _find_path(project, "project")
    tables = _dependency_tables(project)
    if standard is not None and standard.find("dependencies"):
        yield from _standard_roots(standard, extras, target)
        del tables[_MAIN]
    for group, table in tables.items():
        if group in groups:
            yield from _edges(table, optional, target, extras)


def _dependency_tables(project: LockValue) -> dict[str, LockValue]:
    """Return the tables of dependencies in Poetry's own language by group; the main one is there even where it is empty."""
    empty = LockValue(file=project.file, place="tool.poetry.dependencies", raw={}, remedy=_REMEDY)
    found = {_MAIN: _find_path(project, "tool", "poetry", "dependencies") or empty}
    groups = _find_path(project, "tool", "poetry", "group")
    for name, group in groups.items() if groups else ():
        found[canonical_name(name)] = group.find("dependencies") or empty
    old = _find_path(project, "tool", "poetry", "dev-dependencies")
    if old is not None:
        found.setdefault("dev", old)
    return found


def _standard_roots(standard: LockValue, extras: frozenset[str], target: Target) -> Iterator[_Dependency]:
    lists = [standard["dependencies"]]
    optional = standard.find("optional-dependencies")
    lists += [value for name, value in optional.items() if canonical_name(name) in extras] if optional else []
    for value in (member for each in lists for member in each.members()):
        try:
            requirement = Requirement(value.text())
        except InvalidRequirement as error:
            raise value.error(f"is not a requirement: {str(error).partition(chr(10))[0]}") from None
        if requirement.marker is None or requirement.marker.evaluate({**target.markers(), "extra": ""}):
            yield _Dependency(
                name=canonical_name(requirement.name),
                constraint=str(requirement.specifier),
                extras=normalized_names(tuple(requirement.extras)),
                place=value,
            )


def _edges(table: LockValue, optional: frozenset[str], target: Target, extras: frozenset[str]) -> Iterator[_Dependency]:
    """Return the dependencies of a table that hold on the target; of the optional ones those that an asked extra names."""
    for name, value in table.items():
        if canonical_name(name) == "python":
            continue
        alternatives = value.members() if isinstance(value.raw, list) else (value,)
        for place in alternatives:
            dependency = _Dependency(name=canonical_name(name), constraint="", extras=frozenset(), place=place)
            if isinstance(place.raw, str):
                yield replace(dependency, constraint=place.raw)
            elif _holds(place, dependency.name in optional, target, extras):
                asked = place.find("extras")
                names = normalized_names(asked.texts()) if asked else frozenset()
                yield replace(dependency, constraint=place.text_at("version"), extras=names)


def _holds(place: LockValue, is_asked: bool, target: Target, extras: frozenset[str]) -> bool:
    optional, python, platform = (place.find(key) for key in ("optional", "python", "platform"))
    return (
        (is_asked or optional is None or not optional.raw)
        and marker_applies(place.find("markers"), target, extras)
        and (python is None or _allows_python(python, target))
        and (platform is None or _allows_platform(platform.text(), target.markers()["sys_platform"]))
    )


def _allows_platform(wanted: str, platform: str) -> bool:
    names = [name.strip() for name in wanted.split("|") if name.strip()]
    return any(platform != name[2:].strip() if name.startswith("!=") else platform == name.lstrip("= ") for name in names)


def _named_by(table: LockValue, extras: frozenset[str]) -> frozenset[str]:
    """Return the packages that a table of extras names for those asked for: ``socks = ["pysocks (>=1.5.6)"]``."""
    found: set[str] = set()
    for name, members in table.items():
        if canonical_name(name) in extras:
            matches = (_EXTRA_MEMBER.match(text) for text in members.texts())
            found |= {match[0] for match in matches if match}
    return normalized_names(tuple(found))


def _walk_graph(packages: Iterable[LockValue], roots: Iterable[_Dependency], target: Target) -> list[LockValue]:
    """Return the packages that the roots reach.

    Where a lock has several versions of a package, dependencies that accept more than one of them are followed after those that
    accept only one: a requirement such as ``>=1.26`` does not say which version belongs to this target.
    """
    entries: dict[str, list[LockValue]] = {}
    for package in packages:
        entries.setdefault(canonical_name(package["name"].text()), []).append(package)
    chosen: dict[str, LockValue] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    pending, doubtful = list(roots), list[_Dependency]()
    while pending or doubtful:
        is_certain = bool(pending)
        dependency = (pending or doubtful).pop(0)
        fitting = _fitting(dependency, entries.get(dependency.name, []), target)
        known = chosen.get(dependency.name)
        if known is None and len(fitting) > 1 and is_certain:
            doubtful.append(dependency)
            continue
        package = chosen.setdefault(dependency.name, fitting[0])
        if package not in fitting:
            raise dependency.place.error(f"does not accept {dependency.name} {package['version'].text()}, which others ask for")
        if (dependency.name, dependency.extras) not in seen:
            seen.add((dependency.name, dependency.extras))
            pending += _dependencies(package, dependency.extras, target)
    return list(chosen.values())


def _dependencies(package: LockValue, extras: frozenset[str], target: Target) -> Iterator[_Dependency]:
    table, offered = package.find("dependencies"), package.find("extras")
    optional = _named_by(offered, extras) if offered else frozenset()
    return _edges(table, optional, target, extras) if table else iter(())


def _fitting(dependency: _Dependency, entries: list[LockValue], target: Target) -> list[LockValue]:
    """Return the entries that a dependency accepts, newest first; raises `ResolveError` where there is none."""
    if not entries:
        raise dependency.place.error(f"asks for {dependency.name}, which the lock does not have")
    if len(entries) == 1:
        return entries
    found = [entry for entry in entries if _has_same_origin(dependency.place, entry.find("source"))]
    found = [entry for entry in found if _allows(dependency.place, dependency.constraint, str(_version(entry)))]
    found = [entry for entry in found if _allows_python(entry["python-versions"], target)]
    if not found:
        raise dependency.place.error(f"accepts none of the versions of {dependency.name} that the lock has for {target}")
    return sorted(found, key=_version, reverse=True)


def _version(entry: LockValue) -> Version:
    try:
        return Version(entry["version"].text())
    except InvalidVersion:
        raise entry["version"].error("is not a valid version (PEP 440)") from None


def _has_same_origin(place: LockValue, source: LockValue | None) -> bool:
    """Return whether an entry comes from where a dependency wants it, as far as that says anything about it."""
    table = place.raw if isinstance(place.raw, dict) else {}
    kind = source.text_at("type") if source else ""
    for key, kinds in (("git", ("git",)), ("url", ("url",)), ("path", ("directory", "file")), ("file", ("file",))):
        if key in table:
            return kind in kinds
    return "source" not in table or (source is not None and source.text_at("reference") == table["source"])


# Poetry's language of version constraints


def _allows_python(versions: LockValue, target: Target) -> bool:
    # As in Poetry's markers, "3.12" and "<=3.12" speak of the minor version.
    full = target.python_version
    return any(_allows(versions, versions.text(), version) for version in (full, full.rpartition(".")[0]))


def _allows(place: LockValue, constraint: str, version: str) -> bool:
    """Return whether a constraint such as ``^1.2,!=1.3.1 || 3.*`` allows a version."""
    try:
        alternatives = [_specifiers(part) for part in re.split(r"\|\|?", constraint)]
        return any(SpecifierSet(part).contains(version, prereleases=True) for part in alternatives)
    except (InvalidSpecifier, InvalidVersion):
        raise place.error(f"holds {constraint!r}, which is no version constraint that lpack knows") from None


def _specifiers(constraint: str) -> str:
    return ",".join(
        filter(None, (_specifier(match["operator"] or "", match["version"]) for match in _COMPARISON.finditer(constraint)))
    )


def _specifier(operator: str, version: str) -> str:
    """Return one comparison of Poetry's as PEP 440 writes it."""
    bare = re.sub(r"\.[*xX]$", "", version)
    if version in ("*", "x", "X"):
        return ""
    if operator in ("", "=", "=="):
        return f"=={version}" if bare == version else f"=={bare}.*"
    if operator in ("^", "~"):
        release = Version(bare).release
        return f">={bare},<{_next_caret(release) if operator == '^' else _next_tilde(release)}"
    return f"{operator}{version if operator == '!=' else bare}"


def _next_caret(release: tuple[int, ...]) -> str:
    """Return the first version that may break: the next of the leftmost part that is not zero."""
    position = next((number for number, part in enumerate(release) if part), len(release) - 1)
    return ".".join(map(str, (*release[:position], release[position] + 1)))


def _next_tilde(release: tuple[int, ...]) -> str:
    kept = release[:2]
    return ".".join(map(str, (*kept[:-1], kept[-1] + 1)))


# From an entry to what the build needs


def _read_package(package: LockValue, lock: LockValue) -> Pin | LockedPackage:
    name, version = canonical_name(package["name"].text()), package["version"].text()
    source = package.find("source")
    kind = source["type"].text() if source else ""
    if source is None or kind == "legacy":
        digests = sha256_digests(file["hash"] for file in _files(package, lock))
        if not digests:
            raise package.error(f"({name} {version}) has no sha256, which lpack verifies by")
        return Pin(name=name, version=version, sha256=digests, index=source["url"].address() if source else "")
    if kind == "git":
        return repository_package(
            name, version, kind, source["url"], source["resolved_reference"].text(), source.text_at("subdirectory")
        )
    if kind == "directory":
        return folder_package(name, version, source["url"].absolute_path())
    if kind in ("file", "url"):
        return archive_package(name, version, source["url"], sha256_digests(file["hash"] for file in _files(package, lock)))
    raise source["type"].error(f"is {kind!r}, which lpack does not know")


def _files(package: LockValue, lock: LockValue) -> Iterator[LockValue]:
    """Return a package's files; version 1.1 keeps them in a table of its own."""
    own = package.find("files")
    if own is not None:
        return own.members()
    table = _find_path(lock, "metadata", "files")
    if table is None:
        raise package.error("has no key 'files'")
    name = package["name"].text()
    return (table.find(name) or table[canonical_name(name)]).members()
