"""Whatever stands in a template, reading it gives a template or a `UsageError`, and what was read can be written."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from packer.core.errors import UsageError
from packer.sam.template import Template, read_template
from packer.sam.write_back import write_template

SOUND: dict[str, Any] = {
    "Metadata": {"AWS::ServerlessRepo::Application": {"LicenseUrl": "LICENSE"}},
    "Parameters": {"V": {"Type": "String", "Default": "12"}, "L": {"Type": "CommaDelimitedList", "Default": "a,b"}},
    "Mappings": {"M": {"a": {"b": "arm64"}}},
    "Conditions": {
        "C": {"Fn::And": [{"Fn::Equals": [{"Ref": "V"}, "12"]}, {"Fn::Not": [{"Condition": "D"}]}]},
        "D": {"Fn::Equals": ["a", "b"]},
    },
    "Globals": {"Function": {"Runtime": {"Fn::Sub": "python3.${V}"}, "CodeUri": "x"}, "Api": {"DefinitionUri": "y"}},
    "Resources": {
        "A": {
            "Type": "AWS::Serverless::Function",
            "Condition": "C",
            "Properties": {
                "Handler": {"Fn::Join": [".", ["app", {"Fn::Select": [0, {"Fn::Split": ["-", "handler-x"]}]}]]},
                "CodeUri": {"Fn::If": ["C", ".", {"Ref": "AWS::NoValue"}]},
                "Architectures": [{"Fn::FindInMap": ["M", "a", "b"]}],
            },
            "Metadata": {"BuildMethod": "python3.12", "DockerContext": "."},
        },
        "B": {"Type": "AWS::Lambda::Function", "Properties": {"Runtime": "python3.9", "Handler": "a.b", "Code": "."}},
        "N": {"Type": "AWS::Serverless::Application", "Properties": {"Location": "n.yaml"}},
        "G": {"Type": "AWS::Serverless::GraphQLApi", "Properties": {"Functions": {"f": {"CodeUri": "f.js"}}}},
        "Fn::ForEach::X": ["I", ["a"], {"Y": {"Type": "AWS::S3::Bucket"}}],
        "I": {"Fn::Transform": {"Name": "AWS::Include", "Parameters": {"Location": "i.yaml"}}},
    },
}


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 20),
    st.sampled_from(["", "x", "python3.99", "s3://a", "${", "${V}", "${A.Arn}", "{{resolve:ssm:x}}", "AWS::Region", "L", "C"]),
    st.sampled_from(
        [[], {}, [[]], [{}], {"Ref": "L"}, {"Ref": 1}, {"Ref": "AWS::NoValue"}, {"Fn::If": []}, {"Fn::GetAtt": ["A", "B"]}]
    ),
    st.sampled_from([{"Fn::Sub": ["${x}", {"x": []}]}, {"Fn::Nope": 1}, {"Condition": "C"}, {"Bucket": {}}, {"": ""}, [None]]),
)


def read_or_refuse(path: Path) -> Template | None:
    try:
        return read_template(path, {})
    except UsageError as error:
        refusal = error
    assert str(path) in refusal.what
    assert refusal.remedy
    return None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(places(SOUND))), JUNK), max_size=2), st.booleans())
def test_no_template_crashes_lpack(changes: list[tuple[tuple[Any, ...], Any]], drop: bool):
    document = copy.deepcopy(SOUND)
    for (*parents, key), junk in changes:
        node: Any = document
        try:
            for parent in parents:
                node = node[parent]
            node[key] = copy.deepcopy(junk)
            if drop:
                del node[key]
        except (KeyError, IndexError, TypeError):
            continue
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "template.json")
        path.write_text(json.dumps(document))
        template = read_or_refuse(path)
        if template is None:
            return
        built = {function.logical_id: Path(folder, "out", f"{function.logical_id}.zip") for function in template.functions}
        after = json.loads(write_template(template, built, Path(folder, "out/template.json")))
    for name in built:
        properties = after["Resources"][name]["Properties"]
        assert properties.get("CodeUri", properties.get("Code")) == f"{name}.zip"
