from __future__ import annotations

import importlib.metadata
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bench.catalogue import MODULES, POPULAR, PROVIDED, base_name, chosen, locked, modules_of
from bench.measure import CommandFailedError
from bench.popular import NAME, Result, Side, difference, entry_points, installed, markdown, reason_of, write_project
from packer.verify.runner import Outcome


def _outcome(**points: str) -> Outcome:
    return Outcome(imported={"result": None}, events=({"result": points},))


def _side(megabytes: float, trouble: str = "") -> Side:
    return Side(bytes=round(megabytes * 1e6), files=7, milliseconds=(9, 100, 11), trouble=trouble)


def test_the_catalogue_names_each_distribution_once():
    assert len(POPULAR) == len(set(POPULAR)) >= 40
    assert {*MODULES, *PROVIDED} <= {base_name(name) for name in (*MODULES, *PROVIDED)}
    assert set(PROVIDED) <= set(map(base_name, POPULAR))


def test_modules_are_named_like_the_distribution_or_listed():
    assert modules_of("typing-inspection==0.4.5") == ("typing_inspection",)
    assert modules_of("psycopg[binary]") == ("psycopg",)
    assert modules_of("PyYAML==6.0") == ("yaml",)


def test_names_choose_all_requirements_that_they_are_for():
    requirements = ("numpy", "psycopg[binary]", "numpy==2.2.6")
    assert chosen(requirements, "") == requirements
    assert chosen(requirements, "NumPy,psycopg") == requirements
    assert chosen(requirements, "psycopg") == ("psycopg[binary]",)
    with pytest.raises(SystemExit, match="No pandas"):
        chosen(requirements, "numpy,pandas")


def test_locks_give_each_version_once(tmp_path: Path):
    for number, version in enumerate(("1.0", "1.0", "2.0")):
        (tmp_path / f"pylock.{number}.toml").write_text(f'[[packages]]\nname = "one"\nversion = "{version}"\n')
    assert locked(tmp_path.iterdir()) == ("one==1.0", "one==2.0")


@pytest.mark.parametrize("requirement", ["numba", "sqlalchemy", "six==1.17.0"])
def test_a_project_imports_what_its_requirement_brings(tmp_path: Path, requirement: str):
    write_project(tmp_path, requirement)
    function = tomllib.loads((tmp_path / "lpack.toml").read_text())["functions"][NAME]
    assert function["provided"] == list(PROVIDED.get(requirement, ()))
    assert (tmp_path / function["source"] / "requirements.txt").read_text().strip() == requirement
    code = (tmp_path / function["source"] / "app.py").read_text()
    compile(code, "app.py", "exec")
    assert all(f"\nimport {module}\n" in code for module in modules_of(requirement))


def test_a_handler_holds_what_is_installed_against_what_was_packed(tmp_path: Path):
    write_project(tmp_path, "pytest")
    names: dict[str, Any] = {}
    exec(compile((tmp_path / "source" / "app.py").read_text(), "app.py", "exec"), names)  # noqa: S102 what was just written
    found = importlib.metadata.distribution("pytest")
    points = sorted([point.group, point.name, point.value] for point in found.entry_points)
    event = {"version": found.version, "entry_points": points}
    assert names["handler"](event, None) == {}
    with pytest.raises(AssertionError):
        names["handler"]({**event, "version": "0"}, None)
    with pytest.raises(AssertionError):
        names["handler"]({**event, "entry_points": points[1:]}, None)


def test_an_archive_tells_what_a_distribution_is(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("Some_One-1.2.dist-info/METADATA", "")
        archive.writestr("Some_One-1.2.dist-info/entry_points.txt", "[b]\nTwo = pkg:two\none=pkg.one\n[a]\nx = y\n")
        archive.writestr("other-3.dist-info/METADATA", "")
    points = [["a", "x", "y"], ["b", "Two", "pkg:two"], ["b", "one", "pkg.one"]]
    assert installed(tmp_path / "one.zip", "some-one") == {"version": "1.2", "entry_points": points}
    assert installed(tmp_path / "one.zip", "other") == {"version": "3", "entry_points": []}
    with pytest.raises(CommandFailedError, match="has no missing"):
        installed(tmp_path / "one.zip", "missing")
    assert entry_points("") == []


def test_the_difference_names_what_comes_to_something_else():
    assert not difference(_outcome(one="a", two="b"), _outcome(one="a", two="b"))
    assert difference(_outcome(one="a", two="b"), _outcome(one="a", two="c")) == "two: c"
    failed = Outcome(imported={"error": {"type": "ImportError", "message": "gone", "trace": ""}})
    assert difference(failed, failed) == "not untrimmed either: ImportError: gone"


def test_the_reason_is_the_error_of_the_output():
    assert reason_of("`lpack build` ended with status 1:\nnoted\nerror: one is gone.\nTry again.") == "one is gone."
    assert reason_of("lpack: No such file") == "lpack: No such file"


def test_the_table_says_what_works():
    results = (
        Result(requirement="one", version="1.0", before=_side(2), after=_side(1.5)),
        Result(requirement="big", version="1.0", after=_side(200)),
        Result(requirement="two", trouble="needs a|b"),
    )
    assert markdown(results).splitlines()[2:] == [
        "| one | 1.0 | 2.0 MB / 1.5 MB | 7 / 7 | 11 ms / 11 ms | yes |",
        "| big | 1.0 | - / 200.0 MB | - / 7 | - / 11 ms | yes |",
        r"| two |  | - / - | - / - | - / - | no: needs a\|b |",
    ]
