"""Which resource an item of Layers stands for, and which layers have their content beside the template."""

from __future__ import annotations

from pathlib import Path

import pytest

from packer.sam.local_layers import LocalLayer
from packer.sam.template import read_template

TEMPLATE = """\
Parameters: {Stage: {Type: String, Default: dev}, Folder: {Type: String, Default: shared}}
Conditions: {IsDev: !Equals [!Ref Stage, dev], Never: !Equals [a, b], Unknown: !Equals [!Ref Shared, b]}
Resources:
  Shared: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: !Ref Folder}}
  Plain: {Type: AWS::Lambda::LayerVersion, Properties: {Content: ./plain/}}
  Packed: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: packed.zip}}
  Bucket: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: s3://bucket/key.zip}}
  Stored: {Type: AWS::Lambda::LayerVersion, Properties: {Content: {S3Bucket: bucket, S3Key: key}}}
  Gone: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: gone}}
  Made: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: made}, Metadata: {BuildMethod: python3.12}}
  Makefile: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: made}, Metadata: {BuildMethod: makefile}}
  One:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.12, Handler: app.handler, CodeUri: one, Layers: %s}
"""
FOLDERS = ("one", "shared", "plain", "made")


def local_layers(folder: Path, layers: str) -> list[LocalLayer]:
    for name in FOLDERS:
        (folder / name).mkdir()
    (folder / "made" / "requirements.txt").write_text("pyyaml\n")
    (folder / "packed.zip").write_bytes(b"")
    path = folder / "template.yaml"
    path.write_text(TEMPLATE % layers)
    [function] = read_template(path, {}).functions
    assert [word for word, _ in function.contents] == [word for word in function.attached if word in dict(function.contents)]
    return [layer for _, layer in function.contents]


ITEMS = {
    "!Ref Shared": "shared",
    "{Ref: Plain}": "plain",
    "!Ref Packed": "packed.zip",
    "!GetAtt Plain.LayerVersionArn": "plain",
    "{Fn::GetAtt: [Plain, LayerVersionArn]}": "plain",
    "!Sub '${Shared}'": "shared",
    "!If [IsDev, !Ref Shared, !Ref Plain]": "shared",
    "!If [Never, !Ref Shared, !Ref Plain]": "plain",
}


@pytest.mark.parametrize(("item", "content"), ITEMS.items())
def test_an_item_leads_to_the_content_of_its_layer(tmp_path, item, content):
    assert local_layers(tmp_path, f"[{item}]") == [LocalLayer(content=tmp_path / content)]


@pytest.mark.parametrize(
    "item",
    ["arn:one", "!Ref Bucket", "!Ref Stored", "!Ref Gone", "!Ref Makefile", "!Ref Stage", "!If [Unknown, !Ref Shared, x]"],
)
def test_content_that_is_elsewhere_is_not_known(tmp_path, item):
    assert local_layers(tmp_path, f"[{item}]") == []


def test_a_layer_that_sam_builds_has_its_source_below_python_and_may_have_more(tmp_path):
    assert local_layers(tmp_path, "[!Ref Made]") == [LocalLayer(content=tmp_path / "made", prefix="python", complete=False)]
