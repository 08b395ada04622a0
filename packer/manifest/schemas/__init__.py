"""The published JSON Schemas of what lpack writes and prints as JSON; a number in each file's name is the schema's version."""

from __future__ import annotations

from importlib.resources import files

VERSION = 1
NAMES = (
    *("affected", "baseline", "cache-info", "check", "coldstart", "diff", "doctor", "load", "manifest", "plan", "push"),
    *("tree", "verify", "why"),
)


def schema_text(name: str) -> str:
    """Return the JSON Schema (2020-12) of one of `NAMES`."""
    return files("packer.manifest.schemas").joinpath(f"{name}-{VERSION}.json").read_text(encoding="utf-8")
