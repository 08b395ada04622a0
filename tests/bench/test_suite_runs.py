from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.measure import CommandFailedError
from bench.suite_runs import Difference, Outcome, Report, Surroundings, differences, read_report, run_suite

_TESTS = """
import os, socket, pytest

def test_passes(): pass
def test_fails(): assert False
@pytest.mark.skip
def test_is_skipped(): pass
@pytest.fixture
def broken():
    yield
    raise OSError
def test_fails_late(broken): pass
def test_fails_twice(broken): assert False
@pytest.mark.parametrize("value", [object(), object()], ids=repr)
def test_has_addresses(value): pass
@pytest.mark.parametrize("path", [__file__])
def test_has_paths(path): pass
def test_reaches_itself():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()): pass
def test_reaches_others():
    with socket.socket() as one:
        one.settimeout(5)
        one.connect(("192.0.2.1", 80))
def test_sees_only_what_it_is_given():
    assert "LPACK_TEST_SECRET" not in os.environ
    import module_of_the_side
"""


def _report(**outcomes: tuple[Outcome, ...]) -> Report:
    return Report(outcomes=outcomes, seconds=1, cpu=1)


def _surroundings(folder: Path) -> Surroundings:
    (folder / "side").mkdir()
    (folder / "side" / "module_of_the_side.py").touch()
    (folder / "tests").mkdir()
    (folder / "home").mkdir()
    side = (folder / "side",)
    return Surroundings(python=Path(sys.executable), path=side, folder=folder / "tests", home=folder / "home")


def test_suite_runs_offline_with_its_side_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LPACK_TEST_SECRET", "secret")
    where = _surroundings(tmp_path)
    (where.folder / "test_it.py").write_text(_TESTS)
    report = run_suite(where, ["-p", "no:xdist", "test_it.py"], tmp_path / "log")
    assert report.outcomes == {
        "test_it::test_fails": ("failed",),
        "test_it::test_fails_late": ("error",),
        "test_it::test_fails_twice": ("error",),
        "test_it::test_has_addresses[<object object at 0x…>]": ("passed", "passed"),
        "test_it::test_has_paths[…/test_it.py]": ("passed",),
        "test_it::test_is_skipped": ("skipped",),
        "test_it::test_passes": ("passed",),
        "test_it::test_reaches_itself": ("passed",),
        "test_it::test_reaches_others": ("failed",),
        "test_it::test_sees_only_what_it_is_given": ("passed",),
    }
    assert [report.count(*kinds) for kinds in (("passed",), ("failed", "error"), ("skipped",))] == [6, 4, 1]


def test_suite_without_report_is_an_error_with_its_output(tmp_path: Path):
    where = _surroundings(tmp_path)
    with pytest.raises(CommandFailedError, match=r"no report:(?s:.*)unrecognized arguments"):
        run_suite(where, ["--no-such-option-of-pytest"], tmp_path / "log")


def test_suite_that_does_not_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bench.suite_runs.TIME_LIMIT", 1)
    where = _surroundings(tmp_path)
    (where.folder / "test_it.py").write_text("def test_it():\n    while True: pass\n")
    with pytest.raises(CommandFailedError, match="not done after 1 s"):
        run_suite(where, ["test_it.py"], tmp_path / "log")


def test_folders_and_times_of_a_run_are_taken_out_of_ids(tmp_path: Path):
    name = "t[/somewhere/side/a.py at 09:38:39.25]"
    (tmp_path / "report.xml").write_text(f'<testsuite><testcase classname="a" name="{name}"/></testsuite>')
    assert read_report(tmp_path / "report.xml", [Path("/somewhere/side")]) == {"a::t[…/a.py at …]": ("passed",)}


def test_only_tests_that_pass_installed_differ():
    plain = _report(same=("passed",), broken=("failed",), worse=("passed", "passed"), gone=("passed",), left_out=("passed",))
    packed = _report(same=("passed",), broken=("error",), worse=("failed", "passed"), left_out=("skipped",), new=("failed",))
    assert sorted(differences(plain, packed)) == [
        Difference(test="gone", outcome="missing"),
        Difference(test="left_out", outcome="skipped"),
        Difference(test="worse", outcome="failed"),
    ]
