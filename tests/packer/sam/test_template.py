from __future__ import annotations

import json
from pathlib import Path

import pytest

from packer.core.errors import UsageError
from packer.sam.skipped import SkippedResource
from packer.sam.template import Template, read_template

FUNCTION = """\
Resources:
  Orders:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.12
      Handler: app.handler
      CodeUri: orders/
"""


def write(folder: Path, text: str, name: str = "template.yaml") -> Path:
    (folder / "orders").mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str, **parameters: str) -> Template:
    return read_template(write(folder, text), parameters)


def fault(folder: Path, text: str, **parameters: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(folder, text, **parameters)
    return caught.value


def with_property(line: str) -> str:
    key = line.partition(":")[0]
    kept = [known for known in FUNCTION.splitlines() if not known.strip().startswith(f"{key}:")]
    return "\n".join((*kept, *(f"      {part}" for part in line.splitlines()), ""))


def test_a_function_is_read_with_its_defaults(tmp_path: Path):
    template = read(tmp_path, FUNCTION)
    [function] = template.functions
    assert template.path == tmp_path / "template.yaml"
    assert template.text == FUNCTION
    assert template.skipped == ()
    assert (function.logical_id, function.runtime, function.architecture) == ("Orders", "python3.12", "x86_64")
    assert (function.handler, function.source, function.line) == ("app.handler", tmp_path / "orders", 2)


def test_paths_are_relative_to_the_template_not_to_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "project").mkdir()
    write(tmp_path / "project", FUNCTION)
    monkeypatch.chdir(tmp_path)
    template = read_template(Path("project/template.yaml"), {})
    assert template.path == tmp_path / "project/template.yaml"
    assert template.functions[0].source == tmp_path / "project/orders"


def test_globals_hold_where_the_function_says_nothing(tmp_path: Path):
    template = read(
        tmp_path,
        """\
Globals:
  Function:
    Runtime: python3.9
    Handler: app.handler
    CodeUri: orders
    Architectures: [x86_64]
Resources:
  A: {Type: AWS::Serverless::Function}
  B:
    Type: AWS::Serverless::Function
    Properties:
  C:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: other.handler, Architectures: [arm64]}
""",
    )
    said = [(item.logical_id, item.runtime, item.handler, item.architecture) for item in template.functions]
    assert said == [
        ("A", "python3.9", "app.handler", "x86_64"),
        ("B", "python3.9", "app.handler", "x86_64"),
        ("C", "python3.13", "other.handler", "arm64"),
    ]


def test_globals_do_not_hold_for_plain_lambda_functions(tmp_path: Path):
    error = fault(
        tmp_path,
        """\
Globals: {Function: {Handler: app.handler}}
Resources:
  Plain:
    Type: AWS::Lambda::Function
    Properties: {Runtime: python3.12, Code: orders}
""",
    )
    assert error.what == f"{tmp_path}/template.yaml:3: Resources.Plain.Properties.Handler is missing"


def test_plain_lambda_functions_are_read(tmp_path: Path):
    template = read(
        tmp_path,
        "Resources: {Plain: {Type: 'AWS::Lambda::Function', Properties: "
        "{Runtime: python3.12, Code: ./orders, Handler: a.b, Architectures: [arm64]}}}",
    )
    [function] = template.functions
    assert (function.architecture, function.source) == ("arm64", tmp_path / "orders")


def test_json_templates_are_read(tmp_path: Path):
    properties = {"Runtime": {"Fn::Sub": "python${V}"}, "Handler": "app.handler", "CodeUri": "orders"}
    document = {
        "Parameters": {"V": {"Type": "String", "Default": "3.11"}},
        "Resources": {"Orders": {"Type": "AWS::Serverless::Function", "Properties": properties}},
    }
    path = write(tmp_path, json.dumps(document, indent="\t"), "template.json")
    assert read_template(path, {}).functions[0].runtime == "python3.11"
    assert read_template(path, {"V": "3.14"}).functions[0].runtime == "python3.14"


PARAMETERS = """\
Parameters:
  Minor: {Type: String, Default: 3.10}
  Arm: {Type: String, Default: "no"}
  Open: {Type: String}
Conditions:
  IsArm: !Equals [!Ref Arm, "yes"]
  Off: !Not [!Equals [a, a]]
  Far: !Equals [!Ref AWS::Region, eu-west-1]
"""


@pytest.mark.parametrize(("arm", "architecture"), [("no", "x86_64"), ("yes", "arm64")])
def test_intrinsic_functions_are_evaluated_in_every_field(tmp_path: Path, arm: str, architecture: str):
    template = read(
        tmp_path,
        PARAMETERS
        + """\
Resources:
  Orders:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: !Sub python${Minor}
      Handler: !Join [., [app, handler]]
      CodeUri: {"Fn::Sub": "./ord${X}"}
      Architectures: !If [IsArm, [arm64], !Ref AWS::NoValue]
""".replace('"./ord${X}"', '["./ord${X}", {X: ers}]'),
        Arm=arm,
    )
    [function] = template.functions
    assert (function.runtime, function.handler, function.source.name) == ("python3.10", "app.handler", "orders")
    assert function.architecture == architecture


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("Properties: {Runtime: nodejs20.x, Handler: a.b, CodeUri: web}", "its runtime is nodejs20.x"),
        ("Properties: {PackageType: Image}", "it is a container image (PackageType: Image)"),
        ("Properties: {Runtime: python3.12, InlineCode: !Sub '${Open}'}", "its code stands in the template (InlineCode)"),
        ("Properties: {Runtime: python3.12, CodeUri: s3://bucket/key}", "its CodeUri is in S3"),
        ("Properties: {Runtime: python3.12, CodeUri: !Sub 's3://${Open}/key'}", "its CodeUri is in S3"),
        ("Properties: {Runtime: python3.12, CodeUri: {Bucket: !Ref Open, Key: k}}", "its CodeUri is in S3"),
        ("Properties: {Runtime: python3.12, CodeUri: made.zip}", "its CodeUri is already an archive"),
        ("Properties: {Runtime: python3.12, CodeUri: made.jar}", "its CodeUri is already an archive"),
        ("Metadata: {SkipBuild: true}", "its Metadata says SkipBuild"),
        ("Condition: Off", "its condition Off is false"),
    ],
)
def test_functions_that_are_not_lpacks_to_build_are_skipped_with_a_reason(tmp_path: Path, body: str, reason: str):
    text = FUNCTION + f"  Other:\n    Type: AWS::Serverless::Function\n    {body}\n" + PARAMETERS
    template = read(tmp_path, text)
    assert [function.logical_id for function in template.functions] == ["Orders"]
    assert template.skipped == (SkippedResource(logical_id="Other", reason=reason),)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("{ZipFile: 'x = 1'}", "its code stands in the template (ZipFile)"),
        ("{S3Bucket: b, S3Key: k}", "its Code is in S3"),
        ("{ImageUri: x}", "it is a container image (ImageUri)"),
    ],
)
def test_plain_functions_with_code_elsewhere_are_skipped(tmp_path: Path, code: str, reason: str):
    other = f"  Other: {{Type: 'AWS::Lambda::Function', Properties: {{Runtime: python3.12, Code: {code}}}}}\n"
    assert read(tmp_path, FUNCTION + other).skipped == (SkippedResource(logical_id="Other", reason=reason),)


def test_layers_that_need_a_build_are_reported(tmp_path: Path):
    others = """\
  Layer: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: x}, Metadata: {BuildMethod: python3.12}}
  Files: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: x}}
  Nested: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: !ImportValue x}}
  Published: {Type: AWS::Serverless::Application, Properties: {Location: {ApplicationId: x}}}
  Remote: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: "https://x/y"}}
"""
    assert [item.logical_id for item in read(tmp_path, FUNCTION + others).skipped] == ["Layer", "Nested"]


@pytest.mark.parametrize("line", ["Condition: Far", "Condition: IsArm", "Metadata: {BuildMethod: python-uv}"])
def test_what_may_be_there_is_built(tmp_path: Path, line: str):
    text = FUNCTION.replace("    Properties:", f"    {line}\n    Properties:") + PARAMETERS
    assert len(read(tmp_path, text, Arm="yes").functions) == 1


@pytest.mark.parametrize(
    ("line", "place", "what", "remedy"),
    [
        ("Runtime: python3.8", "7: Resources.Orders.Properties.Runtime", "does not know: python3.8", "python3.12"),
        ("Runtime: !Ref Open", "7: Resources.Orders.Properties.Runtime", "Open has no Default", "--parameter Open=VALUE"),
        ("Runtime: !Ref AWS::NoValue", "7: Resources.Orders.Properties.Runtime", "is missing", "Add it"),
        ("Runtime: [python3.12]", "7: Resources.Orders.Properties.Runtime", "must be text", "Correct"),
        ("Handler: !Ref AWS::StackId", "7: Resources.Orders.Properties.Handler", "AWS::StackId is not known", "--parameter"),
        ("Handler: !ImportValue x", "7: Resources.Orders.Properties.Handler", "Fn::ImportValue is not known", "--parameter"),
        ("CodeUri: ./order", "7: Resources.Orders.Properties.CodeUri", "names no folder or file: ./order", "Make the folder"),
        ("CodeUri: {Path: x}", "7: Resources.Orders.Properties.CodeUri", "must be the path of a folder", "Name the folder"),
        (
            "Architectures: [mips]",
            "8: Resources.Orders.Properties.Architectures",
            "one known architecture",
            "[x86_64] or [arm64]",
        ),
        ("Architectures: [arm64, x86_64]", "8: Resources.Orders.Properties.Architectures", "one known", "[x86_64]"),
        ("Architectures:\n  - !Ref Open", "8: Resources.Orders.Properties.Architectures", "no Default", "--parameter Open"),
    ],
)
def test_fields_that_cannot_be_used_are_named_with_their_place(tmp_path: Path, line: str, place: str, what: str, remedy: str):
    error = fault(tmp_path, with_property(line) + PARAMETERS)
    assert error.what.startswith(f"{tmp_path}/template.yaml:{place} ")
    assert what in error.what
    assert remedy in error.remedy


@pytest.mark.parametrize("key", ["Runtime", "Handler"])
def test_missing_fields_are_named_at_the_function(tmp_path: Path, key: str):
    text = "\n".join(line for line in FUNCTION.splitlines() if key not in line)
    error = fault(tmp_path, text)
    expected = f"{tmp_path}/template.yaml:2: Resources.Orders.Properties.{key} is missing (nor has Globals.Function one)"
    assert error.what == expected


def test_a_fault_in_globals_is_named_there(tmp_path: Path):
    text = with_property("Runtime: x").replace("      Runtime: x\n", "") + "Globals:\n  Function:\n    Runtime: !Ref None\n"
    error = fault(tmp_path, text)
    assert error.what.startswith(f"{tmp_path}/template.yaml:9: Globals.Function.Runtime cannot be used: None is neither")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Parameters: {}\n", "has no Resources"),
        ("Resources:\n", "has no Resources"),
        ("Resources: []\n", ":1: Resources must be a mapping"),
        ("Resources:\n  A: x\n", ":2: Resources.A must be a mapping"),
        (FUNCTION + "Globals: {Function: []}\n", ":8: Globals.Function must be a mapping"),
        (FUNCTION.replace("Type:", "Condition: Nope\n    Type:"), ":3: Resources.Orders.Condition cannot be used"),
    ],
)
def test_templates_that_cannot_be_read_are_refused(tmp_path: Path, text: str, what: str):
    assert what in fault(tmp_path, text).what


@pytest.mark.parametrize("text", [FUNCTION.replace("python3.12", "nodejs22.x"), "Resources:\n  A: {Type: 'AWS::S3::Bucket'}\n"])
def test_template_without_a_python_function_is_read(tmp_path: Path, text: str):
    assert read(tmp_path, text).functions == ()


def test_last_of_two_equal_keys_counts_with_a_warning(tmp_path: Path):
    template = read(tmp_path, FUNCTION + FUNCTION.partition("\n")[2].replace("app.handler", "late.handler"))
    assert [each.handler for each in template.functions] == ["late.handler"]
    assert template.warnings == (
        f"{tmp_path}/template.yaml:8: Orders is there twice in one mapping, and only this one counts.",
    )


def test_parameters_that_the_template_lacks_are_refused(tmp_path: Path):
    error = fault(tmp_path, FUNCTION + PARAMETERS, Minr="x")
    assert "has no parameter Minr (did you mean Minor?)" in error.what
    assert len(read_template(write(tmp_path, FUNCTION), {"AWS::Region": "eu-west-1"}).functions) == 1


def test_aliases_and_merge_keys_are_followed(tmp_path: Path):
    text = FUNCTION.replace("Properties:", "Properties: &shared") + (
        "  Again: {Type: 'AWS::Serverless::Function', Properties: *shared}\n"
        "  Other:\n    Type: AWS::Serverless::Function\n    Properties:\n      <<: *shared\n      Handler: other.handler\n"
    )
    assert [item.handler for item in read(tmp_path, text).functions] == ["app.handler", "app.handler", "other.handler"]
