"""The part of the configuration that says how packages are built: for a project, for a function, and for a package by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from builders.recipes import BUILDERS, BuildSettings, Limits
from packer.config.section import Section, suggest_names
from packer.formats.distribution_names import canonical_name, is_distribution_name

BUILD_KEYS = ("builder", "image", "setup", "network", "limits")
PACKAGES = "packages"
PATTERN_KEYS = ("keep", "drop")
"""Keys of a package's table that say what stays of it, and what goes (`packer.config.shape_table`)."""
RELEASES = "releases"
"""The key of a package's table that says how often it is released (`packer.config.layer_table`)."""
_OF_CONTAINERS = ("image", "setup", "network")
# What the distribution specification allows as [registry/]name[:tag][@digest], or an image's own id.
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@[a-z0-9+._-]+:[0-9a-fA-F]{{32,}})?"
)
_LIMIT_KEYS = ("memory", "processes", "cpus", "time")


def read_build_settings(sections: tuple[Section, ...]) -> BuildSettings:
    """Return the settings that sections make up, the most particular one last; raises `UsageError`."""
    settings = BuildSettings()
    for section in sections:
        settings = _with(settings, section)
    return settings


def read_package_settings(project: Section, function: Section) -> tuple[tuple[str, BuildSettings], ...]:
    """Return the settings of each package that project or function name, sorted by name."""
    tables = [section.section(PACKAGES) for section in (project, function)]
    found: dict[str, tuple[Section, ...]] = {}
    for packages in tables:
        for name, key in _names(packages).items():
            section = packages.section(name)
            section.check_keys((*BUILD_KEYS, *PATTERN_KEYS, RELEASES))
            found[key] = (*found.get(key, (project, function)), section)
    return tuple((name, read_build_settings(sections)) for name, sections in sorted(found.items()))


def _names(packages: Section) -> dict[str, str]:
    """Return the normalized name of each package of a table."""
    names: dict[str, str] = {}
    for name in packages.table:
        if not is_distribution_name(name):
            raise packages.error(name, f"{name!r} cannot be a package's name", "Write it as its index does.")
        key = canonical_name(name)
        if key in names.values():
            raise packages.error(name, f"there is a table for {key} already", "Put both into one.")
        names[name] = key
    return names


def _with(settings: BuildSettings, section: Section) -> BuildSettings:
    table = section.table
    changes: dict[str, Any] = {}
    if "builder" in table:
        name = section.string("builder")
        if name not in BUILDERS:
            raise section.error("builder", f"{name!r} is not a builder", suggest_names(name, BUILDERS))
        changes["builder"] = name
    if "image" in table:
        name = section.string("image")
        if not _IMAGE.fullmatch(name):
            raise section.error("image", f"{name!r} cannot be an image", 'Write image = "registry.example/name:tag".')
        changes["image"] = name
    if "setup" in table:
        changes["setup"] = section.strings("setup")
    if "network" in table:
        changes["network"] = section.boolean("network")
    if "limits" in table:
        changes["limits"] = _limits(settings.limits, section.section("limits"))
    if changes.get("builder") in ("host", "cross"):
        for key in (each for each in _OF_CONTAINERS if each in changes):
            what = f"the builder {changes['builder']!r} takes no notice of it"
            raise section.error(key, what, 'Remove it, or write builder = "container" beside it.')
    return replace(settings, **changes)


def _limits(limits: Limits, section: Section) -> Limits:
    section.check_keys(_LIMIT_KEYS)
    readers: Mapping[str, Any] = {
        "memory": ("memory", section.size),
        "processes": ("processes", lambda key: int(section.number(key, whole=True))),
        "cpus": ("cpus", section.number),
        "time": ("seconds", lambda key: section.milliseconds(key, "10 min") / 1000),
    }
    return replace(limits, **{readers[key][0]: readers[key][1](key) for key in section.table})
