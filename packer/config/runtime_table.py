"""The part of the configuration that names the image whose file system functions are proved in: ``runtime-image``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from builders.runtimes import RuntimeImage, Target
from packer.config.section import Section
from packer.core.errors import UsageError
from packer.locks.base_pins import PINS_FILE, Pins, read_pins

RUNTIME_IMAGE = "runtime-image"
_KEYS = ("image", "pull")


def with_runtime_image(target: Target, sections: Sequence[Section], root: Path) -> Target:
    """Return a target with the run-time image that sections make up, the most particular one last; raises `UsageError`.

    Its digest is what the lock of bases in the folder ``root`` has for it.
    """
    found = RuntimeImage()
    for section in sections:
        found = _with(found, section)
    named = replace(target, image=found)
    path = root / PINS_FILE
    pins = _read_pins(root, path.stat().st_mtime_ns) if path.exists() else {}
    digest = pins.get((named.runtime_image, f"linux/{target.image_architecture}"), "")
    return replace(named, image=replace(found, digest=digest))


@cache
def _read_pins(root: Path, _modified: int) -> Pins:
    """Read the lock of bases; once for all functions of a project."""
    return read_pins(root)


def _with(image: RuntimeImage, section: Section) -> RuntimeImage:
    if RUNTIME_IMAGE not in section.table:
        return image
    if isinstance(section.table[RUNTIME_IMAGE], str):
        return replace(image, name=_image_name(section, RUNTIME_IMAGE))
    table = section.section(RUNTIME_IMAGE)
    table.check_keys(_KEYS)
    if "image" in table.table:
        image = replace(image, name=_image_name(table, "image"))
    return replace(image, pull=table.boolean("pull")) if "pull" in table.table else image


def _image_name(section: Section, key: str) -> str:
    from packer.formats.oci import Reference

    name = section.string(key)
    try:
        Reference.parse(name)
    except UsageError as error:
        raise section.error(key, error.what.rstrip("."), error.remedy) from None
    return name
