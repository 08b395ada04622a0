"""A table of the configuration that knows where it stands: errors name the file, the key's path, and the nearest known key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from builders.runtimes import MEGABYTE
from packer.core.errors import UsageError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|KB|MB|GB)")
_UNITS = {"B": 1, "KB": 1024, "MB": MEGABYTE, "GB": 1024 * MEGABYTE}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h)")
_MILLISECONDS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}


Word = TypeVar("Word", bound=str)
_LARGEST = 1e9
"""What no number of a configuration, in its own unit, can mean to reach."""


class Section(Struct, frozen=True, kw_only=True):
    """A table of the configuration; its methods raise `UsageError` for values that are not what the key needs."""

    file: Path
    prefix: str
    table: Mapping[str, Any]

    def where(self, key: str) -> str:
        """Return the file and the dotted path of a key."""
        return f"{self.file}: {self.prefix}.{key}" if self.prefix else f"{self.file}: {key}"

    def error(self, key: str, what: str, remedy: str) -> UsageError:
        """Return the error that says what is wrong with a key."""
        return UsageError(f"{self.where(key)}: {what}.", remedy=remedy)

    def check_keys(self, known: Sequence[str]) -> None:
        """Raise `UsageError` for a key that is not known."""
        for key in self.table:
            if key not in known:
                raise self.error(key, "this key is not known", suggest_names(key, known))

    def string(self, key: str, default: str = "") -> str:
        """Return the string of a key; an empty one is refused, and ``default`` stands for a missing key."""
        value = self.table.get(key, default)
        if not isinstance(value, str) or (key in self.table and not value):
            raise self.error(key, f"a string that is not empty is expected, not {value!r}", f'Write {key} = "…".')
        return value

    def choice(self, key: str, known: Sequence[Word]) -> Word:
        """Return which of the words that are known stands at a key."""
        given = self.string(key)
        for word in known:
            if word == given:
                return word
        raise self.error(key, f"{given!r} is not known here", suggest_names(given, known))

    def strings(self, key: str) -> tuple[str, ...]:
        """Return the strings of a key's list."""
        value = self.table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"a list of strings is expected, not {value!r}", f'Write {key} = ["…", "…"].')
        return tuple(value)

    def boolean(self, key: str) -> bool:
        """Return the truth value of a key."""
        value = self.table[key]
        if not isinstance(value, bool):
            raise self.error(key, f"true or false is expected, not {value!r}", f"Write {key} = true.")
        return value

    def number(self, key: str, *, whole: bool = False) -> float:
        """Return the number of a key, which is more than 0."""
        value = self.table[key]
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not 0 < value < _LARGEST:
            kind = "a whole number" if whole else "a number"
            raise self.error(key, f"{kind} above 0 is expected, not {value!r}", f"Write {key} = 2.")
        return float(value)

    def size(self, key: str, example: str = "10 MB") -> int:
        """Return the bytes that a key's text says, such as ``10 MB``."""
        return int(self._amount(key, _SIZE, _UNITS, example))

    def milliseconds(self, key: str, example: str = "400 ms") -> float:
        """Return the milliseconds that a key's text says, such as ``400 ms``."""
        return self._amount(key, _DURATION, _MILLISECONDS, example)

    def _amount(self, key: str, pattern: re.Pattern[str], units: Mapping[str, int], example: str) -> float:
        value = self.table[key]
        found = pattern.fullmatch(value) if isinstance(value, str) else None
        if not found or not 0 < float(found[1]) < _LARGEST:
            what = "cannot be read" if not found else "is nothing" if not float(found[1]) else "is too much"
            units_known = ", ".join(units)
            remedy = f'Write a number and a unit ({units_known}) as a string, such as {key} = "{example}".'
            raise self.error(key, f"{value!r} {what}", remedy)
        return float(found[1]) * units[found[2]]

    def tables(self, key: str) -> Mapping[str, Any]:
        """Return the table of a key."""
        value = self.table.get(key, {})
        if not isinstance(value, dict):
            path = f"{self.prefix}.{key}".lstrip(".")
            raise self.error(key, f"a table is expected, not {value!r}", f"Write [{path}].")
        return value

    def section(self, key: str) -> Section:
        """Return the table of a key as a section of its own."""
        return Section(file=self.file, prefix=f"{self.prefix}.{key}".lstrip("."), table=self.tables(key))


def suggest_names(given: str, known: Sequence[str]) -> str:
    """Return a hint that names the nearest known key, or all of them."""
    import difflib

    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    return f"Did you mean {nearest[0]!r}?" if nearest else f"Known are: {', '.join(known)}."
