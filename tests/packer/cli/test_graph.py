"""`lpack graph`, against a real index on this machine."""

from __future__ import annotations

import pytest

from packer.cli.app import COMMANDS
from tests.packer.cli.test_build import project
from tests.packer.plans import read_drawing

LAYERS = '[layers.common]\ndistributions = ["beta"]\n'


@pytest.fixture
def folder(tmp_path, index, cache):
    made = project(tmp_path / "project", orders="alpha\nbeta<2\n", users="gamma\n")
    with (made / "lpack.toml").open("a") as file:
        file.write(LAYERS)
    return made


WAYS = {
    ("orders", "common"),
    ("users", "common"),
    ("common", "beta 1.0"),
    ("orders", "alpha 1.1"),
    ("users", "gamma 1.0"),
}


def test_the_picture_goes_to_standard_output(folder, lpack):
    finished = lpack("graph", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert read_drawing(finished.stdout).ways() == WAYS
    assert not (folder / "dist").exists()


def test_the_picture_is_written_whole_to_a_file_and_is_the_same_each_time(folder, lpack):
    (folder / "plan.svg").write_text("older")
    finished = lpack("graph", str(folder), "-o", "plan.svg", cwd=folder)
    assert (finished.returncode, finished.stdout) == (0, "written  plan.svg\n"), finished.stderr
    assert (folder / "plan.svg").read_text(encoding="utf-8") == lpack("graph", cwd=folder).stdout
    assert not list(folder.glob(".lpack-*"))


def test_functions_that_take_part_in_no_plan_are_shown_without_curves(folder, lpack):
    found = read_drawing(lpack("graph", "--layers", "none", cwd=folder).stdout)
    assert {box.texts for box in found.boxes.values()} == {(name, "takes part in no plan") for name in ("orders", "users")}
    assert found.curves == {}


def test_a_file_that_cannot_be_written_is_told(folder, lpack):
    finished = lpack("graph", "-o", "nowhere/plan.svg", cwd=folder)
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert "Cannot write nowhere/plan.svg" in finished.stderr
    assert f"Check that {folder / 'nowhere'} is a folder that can be written." in finished.stderr
    assert "LPACK_CACHE_DIR" not in finished.stderr


def test_the_help_page_lists_it(tmp_path, lpack):
    assert COMMANDS["graph"] in lpack("--help", cwd=tmp_path).stdout
