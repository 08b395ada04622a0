"""One question to uv out of what several functions declare: whose declarations can stand in it, and its words."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from builders.documents import decode_text
from packer.cache.store import digest_of
from packer.core.model import Function, Requirements
from packer.formats.distribution_names import canonical_name, outline_requirement
from packer.formats.requirements_txt import RequirementLine, local_path, read_requirements
from packer.locks.formats import LOCK_FORMATS
from packer.net.credentials import without_login
from packer.resolve.declaration import Declaration
from packer.resolve.uv_settings import shared_settings_digest
from packer.source.dependency_files import PYPROJECT

_FIND_LINKS = "--find-links"
_LONG_FORMS = {"-f": _FIND_LINKS, "-i": "--index-url"}


class Place(Struct, frozen=True, kw_only=True):
    """A requirement of a function's own: its text without a login, and the file and line (0: not known) that it stands in."""

    text: str
    path: Path
    line: int

    def excludes(self, version: str) -> bool:
        """Return whether the requirement itself does not allow a version."""
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.version import InvalidVersion

        try:
            return not Requirement(self.text).specifier.contains(version, prereleases=True)
        except (InvalidRequirement, InvalidVersion):
            return True  # a path or an address stands for one version alone


class JointMember(Struct, frozen=True, kw_only=True):
    """Functions that declare the same. ``name`` is the first one's, ``key`` tells what is asked from what others ask.

    ``lines``, ``constraints`` and ``arguments`` are how uv is asked for it from any folder; ``places`` maps the normalized
    names of what is required directly to where that is said. ``own`` is the normalized name of the project that is asked for
    as a package, empty where none is.
    """

    name: str
    key: str
    functions: tuple[Function, ...]
    declaration: Declaration
    lines: tuple[str, ...]
    constraints: tuple[str, ...]
    arguments: tuple[str, ...]
    places: dict[str, Place]
    own: str = ""


def can_share_versions(function: Function) -> bool:
    """Return whether a function declares requirements, and is not locked by a file of its own."""
    return function.requirements is not None and function.requirements.kind not in LOCK_FORMATS


def family_key(function: Function, declaration: Declaration) -> str:
    """Return what functions must have in common to stand in one question: the target, options of the index, uv's settings."""
    settings = shared_settings_digest(declaration.folder, os.environ)
    return digest_of(str(function.target), *_normalized_options(declaration), "", settings)


def describe_difference(mine: Declaration, theirs: Declaration, root: Path) -> str:
    """Return why two declarations for one target are of different families; paths are given relative to ``root``."""
    ours, others = ([_relative_option(line, root) for line in _normalized_options(each)] for each in (mine, theirs))
    own = [f"`{line}`" for line in ours if line not in others]
    missing = [f"`{line}`" for line in others if line not in ours]
    if own and missing:
        return f"it has the option {' and '.join(own)} instead of {' and '.join(missing)}"
    if own or missing:
        return f"only it has the option {' and '.join(own)}" if own else f"it lacks the option {' and '.join(missing)}"
    return "its options stand in another order" if ours != others else "other settings of uv hold in its folder"


def _normalized_options(declaration: Declaration) -> tuple[str, ...]:
    """Return the options so that two which mean the same are the same, without logins."""
    return tuple(dict.fromkeys(map(_normalize_option, declaration.option_lines)))


def _normalize_option(line: str) -> str:
    option, _, value = line.partition(" ")
    option = _LONG_FORMS.get(option, option)
    is_path = option == _FIND_LINKS and "://" not in value
    return f"{option} {os.path.normpath(value) if is_path else _strip_login(value)}".rstrip()


def _relative_option(line: str, root: Path) -> str:
    option, _, value = line.partition(" ")
    return f"{option} {os.path.relpath(value, root)}" if option == _FIND_LINKS and "://" not in value else line


def group_members(declared: Iterable[tuple[Function, Declaration]]) -> tuple[JointMember, ...]:
    """Return what functions of one family declare, each declaration once, in the order of the names."""
    found: dict[str, JointMember] = {}
    for function, declaration in sorted(declared, key=lambda each: each[0].name):
        member = _make_member(function, declaration)
        known = found.get(member.key)
        found[member.key] = replace(known, functions=(*known.functions, function)) if known else member
    return tuple(found.values())


def joint_question(members: Sequence[JointMember], constraints: Iterable[str] = ()) -> Declaration:
    """Return what to ask uv for all members at once. The constraints of one of them bind all."""
    first = members[0].declaration
    lines = dict.fromkeys((*first.option_lines, *(line for member in members for line in member.lines)))
    return Declaration(
        folder=first.folder,
        path=first.path,
        digest="",
        files=(),
        arguments=tuple(word for member in members for word in member.arguments),
        text="\n".join(lines),
        index_urls=tuple(dict.fromkeys(url for member in members for url in member.declaration.index_urls)),
        option_lines=first.option_lines,
        constraints=(*dict.fromkeys(line for member in members for line in member.constraints), *constraints),
    )


def _make_member(function: Function, declaration: Declaration) -> JointMember:
    requirements = function.requirements
    assert requirements is not None  # noqa: S101 as `can_share_versions` says
    lines, arguments, constraints, own = tuple[str, ...](), tuple[str, ...](), tuple[str, ...](), ""
    if requirements.kind == PYPROJECT:
        lines, arguments, own = _project_words(requirements)
        places = _project_places(requirements)
    else:
        read = read_requirements(requirements.path).lines
        lines = tuple(_absolute_line(line, declaration.folder) for line in read if not line.is_constraint)
        constraints = tuple(_absolute_line(line, declaration.folder) for line in read if line.is_constraint)
        arguments = declaration.arguments
        places = {line.name: _make_place(line) for line in reversed(read) if line.name and not line.is_constraint}
    # Two that ask the same and allow other hashes ask for the same versions.
    key = digest_of(*map(_strip_login, lines), "", *map(_strip_login, constraints), "", *arguments)
    return JointMember(
        name=function.name,
        key=digest_of(key, declaration.digest if requirements.kind == PYPROJECT else ""),
        functions=(function,),
        declaration=declaration,
        lines=lines,
        constraints=constraints,
        arguments=arguments,
        places=places,
        own=own,
    )


def _strip_login(line: str) -> str:
    return without_login(line) if "://" in line else line


def _make_place(line: RequirementLine) -> Place:
    return Place(text=_strip_login(line.text), path=line.file, line=line.number)


def _absolute_line(line: RequirementLine, folder: Path) -> str:
    """Return a line's text with a path that holds in every folder; uv takes relative ones from where it runs."""
    if not line.address or "://" in line.address:
        return line.text
    if line.text.startswith(line.address) and not line.address.startswith("file:"):
        return line.text.replace(line.address, str(local_path(line.address, folder)), 1)
    place, mark, fragment = line.address.partition("#")
    return line.text.replace(line.address, f"{local_path(place, folder).as_uri()}{mark}{fragment}", 1)


def _project_words(requirements: Requirements) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return the lines and the arguments that stand for a pyproject.toml, and its name where it is asked for as a package.

    uv's ``--extra`` would hold for every project in the question, and so one with extras is asked for as a package.
    """
    path = requirements.path
    arguments = tuple(word for group in requirements.groups for word in ("--group", f"{path}:{group}"))
    if not requirements.extras:
        return (), (*arguments, str(path)), ""
    name = tomllib.loads(decode_text(path.read_bytes()))["project"].get("name", "")
    return (f"{name}[{','.join(requirements.extras)}] @ {path.parent.as_uri()}",), arguments, canonical_name(name)


def _project_places(requirements: Requirements) -> dict[str, Place]:
    text = decode_text(requirements.path.read_bytes())
    document = tomllib.loads(text)
    project, groups = document["project"], document.get("dependency-groups", {})
    optional = project.get("optional-dependencies", {})
    wanted = [*project.get("dependencies", ()), *(each for extra in requirements.extras for each in optional.get(extra, ()))]
    wanted += [each for group in requirements.groups for each in groups.get(group, ()) if isinstance(each, str)]
    found: dict[str, Place] = {}
    for each in wanted:
        try:
            name = outline_requirement(each).name
        except ValueError:
            continue
        line = next((number for number, line in enumerate(text.splitlines(), 1) if each in line), 0)
        found.setdefault(name, Place(text=_strip_login(each), path=requirements.path, line=line))
    return found
