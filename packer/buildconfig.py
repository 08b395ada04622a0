"""The part of the configuration that says how packages are built: for a project, for a function, and for a package by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from packaging.utils import canonicalize_name

from builders.recipes import BUILDERS, BuildSettings, Limits
from packer.section import Section, choices

BUILD_KEYS = ("builder", "image", "setup", "network", "limits")
PACKAGES = "packages"
_LIMIT_KEYS = ("memory", "processes", "cpus", "time")


def building_of(sections: tuple[Section, ...]) -> BuildSettings:
    """Give the settings that sections make up, the most particular one last; raises `packer.errors.UsageError`."""
    settings = BuildSettings()
    for section in sections:
        settings = _with(settings, section)
    return settings


def packages_of(project: Section, function: Section) -> tuple[tuple[str, BuildSettings], ...]:
    """Give the settings of each package that project or function name, sorted by name."""
    tables = [section.section(PACKAGES) for section in (project, function)]
    found: dict[str, tuple[Section, ...]] = {}
    for packages in tables:
        for name in packages.table:
            section = packages.section(name)
            section.check_keys(BUILD_KEYS)
            key = str(canonicalize_name(name))
            found[key] = (*found.get(key, (project, function)), section)
    return tuple((name, building_of(sections)) for name, sections in sorted(found.items()))


def _with(settings: BuildSettings, section: Section) -> BuildSettings:
    table = section.table
    changes: dict[str, Any] = {}
    if "builder" in table:
        name = section.string("builder")
        if name not in BUILDERS:
            raise section.error("builder", f"{name!r} is not a builder", choices(name, BUILDERS))
        changes["builder"] = name
    if "image" in table:
        changes["image"] = section.string("image")
    if "setup" in table:
        changes["setup"] = section.strings("setup")
    if "network" in table:
        changes["network"] = section.boolean("network")
    if "limits" in table:
        changes["limits"] = _limits(settings.limits, section.section("limits"))
    return replace(settings, **changes)


def _limits(limits: Limits, section: Section) -> Limits:
    section.check_keys(_LIMIT_KEYS)
    readers: Mapping[str, Any] = {
        "memory": ("memory", section.size),
        "processes": ("processes", lambda key: int(section.number(key, whole=True))),
        "cpus": ("cpus", section.number),
        "time": ("seconds", lambda key: section.milliseconds(key) / 1000),
    }
    return replace(limits, **{readers[key][0]: readers[key][1](key) for key in section.table})
