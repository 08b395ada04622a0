"""The names of lpack's own files and folders, and of the project file that may configure it."""

from __future__ import annotations

from pathlib import Path

CONFIG_FILE = "lpack.toml"
PROJECT_FILE = "pyproject.toml"
DEFAULT_OUT = "dist"
MANIFEST_FILE = "lpack.json"
TEMPLATE_FILE = "template.yaml"


def profile_path(root: Path, function: str) -> Path:
    """Give the place of a function's profile, in the project's folder."""
    return root / f"lpack-profile.{function}.toml"
