"""Layers in templates: those that functions have are counted, and those that were made are declared and attached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from packer.core.errors import UsageError
from packer.sam.template import Template, read_template
from packer.sam.write_back import BuiltLayer, layers_of_manifest, write_template
from tests.packer.records import build_manifest, manifest_function, manifest_layer

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


def made(folder: Path, name: str = "numpy-pandas-0123456789ab") -> BuiltLayer:
    path = folder / "out" / "layers" / f"{name}.zip"
    return BuiltLayer(name=name, path=path, runtimes=("python3.12",), architectures=("x86_64",), users=("Api",))


def written(template: Template, *layers: BuiltLayer) -> str:
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
}


@pytest.mark.parametrize("name", LISTS)
def test_what_a_function_has_is_counted(tmp_path, name):
    listed, count = LISTS[name]
    [function] = read(tmp_path, HEAD + FUNCTION + listed).functions
    assert function.uncounted is None
    assert len(function.attached) == count


def test_a_layer_that_another_parameter_brings_counts(tmp_path):
    template = HEAD.replace("Own: {Type: String}", "Own: {Type: String, Default: dev}") + FUNCTION
    [function] = read(tmp_path, template + "      Layers: [arn:one, !If [IsProd, arn:two, !Ref AWS::NoValue]]\n").functions
    assert len(function.attached) == 2


def test_globals_layers_count_too(tmp_path):
    shared = "Globals:\n  Function:\n    Layers: [arn:one, arn:two]\n"
    [function] = read(tmp_path, HEAD + shared + FUNCTION + "      Layers: [arn:three]\n").functions
    assert function.attached == ("arn:one", "arn:two", "arn:three")


CALLS = {
    "!Ref Many": 1,
    "!Ref Few": 2,
    "!Split [',', !Ref Own]": 1,
    "!If [IsProd, [arn:one], []]": 1,
    "!If [Never, [arn:one], [arn:two, arn:three]]": 2,
    "{Fn::If: [Never, [arn:one], []]}": 0,
    "!Ref AWS::NoValue": 0,
    "arn:one": 1,
}


@pytest.mark.parametrize("value", CALLS)
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_no_list_has_layers_and_takes_no_more(tmp_path, value, shared):
    """What a call gives now may be something else in a deployment, and nothing can be added to its list."""
    line = f"      Layers: {value}\n"
    text = f"Globals:\n  Function:\n{line}{FUNCTION}" if shared else FUNCTION + line
    [function] = read(tmp_path, HEAD + "  Never: !Equals [a, b]\n" + text).functions
    place = "Globals.Function.Layers" if shared else "Resources.Api.Properties.Layers"
    assert isinstance(function.uncounted, UsageError)
    assert place in function.uncounted.what
    assert len(function.attached) == CALLS[value]


def test_a_list_beside_a_call_in_globals_holds_alone(tmp_path):
    shared = "Globals:\n  Function:\n    Layers: !Ref Few\n"
    [function] = read(tmp_path, HEAD + shared + FUNCTION + "      Layers: [arn:three]\n").functions
    assert function.uncounted is None
    assert function.attached == ("arn:three",)


@pytest.mark.parametrize("value", ["!Ref Many", "!If [IsProd, [arn:one], []]", "!Ref Few", "arn:one"])
def test_what_is_no_list_is_an_error_only_where_layers_are_made(tmp_path, lpack, value):
    text = HEAD + FUNCTION + f"      Layers: {value}\n"
    [function] = read(tmp_path, text).functions
    assert isinstance(function.uncounted, UsageError)
    (tmp_path / "api" / "app.py").write_text("def handler(event, context): ...\n")
    flags = ("build", "--template", "template.yaml", "--verify", "none", "--bytecode", "off")
    refused = lpack(*flags, "--layers", "auto", cwd=tmp_path)
    assert refused.returncode == 2
    assert "Resources.Api.Properties.Layers cannot be counted" in refused.stderr
    assert 'layers = "none"' in refused.stderr
    assert lpack(*flags, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("name", LISTS)
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


def shared(folder: Path, text: str, *users: str) -> dict[str, Any]:
    """Attach a layer to some functions of a template; give all that functions have, and check where their code is."""
    template = read(folder, text)
    out = folder / "out"
    layer = BuiltLayer(name="a-1", path=out / "a-1.zip", runtimes=("python3.12",), architectures=("x86_64",), users=users)
    names = [function.logical_id for function in template.functions]
    after = loaded(
        write_template(template, {name: out / f"{name}.zip" for name in names}, out / "template.yaml", [layer]).decode()
    )
    properties = {name: after["Resources"][name]["Properties"] for name in names}
    assert {name: each["CodeUri"] for name, each in properties.items()} == {name: f"{name}.zip" for name in names}
    return {
        name: [dict(each) if isinstance(each, dict) else str(each) for each in found.get("Layers") or ()]
        for name, found in properties.items()
    }


MADE = {"Ref": "LayerA1"}
KIND = "    Type: AWS::Serverless::Function\n"
BASE = """x-base: &base
  Runtime: python3.12
  Handler: app.handler
  CodeUri: api/
  Layers: [arn:one]
Resources:
"""


def resource(name: str, properties: str) -> str:
    return f"  {name}:\n{KIND}    Properties: {properties}\n"


MERGES = {
    "a merge key": BASE + resource("Api", "{<<: *base}") + resource("Other", "{<<: *base}"),
    "a merge key in block style": BASE
    + "".join(resource(each, "\n      <<: *base\n      Timeout: 3") for each in ("Api", "Other")),
    "an alias": BASE + resource("Api", "*base") + resource("Other", "*base"),
    "an alias of a function": FUNCTION.replace("Properties:", "Properties: &p")
    + "      Layers: [arn:one]\n"
    + resource("Other", "*p"),
    "a merge with a function": FUNCTION.replace("Properties:", "Properties: &p")
    + "      Layers: [arn:one]\n"
    + resource("Other", "{<<: [*p]}"),
    "merges of merges": BASE.replace("Resources:", "x-more: &more {<<: *base, Timeout: 3}\nResources:")
    + resource("Api", "{<<: *more}")
    + resource("Other", "{<<: *more}"),
}


@pytest.mark.parametrize("users", [("Api",), ("Other",), ("Api", "Other"), ()])
@pytest.mark.parametrize("listed", ["Layers: [arn:one]", "Layers: []", "Layers:", "Timeout: 1"])
@pytest.mark.parametrize("name", MERGES)
def test_functions_that_share_properties_get_their_own_layers_alone(tmp_path, name, listed, users):
    text = "Transform: AWS::Serverless-2016-10-31\n" + MERGES[name].replace("Layers: [arn:one]", listed)
    before = ["arn:one"] if "one" in listed else []
    expected = {each: [*before, MADE] if each in users else before for each in ("Api", "Other")}
    assert shared(tmp_path, text, *users) == expected


@pytest.mark.parametrize("listed", ["[!Sub 'arn:${AWS::Region}']", "!If [IsProd, [arn:one], []]", "arn:one"])
def test_shared_layers_that_cannot_be_copied_are_an_error_where_one_is_added(tmp_path, listed):
    text = HEAD + MERGES["a merge key"].replace("[arn:one]", listed)
    with pytest.raises(UsageError, match=r"template\.yaml:\d+: no layer can be added to the Layers of Other") as caught:
        shared(tmp_path, text, "Other")
    assert 'layers = "none"' in caught.value.remedy
    assert f"Layers: {listed}\n" in written(read(tmp_path, text))


ALIASED = (
    HEAD
    + FUNCTION
    + "      Layers: &all [arn:one]\n"
    + resource("Other", "{<<: &b {Runtime: python3.12, Handler: a.b}, CodeUri: api, Layers: *all}")
)


def test_a_list_that_is_an_alias_becomes_one_of_its_own(tmp_path):
    assert shared(tmp_path, ALIASED, "Other") == {"Api": ["arn:one"], "Other": ["arn:one", MADE]}


def test_a_list_that_others_show_by_an_alias_is_not_changed(tmp_path):
    with pytest.raises(UsageError, match="no layer can be added to the Layers of Api, because others share the list by a YAML"):
        shared(tmp_path, ALIASED, "Api")


def test_code_that_functions_share_by_an_alias_is_refused(tmp_path):
    text = FUNCTION.replace("  Api:", "  Api: &api") + "  Other: *api\n"
    with pytest.raises(UsageError, match=r"template\.yaml:\d+: functions that share this by a YAML alias"):
        shared(tmp_path, text, "Other")


@pytest.mark.parametrize("listed", ["!Ref Many", "!If [IsProd, [arn:one], []]", "{Fn::If: [IsProd, [arn:one], []]}"])
def test_layers_that_are_no_list_are_never_replaced(tmp_path, listed):
    text = HEAD + FUNCTION + f"      Layers: {listed}\n"
    with pytest.raises(UsageError, match="no layer can be added to the Layers of Api"):
        shared(tmp_path, text, "Api")
    assert listed in written(read(tmp_path, text))


def test_a_comment_stays_beside_its_layer(tmp_path):
    text = written(read(tmp_path, HEAD + FUNCTION + "      Layers:\n        - arn:one  # mine\n"), made(tmp_path))
    assert '        - arn:one  # mine\n        - {Ref: "LayerNumpyPandas0123456789ab"}\n' in text


def test_layers_come_in_the_order_of_their_functions(tmp_path):
    layers = {"a-1": manifest_layer("Api"), "b-2": manifest_layer("Api")}
    manifest = build_manifest({"Api": manifest_function(layers=("arn:one", "b-2", "a-1"))}, layers)
    assert [layer.name for layer in layers_of_manifest(manifest, tmp_path)] == ["b-2", "a-1"]


@pytest.mark.parametrize("listed", ["", f"      Layers:\n        - {ARN}1\n", f"      Layers: [{ARN}1, {ARN}2]\n"])
def test_sam_cli_takes_what_was_written(tmp_path, sam_validate, listed):
    template = read(tmp_path, "Transform: AWS::Serverless-2016-10-31\n" + FUNCTION + listed)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "template.yaml").write_text(written(template, made(tmp_path)))
    sam_validate(tmp_path / "out" / "template.yaml")
