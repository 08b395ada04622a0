"""What changes uv's answers beside the requirements themselves: its environment variables and configuration files."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from packer.credentials import without_login
from packer.store import digest_of

# Variables that change how uv works, and not what it answers; and those that hold secrets.
_IRRELEVANT = frozenset(
    (
        "UV_CACHE_DIR",
        "UV_NO_CACHE",
        "UV_NO_PROGRESS",
        "UV_PYTHON_DOWNLOADS",
        "UV_OFFLINE",
        "UV_LINK_MODE",
        "UV_KEYRING_PROVIDER",
    )
)
_IRRELEVANT_PREFIXES = ("UV_HTTP_", "UV_CONCURRENT_", "UV_INTERNAL", "UV_RUN_", "UV_TOOL_", "UV_PUBLISH_", "UV_REQUEST_")
_SECRET_SUFFIXES = ("_USERNAME", "_PASSWORD", "_TOKEN")
_PIP_INDEXES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
# Variables whose value names files to read (uv documentation, "Environment variables").
_NAMING_FILES = ("UV_CONFIG_FILE", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE", "UV_BUILD_CONSTRAINT", "UV_ENV_FILE")


def relevant_variables(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Give ``NAME=value`` of every variable that can change what uv resolves, without credentials, sorted."""
    return tuple(
        f"{name}={' '.join(without_login(word) if '://' in word else word for word in value.split())}"
        for name, value in sorted(variables.items())
        if _is_relevant(name)
    )


def _is_relevant(name: str) -> bool:
    if name in _PIP_INDEXES:
        return True
    return (
        name.startswith("UV_")
        and name not in _IRRELEVANT
        and not name.startswith(_IRRELEVANT_PREFIXES)
        and not name.endswith(_SECRET_SUFFIXES)
    )


def settings_files(folder: Path, variables: Mapping[str, str]) -> Iterator[Path]:
    """Give every file that uv would read settings from when it runs in a folder, whether it is there or not."""
    for parent in (folder, *folder.parents):
        yield parent / "uv.toml"
        yield parent / "pyproject.toml"
    yield Path(variables.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "uv" / "uv.toml"
    yield Path("/etc/uv/uv.toml")
    for name in _NAMING_FILES:
        for word in variables.get(name, "").split():
            yield folder / word


def settings_digest(folder: Path, variables: Mapping[str, str]) -> str:
    """Give the digest of all that can change what uv resolves in a folder."""
    parts = list(relevant_variables(variables))
    for path in settings_files(folder, variables):
        parts += [path.name, _relevant_text(path)]
    return digest_of(*parts)


def has_settings(folder: Path, variables: Mapping[str, str]) -> bool:
    """Say whether the user has told uv anything at all for a folder."""
    return bool(relevant_variables(variables)) or any(map(_relevant_text, settings_files(folder, variables)))


def _relevant_text(path: Path) -> str:
    """Give what a settings file says of uv: of a pyproject.toml the [tool.uv] table alone."""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    if path.name != "pyproject.toml":
        return digest_of(data)
    if b"uv" not in data:
        return ""
    try:
        tool = tomllib.loads(data.decode()).get("tool")
    except ValueError:
        return digest_of(data)  # uv will say what is wrong with it
    return repr(tool["uv"]) if isinstance(tool, dict) and "uv" in tool else ""
