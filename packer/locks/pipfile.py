"""Pipfile.lock: exact versions and hashes by category, without addresses.

Format: Pipenv's documentation, "Pipfile & Pipfile.lock", and pipfile-spec 6. Each holds what one minor version of Python needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from builders.documents import parse_json
from builders.runtimes import Target
from packer.core.errors import ResolveError, UsageError
from packer.core.model import LockedPackage, Requirements
from packer.formats.distribution_names import canonical_name
from packer.formats.requirements_txt import ARCHIVE_SUFFIXES
from packer.locks.declared import DeclaredRequirement, parse_declared, read_project_document
from packer.locks.formats import PinnedLockReader
from packer.locks.pins import (
    LockValue,
    Pin,
    archive_package,
    folder_package,
    is_remote,
    marker_applies,
    read_lock_text,
    repository_package,
    sha256_digests,
    unique_packages,
)

_REMEDY = "Lock again with Pipenv (`pipenv lock`), or fix the file."
_SPECIFICATION = 6
_DEFAULT, _META = "default", "_meta"
_REPOSITORIES = ("git", "hg", "svn", "bzr")
# Sections of a Pipfile by the names that its lock has for them.
_SECTIONS = {_DEFAULT: "packages", "develop": "dev-packages"}
_MARKER_KEYS = re.compile(
    r"os_name|sys_platform|implementation_name|platform_\w+|(?:python|python_full|implementation)_version"
)
# What Pipenv calls the public index, in every Pipfile that it writes.
_PUBLIC = "pypi"


class PipfileReader(PinnedLockReader):
    """Reads a Pipfile.lock."""

    command = "pipenv lock"

    def read_packages(self, requirements: Requirements, target: Target) -> tuple[Pin | LockedPackage, ...]:
        """Read a Pipfile.lock for a target: the default category and those that ``requirements.groups`` names, sorted by name.

        Raises `ResolveError` that names the file and the key, and `UsageError` for a category that is not there.
        """
        lock = _read_document(requirements)
        meta = lock[_META]
        specification = meta["pipfile-spec"]
        if specification.raw != _SPECIFICATION:
            raise specification.error(f"is {specification.raw!r}, and lpack knows {_SPECIFICATION}")
        _check_python(meta, target)
        categories = [lock[name] for name in _wanted_categories(requirements, lock)]
        return unique_packages(
            ((entry, _read_package(name, entry, meta)) for name, entry in _applicable_entries(categories, target)), target
        )

    def declared(self, requirements: Requirements, target: Target) -> tuple[DeclaredRequirement, ...]:
        """Return what the Pipfile beside the lock requires in the categories that are asked for; nothing without a Pipfile."""
        (path,) = self.declaring_files(requirements)
        document = read_project_document(path)
        categories = dict.fromkeys((_DEFAULT, *requirements.groups))
        tables = (document.get(_SECTIONS.get(each, each)) for each in categories)
        entries = (item for table in tables if isinstance(table, dict) for item in table.items())
        return tuple(each for name, value in entries for each in _declare(name, value, path, target))

    def declaring_files(self, requirements: Requirements) -> tuple[Path, ...]:
        """Return the Pipfile beside the lock."""
        return (requirements.path.with_name("Pipfile"),)

    def renewal(self, requirements: Requirements, target: Target | None) -> str:  # noqa: ARG002
        """Return Pipenv's command, for the target's Python if one is given: Pipenv resolves for one version."""
        return f"{self.command} --python 3.{target.runtime.minor}" if target else self.command

    def describe_absence(self, requirements: Requirements, target: Target, name: str, requirer: str) -> str:  # noqa: ARG002
        """Return under which marker, or in which category, the lock has a package."""
        lock = _read_document(requirements)
        wanted = set(_wanted_categories(requirements, lock))
        found = [
            (category, entry)
            for category, table in lock.items()
            if category != _META
            for key, entry in table.items()
            if canonical_name(key) == name
        ]
        markers = [entry.text_at("markers") for category, entry in found if category in wanted and entry.find("markers")]
        if markers:
            return f"only where {' or '.join(markers)}"
        found = [(category, entry) for category, entry in found if category not in wanted]
        return f"only in the category {found[0][0]}" if found else ""


def _declare(name: str, value: object, file: Path, target: Target) -> Iterator[DeclaredRequirement]:
    """Return one requirement of a Pipfile, if it holds on the target (Pipenv documentation, "Specifiers")."""
    table = value if isinstance(value, dict) else {"version": value}
    version, extras = table.get("version"), table.get("extras")
    bound = version if isinstance(version, str) and version != "*" else ""
    asked = f"[{','.join(map(str, extras))}]" if isinstance(extras, list) else ""
    compared = [f"{key} {words}" for key, words in table.items() if _MARKER_KEYS.fullmatch(key)]
    markers = [f"({each})" for each in (*compared, table.get("markers")) if each]
    yield from parse_declared([f"{name}{asked}{bound}" + (f"; {' and '.join(markers)}" if markers else "")], file, target)


def _read_document(requirements: Requirements) -> LockValue:
    text = read_lock_text(requirements.path, _REMEDY)
    document = parse_json(text, requirements.path, ResolveError, _REMEDY)
    return LockValue(file=requirements.path, place="", raw=document, remedy=_REMEDY)


def _check_python(meta: LockValue, target: Target) -> None:
    """Demand the minor version that the lock was made for: Pipenv leaves out what any other would need besides."""
    requires = meta.find("requires")
    wanted = requires.text_at("python_version") or requires.text_at("python_full_version") if requires else ""
    minor = ".".join(wanted.split(".")[:2])
    if minor not in ("", "3", f"3.{target.runtime.minor}"):
        raise ResolveError(
            f"{meta.file}: _meta.requires asks for Python {wanted}, and {target} has {target.python_version}.",
            remedy="Choose another runtime, or lock again for this one.",
        )


def _wanted_categories(requirements: Requirements, lock: LockValue) -> Iterator[str]:
    known = [name for name, _ in lock.items() if name not in (_META, _DEFAULT)]
    if requirements.extras:
        raise UsageError(
            f"{requirements.path} has no extras, and extras names {', '.join(requirements.extras)}.",
            remedy="Name categories of the Pipfile instead: groups.",
        )
    for name in requirements.groups:
        if name not in (*known, _DEFAULT):
            raise UsageError(
                f"{requirements.path} has no category {name!r}, which groups names.",
                remedy=f"Known are: {', '.join(known) or 'none'}.",
            )
    return iter(dict.fromkeys((_DEFAULT, *requirements.groups)))


def _applicable_entries(categories: Iterable[LockValue], target: Target) -> Iterator[tuple[str, LockValue]]:
    """Return the entries that hold on the target; one version that several categories name is given once."""
    versions: set[tuple[str, str]] = set()
    for name, entry in (item for category in categories for item in category.items()):
        if not marker_applies(entry.find("markers"), target):
            continue
        version = entry.text_at("version")
        if not version or (name, version) not in versions:
            versions.add((name, version))
            yield name, entry


def _read_package(key: str, entry: LockValue, meta: LockValue) -> Pin | LockedPackage:
    name, version = canonical_name(key), entry.text_at("version").lstrip("=").strip()
    version = "" if version == "*" else version
    repository = next((kind for kind in _REPOSITORIES if entry.find(kind)), None)
    if repository is not None:
        commit = entry["ref"].text()
        return repository_package(name, version, repository, entry[repository], commit, entry.text_at("subdirectory"))
    hashes = entry.find("hashes")
    digests = sha256_digests(hashes.members()) if hashes else frozenset[str]()
    place = entry.find("file") or entry.find("path")
    if place is not None and _is_archive(place):
        return archive_package(name, version, place, digests)
    if place is not None:
        return folder_package(name, version, place.absolute_path() / entry.text_at("subdirectory"))
    if not version:
        raise entry.error("has neither a version nor a file, path or repository")
    if not digests:
        raise entry.error("has no sha256 among its hashes, which lpack verifies by")
    return Pin(name=name, version=version, sha256=digests, index=_index_url(entry, meta))


def _is_archive(place: LockValue) -> bool:
    return is_remote(place) or place.text().endswith(ARCHIVE_SUFFIXES)


def _index_url(entry: LockValue, meta: LockValue) -> str:
    """Return the URL of an entry's index: the one that it names, or the first, where Pipenv looks for all others.

    The public index needs no name where it is the only one: there the user's own default, perhaps a mirror of it, serves.
    """
    listed = meta.find("sources")
    sources = tuple(listed.members()) if listed else ()
    named = entry.find("index")
    found = [source for source in sources if named is None or source["name"].text() == named.text()]
    if not sources or (len(sources) == 1 and _is_public(sources[0])):
        return ""
    if not found:
        raise (named or entry).error(f"names the index {named.raw if named else ''!r}, which _meta.sources does not have")
    url = found[0]["url"]
    address = url.address()
    if "$" in address:
        # Expanded, what may be a secret would stand in locks and messages.
        raise url.error(f"is {address!r}, and lpack takes variables only in the place of user and password")
    return address


def _is_public(source: LockValue) -> bool:
    return bool(source["name"].raw == _PUBLIC)
