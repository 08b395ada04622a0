"""Functions of templates that were built as images: what they are deployed from, and what of their properties goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from packer.core.errors import UsageError
from packer.sam.template import read_template
from packer.sam.write_back import images_of_manifest, write_template
from tests.packer.records import build_manifest, image_facts, manifest_function

HEAD = "AWSTemplateFormatVersion: '2010-09-09'\nTransform: AWS::Serverless-2016-10-31\n"
FULL = (
    HEAD
    + """\
Globals:
  Function: {Runtime: python3.12, Timeout: 9, Layers: ['arn:aws:lambda:eu-west-1:123456789012:layer:x:1']}
Resources:
  Orders:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: orders  # where it is
      # Kept.
      Handler: app.handler
      Layers:
        - !Ref Shared
        - arn:aws:lambda:eu-west-1:123456789012:layer:y:1
      MemorySize: 512

      Runtime: python3.11
  Flowing: {Type: AWS::Serverless::Function, Properties: {MemorySize: 128, CodeUri: orders, Handler: app.handler}}
  Plain:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.12
      Handler: app.handler
      Role: arn:aws:iam::123456789012:role/r
      Code: orders
  Archive:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: orders, Handler: app.handler}
  Shared:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: s3://bucket/key}
"""
)


def written(folder: Path, text: str, images: tuple[str, ...], *, loaded: bool = False) -> str:
    """Write a template to the folder ``out``, with images for some functions and archives for the others."""
    (folder / "orders").mkdir(exist_ok=True)
    (folder / "template.yaml").write_text(text, encoding="utf-8")
    template, out = read_template(folder / "template.yaml", {}), folder / "out"
    artifacts = {each.logical_id: out / f"{each.logical_id}.zip" for each in template.functions}
    made: dict[str, Path | str] = {name: f"{name.lower()}:latest" if loaded else out / f"images/{name}.tar" for name in images}
    return write_template(template, artifacts, out / "template.yaml", images=made).decode()


def resources(text: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="rt").load(text)["Resources"]
    return found


def test_a_function_that_is_an_image_has_its_archive_and_nothing_that_only_archives_have(tmp_path: Path) -> None:
    text = written(tmp_path, FULL, ("Orders", "Flowing", "Plain"))
    after = resources(text)
    assert after["Orders"]["Properties"] == {"PackageType": "Image", "ImageUri": "images/Orders.tar", "MemorySize": 512}
    assert after["Flowing"]["Properties"] == {"PackageType": "Image", "ImageUri": "images/Flowing.tar", "MemorySize": 128}
    plain = after["Plain"]["Properties"]
    assert plain == {
        "PackageType": "Image",
        "Code": {"ImageUri": "images/Plain.tar"},
        "Role": "arn:aws:iam::123456789012:role/r",
    }
    assert after["Archive"]["Properties"] == {"CodeUri": "Archive.zip", "Handler": "app.handler"}
    assert "      # Kept.\n" in text
    assert "where it is" in text


def test_what_globals_have_for_archives_does_not_reach_an_image(tmp_path: Path) -> None:
    after = resources(written(tmp_path, FULL, ("Orders", "Plain")))
    assert list(after["Orders"]["IgnoreGlobals"]) == ["Runtime", "Layers"]
    assert "IgnoreGlobals" not in after["Plain"]  # Globals are of AWS::Serverless alone
    assert "IgnoreGlobals" not in after["Archive"]


def test_globals_that_are_ignored_already_stay_ignored(tmp_path: Path) -> None:
    own = "Runtime: python3.12, Handler: app.handler, CodeUri: orders,"
    text = FULL.replace("  Flowing: {", "  Flowing: {IgnoreGlobals: [Timeout, Runtime], ").replace("MemorySize: 128,", own)
    assert list(resources(written(tmp_path, text, ("Flowing",)))["Flowing"]["IgnoreGlobals"]) == [
        "Timeout",
        "Runtime",
        "Layers",
    ]
    text = FULL.replace("  Flowing: {", "  Flowing: {IgnoreGlobals: '*', ")
    text = text.replace("MemorySize: 128,", own)
    assert resources(written(tmp_path, text, ("Flowing",)))["Flowing"]["IgnoreGlobals"] == "*"


def test_an_image_without_an_archive_is_what_the_engine_calls_it(tmp_path: Path) -> None:
    assert resources(written(tmp_path, FULL, ("Orders",), loaded=True))["Orders"]["Properties"]["ImageUri"] == "orders:latest"


def test_a_function_without_properties_gets_those_of_an_image(tmp_path: Path) -> None:
    globals_ = "Globals:\n  Function: {Runtime: python3.12, Handler: app.handler, CodeUri: orders}\n"
    text = f"{HEAD}{globals_}Resources:\n  Bare: {{Type: AWS::Serverless::Function}}\n"
    after = resources(written(tmp_path, text, ("Bare",)))["Bare"]
    assert after["Properties"] == {"PackageType": "Image", "ImageUri": "images/Bare.tar"}


@pytest.mark.parametrize(
    "properties", ["*common", "{<<: *common, MemorySize: 128}"], ids=["an alias of them all", "a merged key that must go"]
)
def test_properties_that_an_alias_brings_cannot_be_left_out(tmp_path: Path, properties: str) -> None:
    shared = "  One:\n    Type: AWS::Serverless::Function\n    Properties: &common\n"
    shared += "      {CodeUri: orders, Handler: app.handler, Runtime: python3.12}\n"
    text = f"{HEAD}Resources:\n{shared}  Two:\n    Type: AWS::Serverless::Function\n    Properties: {properties}\n"
    with pytest.raises(UsageError, match=r"template\.yaml:\d+: functions that share this by a YAML alias") as caught:
        written(tmp_path, text, ("Two",))
    assert "Write their Properties out" in str(caught.value.remedy)


def test_the_manifest_says_what_an_image_is_deployed_from(tmp_path: Path) -> None:
    manifest = build_manifest(
        {
            "A": manifest_function(**image_facts("images/a")),
            "B": manifest_function(**image_facts("images/a", also=("images/B.tar",))),
            "c": manifest_function(),
        }
    )
    assert images_of_manifest(manifest, tmp_path) == {"A": "a:latest", "B": tmp_path / "images/B.tar"}


def test_sam_accepts_images_beside_globals_of_archives(tmp_path: Path, sam_validate) -> None:
    text = written(tmp_path, FULL, ("Orders", "Flowing", "Plain"))
    after = tmp_path / "out/template.yaml"
    after.parent.mkdir()
    after.write_text(text, encoding="utf-8")
    sam_validate(after)
