"""Reads core metadata: what a wheel's METADATA says of its distribution (PyPA, "Core metadata specifications")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packer.core.model import Tree

if TYPE_CHECKING:
    from email.message import Message

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")


def metadata_of(tree: Tree | None) -> Message | None:
    """Give what a distribution's METADATA says, which is UTF-8; None where it has none, or only an outline is there."""
    entry = next((each for each in tree or () if _METADATA.fullmatch(each.path)), None)
    content = entry.content.read() if entry else b""
    if not content:
        return None
    from email.parser import HeaderParser

    # Parsed as text: the parser of bytes takes what is not ASCII for an unknown encoding.
    return HeaderParser().parsestr(content.decode("utf-8", "replace"))


def listed(metadata: Message | None, field: str) -> list[str]:
    """Give the values of a field that may stand several times."""
    return [str(each) for each in metadata.get_all(field, [])] if metadata else []


def text_of(metadata: Message | None, field: str) -> str:
    """Give the value of a field, empty where it is not there."""
    return str(metadata.get(field, "")).strip() if metadata else ""
