"""`lpack plan`, and what it has in common with `lpack graph`."""

from __future__ import annotations

import json

import pytest

from tests.packer.plans import read_drawing


@pytest.mark.parametrize("arguments", [("plan", "nosuch"), ("plan", "one"), ("graph", "nosuch", "-o", "x.svg")])
def test_a_plan_of_some_functions_is_refused(repo, arguments):
    repo.function("one")
    repo.configure("one")
    finished = repo.run(*arguments, status=2)
    assert finished.stdout == ""
    assert f"{arguments[1]}: this is neither a folder nor a configuration" in finished.stderr
    assert "a plan always covers all functions" in finished.stderr
    assert not (repo.folder / "x.svg").exists()


def test_a_function_outside_the_plan_is_not_said_to_have_nothing(repo):
    common = repo.wheel("common")
    for name in ("one", "two", "apart"):
        repo.function(name, common)
    repo.configure("one", "two", "apart", of={"apart": 'layers = "none"'})
    [line] = [each for each in repo.run("plan").stdout.splitlines() if each.startswith("apart")]
    assert line.split(None, 1)[1] == "takes part in no plan"


def test_what_the_last_build_found_out_decides_the_plan(repo):
    """A function that only works in one package."""
    common = repo.wheel("common")
    look = "import os\nassert os.path.exists(os.path.join(os.path.dirname(__file__), 'common', 'data.bin')), 'no data'\n"
    repo.function("one", common, source=look)
    repo.function("two", common)
    repo.function("three", common)
    repo.configure("one", "two", "three", settings='layers = "auto"\ntrim = "auto"')

    def users(*flags: str) -> list[list[str]]:
        return [layer["functions"] for layer in json.loads(repo.run("plan", "--json", *flags).stdout)["layers"]]

    assert users() == [["one", "three", "two"]]
    assert repo.holds(repo.build()) == {("three", "two"): ["common"]}
    assert users() == [["three", "two"]]
    boxes = read_drawing(repo.run("graph").stdout).boxes.values()
    assert ("one", "takes part in no plan") in {box.texts for box in boxes}
    assert users("--bytecode", "off") == [["one", "three", "two"]]  # another build, of which nothing is known
