"""Gathers what has to be known of a function's parts before anything is removed of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from packer.core.errors import UsageError
from packer.core.function_tree import Part
from packer.core.model import OWN_SOURCE, Distribution, Function
from packer.formats.elf import ElfFile
from packer.formats.native_code import NativeCode
from packer.source.facts import FactScan, FactScanner, scan_sources

if TYPE_CHECKING:
    from packer.trim.profile import Profile

_ALWAYS_CALLED = frozenset(("signin", "sso", "sso-oidc", "sts"))
"""Services that botocore itself calls for credentials (botocore, credentials.py and tokens.py)."""


class Material(Struct, frozen=True, kw_only=True):
    """All that a function is made of, before anything is removed. ``scans`` and ``native`` are by normalized names.

    ``local`` are the distributions that are projects of the user's own.
    """

    function: Function
    parts: tuple[Part, ...]
    distributions: tuple[Distribution, ...]
    scans: Mapping[str, FactScan]
    native: Mapping[str, Sequence[ElfFile]]
    profile: Profile | None
    services: frozenset[str] | None
    local: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def has_libraries(self) -> bool:
        """Return whether a distribution has native code."""
        return any(files for name, files in self.native.items() if name != OWN_SOURCE)

    def owner_names(self) -> dict[str, str]:
        """Return the normalized name of each owner that entries carry."""
        return {OWN_SOURCE: OWN_SOURCE, **{each.filename: each.name for each in self.distributions}}


def gather_material(
    function: Function,
    distributions: Sequence[Distribution],
    parts: Sequence[Part],
    scanner: FactScanner,
    native: NativeCode,
    local: frozenset[str] = frozenset(),
) -> Material:
    """Return all that shaping has to know; raises `LpackError` where a file cannot be read.

    ``local`` names the distributions that are projects of the user's own.
    """
    trimmed = function.trim.level != "none"
    trees = dict(parts)
    scans: dict[str, FactScan] = {}
    if trimmed or function.bytecode.mode in ("auto", "only"):
        scans = {each.name: scanner.of_wheel(each, trees[each.name]) for each in distributions}
        scans[OWN_SOURCE] = scan_sources(trees[OWN_SOURCE])
    services, notes = _services(function, scans, {each.name for each in distributions}) if trimmed else (None, ())
    profile = _profile(function) if trimmed and distributions else None
    return Material(
        function=function,
        parts=tuple(parts),
        distributions=tuple(distributions),
        scans=scans,
        native={
            OWN_SOURCE: native.of_source(trees[OWN_SOURCE]),
            **{each.name: native.of_wheel(each) for each in distributions},
        }
        if trimmed
        else {},
        profile=profile,
        services=services,
        local=local,
        notes=(*notes, *_stale(function, profile, distributions)),
    )


def _profile(function: Function) -> Profile | None:
    """Return the profile that the level asks for; raises `UsageError` where there is none."""
    path = function.trim.profile
    if function.trim.level != "max" or path is None:
        return None
    from packer.trim.profile import read_profile

    found = read_profile(path)
    if found is None:
        what = f'{function.name} has trim = "max", and no profile says what it needs: there is no {path}.'
        raise UsageError(what, remedy=f"Run `lpack profile {function.name}`, look at what it writes, and commit it.")
    return found


def _stale(function: Function, profile: Profile | None, distributions: Sequence[Distribution]) -> Iterator[str]:
    """Return which distributions stay whole because the profile knows another version of them."""
    if profile is None:
        return
    if not profile.fits(function.target):
        what = (
            f"the profile of {function.name} is for {profile.runtime} on {profile.architecture}, and nothing is removed by it"
        )
        yield f"{what}: run `lpack profile {function.name}` again."
        return
    for each in distributions:
        known = profile.versions.get(each.name)
        if known != each.version:
            what = f"the profile of {function.name} knows {f'{each.name} {known}' if known else f'no {each.name}'}"
            yield f"{what}, and {each.version} is packed whole: run `lpack profile {function.name}` again."


def _services(
    function: Function, scans: Mapping[str, FactScan], names: set[str]
) -> tuple[frozenset[str] | None, tuple[str, ...]]:
    """Return the services that a function calls, None where that cannot be known; and what to tell the user of it."""
    if function.trim.services is not None:
        return frozenset(function.trim.services) | _ALWAYS_CALLED, ()
    if "botocore" not in names:
        return None, ()
    for name, scan in scans.items():
        if scan.dynamic:
            where = "" if name == OWN_SOURCE else f"{name}: "
            note = f"{function.name}: all of botocore's service models stay: {where}{scan.dynamic} computes a service's name."
            return None, (f'{note} trim = {{ services = ["…"] }} names those that it calls.',)
    return frozenset(name for scan in scans.values() for name in scan.services) | _ALWAYS_CALLED, ()
