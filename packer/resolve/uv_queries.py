"""Asks uv about parts of a family of functions, each part once: whether it has a solution, which one, and why not."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from packer.cache.store import Store
from packer.core.errors import ResolveError
from packer.formats.requirements_txt import local_path
from packer.resolve.conflicts import SolvedPackage, describe_need, find_opponents, find_shortest_chain, read_annotated
from packer.resolve.declaration import Declaration
from packer.resolve.joint_declaration import JointMember, joint_question
from packer.resolve.uv_client import AS_PYLOCK, NO_SOLUTION, UvClient

_ANNOTATED = ("--format", "requirements.txt", "--annotation-style", "line")
_NAMED = 3  # of many functions that declare the same, so many are named


class JointAnswer(Struct, frozen=True, kw_only=True):
    """A solution as a pylock.toml; empty where there is none, and then ``refusal`` is what uv says."""

    text: str
    refusal: str


class JointQueries:
    """What uv says of the members of one family.

    ``preferences`` are versions to keep where they can be. Messages give paths relative to ``root``.
    """

    def __init__(
        self,
        uv: UvClient,
        store: Store,
        members: Sequence[JointMember],
        preferences: Mapping[str, str],
        root: Path,
    ) -> None:
        self._uv = uv
        self._store = store
        self._members = {member.name: member for member in members}
        self._target = members[0].functions[0].target
        self._preferences = preferences
        self._root = root
        self._known: dict[frozenset[str], JointAnswer] = {}

    def agree(self, names: frozenset[str]) -> bool:
        """Return whether there is a solution for these members together; raises `ResolveError` where uv fails."""
        return not names or bool(self.answer(names).text)

    def answer(self, names: frozenset[str]) -> JointAnswer:
        """Return the solution for these members together; raises `ResolveError` where uv fails."""
        if names not in self._known:
            self._known[names] = self.solve(names, self._preferences)
        return self._known[names]

    def solve(self, names: Iterable[str], preferences: Mapping[str, str], constraints: Iterable[str] = ()) -> JointAnswer:
        """Ask for the members together; raises `ResolveError` where uv fails."""
        import tomli_w

        packages = [{"name": name, "version": version} for name, version in sorted(preferences.items())]
        given = tomli_w.dumps({"lock-version": "1.0", "created-by": "lpack", "packages": packages}) if packages else ""
        return self._ask(names, constraints, AS_PYLOCK, "pylock.shared.toml", given)

    def _ask(
        self, names: Iterable[str], constraints: Iterable[str], words: tuple[str, ...], file: str, given: str
    ) -> JointAnswer:
        return self._send(joint_question([self._members[name] for name in sorted(names)], constraints), words, file, given)

    def _send(self, asked: Declaration, words: tuple[str, ...], file: str, given: str) -> JointAnswer:
        with self._store.workspace() as folder:
            path = folder / file
            if given:
                path.write_text(given, encoding="utf-8")
            finished = self._uv.ask(asked, self._target, path, words)
            if finished.status == 0:
                return JointAnswer(
                    text=_absolute_text(path) if words == AS_PYLOCK else path.read_text(encoding="utf-8"), refusal=""
                )
        detail = self._uv.scrub(finished.stderr).rstrip()
        if finished.status == NO_SOLUTION and not self._uv.offline:
            return JointAnswer(text="", refusal=detail)
        remedy = 'Fix what uv names, and try again; with resolution = "separate", each function is resolved by itself.'
        if self._uv.offline:
            remedy = "Build once without --offline, or commit locks (`lpack lock`): a build with them asks no index."
        what = f"uv could not resolve together what the functions require that share versions on {self._target}."
        raise ResolveError(what, detail=detail, remedy=remedy)

    def explain(self, name: str, pins: Mapping[str, str], others: Sequence[str], other_pins: Mapping[str, str]) -> str:
        """Return why a member with the versions ``pins`` cannot have ``other_pins``, with which members ``others`` agree.

        Returns an empty string where it has no solution even by itself.
        """
        if not self.agree(frozenset((name,))):
            return ""
        mates = self._known_opponent(name, others) or find_opponents(name, others, self.agree)
        refusal = self.answer(frozenset((name, *mates))).refusal
        mine = self._solve_annotated(name, pins)
        theirs = {mate: self._solve_annotated(mate, other_pins) for mate in mates}
        needs = [self._describe_needs(name, mine, mate, theirs[mate]) for mate in mates]
        reasons = [
            f"{self._list_functions(mate)} {self._verb(mate)} {its}" for mate, (_, its) in zip(mates, needs, strict=True) if its
        ]
        own = " and ".join(dict.fromkeys(own for own, _ in needs if own))
        said = f": it needs {own}, and {', and '.join(reasons)}" if reasons else ""
        shown = " and ".join(map(self._list_functions, mates))
        return f"does not share versions with {shown}{said}.\n" + "\n".join(f"  {line}" for line in refusal.splitlines())

    def taken(self, name: str, pins: Mapping[str, str]) -> frozenset[str]:
        """Return the names of the packages that a member needs with the versions ``pins``."""
        return frozenset(self._solve_annotated(name, pins))

    def _known_opponent(self, name: str, others: Sequence[str]) -> tuple[str, ...]:
        """Return one of the others of which uv has already said that it cannot agree with a member; none where it has not."""
        known = (each for each in others if (pair := frozenset((name, each))) in self._known and not self._known[pair].text)
        return tuple(known)[:1]

    def _solve_annotated(self, name: str, pins: Mapping[str, str]) -> dict[str, SolvedPackage]:
        answer = self._ask([name], pins.values(), _ANNOTATED, "shared.txt", "")
        return read_annotated(answer.text, self._members[name].own)

    def _describe_needs(
        self, name: str, mine: Mapping[str, SolvedPackage], mate: str, theirs: Mapping[str, SolvedPackage]
    ) -> tuple[str, str]:
        """Return what a member and its mate need of the package that they cannot agree on; empty where no package shows it.

        That is the one with the shortest ways to it, of those that the member cannot have in its mate's version.
        """
        differing = [each for each in mine if each in theirs and mine[each].version != theirs[each].version]
        ways = sorted(
            (len(find_shortest_chain(each, mine)) + len(find_shortest_chain(each, theirs)), each) for each in differing
        )
        for _, each in ways:
            if not self.solve([name], {}, [f"{each}=={theirs[each].version}"]).text:
                own = self._describe_member_need(name, each, mine, theirs[each].version)
                return own, self._describe_member_need(mate, each, theirs, mine[each].version)
        return "", ""

    def _describe_member_need(self, name: str, package: str, solved: Mapping[str, SolvedPackage], refused: str) -> str:
        """Return in words what a member needs of a package, by way of what excludes the ``refused`` version if known."""
        member = self._members[name]
        place = member.places.get(package)
        way = find_shortest_chain(package, solved)
        if not (solved[package].is_direct and place and place.excludes(refused)):
            forcing = (each for each in sorted(solved[package].parents) if each in solved)
            parent = next(
                (each for each in forcing if not self._allows_version(member, each, solved, f"{package}=={refused}")), ""
            )
            way = (package, *find_shortest_chain(parent, solved)) if parent else way
        return describe_need(member, way, solved, self._root)

    def _allows_version(self, member: JointMember, parent: str, solved: Mapping[str, SolvedPackage], pin: str) -> bool:
        asked = joint_question([member])
        text = "\n".join((*asked.option_lines, f"{parent}=={solved[parent].version}", pin))
        return bool(
            self._send(replace(asked, text=text, arguments=(), constraints=()), AS_PYLOCK, "pylock.shared.toml", "").text
        )

    def _verb(self, name: str) -> str:
        return "needs" if len(self._members[name].functions) == 1 else "need"

    def _list_functions(self, name: str) -> str:
        return list_names([function.name for function in self._members[name].functions])


def list_names(names: Sequence[str]) -> str:
    """Name functions, of many only the first."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def read_pins(text: str, folder: Path) -> dict[str, str]:
    """Return the line that binds each package of a lock, which lies in a folder, to its version or its archive.

    Local projects and repositories are bound by what is declared of them.
    """
    return {
        package["name"]: line
        for package in tomllib.loads(text).get("packages", ())
        if (line := _constraint_line(package, folder))
    }


def meets_constraints(text: str, folder: Path, constraints: Sequence[str]) -> bool:
    """Return whether a lock, which lies in a folder, has no package in another version than constraints allow."""
    allowed = {line.partition("==")[0].partition(" @ ")[0]: line for line in constraints}
    return all(allowed.get(name, line) == line for name, line in read_pins(text, folder).items())


def pinned_versions(pins: Mapping[str, str]) -> dict[str, str]:
    """Return the versions among such lines."""
    return {name: line.partition("==")[2] for name, line in pins.items() if line.startswith(f"{name}==")}


def _constraint_line(package: Mapping[str, Any], folder: Path) -> str:
    if "directory" in package or "vcs" in package:
        return ""
    if "archive" in package:
        place = package["archive"]
        address = place.get("url") or local_path(place["path"], folder).as_uri()
        return "" if "@" in address else f"{package['name']} @ {address}"  # uv compares it with one that has the login
    return f"{package['name']}=={package['version']}" if "version" in package else ""


def _absolute_text(path: Path) -> str:
    """Return a lock's text with absolute paths."""
    import tomli_w

    document = tomllib.loads(path.read_text(encoding="utf-8"))
    for package in document.get("packages", ()):
        for key in ("directory", "archive"):
            if "path" in package.get(key, {}):
                package[key]["path"] = str(local_path(package[key]["path"], path.parent))
    return tomli_w.dumps(document)


def read_local_folders(text: str) -> tuple[str, ...]:
    """Return the local projects of such a lock."""
    found = (package["directory"] for package in tomllib.loads(text).get("packages", ()) if "directory" in package)
    return tuple(str(Path(each["path"], each.get("subdirectory", ""))) for each in found)
