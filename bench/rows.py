"""A line of a table of results, which compare one figure with another, or with what is wanted."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

RESULTS = Path(__file__).parent / "results"

_HEAD = ("", "what", "lpack", "against", "ratio", "wanted", "met")


class Line(Struct, frozen=True, kw_only=True):
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


def write_results(
    name: str,
    rounds: int,
    before: tuple[float, float, float],
    where: tuple[Mapping[str, Any], Mapping[str, str]],
    lines: Sequence[Line],
    samples: Mapping[str, Any],
) -> None:
    """Write a run to bench/results/NAME.json; ``before`` is the load then, ``where`` the machine and the tools' versions."""
    document = {
        "schema": 1,
        "rounds": rounds,
        "load": {"before": before, "after": os.getloadavg()},
        "machine": where[0],
        "versions": where[1],
        "lines": [asdict(line) for line in lines],
        "samples": samples,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
