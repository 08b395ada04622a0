from __future__ import annotations

from pathlib import Path

import pytest

from packer.sam.document import parse_template
from packer.sam.intrinsics import NO_VALUE, IntrinsicError, Scope, UnknownValueError, condition, evaluate, leading_text

TEMPLATE = """
Parameters:
  Stage: {Type: String, Default: dev}
  Minor: {Type: Number, Default: 3.10}
  Open: {Type: String}
  Names: {Type: CommaDelimitedList, Default: "a, b ,c"}
  Stored: {Type: "AWS::SSM::Parameter::Value<String>", Default: /path}
Mappings:
  Sizes:
    dev: {memory: 128}
    prod: {memory: 1024}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  IsDev: {"Fn::Not": [{Condition: IsProd}]}
  IsEast: !Equals [!Ref AWS::Region, us-east-1]
  Either: !Or [!Condition IsEast, !Condition IsDev]
  Both: !And [!Condition IsEast, !Condition IsProd]
  Loop: !Not [!Condition Pool]
  Pool: !Not [!Condition Loop]
  Odd: [true]
Resources: {Bucket: {}}
Value: """


def scope_and_value(value: str, **given: str) -> tuple[Scope, object]:
    document = parse_template(TEMPLATE + value + "\n", Path("template.yaml"))
    scope = Scope(
        parameters=document["Parameters"],
        mappings=document["Mappings"],
        conditions=document["Conditions"],
        resources=document["Resources"].keys(),
        given=given,
    )
    return scope, document["Value"]


def value_of(text: str, **given: str) -> object:
    scope, node = scope_and_value(text, **given)
    return evaluate(node, scope)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("3.10", "3.10"),
        ("!!str 3.10", "3.10"),
        ("", None),
        ("[a, !Ref Stage, !Ref AWS::NoValue]", ["a", "dev"]),
        ("!Ref Stage", "dev"),
        ("{Ref: Stage}", "dev"),
        ("!Ref Minor", "3.10"),
        ("!Ref Names", ["a", "b", "c"]),
        ("!Ref AWS::NoValue", NO_VALUE),
        ("!Sub 'python${Minor}-${!Literal}'", "python3.10-${Literal}"),
        ("{'Fn::Sub': 'x-${Stage}'}", "x-dev"),
        ("!Sub ['${A}/${Stage}', {A: !Join ['', [b, c]]}]", "bc/dev"),
        ("!FindInMap [Sizes, !Ref Stage, memory]", "128"),
        ("{'Fn::FindInMap': [Sizes, none, memory, {DefaultValue: !Ref Stage}]}", "dev"),
        ("!If [IsProd, a, !Ref Stage]", "dev"),
        ("!If [IsProd, !Ref Open, x]", "x"),
        ("!If [IsDev, !Ref AWS::NoValue, x]", NO_VALUE),
        ("!If [Either, x, y]", "x"),
        ("!If [Both, x, y]", "y"),
        ("!Join ['-', [a, !Ref Stage, !If [IsProd, x, !Ref AWS::NoValue]]]", "a-dev"),
        ("!Join [':', !Ref Names]", "a:b:c"),
        ("!Select [1, !Split ['.', a.b.c]]", "b"),
        ("{'Fn::Select': ['0', !Ref Names]}", "a"),
    ],
)
def test_what_can_be_known_is_evaluated(text: str, value: object):
    assert value_of(text) == value


def test_given_values_come_before_defaults():
    assert value_of("!Sub ${Stage}-${Open}", Stage="prod", Open="x") == "prod-x"
    assert value_of("!If [IsProd, a, b]", Stage="prod") == "a"
    assert value_of("!Select [1, !Ref Names]", Names="x,y") == "y"
    assert value_of("!Ref Stored", Stored="v") == "v"


def test_pseudo_parameters_can_be_given():
    scope, node = scope_and_value(
        "!Sub ${AWS::Region}/${AWS::Partition}", **{"AWS::Region": "eu-west-1", "AWS::Partition": "aws"}
    )
    assert evaluate(node, scope) == "eu-west-1/aws"
    assert condition("Both", scope) is False


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("!Ref AWS::Region", "AWS::Region"),
        ("!Sub ${AWS::AccountId}-x", "AWS::AccountId"),
        ("!Ref Open", "Open has no Default"),
        ("!Ref Stored", "Systems Manager"),
        ("!Ref Bucket", "resource Bucket"),
        ("!GetAtt Bucket.Arn", "Bucket.Arn"),
        ("!GetAtt [Bucket, Arn]", "Bucket.Arn"),
        ("!Sub ${Bucket.Arn}", "Bucket.Arn"),
        ("!ImportValue x", "Fn::ImportValue"),
        ("!If [IsEast, a, b]", "AWS::Region"),
        ("{'Fn::Transform': {Name: 'AWS::Include', Parameters: {Location: x}}}", "Fn::Transform"),
        ("'{{resolve:ssm:/x}}'", "{{resolve:ssm:/x}}"),
        ("!Sub '{{resolve:ssm:/${Stage}}}'", "{{resolve:ssm:/dev}}"),
        ("!Join [':', ['{{resolve', 'ssm:/x}}']]", "{{resolve:ssm:/x}}"),
        ("!Split [',', !Join ['', ['a,{{resolve', ':ssm:/x}}']]]", "{{resolve:ssm:/x}}"),
    ],
)
def test_what_only_the_deployment_knows_is_unknowable(text: str, reason: str):
    with pytest.raises(UnknownValueError) as caught:
        value_of(text)
    assert reason in caught.value.what
    assert "--parameter" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("!Ref Stge", "did you mean Stage?"),
        ("!Ref [a]", "must be text"),
        ("!Sub ${Stge}", "did you mean Stage?"),
        ("!Sub ['${A}', {A: [x]}]", "must be text"),
        ("!Sub ['${A}']", "list of 2 items"),
        ("!Sub ['${A}', [x]]", "must be a mapping"),
        ("!GetAtt Buket.Arn", "did you mean Bucket?"),
        ("!FindInMap [Sizes, none, memory]", "Mappings has no Sizes.none.memory"),
        ("!FindInMap [Sizes]", "list of 3 to 4 items"),
        ("!If [IsProd, a]", "list of 3 items"),
        ("!If [IsPrd, a, b]", "did you mean IsProd?"),
        ("!If [Loop, a, b]", "refers to itself"),
        ("!If [Odd, a, b]", "a condition must be one of"),
        ("!Join ['', text]", "must be a list"),
        ("!Select [3, [a]]", "no item 3"),
        ("!Select [-1, [a]]", "no item -1"),
        ("!Split ['', a]", "is empty"),
    ],
)
def test_mistakes_are_not_unknowable(text: str, reason: str):
    with pytest.raises(IntrinsicError) as caught:
        value_of(text)
    assert not isinstance(caught.value, UnknownValueError)
    assert reason in caught.value.what


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("s3://a/b", "s3://a/b"),
        ("!Sub 's3://${B}/x'", "s3://"),
        ("{'Fn::Sub': ['s3://b/${X}', {X: y}]}", "s3://b/"),
        ("!Ref X", ""),
    ],
)
def test_leading_text_is_what_is_sure(text: str, start: str):
    assert leading_text(scope_and_value(text)[1]) == start
