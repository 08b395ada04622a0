"""What a function leaves to the runtime: packages that it excludes, with what only these require.

A worked example: a function requires ``boto3`` and ``requests``, and excludes ``boto3``. What boto3 requires is left out with
it, as the runtime's boto3 is made for the runtime's botocore; but ``urllib3`` stays, which ``requests`` requires too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from builders.runtimes import RUNTIME_DISTRIBUTIONS, RUNTIME_REQUIRES
from packer.core.model import RUNTIME_WORD, Function, Tree
from packer.formats.distribution_names import canonical_name
from packer.formats.metadata import parse_requirement, read_requires_dist
from packer.resolve.requirement_graph import declared_requirements

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PINS = ("==", "===")


def find_family(function: Function, names: Collection[str]) -> frozenset[str]:
    """Return which of a function's packages those require that it leaves to the runtime; these are not among them."""
    excluded = frozenset(RUNTIME_DISTRIBUTIONS).intersection(function.exclude)
    return (_required_by(excluded) - excluded).intersection(names)


def find_staying(
    function: Function, family: Collection[str], names: Collection[str], required: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """Return which of a family are packed nevertheless, each with who requires it in words.

    ``names`` are all packages of the function's lock, ``required`` is what each package requires that is packed anyway.
    """
    reasons: dict[str, str] = {}
    declared = _declared_names(function)
    if not declared.issuperset(names):  # a list of everything, as pip-compile writes it, says nothing of who needs what
        reasons = dict.fromkeys(sorted(declared.intersection(family)), "the function itself")
    for requirer in sorted(required):
        reasons = {**dict.fromkeys(sorted(frozenset(family).intersection(required[requirer])), requirer), **reasons}
    for name in sorted(reasons):
        below = _required_by((name,)).intersection(family)
        reasons = {**dict.fromkeys(sorted(below), name), **reasons}
    return reasons


def _required_by(names: Iterable[str]) -> frozenset[str]:
    """Return packages of the runtime with all that they require."""
    waiting, found = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += RUNTIME_REQUIRES.get(name, ())
    return frozenset(found)


def _declared_names(function: Function) -> frozenset[str]:
    found = map(parse_requirement, declared_requirements(function))
    return frozenset(canonical_name(each.name) for each in found if each)


def read_runtime_versions(folders: Iterable[Path]) -> dict[str, str]:
    """Return the versions of distributions in folders of a runtime, as their dist-info folders have it."""
    found: dict[str, str] = {}
    for folder in folders:
        for info in sorted(folder.glob("*.dist-info")):
            name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
            found.setdefault(canonical_name(name), version)
    return {name: found[name] for name in RUNTIME_DISTRIBUTIONS if name in found}


def find_misfits(
    function: Function, names: Collection[str], left: Collection[str], versions: Mapping[str, str], trees: Mapping[str, Tree]
) -> Iterator[str]:
    """Return in words what is required of packages left to the runtime and its versions do not meet, with what helps.

    ``names`` are all packages of the function's lock, ``trees`` those that are packed. What the function itself pins is met by
    later versions, too; of a list of everything, only what it says of boto3 counts.
    """
    own = [(function.name, each) for each in map(parse_requirement, declared_requirements(function)) if each]
    if _declared_names(function).issuperset(names):
        own = [(who, each) for who, each in own if canonical_name(each.name) == "boto3"]
    others = [(name, each) for name in sorted(trees) for each in read_requires_dist(trees[name]) or ()]
    for who, each in (*own, *others):
        name = canonical_name(each.name)
        if name not in left or name not in versions or not _applies(each, function):
            continue
        allowed = each.specifier
        if who == function.name and all(clause.operator in _PINS for clause in allowed):
            allowed = type(allowed)(",".join(f">={clause.version}" for clause in allowed if not clause.version.endswith(".*")))
        if not allowed.contains(versions[name], prereleases=True):
            what = f"{who} requires {each.name}{each.specifier}, and the runtime has {versions[name]}"
            yield f"{what}. {_explain_packing(function, name, who)}"


def _applies(requirement: Requirement, function: Function) -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate({**function.target.markers(), "extra": ""})


def _explain_packing(function: Function, name: str, who: str) -> str:
    """Return what to write so that a package is packed that somebody requires."""
    if RUNTIME_WORD not in function.exclude:
        return f"Take {name} out of exclude, so that it is packed."
    if who != function.name and name not in RUNTIME_REQUIRES["boto3"] and name != "boto3":
        return 'Write exclude = ["boto3"]: what others require, too, is packed then.'
    return f'Take "{RUNTIME_WORD}" out of exclude, so that it is packed.'
