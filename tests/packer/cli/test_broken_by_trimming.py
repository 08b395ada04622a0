"""Distributions that trimming breaks: each is caught with the rule named, and `--trim auto` keeps what it needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from builders.errors import UnavailableError
from builders.host.strip import HostStrip
from tests.native import compile_library
from tests.shaped import NATIVE_TAG, TRIPLE, Project, make_project
from tests.wheels import make_wheel

MANY_SYMBOLS = "".join(f"int lpack_{number}(void) {{ return {number}; }}\n" for number in range(500))
"""What makes a library of which stripping saves enough to be worth it."""
HANDLER = "import {name}\n\ndef handler(event, context):\n    return {name}.VALUE\n"
# The name is computed, so that no reading of sources sees the import.
IMPORTS_ITS_TESTS = b"""\
import importlib

VALUE = importlib.import_module(".".join([__name__, "te" + "sts", "figures"])).VALUE
"""
ASKS_WHO_INSTALLED_IT = b"""\
import importlib.metadata

INFO = importlib.metadata.distribution("recorded")._path
VALUE = (INFO / "INSTALL".__add__("ER")).read_text()
"""
MEASURES_ITS_LIBRARY = b"""\
import pathlib

VALUE = pathlib.Path(__file__).with_name("_core.so").stat().st_size
if VALUE != %d:
    raise RuntimeError("the library is not the one that was signed")
"""
READS_BEHIND_ITS_LIBRARY = b"""\
import pathlib

VALUE = pathlib.Path(__file__).with_name("_core.so").read_bytes()[-8:].decode()
"""


def importer_of_tests(folder: Path) -> None:
    files = {
        "tested/__init__.py": IMPORTS_ITS_TESTS,
        "tested/tests/__init__.py": b"",
        "tested/tests/figures.py": b"VALUE = 7\n",
        "tested/tests/test_figures.py": b"def test_value(): ...\n",
    }
    make_wheel(folder, "tested", "1.0", files)


def record_reader(folder: Path) -> None:
    make_wheel(folder, "recorded", "1.0", {"recorded/__init__.py": ASKS_WHO_INSTALLED_IT}, replace={"INSTALLER": "us"})


def library(folder: Path) -> bytes:
    """Give a library of which stripping saves enough to be worth it."""
    try:
        HostStrip()
    except UnavailableError as error:
        pytest.skip(f"{error.what}: {error.remedy}")
    return compile_library(folder.parent / "native" / "_core.so", MANY_SYMBOLS, target=TRIPLE, options=("-g",)).read_bytes()


def size_checker(folder: Path) -> None:
    data = library(folder)
    files = {"measured/__init__.py": MEASURES_ITS_LIBRARY % len(data), "measured/_core.so": data}
    make_wheel(folder, "measured", "1.0", files, tag=NATIVE_TAG)


BROKEN: Mapping[str, tuple[Callable[[Path], None], str, object]] = {
    "tested": (importer_of_tests, "tests", 7),
    "recorded": (record_reader, "install-records", "us"),
    "measured": (size_checker, "strip", None),
}


def broken_project(tmp_path: Path, lpack, index_folder: Path, name: str, settings: str = "") -> Project:
    BROKEN[name][0](index_folder)
    # Another distribution with something to remove of every kind, which is not to blame.
    innocent = {"innocent/__init__.py": b"", "innocent/tests/test_it.py": b"1\n", "innocent/it.pyi": b"it: int\n"}
    make_wheel(index_folder, "innocent", "1.0", innocent)
    return make_project(tmp_path / "project", lpack, HANDLER.format(name=name), f"{name}\ninnocent\n", settings)


@pytest.fixture(params=sorted(BROKEN))
def name(request) -> str:
    broken: str = request.param
    return broken


def test_what_trimming_breaks_is_caught_and_the_rule_is_named(tmp_path, lpack, index, index_folder, cache, name):
    project = broken_project(tmp_path, lpack, index_folder, name)
    finished = project.run("build", status=4)
    assert f"one needs what trimming removes ({BROKEN[name][1]} of {name})" in finished.stderr
    assert f'trim = {{ without = ["{BROKEN[name][1]}"] }}' in finished.stderr
    assert not project.archive.exists()


def test_the_offered_setting_mends_it(tmp_path, lpack, index, index_folder, cache, name):
    rule = BROKEN[name][1]
    project = broken_project(tmp_path, lpack, index_folder, name, f'trim = {{ without = ["{rule}"] }}')
    report = project.build()
    assert rule not in {each["rule"] for each in report["trim"]["removed"]}
    assert project.answer() == (BROKEN[name][2] or len(project.read("measured/_core.so")))


def test_auto_keeps_what_is_needed_and_removes_the_rest(tmp_path, lpack, index, index_folder, cache, name):
    project = broken_project(tmp_path, lpack, index_folder, name)
    finished = project.run("build", "--trim", "auto")
    assert f"which is kept: {BROKEN[name][1]} of {name}" in finished.stderr
    report = project.build("--trim", "auto")
    assert report["trim"]["kept"] == [{"rule": BROKEN[name][1], "distribution": name}]
    assert report["verified"]["level"] == "import"
    removed = {(each["rule"], each["distribution"]) for each in report["trim"]["removed"]}
    assert {("tests", "innocent"), ("stubs", "innocent")} <= removed
    assert (BROKEN[name][1], name) not in removed
    assert project.answer() == (BROKEN[name][2] or len(project.read("measured/_core.so")))


def test_the_next_build_needs_no_search(tmp_path, lpack, index, index_folder, cache, name):
    project = broken_project(tmp_path, lpack, index_folder, name, 'trim = "auto"')
    searched = "looking for what it needs"
    assert searched in project.run("build").stderr
    project.write({"src/other.py": "CHANGED = True\n"})
    finished = project.run("build")
    assert searched not in finished.stderr
    assert project.build()["trim"]["kept"] == [{"rule": BROKEN[name][1], "distribution": name}]
    assert "other.py" in project.names()
    assert project.answer() == (BROKEN[name][2] or len(project.read("measured/_core.so")))


def test_what_a_repair_has_kept_is_explained(tmp_path, lpack, index, index_folder, cache):
    project = broken_project(tmp_path, lpack, index_folder, "recorded", 'trim = "auto"')
    told = project.run("build", "--explain", "recorded-1.0.dist-info/INSTALLER").stdout
    assert "is kept from the rule install-records, with which the function did not work" in told


def test_what_another_source_needed_is_not_kept_for_this_one(tmp_path, lpack, index, index_folder, cache):
    project = broken_project(tmp_path, lpack, index_folder, "tested", 'trim = "auto"')
    project.build()
    project.write({"src/app.py": "def handler(event, context): ...\n"})
    assert project.build()["trim"]["kept"] == []
    first = project.archive.read_bytes()
    shutil.rmtree(cache / "derived")
    project.build()
    assert project.archive.read_bytes() == first


def test_data_behind_a_library_stays_there(tmp_path, lpack, index, index_folder, cache):
    files = {"tailed/__init__.py": READS_BEHIND_ITS_LIBRARY, "tailed/_core.so": library(index_folder) + b"the tail"}
    make_wheel(index_folder, "tailed", "1.0", files, tag=NATIVE_TAG)
    project = make_project(tmp_path / "project", lpack, HANDLER.format(name="tailed"), "tailed\n")
    project.build()
    assert project.answer() == "the tail"


def test_several_culprits_are_all_found(tmp_path, lpack, index, index_folder, cache):
    importer_of_tests(index_folder)
    record_reader(index_folder)
    handler = "import recorded, tested\n\ndef handler(event, context):\n    return [tested.VALUE, recorded.VALUE]\n"
    project = make_project(tmp_path / "project", lpack, handler, "tested\nrecorded\n")
    stderr = project.run("build", status=4).stderr
    assert "tests of tested" in stderr
    assert "install-records of recorded" in stderr
    kept = project.build("--trim", "auto")["trim"]["kept"]
    assert {(each["rule"], each["distribution"]) for each in kept} == {("tests", "tested"), ("install-records", "recorded")}
    assert project.answer() == [7, "us"]


def test_sources_that_are_read_at_run_time_come_back_under_auto(tmp_path, lpack, index, index_folder, cache):
    code = b"import pathlib\n\nVALUE = pathlib.Path(__file__).with_suffix('.py').read_text().count('VALUE')\n"
    make_wheel(index_folder, "reflective", "1.0", {"reflective/__init__.py": code})
    project = make_project(tmp_path / "project", lpack, HANDLER.format(name="reflective"), "reflective\n", 'bytecode = "only"')
    assert "sources of reflective" in project.run("build", status=4).stderr
    report = project.build("--trim", "auto")
    assert report["trim"]["kept"] == [{"rule": "sources", "distribution": "reflective"}]
    assert "reflective/__init__.py" in project.names()
    assert "app.py" not in project.names()
    assert project.answer() == 2


def test_a_function_that_fails_untrimmed_as_well_is_told_and_built(tmp_path, lpack, index, cache):
    handler = "import os\n\nTABLE = os.environ['TABLE']\n\ndef handler(event, context):\n    return TABLE\n"
    project = make_project(tmp_path / "project", lpack, handler, "alpha\n")
    stderr = project.run("build").stderr
    assert "one was not verified: it cannot be run here, trimmed or not (KeyError: 'TABLE')." in stderr
    assert 'environment = { NAME = "…" }' in stderr
    assert project.archive.is_file()
    # It is told as long as it holds, built just now or not.
    assert "trimmed or not" in project.run("build").stderr
    project.configure('environment = { TABLE = "orders" }')
    assert "trimmed or not" not in project.run("build").stderr


def test_a_drop_pattern_of_the_user_can_be_to_blame(tmp_path, lpack, index, cache):
    handler = "import beta\n\ndef handler(event, context):\n    return beta.VERSION\n"
    project = make_project(tmp_path / "project", lpack, handler, "alpha\n", 'trim = { drop = ["beta/*"] }')
    stderr = project.run("build", status=4).stderr
    assert "drop of beta" in stderr
    assert "ModuleNotFoundError: No module named 'beta'" in stderr
