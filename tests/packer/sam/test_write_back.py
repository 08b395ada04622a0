from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from packer.core.errors import UsageError
from packer.sam.template import Template, read_template
from packer.sam.write_back import write_template

SAMPLE = Path(__file__).parents[3] / "fixtures/sam/everything.yaml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("orders", "shared"):
        (folder / name).mkdir(parents=True)
    (folder / "orders.tar.gz").touch()
    (folder / "nested").mkdir()
    for place in ("nested/template.yaml", "../stack.yaml"):
        (folder / place).write_text("Resources: {Topic: {Type: AWS::SNS::Topic}}\n")
    shutil.copy(SAMPLE, folder / "template.yaml")
    return folder


def read(folder: Path, text: str = "", name: str = "template.yaml") -> Template:
    if text:
        (folder / name).write_text(text, encoding="utf-8")
    return read_template(folder / name, {})


def written(template: Template, *, only: tuple[str, ...] | None = None) -> str:
    """Write the template to the folder ``out`` in its own, with an archive for each function."""
    out = template.path.parent / "out"
    names = [function.logical_id for function in template.functions if only is None or function.logical_id in only]
    return write_template(template, {name: out / f"{name}.zip" for name in names}, out / "template.yaml").decode()


def differences(before: Any, after: Any, keys: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            yield from differences(before.get(key), after.get(key), f"{keys}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (left, right) in enumerate(zip(before, after, strict=True)):
            yield from differences(left, right, f"{keys}[{index}]")
    elif str(before) != str(after):  # tagged scalars are not equal to their like
        yield keys, before, after


def test_built_functions_point_to_their_archives_and_all_else_still_leads_to_the_same_file(project: Path):
    template = read(project)
    assert [function.logical_id for function in template.functions] == ["Orders", "Inherits", "Bare", "Plain"]
    load = YAML(typ="rt").load
    found = {keys: after for keys, _, after in differences(load(template.text), load(written(template)))}
    resources = {keys.removeprefix("Resources."): after for keys, after in found.items() if keys.startswith("Resources.")}
    assert {keys: after for keys, after in found.items() if not keys.startswith("Resources.")} == {
        "Metadata.AWS::ServerlessRepo::Application.LicenseUrl": "../LICENSE.txt",
        "Metadata.AWS::ServerlessRepo::Application.ReadmeUrl": "../README.md",
        "Globals.Function.CodeUri": "../shared",
    }
    assert resources == {
        "Orders.Properties.CodeUri": "Orders.zip",
        "Inherits.Properties.CodeUri": "Inherits.zip",
        "Bare.Properties": {"CodeUri": "Bare.zip"},
        "Plain.Properties.Code": "Plain.zip",
        "Node.Properties.CodeUri": "../node",
        "Node.Metadata.ContextPath": "../make",
        "Node.Metadata.WorkingDirectory": "../../work",
        "Image.Metadata.DockerContext": "../image",
        "ImageArchive.Properties.ImageUri": "../orders.tar.gz",
        "Layer.Properties.ContentUri": "../layer",
        "OldLayer.Properties.Content": "../layer.zip",
        "Nested.Properties.Location": "../nested/template.yaml",
        "Stack.Properties.TemplateURL": "../../stack.yaml",
        "Api.Properties.DefinitionUri": "../openapi.yaml",
        "Rest.Properties.BodyS3Location": "../openapi.yaml",
        "Machine.Properties.DefinitionUri": "../machine.asl.json",
        "OldMachine.Properties.DefinitionS3Location": "../machine.asl.json",
        "Graph.Properties.SchemaUri": "../schema.graphql",
        "Graph.Properties.Functions.first.CodeUri": "../graph/first.js",
        "Graph.Properties.Resolvers.Query.get.CodeUri": "../graph/get.js",
        "Resolver.Properties.RequestMappingTemplateS3Location": "../a.vtl",
        "Resolver.Properties.CodeS3Location": "../a.js",
        "Job.Properties.Command.ScriptLocation": "../job.py",
        "Beanstalk.Properties.SourceBundle": "../app.zip",
        "Fn::ForEach::Layers[2].Layer${Name}.Properties.Content": "../layer.zip",
        "Bucket.Properties.Fn::Transform.Parameters.Location": "../bucket.yaml",
    }


def test_comments_order_and_spelling_survive(project: Path):
    template = read(project)
    before, after = template.text.splitlines(), written(template).splitlines()
    kept = [line for line in before if line in after]
    assert kept == [line for line in after if line in before]
    comments = [line[line.index("#") :] for line in before if "#" in line]
    # What stood inside of a value that was replaced goes with it.
    assert [line[line.index("#") :] for line in after if "#" in line] == [line for line in comments if line != "# never mind"]


def test_the_same_folder_and_no_artifact_give_the_same_bytes(project: Path):
    text = (
        "Resources:\n  A: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.12, Handler: a.b, CodeUri: orders}}\n"
    )
    template = read(project, text.replace("\n", "\r\n"))
    assert write_template(template, {}, project / "other.yaml") == (project / "template.yaml").read_bytes()


def test_functions_that_were_not_built_keep_their_source(project: Path):
    text = written(read(project), only=("Inherits",))
    resources = YAML(typ="rt").load(text)["Resources"]
    assert resources["Inherits"]["Properties"]["CodeUri"] == "Inherits.zip"
    assert resources["Plain"]["Properties"]["Code"] == "../orders"
    assert list(resources["Orders"]["Properties"]["CodeUri"]) == ["Always", "./orders", "./other"]


def test_json_stays_json(project: Path):
    properties = {"Runtime": "python3.12", "Handler": "app.handler", "CodeUri": "orders", "Description": "caf\u00e9 \U0001f600"}
    document = {"Resources": {"A": {"Type": "AWS::Serverless::Function", "Properties": properties}}}
    for ascii_only in (True, False):
        template = read(project, json.dumps(document, ensure_ascii=ascii_only, indent="\t"), "template.json")
        after = written(template)
        assert after == template.text.replace('"orders"', '"A.zip"')
        assert json.loads(after)["Resources"]["A"]["Properties"] == {**properties, "CodeUri": "A.zip"}


SHARED = """\
Resources:
  A:
    Type: AWS::Serverless::Function
    Properties: &shared
      Runtime: python3.12
      Handler: app.handler
      CodeUri: orders
  B:
    Type: AWS::Serverless::Function
    Properties: *shared
  C:
    Type: AWS::Serverless::Function
    Properties:
      <<: *shared
      Handler: other.handler
"""


def test_functions_that_share_their_properties_get_archives_of_their_own(project: Path):
    template = read(project, SHARED)
    for only in (("A", "B", "C"), ("A",), ("B",), ()):
        resources = YAML(typ="safe", pure=True).load(written(template, only=only))["Resources"]
        found = {name: body["Properties"]["CodeUri"] for name, body in resources.items()}
        assert found == {name: f"{name}.zip" if name in only else "../orders" for name in "ABC"}
        assert resources["B"]["Properties"]["Runtime"] == "python3.12"


def test_a_function_that_was_not_built_never_gets_the_archive_of_another(project: Path):
    after = write_template(read(project, SHARED), {"A": project / "A.zip"}, project / "built.yaml")
    resources = YAML(typ="safe", pure=True).load(after)["Resources"]
    assert [resources[name]["Properties"]["CodeUri"] for name in "ABC"] == ["A.zip", "orders", "orders"]


def test_whole_functions_that_are_aliases_are_refused(project: Path):
    text = SHARED.partition("  C:")[0].replace("  A:", "  A: &a").partition("  B:")[0] + "  B: *a\n"
    with pytest.raises(UsageError, match=r"template\.yaml:7: functions that share this by a YAML alias"):
        written(read(project, text))


def test_a_destination_elsewhere_is_reached_through_symbolic_links(project: Path, tmp_path: Path):
    deep = tmp_path / "far/away"
    deep.mkdir(parents=True)
    (project / "out").symlink_to(deep)
    after = YAML(typ="rt").load(written(read(project)))
    assert after["Globals"]["Function"]["CodeUri"] == "../../project/shared"
    assert (deep / after["Resources"]["ImageArchive"]["Properties"]["ImageUri"]).is_file()


def test_artifacts_of_unknown_functions_are_a_mistake_of_the_caller(project: Path):
    with pytest.raises(ValueError, match="Nobody"):
        write_template(read(project), {"Nobody": project / "x.zip"}, project / "out/template.yaml")


def test_sam_accepts_what_was_written(project: Path, sam_validate):
    template = read(
        project,
        """\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Parameters:
  Minor: {Type: String, Default: "12"}
Globals:
  Function: {Runtime: !Sub 'python3.${Minor}', Handler: app.handler, CodeUri: shared}
Resources:
  Orders: {Type: AWS::Serverless::Function, Properties: {CodeUri: !Join [/, [., orders]]}}
  Inherits:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: 10
  Bare:
    Type: AWS::Serverless::Function
""",
    )
    after = project / "out/template.yaml"
    after.parent.mkdir()
    after.write_text(written(template))
    sam_validate(after)
