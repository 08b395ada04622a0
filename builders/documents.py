"""Reading files that others wrote: text, TOML and JSON, each with one error for each thing that can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builders.errors import LpackError


def read_text(path: Path, raises: type[LpackError], remedy: str, *, noun: str = "", encoding: str = "utf-8") -> str:
    """Return the text of a file.

    Raises an error of the class ``raises`` with ``remedy`` where the file cannot be read or is not UTF-8; ``noun`` says in it
    what the file is (``the lock``).
    """
    try:
        return path.read_text(encoding=encoding)
    except OSError as error:
        raise raises(f"Cannot read {_named(noun, path)}: {error.strerror}.", remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise raises(f"{_capitalized(noun, path)} is not valid UTF-8: {error}.", remedy=remedy) from error


def parse_toml(text: str, path: Path, raises: type[LpackError], remedy: str, *, noun: str = "") -> dict[str, Any]:
    """Return a TOML document that was read from ``path``; raises as `read_text` does where it is not valid."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise raises(f"{_capitalized(noun, path)} is not valid TOML: {error}.", remedy=remedy) from error


def parse_json(text: str, path: Path, raises: type[LpackError], remedy: str, *, noun: str = "") -> Any:
    """Return a JSON document that was read from ``path``; raises as `read_text` does where it is not valid."""
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise raises(f"{_capitalized(noun, path)} is not valid JSON: {error}.", remedy=remedy) from error


def read_toml(path: Path, raises: type[LpackError], remedy: str) -> dict[str, Any]:
    """Return the TOML document in a file; raises an error of the class ``raises`` where there is none."""
    return parse_toml(read_text(path, raises, remedy), path, raises, remedy)


def _named(noun: str, path: Path) -> str:
    return f"{noun} {path}" if noun else str(path)


def _capitalized(noun: str, path: Path) -> str:
    return _named(noun[:1].upper() + noun[1:], path)
