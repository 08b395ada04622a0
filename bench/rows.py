"""A line of a table of results that hold one figure against another, or against what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_HEAD = ("", "what", "lpack", "against", "ratio", "wanted", "met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Texts for the table; ``met`` is None where nothing is wanted."""

    part: str
    what: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    wanted: str = ""
    met: bool | None = None


def markdown(lines: Sequence[Line]) -> str:
    """Give the table."""
    words = {None: "", True: "yes", False: "no"}
    rows = [_HEAD, ("---",) * len(_HEAD)]
    rows += [(each.part, each.what, each.ours, each.theirs, each.ratio, each.wanted, words[each.met]) for each in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
