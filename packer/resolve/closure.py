"""Whether a function's packages have all that they require: a lock may be older than what it locks, or be for another Python.

A worked example: Pipfile.lock was made on Python 3.12, and has ``requests``, and ``urllib3`` with the marker
``python_version >= "3.10"``. For a function on Python 3.9 it gives ``requests`` alone, whose METADATA requires ``urllib3``: a
gap. What uv has just resolved for a target has none, so only locks are checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from builders.files import file_digest
from builders.runtimes import Target
from packer import __version__
from packer.cache.derived_values import derive
from packer.cache.store import Store, digest_of
from packer.core.errors import ResolveError, UsageError
from packer.core.fingerprint import fingerprint
from packer.core.model import Function, Lock, Requirements
from packer.formats.distribution_names import canonical_name
from packer.formats.metadata import requirement_applies
from packer.locks.adjustments import read_adjustments
from packer.locks.declared import DeclaredRequirement, parse_declared, read_project_document, read_project_name
from packer.locks.formats import PYLOCK, Adjustments, LockReader, find_lock_reader
from packer.resolve.declaration import has_own_lock, list_declaring_files
from packer.resolve.requirement_graph import declared_requirements

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_KIND = "closures"
AWS_BASES = "public.ecr.aws/lambda/python:"
"""How the names of AWS's own base images begin, which hold no packages but the runtime's."""


class ChosenPackage(Struct, frozen=True, kw_only=True):
    """A package of a function: ``version`` may be unknown (empty); ``digest`` is its wheel's, if that is at hand."""

    name: str
    version: str
    digest: str = ""


class Gap(Struct, frozen=True, kw_only=True):
    """A requirement that a function's packages do not meet.

    ``requirer`` is the package with its version, or the path of the function's file; ``words`` are those of the requirement,
    ``name`` is normalized. ``found`` is the version that there is, empty for none.
    """

    requirer: str
    requirer_name: str
    words: str
    name: str
    found: str = ""

    @property
    def stale_bound(self) -> bool:
        """Whether the function's own file asks for another version: then the lock is older than the file, but complete."""
        return bool(self.found) and not self.requirer_name


def find_gaps(
    declared: Sequence[DeclaredRequirement],
    requires: Mapping[str, Sequence[Requirement]],
    versions: Mapping[str, str],
    target: Target,
    adjustments: Adjustments,
) -> tuple[Gap, ...]:
    """Return what is required and not there, or there in another version than is allowed.

    ``declared`` is what the function's own files require, ``requires`` what packages do by their metadata, ``versions`` are
    those of all packages by normalized names.
    """
    found = [gap for each in declared if (gap := _find_declared_gap(each, versions))]
    asked = _collect_extras(declared, requires, target)
    for name in sorted(set(requires) - adjustments.described):
        applying = (each for each in requires[name] if requirement_applies(each, asked[name], target))
        found += (gap for each in applying if (gap := _find_gap(name, each, versions)))
    return tuple(dict.fromkeys(gap for gap in found if gap.name not in adjustments.overridden))


def _collect_extras(
    declared: Sequence[DeclaredRequirement], requires: Mapping[str, Sequence[Requirement]], target: Target
) -> dict[str, frozenset[str]]:
    """Return the extras that are asked for of each package, by anyone."""
    asked: dict[str, frozenset[str]] = dict.fromkeys(requires, frozenset())
    waiting = [*requires, *(each.name for each in declared)]
    for own in declared:
        asked[own.name] = asked.get(own.name, frozenset()) | set(own.extras)
    while waiting:
        name = waiting.pop()
        for each in requires.get(name, ()):
            known = asked.get(other := canonical_name(each.name), frozenset())
            if not known.issuperset(each.extras) and requirement_applies(each, asked[name], target):
                asked[other] = known | each.extras
                waiting.append(other)
    return asked


def _find_declared_gap(declared: DeclaredRequirement, versions: Mapping[str, str]) -> Gap | None:
    version = versions.get(declared.name)
    if version is not None and (not version or declared.allows(version)):
        return None
    return Gap(requirer=str(declared.file), requirer_name="", words=declared.words, name=declared.name, found=version or "")


def _find_gap(requirer: str, requirement: Requirement, versions: Mapping[str, str]) -> Gap | None:
    name, bound = canonical_name(requirement.name), str(requirement.specifier)
    version = versions.get(name)
    words = f"{requirement.name}{bound}"
    declared = DeclaredRequirement(name=name, words=words, file=Path(), specifiers=(bound,) if bound else ())
    if version is not None and (not version or requirement.url or declared.allows(version)):
        return None
    shown = f"{requirer} {versions.get(requirer, '')}".rstrip()
    return Gap(requirer=shown, requirer_name=requirer, words=words, name=name, found=version or "")


class LockFile(Struct, frozen=True, kw_only=True):
    """A lock that decides what a function gets: its file as `Requirements`, and what reads it."""

    requirements: Requirements
    reader: LockReader


def list_lock_files(function: Function) -> tuple[LockFile, ...]:
    """Return the locks that decide a function's packages, the one that a build reads first; none where uv resolves.

    Behind lpack's own lock comes the one that it was made from: `lpack lock` makes one of exact versions without addresses.
    """
    own = has_own_lock(function)
    asked = [Requirements(kind=PYLOCK, path=function.lock_path)] if own else []
    reader = find_lock_reader(function.requirements)
    if function.requirements is not None and reader is not None and not (own and reader.is_complete):
        asked.append(function.requirements)
    readers = map(find_lock_reader, asked)
    return tuple(LockFile(requirements=each, reader=read) for each, read in zip(asked, readers, strict=True) if read)


def check_pins(function: Function) -> None:
    """Check a lock of exact versions without addresses, by itself, against what the function's files require.

    Raises `ResolveError` for what it lacks, `UsageError` for another version than is allowed, and whatever reading it raises.
    """
    requirements, reader = function.requirements, find_lock_reader(function.requirements)
    if requirements is None or reader is None:
        return
    versions = {each.name: each.version for each in reader.read(requirements, function.target)}
    files = (LockFile(requirements=requirements, reader=reader),)
    gaps = find_gaps(_read_declared(function), {}, versions, function.target, Adjustments())
    missing = [gap for gap in gaps if not gap.found and gap.name not in function.exclude]
    if missing:
        raise _make_error(function, files, missing)
    stale = [gap for gap in gaps if gap.found]
    if stale:
        raise UsageError(_describe_bounds(function, files, stale), remedy=_advise(_renewal(files, None), files))


class ClosureCheck:
    """Checks the packages of functions against what these require; may be used from many threads.

    ``allowed`` makes warnings of gaps, ``frozen`` an error even of a bound that has moved since the lock was made.
    """

    def __init__(self, store: Store, *, allowed: bool = False, frozen: bool = False) -> None:
        self._store = store
        self._allowed = allowed
        self._frozen = frozen

    def check(
        self,
        function: Function,
        lock: Lock,
        chosen: Sequence[ChosenPackage],
        read: Callable[[], Mapping[str, Sequence[Requirement]]],
        present: Callable[[str], bool],
    ) -> tuple[str, ...]:
        """Return warnings; raises `ResolveError` for what is missing, or of another version than allowed.

        ``chosen`` are all packages, those that are left out included; ``read`` returns what the packed ones require, where it
        is known, and ``present`` says of a normalized name whether a package is there by other ways than the lock.
        """
        files = list_lock_files(function)
        if not files:
            return ()
        gaps = self._find_gaps(function, files, chosen, read)
        gaps = tuple(gap for gap in gaps if gap.found or not present(gap.name))
        stale = [gap for gap in gaps if gap.stale_bound]
        missing = [gap for gap in gaps if not gap.stale_bound]
        warnings = (self._warn_of_bounds(function, files, stale),) if stale and not lock.warnings else ()
        if not missing:
            return warnings
        error = _make_error(function, files, missing)
        elsewhere = _list_unknown(function)
        if elsewhere and all(not gap.found for gap in missing):
            unless = f"Unless {' or '.join(elsewhere)} brings it, the function cannot work."
            return (*warnings, f"{error.what}\n{error.detail}\n{unless}")
        if not self._allowed:
            raise error
        return (*warnings, f"{error.what}\n{error.detail}")

    def _find_gaps(
        self,
        function: Function,
        files: Sequence[LockFile],
        chosen: Sequence[ChosenPackage],
        read: Callable[[], Mapping[str, Sequence[Requirement]]],
    ) -> tuple[Gap, ...]:
        paths = (*(file.requirements.path for file in files), *list_declaring_files(function))
        contents = [file_digest(path) if path.is_file() else "" for path in dict.fromkeys(paths)]
        declared = () if find_lock_reader(function.requirements) else declared_requirements(function)
        adjusted = _read_all_adjustments(function, files)
        asked = fingerprint(function.target, tuple(chosen), function.requirements, declared, adjusted)
        key = digest_of("1", __version__, asked, *contents)

        def find() -> tuple[Gap, ...]:
            versions = {each.name: each.version for each in chosen}
            return find_gaps(_read_declared(function), read(), versions, function.target, adjusted)

        return derive(self._store, _KIND, key, tuple[Gap, ...], find)

    def _warn_of_bounds(self, function: Function, files: Sequence[LockFile], gaps: Sequence[Gap]) -> str:
        """Warn of a lock that is older than what a function's files ask for; raises `UsageError` where that may not be."""
        what, advice = _describe_bounds(function, files, gaps), _advise(_renewal(files, None), files)
        if self._frozen:
            raise UsageError(what, remedy=advice)
        return f"{what} It is used as it is. {advice}"


def _describe_bounds(function: Function, files: Sequence[LockFile], gaps: Sequence[Gap]) -> str:
    asked = "; ".join(f"{Path(gap.requirer).name} asks for {gap.words}, and it has {gap.found}" for gap in gaps)
    return f"{files[0].requirements.path.name} is stale for {function.name}: {asked}."


def _list_unknown(function: Function) -> tuple[str, ...]:
    """Return what around a function may hold any package: attached layers, and a base image that is not AWS's own."""
    base = function.image.base if function.image.wanted else ""
    return (*function.layers.unknown, *([f"the base {base}"] if base and not base.startswith(AWS_BASES) else ()))


def _read_declared(function: Function) -> tuple[DeclaredRequirement, ...]:
    """Return what a function's own files require on its target."""
    requirements, reader = function.requirements, find_lock_reader(function.requirements)
    if requirements is None:
        return ()
    if reader is not None:
        return reader.declared(requirements, function.target)
    return tuple(parse_declared(declared_requirements(function), requirements.path, function.target))


def _read_all_adjustments(function: Function, files: Sequence[LockFile]) -> Adjustments:
    found = [file.reader.adjusted(file.requirements) for file in files]
    if function.requirements is not None:
        found.append(read_adjustments(function.requirements.path.parent, os.environ))
    own = (read_project_name(read_project_document(path)) for path in list_declaring_files(function))
    return Adjustments(
        overridden=frozenset(filter(None, own)).union(*(each.overridden for each in found)),
        described=frozenset().union(*(each.described for each in found)),
    )


def _make_error(function: Function, files: Sequence[LockFile], gaps: Sequence[Gap]) -> ResolveError:
    """Return the error that says who requires what, which file leaves it out and why, and the command that helps."""
    absences = [_describe_absence(gap, files, function.target) for gap in gaps]
    lines = [f"  {gap.requirer} requires {gap.words}, {absence}." for gap, absence in zip(gaps, absences, strict=True)]
    by_target = any("only where" in each for each in absences)
    advice = _advise(_renewal(files, function.target if by_target else None), files)
    return ResolveError(
        f"{files[0].requirements.path.name} does not have all that {function.name} requires on {function.target}.",
        detail="\n".join(dict.fromkeys(lines)),
        remedy=f"{advice} If the function works without, build with --allow-incomplete.",
    )


def _describe_absence(gap: Gap, files: Sequence[LockFile], target: Target) -> str:
    name = files[0].requirements.path.name
    if gap.found:
        return f"and {name} has {gap.name} {gap.found}"
    for file in reversed(files):
        where = file.reader.describe_absence(file.requirements, target, gap.name, gap.requirer_name)
        if where:
            return f"which {file.requirements.path.name} has {where}"
    older = "" if gap.requirer_name else ": the lock is older than that requirement"
    return f"which {name} does not have{older}"


def _renewal(files: Sequence[LockFile], target: Target | None) -> str:
    """Return the commands that make the locks anew, in their order; empty where they are not known."""
    last = files[-1]
    first = last.reader.renewal(last.requirements, target)
    return " && ".join(dict.fromkeys((first, "lpack lock"))) if first and len(files) > 1 else first


def _advise(command: str, files: Sequence[LockFile]) -> str:
    folder = files[-1].requirements.path.parent
    return f"Run `{command}` in {folder}." if command else "Lock again with the tool that made it."
