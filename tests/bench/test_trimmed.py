from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from bench.contestants import PLAIN, Lpack
from bench.measure import Sample
from bench.peers import Place
from bench.trimmed import (
    BESIDE,
    FLAGS,
    MAX,
    OFF,
    SAFE,
    SAM,
    Row,
    markdown,
    name_emulator,
    rows_of_builds,
    rows_of_sizes,
    rows_of_starts,
    unzipped,
)
from builders.sandbox.emulator import VARIABLE


def _row(ours: float, theirs: float, wanted: float | None, kind="ratio", unit="ms") -> Row:
    return Row(number="a", title="init", kind=kind, unit=unit, ours=ours, theirs=theirs, wanted=wanted)


def _place(tmp_path: Path) -> Place:
    return Place(cache=tmp_path, work=tmp_path / "work", peers=tmp_path / "peers" / "bin", lpack=tmp_path / "lpack")


def _samples(*walls: float) -> list[Sample]:
    return [Sample(wall=wall, user=0, system=0, largest_process=0) for wall in walls]


def test_what_is_wanted_is_met_to_the_second_digit():
    assert _row(46.4, 100, 0.46).met is True
    assert _row(47, 100, 0.46).met is False
    assert _row(16, 1, 15, "added", "s").met is True
    assert _row(16.1, 1, 15, "added", "s").met is False
    assert _row(1, 2, None).met is None


def test_the_table_has_ratios_and_what_is_added():
    rows = [_row(40, 100, 0.46), _row(20.5, 1, 15, "added", "s"), _row(3, 1, None, "added", "s"), _row(2, 0, 0, "added", "")]
    assert markdown(rows).splitlines()[2:] == [
        "| a | init | 40 ms | sam build + zip: 100 ms | 0.40 | at most 0.46 | yes |",
        "| a | init | 20.50 s | lpack without: 1.00 s | +19.50 s | at most 15 s | no |",
        "| a | init | 3.00 s | lpack without: 1.00 s | +2.00 s |  |  |",
        "| a | init | 2 | lpack without: 0 | 2 | at most 0 | no |",
    ]


def test_starts_are_compared_by_their_medians():
    times = {(function, form): (1, 50, 1000) for function in ("api", "data") for form in (SAFE, MAX)}
    times |= {(function, SAM): (100, 100, 1) for function in ("api", "data")}
    rows = rows_of_starts(times)
    assert [(row.title, row.value) for row in rows] == [
        ("pair/api: init, safe", 0.5),
        ("pair/api: init, max", 0.5),
        ("pair/data: init, safe", 0.5),
        ("pair/data: init, max", 0.5),
    ]
    assert [row.wanted for row in rows] == [0.46, 0.38, 0.40, 0.34]


def test_sizes_are_compared_form_by_form():
    rows = rows_of_sizes({SAM: 100, OFF: 80, BESIDE: 101, MAX: 60}, {SAM: 10, OFF: 8, MAX: 7})
    assert [(row.number, round(row.value, 3), row.met) for row in rows] == [
        ("b", 0.8, True),
        ("b", 1.01, False),
        ("b", 0.6, True),
        ("c", 0.8, True),
        ("c", 0.7, False),
    ]


def test_builds_tell_what_is_added_and_what_of_wheels_was_made_again():
    first, later = ({"plain": _samples(1, 2, 9), "full": _samples(12, 13, 99)}, {"plain": _samples(1), "full": _samples(2)})
    rows = rows_of_builds(first, later, 3)
    assert [(row.value, row.met) for row in rows] == [(11, True), (1, None), (3, False)]
    assert rows_of_builds(first, later, 0)[-1].met is True


def test_all_files_of_an_archive_count(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "one.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pkg/", "")
        archive.writestr("pkg/one.py", "x" * 1000)
        archive.writestr("two.py", "y" * 500)
    assert unzipped(tmp_path / "one.zip") == 1500


def test_each_form_has_a_folder_and_flags_of_its_own(tmp_path: Path):
    (tmp_path / "work").mkdir()
    forms = [Lpack(_place(tmp_path), "pair", *flags, locked=True, profiled=form == MAX) for form, flags in FLAGS.items()]
    forms.append(Lpack(_place(tmp_path), "pair", locked=True))
    assert len({lpack.folder for lpack in forms}) == len(forms)
    assert [step.command[2:] for lpack in forms for step in lpack.steps()] == [*FLAGS.values(), PLAIN]
    assert [[step.command[1] for step in lpack.copy()] for lpack in forms] == [["lock"]] * 3 + [["lock", "profile"], ["lock"]]


def test_the_emulator_is_the_one_that_comes_with_sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(SystemExit, match="no Runtime Interface Emulator"):
        name_emulator(_place(tmp_path))
    emulator = tmp_path / "peers/lib/python3.12/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64"
    emulator.parent.mkdir(parents=True)
    emulator.touch()
    name_emulator(_place(tmp_path))
    assert os.environ[VARIABLE] == str(emulator)
