"""Layers in templates: those that functions have are counted, and those that were made are declared and attached."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from packer.errors import UsageError
from packer.handoff.sam import Layer, layers_of_manifest, write_template
from packer.template import Template, read_template
from tests.packer.handoff.test_sam import SAM

ARN = "arn:aws:lambda:eu-central-1:123456789012:layer:tools:"
HEAD = """\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Parameters:
  Own: {Type: String}
  Many: {Type: CommaDelimitedList}
  Few: {Type: CommaDelimitedList, Default: "arn:one,arn:two"}
Conditions:
  IsProd: !Equals [!Ref Own, prod]
"""
FUNCTION = """\
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.12
      Handler: app.handler
      CodeUri: api/
"""


def read(folder: Path, text: str, name: str = "template.yaml") -> Template:
    (folder / "api").mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return read_template(folder / name, {})


def made(folder: Path, name: str = "numpy-pandas-0123456789ab") -> Layer:
    path = folder / "out" / "layers" / f"{name}.zip"
    return Layer(name=name, path=path, runtimes=("python3.12",), architectures=("x86_64",), users=("Api",))


def written(template: Template, *layers: Layer) -> str:
    out = template.path.parent / "out"
    return write_template(template, {"Api": out / "Api.zip"}, out / "template.yaml", layers).decode()


def loaded(text: str) -> Any:
    return YAML(typ="rt").load(text)


LISTS = {
    "none": ("", 0),
    "block": ("      Layers:\n        - arn:one  # the first\n        - !Ref Own\n", 2),
    "wide": ("      Layers:\n      -   arn:one\n      - !Sub 'arn:${Own}'\n      Timeout: 3\n", 2),
    "flow": ("      Layers: [arn:one, !Ref Own]\n", 2),
    "empty": ("      Layers: []\n", 0),
    "null": ("      Layers:\n", 0),
    "maybe": ("      Layers: [!If [IsProd, arn:one, !Ref AWS::NoValue]]\n", 1),
    "list parameter": ("      Layers: !Ref Few\n", 2),
}


@pytest.mark.parametrize("name", LISTS)
def test_what_a_function_has_is_counted(tmp_path, name):
    listed, count = LISTS[name]
    [function] = read(tmp_path, HEAD + FUNCTION + listed).functions
    assert function.uncounted is None
    assert len(function.attached) == count


def test_globals_layers_count_too(tmp_path):
    shared = "Globals:\n  Function:\n    Layers: [arn:one, arn:two]\n"
    [function] = read(tmp_path, HEAD + shared + FUNCTION + "      Layers: [arn:three]\n").functions
    assert function.attached == ("arn:one", "arn:two", "arn:three")


@pytest.mark.parametrize("value", ["!Ref Many", "!Split [',', !Ref Own]", "arn:one"])
def test_what_cannot_be_counted_is_an_error_only_where_layers_are_made(tmp_path, lpack, value):
    text = HEAD + FUNCTION + f"      Layers: {value}\n"
    [function] = read(tmp_path, text).functions
    assert isinstance(function.uncounted, UsageError)
    (tmp_path / "api" / "app.py").write_text("def handler(event, context): ...\n")
    flags = ("build", "--template", "template.yaml", "--verify", "none", "--bytecode", "off")
    refused = lpack(*flags, "--layers", "auto", cwd=tmp_path)
    assert refused.returncode == 2
    assert "Resources.Api.Properties.Layers cannot be counted" in refused.stderr
    assert lpack(*flags, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("name", [each for each in LISTS if each != "list parameter"])
def test_layers_are_declared_and_attached_behind_those_that_are_there(tmp_path, name):
    listed, count = LISTS[name]
    template = read(tmp_path, HEAD + FUNCTION + listed)
    text = written(template, made(tmp_path), made(tmp_path, "idna-ba9876543210"))
    resources = loaded(text)["Resources"]
    own = [dict(each) if isinstance(each, dict) else each for each in resources["Api"]["Properties"]["Layers"]]
    assert own[count:] == [{"Ref": "LayerNumpyPandas0123456789ab"}, {"Ref": "LayerIdnaBa9876543210"}]
    assert len(own) == count + 2
    layer = resources["LayerNumpyPandas0123456789ab"]
    assert layer["Type"] == "AWS::Serverless::LayerVersion"
    assert dict(layer["Properties"]) == {
        "LayerName": "numpy-pandas-0123456789ab",
        "ContentUri": "layers/numpy-pandas-0123456789ab.zip",
        "CompatibleRuntimes": ["python3.12"],
        "CompatibleArchitectures": ["x86_64"],
    }
    assert "# the first" in text or "# the first" not in listed


def test_a_template_of_cloudformation_gets_layers_of_cloudformation(tmp_path):
    text = FUNCTION.replace("AWS::Serverless::Function", "AWS::Lambda::Function").replace("CodeUri", "Code")
    layer = loaded(written(read(tmp_path, text), made(tmp_path)))["Resources"]["LayerNumpyPandas0123456789ab"]
    assert layer["Type"] == "AWS::Lambda::LayerVersion"
    assert layer["Properties"]["Content"] == "layers/numpy-pandas-0123456789ab.zip"


def test_a_template_in_json_stays_json(tmp_path):
    document = {"Transform": "AWS::Serverless-2016-10-31", **loaded(FUNCTION)}
    document["Resources"]["Api"]["Properties"]["Layers"] = ["arn:one"]
    template = read(tmp_path, json.dumps(document, indent=2), "template.json")
    found = json.loads(written(template, made(tmp_path)))
    assert found["Resources"]["Api"]["Properties"]["Layers"] == ["arn:one", {"Ref": "LayerNumpyPandas0123456789ab"}]


def test_a_list_that_functions_share_by_an_alias_is_refused(tmp_path):
    other = FUNCTION.replace("Resources:\n", "").replace("Api", "Other") + "      Layers: *all\n"
    text = HEAD + FUNCTION + "      Layers: &all [arn:one]\n" + other
    template = read(tmp_path, text)
    layer = Layer(name="a-1", path=tmp_path / "a.zip", runtimes=(), architectures=(), users=("Other",))
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"template\.yaml:\d+: functions that share this by a YAML alias"):
        write_template(template, {name: out / f"{name}.zip" for name in ("Api", "Other")}, out / "template.yaml", [layer])


def test_layers_come_in_the_order_of_their_functions(tmp_path):
    report = {"path": "layers/x.zip", "runtimes": ["python3.12"], "architectures": ["x86_64"], "functions": ["Api"]}
    manifest = {"layers": {"a-1": report, "b-2": report}, "functions": {"Api": {"layers": ["arn:one", "b-2", "a-1"]}}}
    assert [layer.name for layer in layers_of_manifest(manifest, tmp_path)] == ["b-2", "a-1"]


@pytest.mark.parametrize("listed", ["", f"      Layers:\n        - {ARN}1\n", f"      Layers: [{ARN}1, {ARN}2]\n"])
def test_sam_cli_takes_what_was_written(tmp_path, listed):
    if SAM is None:
        pytest.skip("needs SAM CLI: pip install aws-sam-cli, and LPACK_TEST_SAM where it is not on PATH")
    template = read(tmp_path, "Transform: AWS::Serverless-2016-10-31\n" + FUNCTION + listed)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "template.yaml").write_text(written(template, made(tmp_path)))
    command = [SAM, "validate", "--lint", "-t", str(tmp_path / "out" / "template.yaml"), "--region", "eu-central-1"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
