"""Versions that agree: one solve over all functions that can stand in one question, and each function's part of it.

uv is asked once for everything that the functions of a family require; each function's own lock is then resolved with these
versions as constraints, and so holds only what the function needs. Functions that are locked already (uv.lock, poetry.lock, a
pylock of their own …) keep their versions, and the others follow them where they can.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from builders.errors import LpackError
from builders.once import Once
from packer.cache.signatures import Digests
from packer.cache.store import Store, digest_of
from packer.core.fingerprint import fingerprint
from packer.core.model import Function, Lock
from packer.formats.distribution_names import is_same_version
from packer.resolve.conflicts import divide_by_agreement
from packer.resolve.declaration import (
    Declaration,
    are_unchanged_projects,
    digest_links,
    digest_local_projects,
    read_declaration,
)
from packer.resolve.joint_declaration import JointMember, can_share_versions, describe_difference, family_key, group_members
from packer.resolve.uv_client import UvClient
from packer.resolve.uv_queries import JointQueries, list_names, pinned_versions, read_local_folders, read_pins
from packer.resolve.uv_settings import settings_digest, settings_files
from packer.source.package_source import read_project_tree

_KIND = "resolutions"
_SCHEMA = "shared 2"

_Declared = Sequence[tuple[Function, Declaration]]


class SharedPart(Struct, frozen=True, kw_only=True):
    """What a function has of the shared solve: the lines that bind its versions, and what to tell the user of it.

    ``paths`` are all whose change may change it.
    """

    constraints: tuple[str, ...]
    warnings: tuple[str, ...]
    paths: tuple[str, ...]


class _Family(Struct, frozen=True, kw_only=True):
    """Functions that are resolved together, and those for the same target that are locked already (``fixed``).

    ``apart`` says for what reason others for the same target are of another family, empty where there are none.
    """

    members: tuple[JointMember, ...]
    fixed: tuple[Function, ...]
    paths: tuple[str, ...]
    key: str
    lineage: str
    """Names it from one declaration to the next, so that versions stay what they were."""
    apart: str

    @property
    def is_alone(self) -> bool:
        return not self.fixed and sum(len(member.functions) for member in self.members) == 1


class SharedResolver:
    """Finds the versions that functions share; may be used from many threads.

    ``lock`` returns the lock of a function that is locked already. ``upgrade`` forgets what was resolved before.
    """

    def __init__(
        self,
        uv: UvClient,
        lock: Callable[[Function], Lock],
        store: Store,
        digests: Digests,
        *,
        upgrade: bool,
    ) -> None:
        self._uv = uv
        self._lock = lock
        self._store = store
        self._digests = digests
        self._upgrade = upgrade
        self._families: Once[tuple[str, ...], dict[str, _Family]] = Once()
        self._parts: Once[str, dict[str, SharedPart]] = Once()
        self._named: dict[int, tuple[Sequence[Function], str]] = {}
        """By identity: functions that share versions, and the digest of their names; all functions hold the same thousands."""

    def part(self, function: Function, *, relock: bool = False) -> SharedPart | None:
        """Return a function's part, None where it shares with nobody. ``relock`` renews locks instead of keeping to them.

        Raises `ResolveError` where uv fails.
        """
        if not function.sharing or not can_share_versions(function):
            return None
        key = (str(relock), str(function.lock_path.parent), self._digest_of_names(function.sharing))
        found = self._families.get(key, lambda: self._sort_into_families(function.sharing, relock=relock)).get(function.name)
        if found is None:
            return None
        apart = (f"{function.name} {found.apart}",) if found.apart else ()
        if found.is_alone:
            return SharedPart(constraints=(), warnings=apart, paths=found.paths)
        part = self._parts.get(found.key, lambda: self._make_parts(found, self._load_or_solve(found)))[function.name]
        return replace(part, warnings=(*apart, *part.warnings))

    def _digest_of_names(self, functions: Sequence[Function]) -> str:
        known = self._named.get(id(functions))
        if known is None or known[0] is not functions:
            known = self._named[id(functions)] = (functions, digest_of(*(each.name for each in functions)))
        return known[1]

    def _make_parts(self, group: _Family, solution: Mapping[str, Any]) -> dict[str, SharedPart]:
        trees = (path for folder in solution["locals"] for path in read_project_tree(Path(folder), self._digests)[1])
        paths = tuple(dict.fromkeys((*group.paths, *trees)))
        return {
            name: SharedPart(constraints=tuple(each["pins"].values()), warnings=tuple(warnings), paths=paths)
            for each in solution["sets"]
            for name, warnings in each["warnings"].items()
        }

    def _sort_into_families(self, functions: Sequence[Function], *, relock: bool) -> dict[str, _Family]:
        """Sort functions into families, and return each function's by its name; one that is alone has none."""
        asked: dict[str, dict[str, list[tuple[Function, Declaration]]]] = {}
        fixed: dict[str, list[tuple[Function, Declaration]]] = {}
        for function in sorted(functions, key=lambda each: each.name):
            try:
                declaration = read_declaration(function)
            except LpackError:
                continue  # its own build says so, and does not keep the others from theirs
            if function.requirements and (not can_share_versions(function) or (function.lock_path.is_file() and not relock)):
                fixed.setdefault(str(function.target), []).append((function, declaration))
            elif function.requirements:
                alike = asked.setdefault(str(function.target), {}).setdefault(family_key(function, declaration), [])
                alike.append((function, declaration))
        families = (
            each for target, of in asked.items() for each in self._make_families(list(of.values()), fixed.get(target, []))
        )
        return {function.name: each for each in families for member in each.members for function in member.functions}

    def _make_families(self, asked: Sequence[_Declared], fixed: _Declared) -> Iterable[_Family]:
        """Return the families for one target, but none for one without others; smaller ones say why they are separate."""
        largest = max(asked, key=len)
        # Any of them may come to be of another family.
        paths = tuple(dict.fromkeys(_watched_paths((*(one for each in asked for one in each), *fixed))))
        found = [
            self._make_family(each, fixed, paths, _describe_other_family(each, largest) if each is not largest else "")
            for each in asked
        ]
        return found if len(found) > 1 else [each for each in found if not each.is_alone]

    def _make_family(self, asked: _Declared, fixed: _Declared, paths: tuple[str, ...], apart: str) -> _Family:
        members = group_members(asked)
        first, own = asked[0]
        lineage = digest_of(_SCHEMA, str(first.lock_path.parent), family_key(first, own))
        files = [path for function, _ in (*asked, *fixed) for path in _lock_files(function)]
        return _Family(
            members=members,
            fixed=tuple(function for function, _ in fixed),
            paths=paths,
            apart=apart,
            key=digest_of(
                lineage,
                settings_digest(members[0].declaration.folder, os.environ),
                *(
                    part
                    for function, declaration in asked
                    for part in (function.name, fingerprint(function.requirements), declaration.digest)
                ),
                *(digest_links(declaration, self._digests) for _, declaration in asked),
                *(member.key for member in members),
                *(fingerprint(function.requirements) for function, _ in fixed),
                *(f"{path.name} {self._digests.digest(str(path))}" for path in files if path.is_file()),
            ),
            lineage=lineage,
        )

    def _load_or_solve(self, group: _Family) -> dict[str, Any]:
        """Return what was found for the same family before, or solve now and remember."""
        record = None if self._upgrade else self._store.load(_KIND, group.key)
        if record:
            known: dict[str, Any] = json.loads(record.payload)
            if are_unchanged_projects(known["locals"]):
                return known
        found = self._solve(group)
        if found.pop("unread"):
            return found  # the next time, that lock may be there again
        payload = json.dumps(found).encode()
        self._store.save(_KIND, group.key, payload)
        self._store.save(_KIND, group.lineage, payload)
        return found

    def _solve(self, group: _Family) -> dict[str, Any]:
        root = group.members[0].functions[0].lock_path.parent
        locked, unread = self._read_locked(group)
        preferences = self._preferences(group, locked)
        queries = JointQueries(self._uv, self._store, group.members, preferences, root)
        members = {function.name: member.name for member in group.members for function in member.functions}

        def together(names: Iterable[str]) -> frozenset[str]:
            return frozenset(map(members.__getitem__, names))

        most, *rest = map(together, divide_by_agreement(sorted(members), lambda names: queries.agree(together(names))))
        texts = [queries.answer(most).text]
        shared = read_pins(texts[0], root)
        found = [
            _solution_set(
                group, most, shared, {name: (*unread, *_describe_differences(queries, name, shared, locked)) for name in most}
            )
        ]
        for names in rest:  # what they can have of the versions of most, they have
            texts.append(queries.solve(names, preferences | pinned_versions(shared)).text)
            pins = read_pins(texts[-1], root)
            why = {name: queries.explain(name, pins, sorted(most), shared) for name in sorted(names)}
            reasons = {name: (why[name], *unread, *_describe_differences(queries, name, pins, locked)) for name in names}
            found.append(_solution_set(group, names, pins, reasons))
        folders = {folder for text in texts for folder in read_local_folders(text)}
        return {"sets": found, "locals": digest_local_projects(sorted(folders)), "unread": bool(unread)}

    def _read_locked(self, group: _Family) -> tuple[dict[str, dict[str, str]], list[str]]:
        """Return the versions that functions are locked to, by their names, and what to tell of locks that cannot be read."""
        found: dict[str, dict[str, str]] = {}
        unread: list[str] = []
        for function in group.fixed:
            try:
                packages = self._lock(function).packages
            except LpackError as error:  # its own build fails, and does not keep the others from theirs
                said = self._uv.scrub(error.what).replace(f"{function.lock_path.parent}{os.sep}", "")
                unread.append(f"does not follow the versions of {function.name}: {said}")
            else:
                found[function.name] = {each.name: each.version for each in packages if each.wheels or each.source}
        return found, unread

    def _preferences(self, group: _Family, locked: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """Return the versions to keep: first those of locks that stay, then those of locks to renew, then the last ones."""
        found: dict[str, str] = {}
        if not self._upgrade:
            record = self._store.load(_KIND, group.lineage)
            for each in reversed(json.loads(record.payload)["sets"] if record else []):
                found |= pinned_versions(each["pins"])
            paths = (function.lock_path for member in group.members for function in member.functions)
            texts = (path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file())
            found |= _newest_versions(item for text in texts for item in pinned_versions(_try_read_pins(text)).items())
        return found | _newest_versions(item for each in locked.values() for item in each.items())


def _solution_set(
    group: _Family, names: Iterable[str], pins: Mapping[str, str], reasons: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    members = {member.name: member for member in group.members}
    warnings = {
        function.name: [f"{function.name} {reason}" for reason in reasons[name] if reason]
        for name in names
        for function in members[name].functions
    }
    return {"pins": dict(pins), "warnings": warnings}


def _describe_other_family(asked: _Declared, largest: _Declared) -> str:
    """Return why functions are of another family than most."""
    root = asked[0][0].lock_path.parent
    others = list_names([function.name for function, _ in largest])
    return f"does not share versions with {others}: {describe_difference(asked[0][1], largest[0][1], root)}."


def _describe_differences(
    queries: JointQueries, name: str, pins: Mapping[str, str], locked: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Return warnings of the packages that locked functions have in another version than a member."""
    mine = pinned_versions(pins)
    differing = {
        package: others
        for package, version in mine.items()
        if (others := {each: has[package] for each, has in locked.items() if not _is_same(has.get(package, ""), version)})
    }
    taken = queries.taken(name, pins) if differing else ()
    for package in sorted(differing.keys() & taken):
        for other in sorted(set(differing[package].values())):
            holders = [each for each, version in differing[package].items() if version == other]
            are = "is" if len(holders) == 1 else "are"
            who = list_names(holders)
            yield f"does not share {package} with {who}: it takes {mine[package]}, and {who} {are} locked to {other}."


def _is_same(locked: str, version: str) -> bool:
    """Return whether a locked version is no other one; an empty one is none."""
    return not locked or is_same_version(locked, version)


def _try_read_pins(text: str) -> dict[str, str]:
    try:
        return read_pins(text, Path())
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # a lock that is to be replaced need not be a good one


def _newest_versions(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return each package's newest version, whatever the order."""
    from packaging.version import InvalidVersion, Version

    found: dict[str, Version] = {}
    for name, text in items:
        try:
            found[name] = max(found.get(name, Version(text)), Version(text))
        except InvalidVersion:
            continue
    return {name: str(version) for name, version in sorted(found.items())}


def _lock_files(function: Function) -> tuple[Path, ...]:
    requirements = function.requirements
    return (function.lock_path, *((requirements.path,) if requirements else ()))


def _watched_paths(declared: Iterable[tuple[Function, Declaration]]) -> Iterable[str]:
    for function, declaration in declared:
        yield from map(str, (*_lock_files(function), *declaration.files, *declaration.links))
        yield from map(str, settings_files(declaration.folder, os.environ))
