"""Core metadata: what a wheel's METADATA says of its distribution (PyPA, "Core metadata specifications").

The one place that parses METADATA and its Requires-Dist.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packer.core.model import Tree
from packer.formats.distribution_names import canonical_name

if TYPE_CHECKING:
    from email.message import Message

    from packaging.requirements import Requirement

    from builders.runtimes import Target

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REQUIRES = "Requires-Dist"


def parse_headers(text: str) -> Message:
    """Return the fields of METADATA, WHEEL and other files in the form of email headers."""
    from email.parser import HeaderParser

    # Parsed as text: the parser of bytes takes what is not ASCII for an unknown encoding.
    return HeaderParser().parsestr(text)


def read_metadata(tree: Tree | None) -> Message | None:
    """Return what a distribution's METADATA says, which is UTF-8; None where it has none, or only an outline is known."""
    entry = next((each for each in tree or () if _METADATA.fullmatch(each.path)), None)
    content = entry.content.read() if entry else b""
    return parse_headers(content.decode("utf-8", "replace")) if content else None


def field_values(metadata: Message | None, field: str) -> list[str]:
    """Return the values of a field that may stand several times."""
    return [str(each) for each in metadata.get_all(field, [])] if metadata else []


def field_text(metadata: Message | None, field: str) -> str:
    """Return the value of a field, empty where the metadata does not have it."""
    return str(metadata.get(field, "")).strip() if metadata else ""


def read_requires_dist(tree: Tree) -> tuple[Requirement, ...] | None:
    """Return what a distribution requires, extras included, without what is no valid requirement.

    None where the metadata is not known.
    """
    metadata = read_metadata(tree)
    if metadata is None:
        return None
    found = (parse_requirement(text) for text in field_values(metadata, _REQUIRES))
    return tuple(requirement for requirement in found if requirement)


def parse_requirement(text: str) -> Requirement | None:
    """Return a requirement (PEP 508), None for what is none: whoever installed a distribution with it has found a way."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def requirement_applies(requirement: Requirement, extras: frozenset[str], target: Target) -> bool:
    """Return whether a requirement holds on a target where these extras are asked for; True where that cannot be told."""
    if requirement.marker is None:
        return True
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName

    try:
        return any(requirement.marker.evaluate({**target.markers(), "extra": extra}) for extra in (*sorted(extras), ""))
    except (UndefinedComparison, UndefinedEnvironmentName):
        return True


def required_names(tree: Tree) -> tuple[str, ...]:
    """Return the normalized names of what a distribution requires on any platform, extras aside, sorted.

    Only the name of a requirement is read: it counts also where the rest, as in old releases, is not valid.
    """
    lines = field_values(read_metadata(tree), _REQUIRES)
    found = (_NAME.match(line.strip()) for line in lines if "extra" not in line.partition(";")[2])
    return tuple(sorted({canonical_name(name[0]) for name in found if name}))
