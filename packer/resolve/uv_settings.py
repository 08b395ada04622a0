"""What changes uv's answers beside the requirements themselves: its environment variables and configuration files."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from builders.documents import decode_text
from packer.cache.store import digest_of
from packer.core.fingerprint import fingerprint
from packer.core.names import PYPROJECT_FILE
from packer.net.credentials import without_login

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


# Keys of [tool.uv] that say something of the project beside them, and nothing of others (uv documentation, "Settings").
_OF_ONE_PROJECT = frozenset(
    ("sources", "workspace", "package", "managed", "dev-dependencies", "default-groups", "dependency-groups", "build-backend")
)


def relevant_variables(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return ``NAME=value`` of every variable that can change what uv resolves, without credentials, sorted."""
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
    """Return every file that uv would read settings from when it runs in a folder, whether it exists or not."""
    for parent in (folder, *folder.parents):
        yield parent / "uv.toml"
        yield parent / PYPROJECT_FILE
    yield Path(variables.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "uv" / "uv.toml"
    yield Path("/etc/uv/uv.toml")
    for name in _NAMING_FILES:
        for word in variables.get(name, "").split():
            yield folder / word


def settings_digest(folder: Path, variables: Mapping[str, str]) -> str:
    """Return the digest of all that can change what uv resolves in a folder."""
    parts = list(relevant_variables(variables))
    for path in settings_files(folder, variables):
        parts += [path.name, _relevant_text(path)]
    return digest_of(*parts)


def shared_settings_digest(folder: Path, variables: Mapping[str, str]) -> str:
    """Return the digest of the settings that uv finds from a folder upwards, but for what they say of one project alone.

    Folders with the same digest can be spoken for in one question to uv. As with uv, the nearest file is the only one.
    """
    nearest = ("", "")
    for parent in (folder, *folder.parents):
        found = [path for path in (parent / "uv.toml", parent / PYPROJECT_FILE) if _relevant_text(path)]
        if found:
            said = _shared_settings_text(found[0])
            nearest = (str(found[0]), said) if said else nearest
            break
    return digest_of(*nearest, *(variables.get(name, "") and str(folder) for name in _NAMING_FILES))


def _shared_settings_text(path: Path) -> str:
    if path.name != PYPROJECT_FILE:
        return _relevant_text(path)
    try:
        table = tomllib.loads(decode_text(path.read_bytes()))["tool"]["uv"]
    except (OSError, ValueError, KeyError, TypeError):
        return _relevant_text(path)
    if not isinstance(table, dict):
        return _relevant_text(path)
    rest = {key: value for key, value in table.items() if key not in _OF_ONE_PROJECT}
    return fingerprint(rest) if rest else ""


def has_settings(folder: Path, variables: Mapping[str, str]) -> bool:
    """Return whether any setting of uv applies in a folder."""
    return bool(relevant_variables(variables)) or any(map(_relevant_text, settings_files(folder, variables)))


def _relevant_text(path: Path) -> str:
    """Return what a settings file says of uv: of a pyproject.toml the [tool.uv] table alone."""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    if path.name != PYPROJECT_FILE:
        return digest_of(data)
    if b"uv" not in data:
        return ""
    try:
        tool = tomllib.loads(decode_text(data)).get("tool")
    except ValueError:
        return digest_of(data)  # uv will say what is wrong with it
    return fingerprint(tool["uv"]) if isinstance(tool, dict) and "uv" in tool else ""


def configured_indexes(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return (name, URL) of the indexes that uv's own configuration names, in the nearest folder that has one."""
    for parent in (folder, *folder.parents):
        for name, keys in (("uv.toml", ()), (PYPROJECT_FILE, ("tool", "uv"))):
            try:
                table: Any = tomllib.loads(decode_text((parent / name).read_bytes()))
            except (OSError, ValueError):
                continue
            for key in keys:
                table = table.get(key) if isinstance(table, dict) else None
            if table and isinstance(table, dict):
                return tuple(_named_indexes(table))
    return ()


def _named_indexes(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return (name, URL) of the indexes of uv's settings; what is malformed is left for uv to report."""
    listed = table.get("index")
    for index in listed if isinstance(listed, list) else ():
        if isinstance(index, dict) and isinstance(index.get("url"), str):
            name = index.get("name", "")
            yield name if isinstance(name, str) else "", index["url"]
