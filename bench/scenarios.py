"""The rows of the table: which contestants meet in which scenario, and what is wanted of lpack there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from msgspec import Struct

from bench.contestants import Contestant, Lpack, Sam, Startup, Uv
from bench.measure import Sample
from bench.peers import Place

MEMORY_WANTED = 150_000_000
"""Bytes of peak memory that no lpack build here may reach."""
STARTUP_ROUNDS = 30
LOCKED, RESOLVED, SAM, UV, HELP, PYTHON = "lpack, locked", "lpack, resolving", "sam", "uv", "lpack --help", "python -c pass"


class Scenario(Struct, frozen=True, kw_only=True):
    """Contestants that are measured in turns; ``rounds`` is None where the command line decides."""

    name: str
    contestants: Callable[[Place], dict[str, Contestant]]
    rounds: int | None = None


class Row(Struct, frozen=True, kw_only=True):
    """lpack (``subject``) against a peer, both by their names in the scenario.

    ``faster`` is how many times faster lpack has to be; ``slower`` how many times slower it may be; ``cpu`` the CPU seconds
    it may take. ``network`` marks a row in which lpack asks the package index, as the peers always do.
    """

    number: str
    title: str
    scenario: str
    subject: str
    peer: str
    faster: float | None = None
    slower: float | None = None
    cpu: float | None = None
    network: bool = False

    def wanted(self) -> str:
        """Say what is wanted."""
        parts = [f"{self.faster:g}x faster" if self.faster else f"at most {self.slower:g}x"]
        if self.cpu:
            parts.append(f"under {self.cpu:g} s CPU")
        return ", ".join(parts)

    def met(self, ratio: float, subject: list[Sample]) -> bool:
        """Say whether lpack's samples are what is wanted; ``ratio`` is the peer's time in lpack's."""
        if self.slower is not None and ratio * self.slower < 1:
            return False
        if self.faster is not None and ratio < self.faster:
            return False
        return self.cpu is None or median(sample.cpu for sample in subject) < self.cpu


def _pair(place: Place) -> dict[str, Contestant]:
    return {
        LOCKED: Lpack(place, "pair", locked=True),
        RESOLVED: Lpack(place, "pair", locked=False),
        SAM: Sam(place, "pair"),
    }


def _mono12(place: Place) -> dict[str, Contestant]:
    return {
        LOCKED: Lpack(place, "mono12", locked=True),
        RESOLVED: Lpack(place, "mono12", locked=False),
        SAM: Sam(place, "mono12", "--parallel"),
        UV: Uv(place, "mono12"),
    }


def _again(place: Place, *, edit: bool) -> dict[str, Contestant]:
    return {
        LOCKED: Lpack(place, "mono12", locked=True, kept=True, edit=edit),
        RESOLVED: Lpack(place, "mono12", locked=False, kept=True, edit=edit),
        SAM: Sam(place, "mono12", "--cached", "--parallel", kept=True, edit=edit),
    }


def _startup(place: Place) -> dict[str, Contestant]:
    lpack = place.lpack or Path(sys.executable).parent / "lpack"
    return {
        HELP: Startup(place, "lpack --help", str(lpack), "--help"),
        PYTHON: Startup(place, "python -c pass", sys.executable, "-c", "pass"),
    }


SCENARIOS = (
    Scenario(name="pair", contestants=_pair),
    Scenario(name="mono12", contestants=_mono12),
    Scenario(name="again", contestants=lambda place: _again(place, edit=False)),
    Scenario(name="edited", contestants=lambda place: _again(place, edit=True)),
    Scenario(name="startup", contestants=_startup, rounds=STARTUP_ROUNDS),
)


def _both(
    number: str, title: str, scenario: str, peer: str, *, resolves: bool, faster: float, cpu: float | None = None
) -> list[Row]:
    """Give the row with committed lock files and the one without."""
    return [
        Row(
            number=number + letter,
            title=f"{title}, {how}",
            scenario=scenario,
            subject=subject,
            peer=peer,
            faster=faster,
            cpu=cpu,
            network=resolves and subject == RESOLVED,
        )
        for letter, how, subject in (("a", "lock files", LOCKED), ("b", "no lock files", RESOLVED))
    ]


ROWS = (
    *_both("1", "pair from scratch", "pair", SAM, resolves=True, faster=20),
    *_both("2", "mono12 from scratch", "mono12", SAM, resolves=True, faster=30),
    *_both("3", "mono12 from scratch", "mono12", UV, resolves=True, faster=10),
    *_both("4", "mono12, nothing changed", "again", SAM, resolves=False, faster=30, cpu=0.4),
    *_both("5", "mono12, one line changed", "edited", SAM, resolves=False, faster=15),
    Row(number="6", title="start", scenario="startup", subject=HELP, peer=PYTHON, slower=2.5),
)


def chosen(numbers: str) -> tuple[Row, ...]:
    """Give the rows named like ``1,4b``; a bare number names all of its letters. `SystemExit` where one names nothing."""
    wanted = [name.strip() for name in numbers.split(",") if name.strip()]
    for name in wanted:
        if not any(name in (row.number, row.number[:1]) for row in ROWS):
            raise SystemExit(f"No row {name}: there are {', '.join(row.number for row in ROWS)}.")
    return tuple(row for row in ROWS if not wanted or row.number in wanted or row.number[:1] in wanted)
