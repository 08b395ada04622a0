from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from packer.core.errors import UsageError
from packer.sam.template import Template, read_template
from packer.sam.write_back import write_template

HEAD = """\
AWSTemplateFormatVersion: '2010-09-09'
Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]
Parameters:
  Names: {Type: CommaDelimitedList, Default: 'one,two'}
  Open: {Type: CommaDelimitedList}
Mappings:
  Of: {one: {Parts: [a]}, two: {Parts: [a, b]}}
Resources:
"""
LOOP = """\
  Fn::ForEach::All:
    - Name
    - VALUES
    - ${Name}Function:
        Type: AWS::Serverless::Function
        Properties:
          CodeUri: !Sub ${Name}/  # its folder
          Handler: app.handler
          Runtime: python3.12
          Environment: {Variables: {WHO: !Ref Name, KEY: '&{Name}'}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one", "two", "o-ne"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text("def handler(event, context): ...\n")
    return tmp_path


def read(folder: Path, text: str, *names: str, **parameters: str) -> Template:
    path = folder / "template.yaml"
    path.write_text(text)
    return read_template(path, parameters, names=names)


def written(template: Template) -> dict[str, object]:
    out = template.path.parent / "dist"
    artifacts = {each.logical_id: out / f"{each.logical_id}.zip" for each in template.functions}
    text = write_template(template, artifacts, out / "template.yaml").decode()
    return YAML(typ="rt").load(text)["Resources"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("values", ["[one, two]", "!Ref Names", "{Ref: Names}", "!Split ['/', one/two]", "[!Ref Names]"])
def test_loop_over_known_values_makes_a_function_for_each(folder: Path, values: str):
    template = read(folder, HEAD + LOOP.replace("VALUES", values))
    assert [(each.logical_id, each.source.name) for each in template.functions] == [
        ("oneFunction", "one"),
        ("twoFunction", "two"),
    ]
    assert [each.environment for each in template.functions] == [
        (("KEY", "one"), ("WHO", "one")),
        (("KEY", "two"), ("WHO", "two")),
    ]
    assert {each.line for each in template.functions} == {12}


def test_value_with_other_characters_is_shortened_where_the_loop_asks_for_it(folder: Path):
    loop = LOOP.replace("VALUES", "[o-ne]").replace("${Name}Function", "'&{Name}Function'")
    [function] = read(folder, HEAD + loop).functions
    assert (function.logical_id, function.source.name) == ("oneFunction", "o-ne")
    assert function.environment == (("KEY", "one"), ("WHO", "o-ne"))


def test_loops_in_loops_are_written_out(folder: Path):
    loop = """\
  Fn::ForEach::Outer:
    - Name
    - [one, two]
    - Fn::ForEach::Inner:
        - Part
        - !FindInMap [Of, !Ref Name, Parts]
        - ${Name}${Part}:
            Type: AWS::Serverless::Function
            Properties: {CodeUri: '${Name}', Handler: '${Part}.handler', Runtime: python3.12}
"""
    functions = read(folder, HEAD + loop).functions
    assert [(each.logical_id, each.handler) for each in functions] == [
        ("onea", "a.handler"),
        ("twoa", "a.handler"),
        ("twob", "b.handler"),
    ]


def test_loop_among_variables_is_written_out(folder: Path):
    text = HEAD + LOOP.replace("VALUES", "[one]").replace(
        "{WHO: !Ref Name, KEY: '&{Name}'}", "{'Fn::ForEach::Keys': [K, [A, B], {'${K}_OF': '${K}'}]}"
    )
    assert read(folder, text).functions[0].environment == (("A_OF", "A"), ("B_OF", "B"))


def test_loop_over_a_parameter_without_a_value_says_which(folder: Path):
    text = HEAD + LOOP.replace("VALUES", "!Ref Open")
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    assert "template.yaml:9: Resources.Fn::ForEach::All cannot be used: the values of" in caught.value.what
    assert caught.value.remedy == "Give it with --parameter Open=VALUE."
    assert len(read(folder, text, Open="one,two").functions) == 2


def test_unknown_loop_beside_the_function_that_is_asked_for_is_left_unbuilt(folder: Path):
    text = HEAD + LOOP.replace("VALUES", "!Ref Open")
    text += (
        "  Plain: {Type: AWS::Serverless::Function, Properties: {CodeUri: one, Handler: app.handler, Runtime: python3.12}}\n"
    )
    template = read(folder, text, "Plain")
    assert [each.logical_id for each in template.functions] == ["Plain"]
    assert [(each.logical_id, each.unbuilt) for each in template.skipped] == [("Fn::ForEach::All", True)]


def test_loop_that_is_not_well_written_is_refused(folder: Path):
    with pytest.raises(UsageError, match="must be a list of an identifier, a list of values, and a mapping"):
        read(folder, HEAD + "  Fn::ForEach::All: [Name, {A: {Type: AWS::Serverless::Function}}]\n")


def test_loop_without_functions_stays_as_it_is(folder: Path):
    loop = "  Fn::ForEach::Topics: [T, !Ref Open, {'${T}': {Type: 'AWS::SNS::Topic'}}]\n"
    text = HEAD + LOOP.replace("VALUES", "[one]") + loop
    resources = written(read(folder, text))
    assert list(resources) == ["oneFunction", "Fn::ForEach::Topics"]


def test_written_functions_of_a_loop_have_archives_of_their_own(folder: Path, sam_validate):
    more = "  # the queue\n  Queue: {Type: AWS::SQS::Queue}\n"
    head = "".join(line for line in HEAD.splitlines(keepends=True) if not line.startswith(("  Open:", "Mappings:", "  Of:")))
    template = read(folder, head + LOOP.replace("VALUES", "!Ref Names") + more)
    out = folder / "dist"
    out.mkdir()
    resources = written(template)
    assert [resources[name]["Properties"]["CodeUri"] for name in ("oneFunction", "twoFunction")] == [  # type: ignore[index]
        "oneFunction.zip",
        "twoFunction.zip",
    ]
    artifacts = {each.logical_id: out / f"{each.logical_id}.zip" for each in template.functions}
    (out / "template.yaml").write_bytes(write_template(template, artifacts, out / "template.yaml"))
    assert more in (out / "template.yaml").read_text()
    sam_validate(out / "template.yaml")


def test_loop_of_a_json_template_is_written_out_as_json(folder: Path):
    function = {
        "Type": "AWS::Serverless::Function",
        "Properties": {"CodeUri": "${N}", "Handler": "app.handler", "Runtime": "python3.12", "Role": {"Ref": "N"}},
    }
    import json

    document = {"Resources": {"Fn::ForEach::All": ["N", ["one", "two"], {"${N}F": function}], "T": {"Type": "AWS::SNS::Topic"}}}
    path = folder / "template.json"
    path.write_text(json.dumps(document, indent=2))
    template = read_template(path, {})
    artifacts = {each.logical_id: folder / f"{each.logical_id}.zip" for each in template.functions}
    resources = json.loads(write_template(template, artifacts, folder / "built.json"))["Resources"]
    assert list(resources) == ["oneF", "twoF", "T"]
    assert resources["twoF"]["Properties"] == {
        "CodeUri": "twoF.zip",
        "Handler": "app.handler",
        "Runtime": "python3.12",
        "Role": "two",
    }
