"""Names of distributions, of their wheels and in requirements, read from text in the plain form that nearly all have.

What is not in that form is for `packaging`, which knows everything that is valid and takes longer to import than the rest of
what a rebuild needs.
"""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec import Struct

_NAME_FORM = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_RELEASE_FORM = r"[0-9]+(?:\.[0-9]+)*"
_VERSION_FORM = rf"{_RELEASE_FORM}(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?"
_TAGS_FORM = r"[a-z0-9_]+(?:\.[a-z0-9_]+)*"
_NAME = re.compile(_NAME_FORM)
_WHEEL = re.compile(
    rf"(?P<name>[A-Za-z0-9.]+(?:_[A-Za-z0-9.]+)*)-(?P<version>{_VERSION_FORM})(?:-(?P<build>[0-9]+)[A-Za-z0-9_.]*)?"
    rf"-(?P<interpreters>[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)-(?P<abis>{_TAGS_FORM})-(?P<platforms>{_TAGS_FORM})\.whl"
)
_REQUIREMENT = re.compile(
    rf"[ \t]*(?P<name>{_NAME_FORM})[ \t]*(?:\[(?P<extras>[^\]]*)\][ \t]*)?(?P<clauses>[^;\[\]()@]*)(?:;(?P<marker>.*))?"
)
_CLAUSE = re.compile(rf"(?P<operator>==|!=|<=|>=|<|>|~=)[ \t]*(?P<version>{_VERSION_FORM})(?P<any>\.\*)?")
_AND = re.compile(r"[ \t]+(?:and|or)[ \t]+")
_COMPARISON = re.compile(
    r"(?:implementation_name|implementation_version|os_name|platform_machine|platform_python_implementation|platform_release|"
    r"platform_system|platform_version|python_full_version|python_version|sys_platform)"
    r"[ \t]*(?:==|!=|<=|>=|<|>)[ \t]*(?P<quote>['\"])[A-Za-z0-9_.]+(?P=quote)"
)
_BLANKS = " \t"
_LONGEST = 1000
"""Letters of a requirement that is matched here: a longer run of spaces would take the square of its length."""


class WheelName(Struct, frozen=True, kw_only=True):
    """A wheel's file name (PyPA, "Binary distribution format").

    ``name`` is normalized, ``version`` as written. ``build`` is the number that orders builds of one version, None where there
    is none. ``tags`` are all that the compressed sets stand for, such as ``cp312-abi3-linux_x86_64``.
    """

    name: str
    version: str
    build: int | None
    tags: frozenset[str]


class RequirementOutline(Struct, frozen=True, kw_only=True):
    """What a requirement (PEP 508) names: a distribution by its normalized name, the URL behind an ``@``, and operators.

    ``operators`` are those of its version clauses, in an order of no meaning.
    """

    name: str
    url: str = ""
    operators: tuple[str, ...] = ()


def canonical_name(name: str) -> str:
    """Return the normalized name of a distribution or an extra (PEP 503, PEP 685)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_distribution_name(text: str) -> bool:
    """Return whether a distribution may have this name (PyPA, "Names and normalization")."""
    return _NAME.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def parse_wheel_name(filename: str) -> WheelName:
    """Return the parts of a wheel's file name; raise ``ValueError`` with the reason where it is none."""
    found = _WHEEL.fullmatch(filename)
    if found is None:
        return _parse_any_wheel_name(filename)
    tags = frozenset(
        f"{interpreter}-{abi}-{platform}"
        for interpreter in found["interpreters"].split(".")
        for abi in found["abis"].split(".")
        for platform in found["platforms"].split(".")
    )
    build = int(found["build"]) if found["build"] else None
    return WheelName(name=canonical_name(found["name"]), version=found["version"], build=build, tags=tags)


def _parse_any_wheel_name(filename: str) -> WheelName:
    from packaging.utils import parse_wheel_filename

    name, _, build, tags = parse_wheel_filename(filename)
    return WheelName(
        name=name, version=filename.split("-")[1], build=build[0] if build else None, tags=frozenset(map(str, tags))
    )


def is_same_version(one: str, other: str) -> bool:
    """Return whether two texts are the same version (PEP 440); False where one is none."""
    if one == other:
        return True
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return False


@lru_cache(maxsize=4096)
def outline_requirement(text: str) -> RequirementOutline:
    """Return what a requirement names; raise ``ValueError`` with the reason where it is not valid."""
    plain = _outline_plain(text)
    if plain is not None:
        return plain
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    operators = tuple(clause.operator for clause in requirement.specifier)
    return RequirementOutline(name=canonical_name(requirement.name), url=requirement.url or "", operators=operators)


def _outline_plain(text: str) -> RequirementOutline | None:
    """Return what a requirement in the plain form names; None for one in any other form."""
    found = _REQUIREMENT.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    extras = found["extras"].split(",") if found["extras"] is not None else ()
    comparisons = _AND.split(found["marker"].strip(_BLANKS)) if found["marker"] is not None else ()
    clauses = found["clauses"].split(",") if found["clauses"].strip(_BLANKS) else ()
    operators = tuple(_plain_operator(clause.strip(_BLANKS)) for clause in clauses)
    if not all(
        (*operators, *(_NAME.fullmatch(each.strip(_BLANKS)) for each in extras), *map(_COMPARISON.fullmatch, comparisons))
    ):
        return None
    return RequirementOutline(name=canonical_name(found["name"]), operators=operators)


def _plain_operator(clause: str) -> str:
    """Return the operator of a version clause in the plain form; an empty text for any other form."""
    found = _CLAUSE.fullmatch(clause)
    if found is None:
        return ""
    operator, version = found["operator"], found["version"]
    if found["any"] and not (operator in ("==", "!=") and re.fullmatch(_RELEASE_FORM, version)):
        return ""
    return "" if operator == "~=" and not re.fullmatch(r"[0-9]+(\.[0-9]+)+", version) else operator
