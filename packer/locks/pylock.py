"""pylock.toml (PEP 751): read for a target, and written for another folder."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.pylock import (
    Package,
    PackageArchive,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockValidationError,
)

from builders.runtimes import Target
from packer.credentials import without_login
from packer.errors import ResolveError
from packer.model import Archive, Lock, LockedPackage, Repository, SourceFolder

_LOCK_AGAIN = "Lock again (`lpack lock`), or mend the file."


def read_pylock(path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Lock:
    """Read a lock file for a target; raises `ResolveError` that names the file and the key."""
    return parse_pylock(_text(path), path, target, extras=extras, groups=groups)


def parse_pylock(text: str, path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Lock:
    """Read a lock's text for a target, as if it stood at ``path``: relative paths start from that folder.

    Raises `ResolveError` that names the path and the key.
    """
    try:
        pylock = Pylock.from_dict(_parsed(text, path))
    except PylockValidationError as error:
        raise ResolveError(f"{path} is not a valid lock: {error}.", remedy=_LOCK_AGAIN) from None
    return Lock(target=target, packages=select(pylock, path, target, extras=extras, groups=groups), origin=path.name)


def select(
    pylock: Pylock, path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()
) -> tuple[LockedPackage, ...]:
    """Give the packages whose markers hold on the target, sorted by name, with every wheel that the lock offers.

    ``path`` is the lock file. Raises `ResolveError` where two entries of one name apply, or the target's Python is excluded.
    """
    environment: dict[str, Any] = {
        **target.markers(),
        "extras": frozenset(extras),
        "dependency_groups": frozenset(groups or pylock.default_groups or ()),
    }
    _check_python(pylock.requires_python, path, "the lock", target)
    chosen: dict[str, LockedPackage] = {}
    for number, package in enumerate(pylock.packages):
        if package.marker is not None and not package.marker.evaluate(environment, context="lock_file"):
            continue
        place = f"packages[{number}]"
        _check_python(package.requires_python, path, f"{place}: {package.name} {package.version or ''}".rstrip(), target)
        if package.name in chosen:
            raise ResolveError(
                f"{path}: {place}: a second entry for {package.name} applies to {target}, and only one may.", remedy=_LOCK_AGAIN
            )
        chosen[package.name] = _locked(package, path, place)
    return tuple(chosen[name] for name in sorted(chosen))


def _check_python(required: Any, path: Path, what: str, target: Target) -> None:
    if required is not None and not required.contains(target.python_version, prereleases=True):
        raise ResolveError(
            f"{path}: {what} requires Python {required}, and {target} has {target.python_version}.",
            remedy="Choose another runtime, or lock again for this one.",
        )


def _locked(package: Package, path: Path, place: str) -> LockedPackage:
    version = str(package.version) if package.version is not None else ""
    wheels = tuple(_archive(wheel, path, f"{place}.wheels[{number}]") for number, wheel in enumerate(package.wheels or ()))
    source: Archive | SourceFolder | Repository | None = None
    if package.vcs is not None:
        source = _repository(package.vcs, path)
    elif package.directory is not None:
        folder = _absolute(package.directory.path, path)
        source = SourceFolder(path=folder / (package.directory.subdirectory or ""))
    elif package.archive is not None:
        archive = _archive(package.archive, path, f"{place}.archive")
        if archive.filename.endswith(".whl"):
            wheels = (archive,)
        else:
            source = archive
    elif package.sdist is not None:
        source = _archive(package.sdist, path, f"{place}.sdist")
    return LockedPackage(name=package.name, version=version, wheels=wheels, source=source)


def _archive(entry: PackageWheel | PackageSdist | PackageArchive, path: Path, place: str) -> Archive:
    digest = entry.hashes.get("sha256", "")
    if not digest:
        raise ResolveError(f"{path}: {place}.hashes has no sha256, which lpack verifies by.", remedy=_LOCK_AGAIN)
    location = without_login(entry.url) if entry.url else str(_absolute(entry.path or "", path))
    name = getattr(entry, "name", None) or unquote(urlsplit(location).path).rpartition("/")[2]
    return Archive(filename=name, location=location, sha256=digest.lower(), size=entry.size)


def _repository(entry: PackageVcs, path: Path) -> Repository:
    address = without_login(entry.url) if entry.url else _absolute(entry.path or "", path).as_uri()
    return Repository(url=f"{entry.type}+{address}@{entry.commit_id}", subdirectory=entry.subdirectory or "")


def _absolute(place: str, path: Path) -> Path:
    return Path(os.path.normpath(path.parent.absolute() / place))


def read_tool_table(path: Path) -> Mapping[str, Any]:
    """Give the ``[tool.lpack]`` table of a lock file, empty where it has none; raises `ResolveError`."""
    table = _parsed(_text(path), path).get("tool", {}).get("lpack", {})
    return table if isinstance(table, dict) else {}


def relocate(text: str, from_folder: Path, to_folder: Path, tool: Mapping[str, Any]) -> str:
    """Write a lock's text anew for another folder, as lpack's own, with ``tool`` as its ``[tool.lpack]`` where given.

    Relative paths go on leading to the same places; credentials go.
    """
    import tomli_w

    document = tomllib.loads(text)
    for entry in _places(document):
        if "path" in entry and not Path(entry["path"]).is_absolute():
            there = os.path.normpath(from_folder.absolute() / entry["path"])
            entry["path"] = Path(os.path.relpath(there, to_folder.absolute())).as_posix()
        if "url" in entry:
            entry["url"] = without_login(entry["url"])
    document["created-by"] = "lpack"
    if tool:
        document.setdefault("tool", {})["lpack"] = dict(tool)
    return tomli_w.dumps(document)


def _places(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give every table of a lock that says where something lies."""
    for package in document.get("packages", []):
        if "index" in package:
            package["index"] = without_login(package["index"])
        for key in ("vcs", "directory", "archive", "sdist"):
            if key in package:
                yield package[key]
        yield from package.get("wheels", [])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResolveError(f"Cannot read the lock {path}: {error.strerror}.", remedy=_LOCK_AGAIN) from error
    except UnicodeDecodeError as error:
        raise ResolveError(f"The lock {path} is not valid UTF-8: {error}.", remedy=_LOCK_AGAIN) from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ResolveError(f"The lock {path} is not valid TOML: {error}.", remedy=_LOCK_AGAIN) from error
