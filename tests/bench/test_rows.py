from __future__ import annotations

import pytest

from bench.measure import Sample
from bench.scenarios import LOCKED, MEMORY_WANTED, PYTHON, ROWS, SAM, SCENARIOS, Row, chosen
from bench.table import markdown, ratio, verdict

FASTER = Row(number="4a", title="again", scenario="again", subject=LOCKED, peer=SAM, faster=30, cpu=0.4)
SLOWER = Row(number="6", title="start", scenario="again", subject=LOCKED, peer=PYTHON, slower=2.5)


def _samples(*walls: float, cpu: float = 0.1, memory: int = 1) -> list[Sample]:
    return [Sample(wall=wall, user=cpu, system=0, largest_process=memory) for wall in walls]


def test_the_ratio_is_one_of_medians() -> None:
    results = {("again", LOCKED): _samples(1, 2, 99), ("again", SAM): _samples(1, 60, 61)}
    assert ratio(FASTER, results) == 30
    assert verdict(FASTER, results) == "yes"


@pytest.mark.parametrize(
    ("ours", "theirs", "row"),
    [
        (_samples(2.1), _samples(60), FASTER),
        (_samples(1, cpu=0.4), _samples(60), FASTER),
        (_samples(1, 1, 1), _samples(29), FASTER),
        (_samples(2.6), _samples(1), SLOWER),
    ],
)
def test_what_falls_short_is_not_met(ours: list[Sample], theirs: list[Sample], row: Row) -> None:
    assert verdict(row, {("again", LOCKED): ours, ("again", row.peer): theirs}) == "no"


def test_one_sample_with_too_much_memory_is_not_met() -> None:
    theirs = _samples(60)
    ours = [*_samples(1), *_samples(1, memory=MEMORY_WANTED)]
    assert verdict(FASTER, {("again", LOCKED): ours, ("again", SAM): theirs}) == "no"


def test_at_most_twice_and_a_half_is_met() -> None:
    assert verdict(SLOWER, {("again", LOCKED): _samples(2.5), ("again", PYTHON): _samples(1)}) == "yes"


def test_a_row_without_samples_says_nothing() -> None:
    labels = {("again", LOCKED): "lpack", ("again", SAM): "sam build"}
    table = markdown([FASTER], labels, {("again", SAM): _samples(0.5)}, wanted=True)
    assert table.splitlines()[-1] == (
        "| 4a | again | - | sam build: 500 ms | - | - / 100 ms | - / 0 MB | 30x faster, under 0.4 s CPU |  |"
    )


def test_rows_are_chosen_by_number_or_name() -> None:
    assert [row.number for row in chosen("1,4b")] == ["1a", "1b", "4b"]
    assert chosen("") == ROWS


def test_an_unknown_row_ends_the_run() -> None:
    with pytest.raises(SystemExit, match="No row 7"):
        chosen("1,7")


def test_every_row_has_its_scenario() -> None:
    assert {row.scenario for row in ROWS} == {scenario.name for scenario in SCENARIOS}
