from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from packer.core.errors import UsageError
from packer.sam.template import Template, read_template
from packer.sam.write_back import write_template

HEAD = "AWSTemplateFormatVersion: '2010-09-09'\nTransform: AWS::Serverless-2016-10-31\n"
FUNCTION = "Type: AWS::Serverless::Function\n    Properties: {CodeUri: code, Handler: app.handler, Runtime: python3.12"
CHILD = (
    HEAD
    + "Parameters:\n  Arch: {Type: String, Default: x86_64}\n  Names: {Type: CommaDelimitedList, Default: ''}\n"
    + f"Resources:\n  B:\n    {FUNCTION}, Architectures: [!Ref Arch]}}\n"
)
GRAND = HEAD + f"Resources:\n  C:\n    {FUNCTION}}}\n"


def parent(kind: str = "AWS::Serverless::Application", key: str = "Location", parameters: str = "{}") -> str:
    properties = f"{{{key}: child/template.yaml, Parameters: {parameters}}}"
    return (
        HEAD + "Parameters:\n  Outer: {Type: String, Default: arm64}\nResources:\n"
        f"  A:\n    {FUNCTION}}}\n  Child:\n    Type: {kind}\n    Properties: {properties}\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in ("", "child", "child/deep"):
        (tmp_path / place / "code").mkdir(parents=True)
    (tmp_path / "child/template.yaml").write_text(CHILD)
    (tmp_path / "child/deep/template.yaml").write_text(GRAND)
    return tmp_path


def read(folder: Path, text: str, *names: str, **parameters: str) -> Template:
    (folder / "template.yaml").write_text(text)
    return read_template(folder / "template.yaml", parameters, names=names)


@pytest.mark.parametrize(
    ("kind", "key"), [("AWS::Serverless::Application", "Location"), ("AWS::CloudFormation::Stack", "TemplateURL")]
)
def test_functions_of_a_nested_stack_are_read_beside_its_template(folder: Path, kind: str, key: str):
    template = read(folder, parent(kind, key))
    assert [(each.name, each.logical_id, each.source) for each in template.functions] == [
        ("A", "A", folder / "code"),
        ("Child-B", "B", folder / "child/code"),
    ]
    assert [each.path for each in template.nested] == [folder / "child/template.yaml"]


@pytest.mark.parametrize(
    ("parameters", "architecture"),
    [("{}", "x86_64"), ("{Arch: arm64}", "arm64"), ("{Arch: !Ref Outer}", "arm64"), ("{Arch: !Ref AWS::NoValue}", "x86_64")],
)
def test_parameters_are_handed_down(folder: Path, parameters: str, architecture: str):
    assert read(folder, parent(parameters=parameters)).functions[1].architecture == architecture


def test_value_that_only_a_deployment_knows_is_wanted_in_the_nested_stack(folder: Path):
    with pytest.raises(UsageError) as caught:
        read(folder, parent(parameters="{Arch: !ImportValue x}"))
    assert f"{folder}/child/template.yaml:9: Resources.B.Properties.Architectures cannot be used" in caught.value.what
    assert caught.value.remedy == "Write a known value for Arch in the Parameters of the nested stack."
    template = read(folder, parent(parameters="{Arch: !ImportValue x}"), "A")
    assert [each.logical_id for each in template.unread] == ["Child-B"]


def test_default_of_a_nested_parameter_is_told_with_its_place(folder: Path):
    assert read(folder, parent()).defaults == (
        "Architectures of Child-B: Arch has its default, x86_64; Parameters of the stack Child gives it another",
    )


def test_stacks_at_any_depth_are_written_and_lead_to_each_other(folder: Path, sam_validate):
    stack = "  Deep: {Type: AWS::Serverless::Application, Properties: {Location: deep/template.yaml}}\n"
    (folder / "child/template.yaml").write_text(CHILD.replace("Resources:\n", f"Resources:\n{stack}"))
    template = read(folder, parent())
    assert [each.name for each in template.functions] == ["A", "Child-B", "Child-Deep-C"]
    out = folder / "dist"
    for each in (template, *template.nested):
        artifacts = {function.logical_id: out / f"{function.name}.zip" for function in each.own}
        stacks = {name: out / child.written for name, child in each.children.items()}
        (out / each.written).parent.mkdir(parents=True)
        (out / each.written).write_bytes(write_template(each, artifacts, out / each.written, stacks=stacks))
    places = [out / "template.yaml", out / "stacks/Child/template.yaml", out / "stacks/Child/Deep/template.yaml"]
    found = [YAML(typ="rt").load(place.read_text())["Resources"] for place in places]
    assert found[0]["Child"]["Properties"]["Location"] == "stacks/Child/template.yaml"
    assert found[1]["Deep"]["Properties"]["Location"] == "Deep/template.yaml"
    assert found[1]["B"]["Properties"]["CodeUri"] == "../../Child-B.zip"
    assert found[2]["C"]["Properties"]["CodeUri"] == "../../../Child-Deep-C.zip"
    for place in places[1:]:
        sam_validate(place)


def test_stack_that_leads_back_to_a_template_around_it_is_refused(folder: Path):
    stack = "  Back: {Type: AWS::Serverless::Application, Properties: {Location: ../template.yaml}}\n"
    (folder / "child/template.yaml").write_text(CHILD + stack)
    with pytest.raises(UsageError, match=r"Resources\.Back\.Properties\.Location names a template that it is nested in"):
        read(folder, parent())


def test_same_template_in_two_stacks_is_built_for_each(folder: Path):
    more = (
        "  Twin: {Type: AWS::Serverless::Application, Properties: {Location: child/template.yaml, Parameters: {Arch: arm64}}}\n"
    )
    template = read(folder, parent() + more)
    assert [(each.name, each.architecture) for each in template.functions] == [
        ("A", "x86_64"),
        ("Child-B", "x86_64"),
        ("Twin-B", "arm64"),
    ]


def test_stack_without_a_template_is_refused_unless_its_condition_is_false(folder: Path):
    text = parent().replace("child/", "nowhere/")
    with pytest.raises(UsageError, match="names no file: nowhere/template"):
        read(folder, text)
    text = text.replace("  Child:\n", "  Child:\n    Condition: Off\n") + "Conditions: {Off: !Equals [a, b]}\n"
    assert [each.reason for each in read(folder, text).skipped] == ["its condition Off is false"]


@pytest.mark.parametrize(
    "location",
    ["https://s3.amazonaws.com/b/t.yaml", "!Sub 'https://${Outer}/t.yaml'", "{ApplicationId: a, SemanticVersion: 1.0.0}"],
)
def test_stack_that_is_not_here_is_no_concern(folder: Path, location: str):
    template = read(folder, parent().replace("child/template.yaml", location))
    assert (template.nested, template.skipped) == ((), ())


def test_long_names_end_in_a_digest(folder: Path):
    text = parent().replace("  Child:", f"  {'Child' * 13}:")
    name = read(folder, text).functions[1].name
    assert len(name) == 64
    assert name.startswith("ChildChild")
