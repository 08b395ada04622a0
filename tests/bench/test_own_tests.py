from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bench.catalogue import base_name
from bench.own_tests import Bench, Result, chosen_suites, configuration, details, markdown, seconds, sort_out
from bench.peers import Place
from bench.suite_runs import Difference, Outcome, Report, Surroundings
from bench.suite_sides import Preparation, Sides
from bench.suites import EXPLANATIONS, SUITES, Explanation

_SUITE = SUITES[0]
_GONE = Difference(test="tests.test_a::test_files", outcome="failed")
_OTHER = Difference(test="tests.test_a::test_other", outcome="missing")


def _result(**fields: object) -> Result:
    plain = Report(outcomes={"one": ("passed",), "two": ("passed",), "three": ("skipped",)}, seconds=3, cpu=1.2)
    packed = Report(outcomes={"one": ("passed",), "two": ("failed",), "three": ("skipped",)}, seconds=3, cpu=2.7)
    return Result(suite=_SUITE, plain=plain, packed=packed, **fields)  # type: ignore[arg-type]


def test_table_pins_each_suite_once_and_says_what_is_run():
    names = [base_name(suite.requirement) for suite in SUITES]
    assert len(names) == len(set(names)) >= 30
    for suite in SUITES:
        assert re.fullmatch(r"==[\d.]+", str(Requirement(suite.requirement).specifier)), suite.requirement
        assert suite.modules
        assert suite.run or suite.run_within, suite.requirement
    assert {each.name for each in EXPLANATIONS} <= set(names)


def test_names_choose_suites():
    assert chosen_suites(()) == SUITES
    assert [suite.pin.partition("==")[0] for suite in chosen_suites(["PyYAML", "click"])] == ["click", "pyyaml"]
    with pytest.raises(SystemExit, match="No suite of nothing"):
        chosen_suites(["nothing", "click"])


def test_configuration_of_pytest_is_found_by_its_section(tmp_path: Path):
    assert configuration(tmp_path) == ()
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    assert configuration(tmp_path) == ("-c", str(tmp_path / "setup.cfg"))
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    assert configuration(tmp_path) == ("-c", str(tmp_path / "pyproject.toml"))


def test_differences_get_the_reason_of_the_first_explanation_that_fits():
    known = [
        Explanation(name="a", tests=r"::test_files$", reason="it counts files"),
        Explanation(name="a", tests=r"::test_nothing$", reason="never"),
    ]
    found, used = sort_out([_GONE, _OTHER], known)
    assert found == [(_GONE, "it counts files"), (_OTHER, "")]
    assert used == known[:1]


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({"explained": ((_GONE, "it counts files"),)}, True),
        ({"flaky": (_GONE,)}, True),
        ({"unexplained": (_OTHER,)}, False),
        ({"unused": ("::test_nothing$",)}, False),
        ({"trouble": "no report"}, False),
    ],
)
def test_unexplained_differences_and_stale_explanations_are_not_good(fields: dict[str, object], good: bool):
    assert _result(**fields).good is good


def test_suite_of_which_no_test_passes_as_installed_is_in_trouble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    where = Surroundings(python=tmp_path, path=(tmp_path,), folder=tmp_path, home=tmp_path)
    broken = Report(outcomes={"tests.conftest": ("error",)}, seconds=1, cpu=1)
    monkeypatch.setattr(Preparation, "prepare", lambda *_: Sides(plain=where, packed=where, removed=()))
    monkeypatch.setattr("bench.own_tests.run_suite", lambda *_: broken)
    result = Bench(Place(cache=tmp_path, work=tmp_path, peers=tmp_path, lpack=None)).result(_SUITE)
    assert result.trouble == f"no test of {_SUITE.pin} passes as it is installed"
    assert not result.good


def test_results_become_a_table_and_a_line_for_each_difference():
    results = [
        _result(unexplained=(_OTHER,), explained=((_GONE, "it counts files"),)),
        Result(suite=_SUITE, trouble="first\nlast"),
    ]
    name = base_name(_SUITE.requirement)
    lines = markdown(results).splitlines()
    assert lines[2].endswith(" | 2 / 1 | 0 / 1 | 1 / 1 | 1 | 1 |")
    assert lines[3].endswith(" | - | - | - | - | last |")
    assert lines[4] == "| 1 suite | 2 / 1 | 0 / 1 | 1 / 1 | 1 | 1 |"
    assert f"{name}: {_OTHER.test}: missing" in details(results)
    assert f"{name}: {_GONE.test}: failed, explained: it counts files" in details(results)
    assert [seconds(result) for result in results] == ["1 / 3 s of CPU time", ""]


def test_numbers_of_the_table_have_separators_as_in_the_readme():
    outcomes: dict[str, tuple[Outcome, ...]] = {str(number): ("passed",) for number in range(1234)}
    report = Report(outcomes=outcomes, seconds=3, cpu=1)
    total = markdown([Result(suite=_SUITE, plain=report, packed=report)]).splitlines()[-1]
    assert total == "| 1 suite | 1,234 / 1,234 | 0 / 0 | 0 / 0 | 0 | 0 |"
