"""The lock of bases: which image stood behind each name that images are built upon, or functions are proved in, by its digest.

A pylock has the packages of one requirement set, and bases belong to none: functions without any have a base, too. So they are
in a file of their own, beside the configuration, which `lpack lock` writes and a build keeps to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from builders.documents import read_toml
from packer.core.errors import UsageError

PINS_FILE = "lpack-bases.toml"
_HEAD = "# Written by `lpack lock` and `lpack runtime pull`: images that functions are built upon. Keep it with the sources.\n"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LOCK_AGAIN = "Remove the file, and run `lpack lock` again."
Pins = Mapping[tuple[str, str], str]
"""Digests of manifests, by the name of the base and the platform."""


def read_pins(root: Path) -> Pins:
    """Read the lock of bases in a project's folder; empty where there is none. Raises `UsageError` for a broken one."""
    path = root / PINS_FILE
    if not path.exists():
        return {}
    document = read_toml(path, UsageError, _LOCK_AGAIN)
    found: dict[tuple[str, str], str] = {}
    listed = document.get("base", [])
    for entry in listed if isinstance(listed, list) else [None]:
        name, platform, digest = _entry(entry)
        if not _DIGEST.fullmatch(digest):
            raise UsageError(f"{path} has an entry without name, platform and digest.", remedy=_LOCK_AGAIN)
        found[name, platform] = digest
    return found


def _entry(entry: object) -> tuple[str, str, str]:
    table = entry if isinstance(entry, dict) else {}
    name, platform, digest = (table.get(key) for key in ("name", "platform", "digest"))
    if isinstance(name, str) and isinstance(platform, str) and isinstance(digest, str):
        return name, platform, digest
    return "", "", ""


def pins_text(pins: Pins) -> str:
    """Return the text of a lock of bases."""
    import tomli_w

    listed = [{"name": name, "platform": platform, "digest": pins[name, platform]} for name, platform in sorted(pins)]
    return _HEAD + "\n" + tomli_w.dumps({"base": listed})
