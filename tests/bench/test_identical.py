from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from bench.differences import Difference
from bench.identical import Comparison, Row, markdown, rows_of_differences
from bench.projects import Form, Project
from bench.sides import Side, built_wheels, copy_wheels

WRITER = """\
#!{python}
import json, os, pathlib, sys
command, words = sys.argv[1], sys.argv[2:]
cache = pathlib.Path(os.environ["LPACK_CACHE_DIR"])
if command == "build":
    out = pathlib.Path(words[words.index("--out") + 1])
    out.mkdir(exist_ok=True)
    functions = {{"one": {{"seconds": os.getpid(), "distributions": [{{"name": "pkg"}}]}}}}
    (out / "lpack.json").write_text(json.dumps({{"functions": functions}}))
    (out / "one.zip").write_text({content!r})
    if {name!r} == "new" and (cache / "by-reference").exists():
        print("warning: what is this?", file=sys.stderr)
    print("warning: always said by {name}", file=sys.stderr)
    (cache / "by-{name}").touch()
print(json.dumps({{"command": command}}))
sys.exit({status} if command == {fails!r} else 0)
"""
"""Stands in for lpack: writes an archive, and has something to say about a cache that another one has used."""


def _side(tmp_path: Path, name: str, content: str = "same", fails: str = "", status: int = 1) -> Side:
    lpack = tmp_path / f"lpack-{name}"
    lpack.write_text(WRITER.format(python=sys.executable, content=content, name=name, fails=fails, status=status))
    lpack.chmod(lpack.stat().st_mode | stat.S_IXUSR)
    side = Side(name=name, lpack=lpack, folder=tmp_path / name, until="")
    side.store.mkdir(parents=True)
    return side


@pytest.fixture
def project(tmp_path: Path) -> Project:
    workload = tmp_path / "workload"
    workload.mkdir()
    (workload / "lpack.toml").write_text("")
    return Project(name="tiny", workload=workload, architecture="x86_64", forms=(Form(name="default"), Form(name="other")))


def _rows(tmp_path: Path, project: Project, reference: Side, new: Side, *, old_cache: bool = False) -> list[Row]:
    comparison = Comparison(reference, new, tmp_path / "work")
    comparison.run_reference([project], in_place=old_cache)
    return comparison.rows_of_old_cache(project) if old_cache else comparison.rows_of(project)


def test_two_that_write_the_same_have_no_differences(tmp_path, project):
    rows = _rows(tmp_path, project, _side(tmp_path, "reference"), _side(tmp_path, "new"))
    assert not [row for row in rows if row.differences]
    assert {(row.form, row.compared) for row in rows} == {
        ("", "1 sources"),
        ("", "5 answers, 5 statuses"),
        *((form, said) for form in ("default", "other") for said in ("1 archives, 1 manifest", "3 answers, 3 statuses")),
    }


def test_an_archive_that_differs_is_told_by_form(tmp_path, project):
    rows = _rows(tmp_path, project, _side(tmp_path, "reference"), _side(tmp_path, "new", "other"))
    told = [(row.form, row.cells()[-2:]) for row in rows if row.differences]
    assert told == [
        ("default", ("different", 'project/dist-default/one.zip: line 1: "other", not "same"')),
        ("other", ("different", 'project/dist-other/one.zip: line 1: "other", not "same"')),
    ]


@pytest.mark.parametrize("failing", ["reference", "new"])
def test_a_build_that_fails_is_a_difference(tmp_path, project, failing):
    sides = [_side(tmp_path, name, fails="build" if name == failing else "") for name in ("reference", "new")]
    [row] = _rows(tmp_path, project, *sides)
    assert "ended with status 1: warning: always said" in row.cells()[-1]
    assert failing in row.cells()[-1]


def test_another_status_of_a_check_is_a_difference(tmp_path, project):
    rows = _rows(tmp_path, project, _side(tmp_path, "reference"), _side(tmp_path, "new", fails="check", status=3))
    assert {each.path for row in rows for each in row.differences} == {"said/default.check.status", "said/other.check.status"}


def test_a_warning_that_only_an_old_cache_brings_is_a_difference(tmp_path, project):
    *rows, words = _rows(tmp_path, project, _side(tmp_path, "reference"), _side(tmp_path, "new"), old_cache=True)
    assert not [row for row in rows if row.differences]
    assert {row.form for row in rows} >= {"default (old output)", "default (no output)"}
    assert {(each.path, each.what) for each in words.differences} == {
        ("default.build", "warning: what is this?"),
        ("other.build", "warning: what is this?"),
    }


def test_other_bytes_from_an_old_cache_are_a_difference(tmp_path, project):
    rows = _rows(tmp_path, project, _side(tmp_path, "reference"), _side(tmp_path, "new", "other"), old_cache=True)
    paths = {each.path for row in rows for each in row.differences}
    assert {"project/dist-default/one.zip", "project/dist-other/one.zip"} <= paths


def test_a_path_belongs_to_its_form(tmp_path, project):
    (tmp_path / "kept" / "project" / "dist-default" / "layers").mkdir(parents=True)
    for path in ("project/dist-default/layers/a.zip", "project/dist-default/lpack.json", "project/pylock.one.toml"):
        (tmp_path / "kept" / path).touch()
    rows = rows_of_differences(project, tmp_path / "kept", [])
    assert [(row.form, row.compared) for row in rows] == [("", "1 locks and profiles"), ("default", "1 layers, 1 manifest")]
    assert markdown(rows).splitlines()[-1] == "| tiny | x86_64 | zip | default | 1 layers, 1 manifest | same |  |"


def test_archives_are_told_before_what_only_has_their_digests(tmp_path, project):
    paths = ("project/dist-default/lpack.json", "project/dist-default/one.cdx.json", "project/dist-default/one.zip")
    (tmp_path / "kept").mkdir()
    [row] = rows_of_differences(project, tmp_path / "kept", [Difference(path=path, what="differs") for path in paths])
    assert row.cells()[-1] == "project/dist-default/one.zip: differs (and 2 more)"


def test_only_wheels_that_were_downloaded_are_copied(tmp_path):
    for path in ("wheels/1/aa/aa1", "wheels/1/bb/bb2", "wheels/native/cc/cc3", "derived/bytecode/dd/dd4"):
        file = tmp_path / "cache" / path
        file.parent.mkdir(parents=True)
        file.touch()
    out = tmp_path / "kept" / "dist-default"
    out.mkdir(parents=True)
    distributions = [{"sha256": "aa1"}, {"sha256": "bb2", "built": {"builder": "container"}}]
    (out / "lpack.json").write_text(json.dumps({"functions": {"one": {"distributions": distributions}}}))
    copy_wheels(tmp_path / "cache", tmp_path / "copy", built_wheels(tmp_path / "kept"))
    found = [path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert found == ["wheels/1/aa/aa1"]
