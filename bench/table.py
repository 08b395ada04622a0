"""Turns samples into the Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.measure import Sample
from bench.scenarios import MEMORY_WANTED, PYTHON, Row

Results = Mapping[tuple[str, str], Sequence[Sample]]
"""The samples of each (scenario, contestant) that ran."""

_HEAD = ("", "work", "lpack", "peer", "ratio", "CPU", "peak memory")


def ratio(row: Row, results: Results) -> float | None:
    """Give the peer's median wall time in lpack's; None where one of them did not run."""
    subject, peer = results.get((row.scenario, row.subject)), results.get((row.scenario, row.peer))
    return _of(peer, _wall) / _of(subject, _wall) if subject and peer else None


def verdict(row: Row, results: Results) -> str:
    """Say ``yes``, ``no``, or nothing where it cannot be said; too much memory is a no."""
    factor, subject = ratio(row, results), results.get((row.scenario, row.subject))
    if factor is None or not subject:
        return ""
    fits = row.peer == PYTHON or max(sample.memory for sample in subject) < MEMORY_WANTED
    return "yes" if fits and row.met(factor, list(subject)) else "no"


def markdown(rows: Sequence[Row], labels: Mapping[tuple[str, str], str], results: Results, *, wanted: bool) -> str:
    """Give the table; ``labels`` names the tool of each (scenario, contestant), ``wanted`` adds what is asked of lpack."""
    head = (*_HEAD, "wanted", "met") if wanted else _HEAD
    lines = [head, tuple("---" for _ in head)]
    for row in rows:
        cells = _cells(row, labels, results)
        lines.append((*cells, row.wanted(), verdict(row, results)) if wanted else cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row, labels: Mapping[tuple[str, str], str], results: Results) -> tuple[str, ...]:
    subject, peer = results.get((row.scenario, row.subject)), results.get((row.scenario, row.peer))
    factor = ratio(row, results)
    ours = max((sample.memory for sample in subject), default=0) if subject else 0
    theirs = max((sample.memory for sample in peer), default=0) if peer else 0
    return (
        row.number,
        f"{row.title} (network)" if row.network else row.title,
        _seconds(subject, _wall),
        f"{labels[row.scenario, row.peer]}: {_seconds(peer, _wall)}",
        _ratio(row, factor),
        f"{_seconds(subject, _cpu)} / {_seconds(peer, _cpu)}",
        f"{_megabytes(ours)} / {_megabytes(theirs)}",
    )


def _ratio(row: Row, factor: float | None) -> str:
    if factor is None:
        return "-"
    return f"{1 / factor:.2f}x the time" if row.slower else f"{factor:.1f}x"


def _wall(sample: Sample) -> float:
    return sample.wall


def _cpu(sample: Sample) -> float:
    return sample.cpu


def _of(samples: Sequence[Sample], field: Callable[[Sample], float]) -> float:
    return median(map(field, samples))


def _seconds(samples: Sequence[Sample] | None, field: Callable[[Sample], float]) -> str:
    if not samples:
        return "-"
    value = _of(samples, field)
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def _megabytes(value: int) -> str:
    return f"{value / 1e6:.0f} MB" if value else "-"
