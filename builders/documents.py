"""Reading files that others wrote: text, TOML and JSON, each with one error for each thing that can be wrong."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

from builders.errors import LpackError

# That of UTF-32 begins like that of UTF-16 (Unicode Standard, section 23.8), and so comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode_text(data: bytes) -> str:
    """Return the text of a file's bytes, by their byte order mark or as UTF-8; raises ``UnicodeDecodeError``.

    Editors and shells of Windows write such marks (``>`` of PowerShell 5 writes UTF-16).
    """
    mark, encoding = next((each for each in _MARKS if data.startswith(each[0])), (b"", "utf-8"))
    return data[len(mark) :].decode(encoding)


def read_text(path: Path, raises: type[LpackError], remedy: str, *, noun: str = "") -> str:
    """Return the text of a file, by its byte order mark or as UTF-8.

    Raises an error of the class ``raises`` with ``remedy`` where the file cannot be read or decoded; ``noun`` says in it what
    the file is (``the lock``).
    """
    try:
        return decode_text(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
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
