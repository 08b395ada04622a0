from __future__ import annotations

from pathlib import Path

import pytest

from packer.sam.skipped import SkippedResource
from packer.sam.template import read_template


def skipped(folder: Path, body: str, kind: str = "AWS::Serverless::Function") -> SkippedResource:
    path = folder / "template.yaml"
    path.write_text(f"Resources:\n  Other:\n    Type: {kind}\n    {body}\n")
    [found] = read_template(path, {}).skipped
    return found


@pytest.mark.parametrize(
    ("runtime", "files", "unbuilt"),
    [
        ("java21", {"build.gradle": ""}, True),
        ("dotnet8", {}, True),
        ("nodejs22.x", {"index.mjs": ""}, False),
        ("nodejs22.x", {"package.json": '{"type": "module"}'}, False),
        ("nodejs22.x", {"package.json": '{"dependencies": {"ulid": "3"}}'}, True),
        ("nodejs22.x", {"package.json": "{"}, True),
        ("nodejs22.x", {"package.json": '{"dependencies": {"ulid": "3"}}', "node_modules/ulid/index.js": ""}, False),
        ("ruby3.4", {"app.rb": ""}, False),
        ("ruby3.4", {"Gemfile": ""}, True),
        ("ruby3.4", {"Gemfile": "", "vendor/bundle/x": ""}, False),
        ("provided.al2023", {"bootstrap": ""}, False),
    ],
)
def test_function_in_another_language_must_be_built_if_its_folder_cannot_run(
    tmp_path: Path, runtime: str, files: dict[str, str], unbuilt: bool
):
    (tmp_path / "code").mkdir()
    for name, text in files.items():
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_text(text)
    found = skipped(tmp_path, f"Properties: {{Runtime: {runtime}, Handler: a.b, CodeUri: code/}}")
    assert found == SkippedResource(logical_id="Other", reason=f"its runtime is {runtime}", unbuilt=unbuilt)


@pytest.mark.parametrize(
    ("body", "unbuilt"),
    [
        ("Metadata: {BuildMethod: makefile}", True),
        ("Metadata: {BuildMethod: esbuild}", True),
        ("Metadata: {SkipBuild: true}", False),
        ("Properties: {PackageType: Image, ImageUri: '1.dkr.ecr.eu-west-1.amazonaws.com/x:1'}", False),
        ("Properties: {Runtime: java21, CodeUri: s3://bucket/key}", False),
        ("Properties: {Runtime: java21, CodeUri: made.jar}", False),
        ("Properties: {Runtime: python3.12, Handler: a.b, InlineCode: x}", False),
    ],
)
def test_what_another_tool_must_build_is_told_from_what_is_ready(tmp_path: Path, body: str, unbuilt: bool):
    assert skipped(tmp_path, body).unbuilt is unbuilt


def test_function_whose_condition_is_false_is_built_as_sam_does(tmp_path: Path):
    (tmp_path / "code").mkdir()
    path = tmp_path / "template.yaml"
    path.write_text(
        "Conditions: {Off: !Equals [a, b]}\nResources:\n  Other:\n    Type: AWS::Serverless::Function\n    Condition: Off\n"
        "    Properties: {CodeUri: code, Handler: app.handler, Runtime: python3.12}\n"
    )
    assert [each.logical_id for each in read_template(path, {}).functions] == ["Other"]
