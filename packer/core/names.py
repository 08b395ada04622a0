"""The names of lpack's own files and folders, of the project file that may configure it, and of functions."""

from __future__ import annotations

import re
from pathlib import Path

from packer.core.errors import UsageError

CONFIG_FILE = "lpack.toml"
PYPROJECT_FILE = "pyproject.toml"
LAYERS_FOLDER = "layers"
"""The folder for layers in the output folder."""
IMAGES_FOLDER = "images"
"""The folder for images in the output folder."""
DEFAULT_OUT = "dist"
MANIFEST_FILE = "lpack.json"
REPORT_FILE = "lpack-report.html"
ENGINE_FORM = "engine:"
LOCAL_FORMS = ("oci:", "docker-archive:", ENGINE_FORM)
"""Prefixes of bases that are not in a registry."""
TEMPLATE_FILE = "template.yaml"
SAM_CONFIG_NAMES = ("samconfig.toml", "samconfig.yaml", "samconfig.yml")
"""The names of AWS SAM CLI's configuration file, in the order in which it looks for them."""

DOCKER_HUB = "docker.io"
"""The registry of images that are named without one."""
FUNCTION_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
"""Pattern of a function's name: part of file names and, in pylock.<name>.toml, free of dots (PEP 751); 64 is Lambda's limit."""


def check_name(name: str, where: str) -> str:
    """Return a function's name if it is valid; raise `UsageError`."""
    if not re.fullmatch(FUNCTION_NAME, name):
        raise UsageError(
            f"{where}: {name!r} cannot be a function's name.",
            remedy="Use letters, digits, '-' and '_', beginning with a letter or digit, 64 at most.",
        )
    return name


def image_name(function: str) -> str:
    """Return the name of a function's image in engines, and in registries where images are named after functions."""
    return function.lower()


def profile_path(root: Path, function: str) -> Path:
    """Return the path of a function's profile in the project's folder."""
    return root / f"lpack-profile.{function}.toml"
