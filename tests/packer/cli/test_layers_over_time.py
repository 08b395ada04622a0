"""Layers from one build to the next, and beside each other: nothing is lost, mixed up, or decided by what was there before."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.monorepo import LARGE, Monorepo
from tests.shaped import RUNTIME


def manifest_of(repo: Monorepo) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((repo.folder / "dist" / "lpack.json").read_text())
    return found


def test_a_partial_build_with_other_flags_loses_no_other_function(repo):
    common = repo.wheel("common")
    for name in ("one", "two"):
        repo.function(name, common)
    repo.configure("one", "two")
    repo.build()
    repo.run("build", "one", "--verify", "none")
    (repo.folder / "one" / "more.py").write_text("X = 1\n")
    repo.run("build", "one", "--verify", "none")
    assert (repo.folder / "dist" / "two.zip").is_file()
    assert set(manifest_of(repo)["functions"]) == {"one", "two"}


def test_a_function_alone_is_built_anew_when_another_one_moves_its_layers(repo):
    lines = [repo.wheel("common"), repo.wheel("other")]
    for name in ("one", "two"):
        repo.function(name, *lines)
    repo.configure("one", "two")
    assert repo.holds(repo.build()) == {("one", "two"): ["common", "other"]}
    repo.function("two", lines[1])
    assert "built" in repo.run("build", "one").stdout
    assert manifest_of(repo)["functions"]["one"]["layers"] == repo.build()["functions"]["one"]["layers"]


def test_what_was_packed_whole_gets_layers_again_when_its_neighbours_change(repo):
    """One works with the layer unless its neighbour's needs bring tests into it."""
    common = repo.wheel("common", files={"common/tests/__init__.py": b"", "common/tests/test_one.py": b"X = 1\n"})
    look = "import os\nif '/opt' in common.__file__ and os.path.exists(os.path.dirname(common.__file__) + '/tests'):\n"
    repo.function("one", common, source=f"{look}    raise RuntimeError('tests in a layer')\n")
    repo.function("two", common)
    for trim, layers in (("none", {}), ("safe", {("one", "two"): ["common"]})):
        repo.configure("one", "two", of={"one": 'trim = "auto"', "two": f'trim = "{trim}"'})
        assert repo.holds(repo.build()) == layers


OVERLAP = {"alpha": {"shared/name.py": b"OWNER = 'alpha'\n"}, "beta": {"shared/name.py": b"OWNER = 'beta'\n"}}


def test_each_function_has_its_own_word_on_overlaps(repo):
    lines = [repo.wheel(name, files=files) for name, files in OVERLAP.items()]
    use = "import shared.name\nOWNER = shared.name.OWNER\n"
    for name in ("one", "two"):
        repo.function(name, *lines, source=use)
        handler = repo.folder / name / "app.py"
        handler.write_text(handler.read_text().replace("return {", "return {'owner': OWNER, "))
    rules = {name: f'overlap = {{ "shared/name.py" = "{winner}" }}' for name, winner in (("one", "alpha"), ("two", "beta"))}
    repo.configure("one", "two", of=rules)
    manifest = repo.build()
    assert repo.answer(manifest, "one")["owner"] == "alpha"
    assert repo.answer(manifest, "two")["owner"] == "beta"
    assert "layers" not in manifest


def test_a_named_layer_cannot_part_what_belongs_together(repo):
    lines = [repo.wheel(name, files=files) for name, files in OVERLAP.items()]
    repo.function("one", *lines)
    rule = {"one": 'overlap = { "shared/name.py" = "alpha" }'}
    repo.configure("one", settings="", more='[layers.base]\ndistributions = ["alpha"]\n', of=rule)
    error = repo.run("build", status=2).stderr
    assert "The layer base cannot hold alpha for one" in error


def test_auto_goes_without_sources_in_layers_too_where_that_is_what_fits(repo):
    modules = {f"common/m{number}.py": ("X = 1\n" + "# words\n" * 40_000).encode() for number in range(3)}
    common = repo.wheel("common", files=modules)
    for name in ("one", "two"):
        repo.function(name, common)
    budget = dict.fromkeys(("one", "two"), 'budget = { unzipped = "700 KB" }')
    repo.configure("one", "two", of=budget)
    manifest = repo.build()
    [layer] = manifest["layers"].values()
    assert layer["unzipped_bytes"] < 2 * LARGE
    assert "unchanged" in repo.run("build").stdout


def test_a_budget_that_changes_the_layers_of_others_is_named_to_them(repo):
    modules = {f"common/m{number}.py": ("X = 1\n" + "# words\n" * 40_000).encode() for number in range(3)}
    common = repo.wheel("common", files=modules)
    for name in ("one", "two"):
        repo.function(name, common)
    repo.configure("one", "two", of={"one": 'budget = { unzipped = "700 KB" }'})
    for _ in range(2):
        error = repo.run("build").stderr
        assert "two: layers that it shares with one hold bytecode in the place of sources" in error
        assert "one is over its budget" in error
        assert "one: layers that it shares" not in error
    repo.configure("one", "two", of={"one": 'budget = { unzipped = "700 KB" }\nbytecode = "only"'})
    error = repo.run("build").stderr
    assert "hold bytecode in the place" not in error
    assert "layers" not in manifest_of(repo)


def test_the_order_of_functions_decides_nothing(repo):
    lines = [repo.wheel(f"lib{number}") for number in range(2)]
    for name in ("one", "two"):
        repo.function(name, *lines)
    often = {"one": "packages.lib1.releases = 26"}
    plans = []
    for order in (("one", "two"), ("two", "one")):
        repo.configure(*order, of=often)
        plans.append(repo.holds(repo.build()))
    assert plans[0] == plans[1]


def test_another_functions_broken_file_stops_nothing_that_was_asked_for(repo):
    common = repo.wheel("common")
    for name in ("one", "two", "three"):
        repo.function(name, common)
    (repo.folder / "three" / "requirements.txt").write_text("-r gone.txt\n")
    repo.configure("one", "two", "three")
    finished = repo.run("build", "one")
    assert "three is not part of the layer plan" in finished.stderr
    repo.run("build", status=1)


def test_warnings_of_layers_are_repeated_and_hold_for_all_targets(repo):
    common = repo.wheel("common")
    for name in ("one", "two", "three"):
        repo.function(name, common)
    named = '[layers.base]\ndistributions = ["common"]\n[layers.none]\ndistributions = ["nothing"]\n'
    repo.configure("one", "two", "three", settings="", more=named, of={"three": 'bytecode = "off"'})
    for _ in range(2):
        error = repo.run("build").stderr
        assert error.count("No function gets the layer none: none needs all of nothing.") == 1
        assert "layer base" not in error


def test_builds_at_once_all_stand_in_the_manifest(repo):
    names = [f"f{number}" for number in range(4)]
    for name in names:
        repo.function(name)
    repo.configure(*names, settings='layers = "none"\nverify = "none"\nbytecode = "off"')
    command = [sys.executable, "-m", "packer.cli", "build", "-q"]
    running = [subprocess.Popen([*command, name], cwd=repo.folder, stdout=subprocess.DEVNULL) for name in names]
    assert [each.wait() for each in running] == [0] * len(names)
    assert set(manifest_of(repo)["functions"]) == set(names)


def test_a_handler_that_cannot_be_imported_is_not_called_verified(repo):
    repo.function("one")
    (repo.folder / "one" / "app.py").write_text("import os\nos.environ['TABLE']\ndef handler(event, context): ...\n")
    repo.configure("one", settings="")
    finished = repo.run("build", "--json")
    verified = json.loads(finished.stdout)["functions"]["one"]["verified"]
    assert (verified["level"], verified["not_verified"]["cause"]) == ("none", "deployment")
    assert "one was not verified: it cannot be run here, trimmed or not (KeyError: 'TABLE')" in finished.stderr


def test_a_template_with_functions_that_were_not_built_says_so(repo):
    common = repo.wheel("common")
    for name in ("One", "Two"):
        repo.function(name, common)
    properties = f"Runtime: {RUNTIME}, Handler: app.handler"
    functions = "".join(
        f"  {name}:\n    Type: AWS::Serverless::Function\n    Properties: {{CodeUri: {name}, {properties}}}\n"
        for name in ("One", "Two")
    )
    template = repo.folder / "template.yaml"
    template.write_text("Transform: AWS::Serverless-2016-10-31\nResources:\n" + functions)
    flags = ("build", "--template", "template.yaml", "--layers", "auto")
    for _ in range(2):
        assert "with the bare sources of Two, which were not built" in repo.run(*flags, "One").stderr
    assert "bare sources" not in repo.run(*flags).stderr
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=repo.folder, check=True)
    template.write_text(template.read_text() + "Description: another\n")
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qam", "more"], cwd=repo.folder, check=True)
    repo.run(*flags, "--changed-since", "HEAD")
    assert "Description: another" in (repo.folder / "dist" / "template.yaml").read_text()
