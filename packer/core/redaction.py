"""Redaction: keep secrets out of all text that is shown or kept, without making the text unreadable.

What precedes the host in a URL is never shown. A secret itself is removed by how likely its letters occur by chance:

    8 letters and more    everywhere
    4 to 7                where they are not part of a longer word
    1 to 3                only where they are a credential: before the host of an address, or after "password="

Each letter counts in any spelling: as it is, or percent-encoded (RFC 3986), once or several times.
"""

from __future__ import annotations

import re
from threading import Lock

HIDDEN = "****"
_ANYWHERE, _AS_WORD = 8, 4
"""Lengths from which a secret is removed everywhere, and where it is a word of its own."""
_SCHEME = r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)"
_QUOTE = r"['\"](?![,;:\s>)\]}]|$)"
"""A quotation mark that does not end the quoted text: passwords may contain some."""
_URLS = (
    # The last @ before the path ends the user part: passwords that are not encoded as they should be may have some, too.
    rf"{_SCHEME}(?:[^/\s'\">]|{_QUOTE})*@",
    # Or slashes: what follows the colon is no port then.
    rf"{_SCHEME}[^/?#\s'\"<>@:\[]+:(?!\d{{0,5}}(?:[/?#\s'\"]|$))(?:[^\s'\">@]|{_QUOTE})*@",
)
_NAMED = r"(?P<name>(?:pass(?:word|wd|phrase)?|token|secret|credentials?)[\"']?\s*[=:]\s*[\"']?)"


class Redaction:
    """Knows secrets, and removes them from texts; may be used from many threads."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = Lock()

    def add(self, secret: str) -> None:
        """Remember a secret; ignore an empty one."""
        with self._lock:
            if secret and secret not in self._secrets:
                self._secrets.add(secret)
                self._pattern = _pattern_of(self._secrets)

    def redacted(self, text: str) -> str:
        """Return a text without the secrets, and without what precedes the host in any URL."""
        pattern = self._pattern
        if pattern is not None:
            text = pattern.sub(lambda found: (found["name"] or "") + HIDDEN, text)
        return hide_user_parts(text)


def hide_user_parts(text: str) -> str:
    """Return a text without what precedes the host in any URL."""
    if "://" not in text:
        return text
    for url in _URLS:
        text = re.sub(url, rf"\g<scheme>{HIDDEN}@", text)
    return text


def _pattern_of(secrets: set[str]) -> re.Pattern[str]:
    """Return a pattern that finds secrets to remove, the longest first, as one may be part of another."""
    ordered = sorted(secrets, key=lambda each: (-len(each), each))
    parts = [_place_of(each) for each in ordered if len(each) >= _AS_WORD]
    short = "|".join(_spellings(each) for each in ordered if len(each) < _AS_WORD)
    parts += [rf"(?i:{_NAMED})(?:{short})(?!\w)", rf"(?<=[:/])(?:{short})(?=@)"] if short else [r"(?P<name>(?!))"]
    return re.compile("|".join(parts))


def _place_of(secret: str) -> str:
    return _spellings(secret) if len(secret) >= _ANYWHERE else rf"(?<![^\W_]){_spellings(secret)}(?![^\W_])"


def _spellings(secret: str) -> str:
    """Return a pattern of a text, each letter of which may be percent-encoded."""
    return "".join(f"(?:{re.escape(letter)}|{_encoded(letter)})" for letter in secret)


def _encoded(letter: str) -> str:
    octets = "".join(f"%(?:25)*{octet:02x}" for octet in letter.encode("utf-8", "surrogateescape"))
    return f"(?i:{octets})" if letter != " " else rf"(?i:{octets})|\+"


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# Those that change the direction of text (Unicode Standard Annex 9, "Directional Formatting Characters"), and breaks of lines.
_CONTROLS |= {code: f"\\u{code:04x}" for code in (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))}


def escape_controls(text: str) -> str:
    """Return a text of others as it may be shown: control characters could change what else is shown, or its order."""
    return text.translate(_CONTROLS)
