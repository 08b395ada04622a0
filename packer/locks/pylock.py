"""pylock.toml (PEP 751): read for a target, and written for another folder."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from builders.documents import decode_text, parse_toml
from builders.runtimes import Target
from packer.core.errors import ResolveError, UsageError
from packer.core.model import Archive, Lock, LockedPackage, Repository, Requirements, SourceFolder
from packer.core.names import PYPROJECT_FILE
from packer.core.process import Run, run
from packer.formats.distribution_names import canonical_name
from packer.formats.requirements_txt import local_path
from packer.locks.formats import LOCK_FORMATS, PYLOCK, Adjustments, LockPart, LockReader, ParsePylock
from packer.locks.pins import GIT, LockValue, read_lock_text
from packer.net.credentials import without_login

if TYPE_CHECKING:
    from packaging.markers import Marker
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageVcs, PackageWheel, Pylock
    from packaging.specifiers import SpecifierSet

    from packer.locks.declared import DeclaredRequirement

_LOCK_AGAIN = "Lock again (`lpack lock`), or fix the file."
_RENEWALS = {
    "lpack": "lpack lock",
    "uv": "uv lock && uv export -o {name}",
    "pdm": "pdm lock && pdm export -f pylock -o {name}",
}
"""Commands that make a lock anew, by the tool that its ``created-by`` names."""


class PylockReader(LockReader):
    """Reads a pylock.toml, whoever made it."""

    keeps_logins = True

    def declared(self, requirements: Requirements, target: Target) -> tuple[DeclaredRequirement, ...]:
        """Return what the pyproject.toml beside a lock called pylock.toml requires; nothing where none is there."""
        from packer.locks.declared import read_project_requirements

        extras, groups = requirements.extras, requirements.groups
        files = self.declaring_files(requirements)
        return tuple(each for path in files for each in read_project_requirements(path.parent, extras, groups, target))

    def declaring_files(self, requirements: Requirements) -> tuple[Path, ...]:
        """Return the pyproject.toml beside a pylock.toml; a lock of another name may be of a part of the project."""
        path = requirements.path
        return (path.with_name(PYPROJECT_FILE),) if path.name == LOCK_FORMATS[PYLOCK].filename else ()

    def describe_absence(self, requirements: Requirements, target: Target, name: str, requirer: str) -> str:  # noqa: ARG002
        """Return under which marker the lock has a package."""
        pylock = _parse_lock(read_pylock_text(requirements.path), requirements.path)
        found = [each for each in pylock.packages if each.name == name]
        markers = [str(each.marker) for each in found if each.marker]
        return f"only where {' or '.join(markers)}" if markers else ""

    def renewal(self, requirements: Requirements, target: Target | None) -> str:  # noqa: ARG002
        """Return the command of the tool that the lock names as its maker."""
        maker = str(_parse_toml(read_pylock_text(requirements.path), requirements.path).get("created-by", ""))
        return _RENEWALS.get(maker, "").format(name=requirements.path.name)

    def adjusted(self, requirements: Requirements) -> Adjustments:
        """Return what the settings of uv and PDM beside the lock override."""
        from packer.locks.adjustments import read_adjustments

        return read_adjustments(requirements.path.parent, os.environ)

    def read(
        self,
        requirements: Requirements,
        target: Target,
        run: Run = run,  # noqa: ARG002 no other program is needed
        parse: ParsePylock | None = None,
    ) -> tuple[LockedPackage, ...]:
        """Return the packages for a target; see `parse_pylock`."""
        extras, groups = requirements.extras, requirements.groups
        return read_pylock(requirements.path, target, extras=extras, groups=groups, parse=parse).packages

    def part(self, requirements: Requirements, target: Target, data: bytes) -> LockPart:  # noqa: ARG002 any platform counts
        """Return the local projects and archives that the lock names; see `find_pylock_places`."""
        return LockPart(places=find_pylock_places(requirements.path, data))


def find_pylock_places(path: Path, data: bytes) -> tuple[Path, ...]:
    """Return the local projects and archives that a lock at ``path`` names, none for content that is not TOML.

    Raises `ResolveError` for a value of the wrong type.
    """
    try:
        document = tomllib.loads(decode_text(data))
    except ValueError:
        return ()
    lock = LockValue(file=path, place="", raw=document, remedy=_LOCK_AGAIN)
    packages = lock.find("packages")
    tables = (table for package in (packages.members() if packages else ()) for table in _archive_tables(package))
    return tuple(
        place.absolute_path() / table.text_at("subdirectory")
        for table in tables
        if (place := table.find("path")) and place.text()
    )


def _archive_tables(package: LockValue) -> Iterator[LockValue]:
    yield from (found for key in ("directory", "archive", "sdist") if (found := package.find(key)))
    wheels = package.find("wheels")
    yield from wheels.members() if wheels else ()


def read_pylock(
    path: Path,
    target: Target,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    parse: ParsePylock | None = None,
) -> Lock:
    """Read a lock file for a target by `parse_pylock`, or by what stands for it; raises what that raises."""
    return (parse or parse_pylock)(read_pylock_text(path), path, target, extras=extras, groups=groups)


def read_pylock_text(path: Path) -> str:
    """Return the text of a lock file; raises `ResolveError`."""
    return read_lock_text(path, _LOCK_AGAIN)


def parse_pylock(text: str, path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Lock:
    """Return what a lock's text says for a target, as if it stood at ``path``: relative paths start from that folder.

    ``groups`` come on top of the lock's default groups. Raises `ResolveError` that names the path and the key, and `UsageError`
    for an extra or a group that the lock does not have.
    """
    pylock = _parse_lock(text, path)
    _check_names(path, "extra", extras, pylock.extras or ())
    _check_names(path, "group", groups, (*(pylock.dependency_groups or ()), *(pylock.default_groups or ())))
    return Lock(target=target, packages=select_packages(pylock, path, target, extras=extras, groups=groups), origin=path.name)


def _parse_lock(text: str, path: Path) -> Pylock:
    from packaging.pylock import Pylock, PylockValidationError

    try:
        return Pylock.from_dict(_parse_toml(text, path))
    except PylockValidationError as error:
        raise ResolveError(f"{path} is not a valid lock: {error}.", remedy=_LOCK_AGAIN) from None


def _check_names(path: Path, kind: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if canonical_name(name) not in map(canonical_name, known):
            raise UsageError(
                f"{path} has no {kind} {name!r}.", remedy=f"Known are: {', '.join(known) or 'none'}. Or lock again with it."
            )


def select_packages(
    pylock: Pylock, path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()
) -> tuple[LockedPackage, ...]:
    """Return the packages whose markers hold on the target, sorted by name, with every wheel that the lock offers.

    ``path`` is the lock file. Raises `ResolveError` where two entries of one name apply, or the target is excluded.
    """
    # A group is asked for beside what the project itself needs, which some tools lock as a default group of its own.
    environment: dict[str, Any] = {
        **target.markers(),
        "extras": frozenset(extras),
        "dependency_groups": frozenset((*groups, *(pylock.default_groups or ()))),
    }
    _check_target(pylock, path, target)
    chosen: dict[str, LockedPackage] = {}
    for number, package in enumerate(pylock.packages):
        place = f"packages[{number}]"
        if package.marker is not None and not _marker_holds(package.marker, environment, f"{path}: {place}.marker"):
            continue
        _check_python(package.requires_python, path, f"{place}: {package.name} {package.version or ''}".rstrip(), target)
        if package.name in chosen:
            raise ResolveError(
                f"{path}: {place}: a second entry for {package.name} applies to {target}, and only one may.", remedy=_LOCK_AGAIN
            )
        chosen[package.name] = _locked_package(package, path, place)
    return tuple(chosen[name] for name in sorted(chosen))


def _marker_holds(marker: Marker, environment: Mapping[str, Any], place: str) -> bool:
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName

    try:
        return marker.evaluate(environment, context="lock_file")
    except (UndefinedComparison, UndefinedEnvironmentName) as error:
        raise ResolveError(f"{place} cannot be evaluated: {error.args[0]}.", remedy=_LOCK_AGAIN) from None


def _check_target(pylock: Pylock, path: Path, target: Target) -> None:
    _check_python(pylock.requires_python, path, "the lock", target)
    known = [
        _marker_holds(marker, target.markers(), f"{path}: environments[{number}]")
        for number, marker in enumerate(pylock.environments or ())
    ]
    if known and not any(known):
        raise ResolveError(
            f"{path}: none of the lock's environments is {target}: {'; '.join(map(str, pylock.environments or ()))}.",
            remedy="Choose another runtime or architecture, or lock again for this one.",
        )


def _check_python(required: SpecifierSet | None, path: Path, what: str, target: Target) -> None:
    if required is not None and not required.contains(target.python_version):
        raise ResolveError(
            f"{path}: {what} requires Python {required}, and {target} has {target.python_version}.",
            remedy="Choose another runtime, or lock again for this one.",
        )


def _locked_package(package: Package, path: Path, place: str) -> LockedPackage:
    version = str(package.version) if package.version is not None else ""
    wheels = tuple(_make_archive(wheel, path, f"{place}.wheels[{number}]") for number, wheel in enumerate(package.wheels or ()))
    source: Archive | SourceFolder | Repository | None = None
    if package.vcs is not None:
        source = _make_repository(package.vcs, path, f"{place}.vcs")
    elif package.directory is not None:
        folder = _named_path(package.directory.path, path, f"{place}.directory")
        source = SourceFolder(path=folder / (package.directory.subdirectory or ""))
    elif package.archive is not None and package.archive.subdirectory:
        raise ResolveError(
            f"{path}: {place}.archive.subdirectory: lpack builds archives at their root only.",
            remedy="Name a repository or a release instead, and lock again.",
        )
    elif package.archive is not None:
        archive = _make_archive(package.archive, path, f"{place}.archive")
        if archive.filename.endswith(".whl"):
            wheels = (archive,)
        else:
            source = archive
    elif package.sdist is not None:
        source = _make_archive(package.sdist, path, f"{place}.sdist")
    return LockedPackage(name=package.name, version=version, wheels=wheels, source=source)


def _make_archive(entry: PackageWheel | PackageSdist | PackageArchive, path: Path, place: str) -> Archive:
    digest = entry.hashes.get("sha256", "")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise ResolveError(f"{path}: {place}.hashes has no sha256, which lpack verifies by.", remedy=_LOCK_AGAIN)
    location = _named_url(entry.url, path, place) if entry.url else str(_named_path(entry.path or "", path, place))
    name = getattr(entry, "name", None) or unquote(urlsplit(location).path).rpartition("/")[2]
    return Archive(filename=name, location=location, sha256=digest.lower(), size=entry.size)


def _make_repository(entry: PackageVcs, path: Path, place: str) -> Repository:
    if entry.type != GIT:
        raise ResolveError(
            f"{path}: {place}.type is {entry.type!r}, and lpack builds from repositories of git alone.",
            remedy="Name a release, or a repository of git, and lock again.",
        )
    address = _named_url(entry.url, path, place) if entry.url else _named_path(entry.path or "", path, place).as_uri()
    return Repository(url=f"{entry.type}+{address}@{entry.commit_id}", subdirectory=entry.subdirectory or "")


def _named_url(url: str, path: Path, place: str) -> str:
    """Return the URL that the table at ``place`` of the lock ``path`` names, without a login; raise `ResolveError`."""
    try:
        return without_login(url)
    except ValueError:
        raise ResolveError(f"{path}: {place}.url is not a valid URL.", remedy=_LOCK_AGAIN) from None


def _named_path(named: str, path: Path, place: str) -> Path:
    """Return the absolute path of what the table at ``place`` of the lock ``path`` names; raise `ResolveError`."""
    try:
        return local_path(named, path.parent)
    except ValueError:
        raise ResolveError(f"{path}: {place}.path is not a valid URL.", remedy=_LOCK_AGAIN) from None


def parse_tool_table(text: str, path: Path) -> Mapping[str, Any]:
    """Return the ``[tool.lpack]`` table of a lock's text, empty where it has none; raises `ResolveError`."""
    table: Any = _parse_toml(text, path)
    for key in ("tool", "lpack"):
        table = table.get(key, {}) if isinstance(table, dict) else {}
    return table if isinstance(table, dict) else {}


def relocate_lock(text: str, from_folder: Path, to_folder: Path, tool: Mapping[str, Any]) -> str:
    """Write a lock's text anew for another folder, as lpack's own, with ``tool`` as its ``[tool.lpack]`` where given.

    Relative paths go on leading to the same places, and ``file:`` URLs become such paths, so that the lock says the same
    wherever the project lies; credentials go.
    """
    import tomli_w

    document = tomllib.loads(text)
    for package in document.get("packages", []):
        index = package.pop("index", "file:")
        if not index.startswith("file:"):
            package["index"] = without_login(index)
        for entry in _places(package):
            _relocate(entry, from_folder, to_folder)
    document["created-by"] = "lpack"
    if tool:
        document.setdefault("tool", {})["lpack"] = dict(tool)
    return tomli_w.dumps(document)


def _places(package: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return every table of a locked package that says where a file or a folder lies."""
    yield from (package[key] for key in ("vcs", "directory", "archive", "sdist") if key in package)
    yield from package.get("wheels", [])


def _relocate(entry: dict[str, Any], from_folder: Path, to_folder: Path) -> None:
    url, is_repository = entry.get("url", ""), "commit-id" in entry
    if url.startswith("file:") and not is_repository:
        entry["path"] = _relative_path(to_folder, local_path(entry.pop("url"), from_folder))
        return
    if url:
        entry["url"] = without_login(url)
    if "path" in entry and not Path(entry["path"]).is_absolute():
        entry["path"] = _relative_path(to_folder, from_folder.absolute() / entry["path"])


def _relative_path(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path, folder.absolute())).as_posix()


@lru_cache(maxsize=16)
def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    """Parse a lock, which is asked for twice in a row: for its packages, and for what lpack says of it; nobody changes it."""
    return parse_toml(text, path, ResolveError, _LOCK_AGAIN, noun="the lock")
