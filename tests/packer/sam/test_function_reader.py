from __future__ import annotations

from pathlib import Path

import pytest

from packer.core.errors import UsageError
from packer.sam.function_reader import TemplateFunction
from packer.sam.samconfig import SamConfig
from packer.sam.template import read_template


def read(folder: Path, properties: str, more: str = "", **keywords: object) -> TemplateFunction:
    path = folder / "template.yaml"
    path.write_text(
        "Parameters: {Mode: {Type: String, Default: auto}, Method: {Type: String, Default: python3.12}}\n"
        "Mappings: {Regions: {us-east-1: {Arch: arm64}, eu-west-1: {Arch: x86_64}}}\n"
        "Resources:\n  Orders:\n    Type: AWS::Serverless::Function\n"
        f"    Properties: {{Handler: src.orders.app.handler, Runtime: python3.12, {properties}}}\n{more}"
    )
    [function] = read_template(path, {}, **keywords).functions  # type: ignore[arg-type]
    return function


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lib/src/orders/deep").mkdir(parents=True)
    (tmp_path / "lib/src/orders/app.py").write_text("def handler(event, context): ...\n")
    return tmp_path


@pytest.mark.parametrize(
    ("code", "source", "only"),
    [
        ("", ".", ""),
        ("CodeUri: !Ref AWS::NoValue", ".", ""),
        ("CodeUri: lib/src/orders/", "lib/src/orders", ""),
        ("CodeUri: lib/src/orders/app.py", "lib/src/orders", "app.py"),
    ],
)
def test_code_is_a_folder_a_file_or_the_folder_of_the_template(folder: Path, code: str, source: str, only: str):
    function = read(folder, code)
    assert (function.source, function.only) == (folder / source, only)


def test_code_is_looked_for_below_the_base_folder(folder: Path):
    assert read(folder, "CodeUri: src/orders", base=folder / "lib").source == folder / "lib/src/orders"
    assert read(folder, "", base=folder / "lib").source == folder / "lib"


@pytest.mark.parametrize(
    ("build", "code", "prefix"),
    [
        ("{ParentPackageMode: auto}", "lib/src/orders", "src/orders/"),
        ("{ParentPackageMode: !Ref Mode}", "lib/src/orders", "src/orders/"),
        ("{ParentPackageMode: auto}", "lib/src", "src/"),
        ("{ParentPackageMode: auto}", "lib/src/orders/deep", "src/orders/"),
        ("{ParentPackageMode: auto}", "lib", ""),
        ("{ParentPackageMode: explicit, ParentPackages: acme.shop}", "lib/src/orders", "acme/shop/"),
        ("{ParentPackageMode: explicit}", "lib/src/orders", ""),
        ("{ParentPackageMode: no}", "lib/src/orders", ""),
        ("{}", "lib/src/orders", ""),
    ],
)
def test_source_lies_below_the_packages_that_sam_puts_it_below(folder: Path, build: str, code: str, prefix: str):
    assert read(folder, f"CodeUri: {code}", f"    Metadata: {{BuildProperties: {build}}}\n").prefix == prefix


def test_parent_packages_that_are_no_names_are_refused(folder: Path):
    with pytest.raises(UsageError, match="ParentPackages must be names of packages"):
        read(folder, "CodeUri: lib", "    Metadata: {BuildProperties: {ParentPackageMode: explicit, ParentPackages: ../up}}\n")


def test_build_method_may_be_a_parameter(folder: Path):
    assert read(folder, "CodeUri: lib", "    Metadata: {BuildMethod: !Ref Method}\n").logical_id == "Orders"


@pytest.mark.parametrize(("region", "architecture"), [("", "arm64"), ("eu-west-1", "x86_64")])
def test_mapping_by_region_is_evaluated_as_sam_does(folder: Path, region: str, architecture: str):
    config = SamConfig(path=folder / "samconfig.toml", region=region)
    function = read(folder, "CodeUri: lib, Architectures: [!FindInMap [Regions, !Ref AWS::Region, Arch]]", config=config)
    assert function.architecture == architecture
    assert function.defaults == (() if region else (("Architectures", "AWS::Region", "us-east-1"),))


def test_variable_that_names_the_region_stays_open(folder: Path):
    assert read(folder, "CodeUri: lib, Environment: {Variables: {R: !Ref AWS::Region}}").undecided == ("R",)
