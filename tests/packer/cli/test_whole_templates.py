"""`lpack build --template` of templates that hold more than functions in folders of their own."""

import json
import zipfile

import pytest
from ruamel.yaml import YAML

HEAD = "AWSTemplateFormatVersion: '2010-09-09'\nTransform: AWS::Serverless-2016-10-31\n"
INLINE = HEAD + (
    "Resources:\n  Inline:\n    Type: AWS::Serverless::Function\n"
    "    Properties: {Handler: index.handler, Runtime: python3.12, InlineCode: 'def handler(event, context): ...'}\n"
)
OPEN = HEAD + (
    "Parameters: {Other: {Type: String}}\nResources:\n"
    "  A: {Type: AWS::Serverless::Function, Properties: {CodeUri: a, Handler: app.handler, Runtime: python3.12}}\n"
    "  B: {Type: AWS::Serverless::Function, Properties: {CodeUri: a, Handler: app.handler, Runtime: !Ref Other}}\n"
)


@pytest.fixture
def folder(tmp_path, index, cache):
    project = tmp_path / "project"
    (project / "a/b").mkdir(parents=True)
    for place in ("a", "a/b", "."):
        (project / place / "app.py").write_text("def handler(event, context): ...\n")
    return project


def packed(folder, name: str) -> set[str]:
    with zipfile.ZipFile(folder / "dist" / f"{name}.zip") as archive:
        return {path for path in archive.namelist() if path.endswith((".py", ".txt"))}


def test_template_without_anything_to_build_is_written(folder, lpack):
    (folder / "template.yaml").write_text(INLINE)
    for _ in range(2):
        finished = lpack("build", "--template", "template.yaml", "--json", cwd=folder)
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout)["functions"] == {}
        assert (folder / "dist/template.yaml").read_text() == INLINE
    (folder / "dist/template.yaml").unlink()
    finished = lpack("build", "--template", "template.yaml", "--strict", cwd=folder)
    assert finished.returncode == 0
    assert "Inline is left as it is because its code stands in the template" in finished.stderr
    assert "has no Python function that lpack can build" in finished.stderr
    assert (folder / "dist/template.yaml").exists()


@pytest.mark.parametrize("command", ["check", "plan", "lock", "report"])
def test_other_commands_take_a_template_without_anything_to_build(folder, lpack, command):
    (folder / "template.yaml").write_text(INLINE)
    lpack("build", "--template", "template.yaml", cwd=folder)
    finished = lpack(command, "--template", "template.yaml", cwd=folder)
    assert finished.returncode == 0, finished.stderr


def test_only_the_parameters_of_what_is_asked_for_are_wanted(folder, lpack):
    (folder / "template.yaml").write_text(OPEN)
    finished = lpack("build", "A", "--template", "template.yaml", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert "bare sources of B" in finished.stderr
    assert "--parameter Other=VALUE" in finished.stderr
    assert lpack("build", "--template", "template.yaml", cwd=folder).returncode == 2
    assert lpack("build", "B", "--template", "template.yaml", cwd=folder).returncode == 2
    finished = lpack("build", "--template", "template.yaml", "--parameter", "Other=python3.12", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert "bare" not in finished.stderr


def test_function_that_lpack_does_not_build_cannot_be_asked_for(folder, lpack):
    (folder / "template.yaml").write_text(INLINE + OPEN.partition("Resources:\n")[2].partition("  B:")[0])
    finished = lpack("build", "Inline", "--template", "template.yaml", cwd=folder)
    assert finished.returncode == 2
    assert "Inline cannot be built, because its code stands in the template" in finished.stderr
    assert "lpack can build A." in finished.stderr


def test_what_must_still_be_built_is_a_warning_and_an_error_under_strict(folder, lpack):
    (folder / "template.yaml").write_text(
        OPEN.replace("!Ref Other", "java21") + "  Off: {Type: AWS::Serverless::Function, Metadata: {SkipBuild: true}}\n"
    )
    expected = "B is not built, because its runtime is java21, and cannot be deployed as it is"
    for _ in range(2):  # the second time nothing has changed
        finished = lpack("build", "--template", "template.yaml", cwd=folder)
        assert finished.returncode == 0, finished.stderr
        assert f"warning: {expected}: `sam build --template dist/template.yaml` builds what is left." in finished.stderr
        assert "Off is not built" not in finished.stderr
    finished = lpack("build", "--template", "template.yaml", "--strict", cwd=folder)
    assert finished.returncode == 1
    assert expected in finished.stderr


def test_places_of_code_are_those_of_sam(folder, lpack):
    (folder / "a/requirements.txt").write_text("alpha\n")
    (folder / "template.yaml").write_text(
        HEAD
        + """\
Globals: {Function: {Handler: app.handler, Runtime: python3.12}}
Resources:
  Alone: {Type: AWS::Serverless::Function, Properties: {CodeUri: a/app.py}}
  Whole: {Type: AWS::Serverless::Function, Properties: {Handler: a/b/app.handler}}
  Parent:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: a/b, Handler: a.b.app.handler}
    Metadata: {BuildProperties: {ParentPackageMode: auto}}
"""
    )
    finished = lpack("build", "--template", "template.yaml", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert packed(folder, "Alone") == {"app.py"}
    assert packed(folder, "Whole") >= {"app.py", "a/app.py", "a/b/app.py"}
    assert packed(folder, "Parent") == {"a/b/app.py"}
    resources = YAML(typ="safe", pure=True).load((folder / "dist/template.yaml").read_text())["Resources"]
    assert [each["Properties"]["CodeUri"] for each in resources.values()] == ["Alone.zip", "Whole.zip", "Parent.zip"]
    assert lpack("build", "--template", "template.yaml", cwd=folder).stdout.count("unchanged") == 3


def test_base_folder_moves_the_code_and_nothing_else(folder, lpack):
    (folder / "stack").mkdir()
    (folder / "stack/topic.yaml").write_text("x")
    (folder / "stack/template.yaml").write_text(
        OPEN.replace("!Ref Other", "python3.12")
        + "  Api: {Type: AWS::Serverless::Api, Properties: {StageName: v1, DefinitionUri: topic.yaml}}\n"
    )
    finished = lpack("build", "--template", "stack/template.yaml", "--base-dir", ".", "--out", "dist", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert "app.py" in packed(folder, "A")
    text = (folder / "dist/template.yaml").read_text()
    assert "../stack/topic.yaml" in text
    finished = lpack("build", "--base-dir", ".", cwd=folder)
    assert "--base-dir needs a template" in finished.stderr


def test_nested_stack_is_built_and_its_written_template_is_led_to(folder, lpack):
    (folder / "child/b").mkdir(parents=True)
    (folder / "child/b/app.py").write_text("import alpha\ndef handler(event, context): ...\n")
    (folder / "child/b/requirements.txt").write_text("alpha\n")
    child = HEAD + "Resources:\n  B:\n    Type: AWS::Serverless::Function\n"
    child += "    Properties: {CodeUri: b/, Handler: app.handler, Runtime: python3.12}\n"
    (folder / "child/template.yaml").write_text(child)
    stack = "Resources:\n  Child: {Type: AWS::Serverless::Application, Properties: {Location: child/template.yaml}}\n"
    (folder / "template.yaml").write_text(HEAD + stack)  # a root without functions of its own
    finished = lpack("build", "--template", "template.yaml", "--json", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert list(json.loads(finished.stdout)["functions"]) == ["Child-B"]
    assert "CAPABILITY" not in finished.stderr
    root = YAML(typ="safe", pure=True).load((folder / "dist/template.yaml").read_text())
    written = folder / "dist" / root["Resources"]["Child"]["Properties"]["Location"]
    code = YAML(typ="safe", pure=True).load(written.read_text())["Resources"]["B"]["Properties"]["CodeUri"]
    assert (written.parent / code).resolve() == folder / "dist/Child-B.zip"
    assert "unchanged" in lpack("build", "Child/B", "--template", "template.yaml", cwd=folder).stdout
    (folder / "child/template.yaml").write_text(child.replace("python3.12", "python3.13"))
    assert "python3.13" in lpack("build", "--template", "template.yaml", "--verify", "none", cwd=folder).stdout
    (folder / "template.yaml").write_text(INLINE)
    assert lpack("build", "--template", "template.yaml", cwd=folder).returncode == 0
    assert not written.exists()
