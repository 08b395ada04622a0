"""What readers of locks share: packages still to be located in an index, and values that know their place in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from builders.documents import read_text
from builders.files import file_digest
from builders.runtimes import Target
from packer.core.errors import ResolveError
from packer.core.model import Archive, LockedPackage, Repository, SourceFolder
from packer.formats.distribution_names import canonical_name
from packer.formats.requirements_txt import local_path
from packer.net.credentials import without_login

_Kind = TypeVar("_Kind", str, dict[str, Any], list[Any])
GIT = "git"
"""The one version control whose repositories lpack builds from, as pip's references and locks name it."""
_KINDS = {str: "a string", dict: "a table", list: "a list"}
# git's short form of an SSH address, "git@host:owner/repository.git", which pip's form has no room for.
_SCP_ADDRESS = re.compile(r"(?P<host>[^/:]+@[^/:]+):(?P<path>(?!//).+)")
_EXTRA_COMPARED = re.compile(r"""\bextra\s*(?P<operator>==|!=)\s*(?P<name>"[^"]*"|'[^']*')""")


class Pin(Struct, frozen=True, kw_only=True):
    """An exact package that still has to be located in an index.

    ``name`` is normalized; ``sha256`` are the digests (hex) that its files may have; ``index`` is a URL without credentials,
    and empty for the default index.
    """

    name: str
    version: str
    sha256: frozenset[str]
    index: str = ""


class LockValue(Struct, frozen=True, kw_only=True):
    """A value of the lock ``file`` at the key path ``place``; what is wrong with it raises `ResolveError` that names both."""

    file: Path
    place: str
    raw: Any
    remedy: str

    def error(self, problem: str) -> ResolveError:
        """Return the error that says what is wrong here."""
        return ResolveError(f"{self.file}: {self.place or 'the file'} {problem}.", remedy=self.remedy)

    def find(self, key: str) -> LockValue | None:
        """Return the value under a key of this table, or None."""
        table = self._of(dict)
        if key not in table:
            return None
        return LockValue(file=self.file, place=f"{self.place}.{key}".lstrip("."), raw=table[key], remedy=self.remedy)

    def __getitem__(self, key: str) -> LockValue:
        found = self.find(key)
        if found is None:
            raise self.error(f"has no key {key!r}")
        return found

    def items(self) -> Iterator[tuple[str, LockValue]]:
        """Return the keys of this table with their values."""
        return ((key, self[key]) for key in self._of(dict))

    def members(self) -> Iterator[LockValue]:
        """Return the members of this list."""
        for number, raw in enumerate(self._of(list)):
            yield LockValue(file=self.file, place=f"{self.place}[{number}]", raw=raw, remedy=self.remedy)

    def text(self) -> str:
        """Return this string."""
        return self._of(str)

    def texts(self) -> tuple[str, ...]:
        """Return the strings of this list."""
        return tuple(member.text() for member in self.members())

    def text_at(self, key: str) -> str:
        """Return the string under a key of this table, empty where there is none."""
        found = self.find(key)
        return found.text() if found else ""

    def address(self) -> str:
        """Return this URL without credentials."""
        try:
            return without_login(self.text())
        except ValueError:
            raise self.error("is not a valid URL") from None

    def absolute_path(self) -> Path:
        """Return the absolute path that this string names by a path or a ``file:`` URL; relative ones start from the file."""
        try:
            return local_path(self.text(), self.file.parent)
        except ValueError:
            raise self.error("is not a valid URL") from None

    def _of(self, kind: type[_Kind]) -> _Kind:
        if not isinstance(self.raw, kind):
            raise self.error(f"must be {_KINDS[kind]}")
        return self.raw


def read_lock_text(path: Path, remedy: str) -> str:
    """Return the text of a lock file; raises `ResolveError`."""
    return read_text(path, ResolveError, remedy, noun="the lock")


def marker_applies(marker: LockValue | None, target: Target, extras: frozenset[str] = frozenset()) -> bool:
    """Return whether an environment marker holds on the target, with normalized ``extras`` asked for; without one, True."""
    if marker is None or not marker.text():
        return True
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

    # A lock's "extra" stands for all that are asked for at once, and PEP 508's for one: PEP 751's "extras" is the set it means.
    asked = _EXTRA_COMPARED.sub(_as_membership, marker.text())
    environment: Mapping[str, Any] = {**target.markers(), "extras": extras}
    try:
        return Marker(asked).evaluate(environment, context="lock_file")
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName) as error:
        raise marker.error(f"is not a valid environment marker: {str(error).partition(chr(10))[0]}") from None


def _as_membership(match: re.Match[str]) -> str:
    return f"{match['name']} {'in' if match['operator'] == '==' else 'not in'} extras"


def sha256_digests(hashes: Iterable[LockValue]) -> frozenset[str]:
    """Return the SHA-256 digests among hashes that read ``algorithm:digest``."""
    pairs = (value.text().partition(":") for value in hashes)
    return frozenset(digest.lower() for algorithm, _, digest in pairs if algorithm == "sha256" and digest)


def archive_package(name: str, version: str, place: LockValue, digests: frozenset[str]) -> LockedPackage:
    """Return the package that the one archive at the URL or path ``place`` makes up.

    Pipenv lists the digests of the whole release beside the address of one of its files: a wheel is given once for each.
    """
    if is_remote(place):
        location = place.address().partition("#")[0]
        filename = unquote(urlsplit(location).path).rpartition("/")[2]
    else:
        path = place.absolute_path()
        location, filename, digests = str(path), path.name, _digest_on_disk(path, place, digests)
    archives = tuple(Archive(filename=filename, location=location, sha256=digest) for digest in sorted(digests))
    if archives and filename.endswith(".whl"):
        return LockedPackage(name=name, version=version, wheels=archives)
    if len(archives) != 1:
        raise place.error(f"({name}) has {len(archives) or 'no'} sha256, and lpack verifies a source archive by exactly one")
    return LockedPackage(name=name, version=version, source=archives[0])


def is_remote(place: LockValue) -> bool:
    """Return whether a path or URL leads to another machine."""
    return "://" in place.text() and not place.text().startswith("file:")


def _digest_on_disk(path: Path, place: LockValue, digests: frozenset[str]) -> frozenset[str]:
    try:
        found = file_digest(path)
    except OSError as error:
        raise place.error(f"names {path}, which cannot be read: {error.strerror}") from error
    if digests and found not in digests:
        raise place.error(f"names {path}, and that is not the file that was locked: its sha256 is {found}")
    return frozenset({found})


def folder_package(name: str, version: str, folder: Path) -> LockedPackage:
    """Return the package that is built from a local folder."""
    return LockedPackage(name=name, version=version, source=SourceFolder(path=folder))


def repository_package(name: str, version: str, kind: str, place: LockValue, commit: str, subdirectory: str) -> LockedPackage:
    """Return the package that is built from a commit; ``kind`` is its version control, ``place`` the repository's address.

    Raises `ResolveError` for any kind but ``git``.
    """
    if kind != GIT:
        raise place.error(f"({name}) is a repository of {kind}, and lpack builds from those of git alone")
    url = f"{kind}+{_repository_url(place)}@{commit}"
    return LockedPackage(name=name, version=version, source=Repository(url=url, subdirectory=subdirectory))


def _repository_url(place: LockValue) -> str:
    short = _SCP_ADDRESS.fullmatch(place.text())
    address = f"ssh://{short['host']}/{short['path']}" if short else place.text()
    if "://" not in address:
        return place.absolute_path().as_uri()
    place.address()  # refuses what is no URL
    return without_login(address)


def unique_packages(found: Iterable[tuple[LockValue, Pin | LockedPackage]], target: Target) -> tuple[Pin | LockedPackage, ...]:
    """Sort packages by name; raises `ResolveError` where two different ones of one name apply to the target."""
    chosen: dict[str, Pin | LockedPackage] = {}
    for value, package in found:
        if chosen.setdefault(package.name, package) != package:
            raise value.error(f"is a second entry for {package.name} that applies to {target}, and only one may")
    return tuple(chosen[name] for name in sorted(chosen))


def normalized_names(names: Iterable[str]) -> frozenset[str]:
    """Return names of packages or extras in their normal form (PEP 503, PEP 685)."""
    return frozenset(canonical_name(name) for name in names)
