"""What commands print as JSON keeps to the published schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from packer.cli.app import COMMANDS
from packer.manifest.schemas import NAMES, schema_text
from tests.emulator import use_no_emulator
from tests.monorepo import Monorepo
from tests.repository import make_repository
from tests.schemas import check_document


def checked(name: str, text: str) -> Any:
    """Hold a text against a schema, and give what it says."""
    document = json.loads(text)
    check_document(name, document)
    return document


@pytest.fixture
def project(repo) -> Monorepo:
    common = repo.wheel("common")
    repo.function("one", common)
    repo.function("two", common, repo.wheel("alone"))
    repo.configure("one", "two", settings='layers = "auto"\nbudget = { zip = "1 MB", init = "20 s", growth = "1 %" }')
    made: Monorepo = repo
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_and_is_printed(name, tmp_path, lpack):
    schema = json.loads(schema_text(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert lpack("schema", name, cwd=tmp_path).stdout == schema_text(name)


def test_every_command_with_json_has_a_schema(tmp_path, lpack):
    with_json = {name for name in COMMANDS if "--json" in lpack(name, "--help", cwd=tmp_path).stdout}
    assert {"manifest" if name == "build" else name for name in with_json} <= set(NAMES)
    assert lpack("schema", cwd=tmp_path).stdout == schema_text("manifest")
    assert lpack("schema", "nosuch", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("manifest", ("build", "--json")),
        ("check", ("check", "--json")),
        ("plan", ("plan", "--json")),
        ("tree", ("tree", "--json")),
        ("why", ("why", "two", "common", "--json")),
        ("cache-info", ("cache", "info", "--json")),
        ("diff", ("diff", "now", "now", "--format", "json")),
    ],
)
def test_what_is_printed_keeps_to_its_schema(project, name, arguments):
    checked(name, project.run(*arguments).stdout)


def test_problems_and_starts_keep_to_the_schema(project, monkeypatch, index_folder):
    use_no_emulator(monkeypatch, index_folder)
    found = checked("coldstart", project.run("coldstart", "one", "--rounds", "1", "--json").stdout)
    assert found["functions"]["one"]["imports"]
    project.configure("one", "two", settings='budget = { unzipped = "1 KB", init = "1 s" }')
    found = checked("check", project.run("check", "--json", status=3).stdout)
    assert found["problems"]
    assert "start_milliseconds" in found["functions"]["one"]


def test_what_was_built_and_its_files_keep_to_their_schemas(project):
    project.run("build")
    assert set(checked("verify", project.run("verify", "--json").stdout)) == {"one", "two"}
    project.run("baseline")
    checked("baseline", (project.folder / "lpack-baseline.json").read_text())
    (project.folder / "dist" / "one.zip").rename(project.folder / "old.zip")
    checked("diff", project.run("diff", "old.zip", "dist/two.zip", "--format", "json").stdout)


def test_what_git_says_keeps_to_its_schema(project):
    make_repository(project.folder)
    (project.folder / "one" / "more.py").write_text("VALUE = 1\n")
    found = checked("affected", project.run("affected", "--since", "main", "--json").stdout)
    assert found["affected"] == ["one"]


def test_what_the_doctor_says_keeps_to_its_schema(project):
    finished = project.lpack("doctor", "--json", "--offline", cwd=project.folder)
    assert finished.returncode in (0, 1)
    checked("doctor", finished.stdout)
