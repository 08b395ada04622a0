"""Text in a picture whose fonts nobody knows: cut to fit, and free of what XML cannot hold."""

from __future__ import annotations

import re

# Advance widths in parts of the font size, rounded up from DejaVu Sans, the widest of the fonts that browsers take for
# system-ui and sans-serif: those of other systems (Segoe UI, San Francisco, Roboto, Arial) are narrower.
_NARROW, _LOWER, _UPPER, _WIDE, _OTHER = 0.42, 0.64, 0.79, 1.0, 1.3
_NARROW_LETTERS = frozenset("fijltrI'|!.,:;()[]- /")
_WIDE_LETTERS = frozenset("mMwW@%")
_ELLIPSIS = "…"
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def clean_text(text: str) -> str:
    """Replace the characters that XML cannot hold, not even escaped."""
    return _NOT_IN_XML.sub("\ufffd", text)


def text_width(text: str, size: float) -> float:
    """Return how wide a text is at most, in the unit of the font size; of other scripts than Latin it is a guess."""
    return size * sum(map(_advance, text))


def cut_text(text: str, room: float, size: float) -> str:
    """Cut a text to a width, and end it in an ellipsis where something is missing."""
    if text_width(text, size) <= room:
        return text
    left = room - text_width(_ELLIPSIS, size)
    kept = 0
    while kept < len(text) and (left := left - text_width(text[kept], size)) >= 0:
        kept += 1
    return text[:kept].rstrip() + _ELLIPSIS


def _advance(letter: str) -> float:
    if not letter.isascii():
        return _WIDE if letter == _ELLIPSIS else _OTHER
    if letter in _NARROW_LETTERS:
        return _NARROW
    if letter in _WIDE_LETTERS:
        return _WIDE
    return _UPPER if letter.isupper() else 0.84 if letter in "+=<>~#&" else _LOWER
