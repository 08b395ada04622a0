from __future__ import annotations

from pathlib import Path

import pytest

from packer.core.errors import UsageError
from packer.sam.samconfig import SamConfig, find_sam_config, list_deploy_options, read_sam_config
from packer.sam.template import read_template


def read(folder: Path, text: str, environment: str = "", name: str = "samconfig.toml") -> SamConfig:
    (folder / name).write_text(text)
    return read_sam_config(folder / name, environment)


@pytest.mark.parametrize(
    "written",
    [
        "'Stage=prod Arch=arm64'",
        """'Stage="prod" Arch=arm64'""",
        "'ParameterKey=Stage,ParameterValue=prod ParameterKey=Arch,ParameterValue=arm64'",
        '["Stage=prod", "Arch=arm64"]',
        '["Stage=prod Arch=arm64", ["Arch=arm64"]]',
        '{Stage = "prod", Arch = "arm64"}',
        '[{Stage = "prod"}, {"$include" = "file://more.yaml"}]',
        '"file://all.toml"',
    ],
)
def test_parameters_are_read_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.yaml").write_text("Arch: arm64\n")
    (tmp_path / "all.toml").write_text('Stage = "prod"\n"$include" = ["file://more.yaml"]\n')
    config = read(tmp_path, f"version = 0.1\n[default.build.parameters]\nparameter_overrides = {written}\n")
    assert config.parameters == {"Stage": "prod", "Arch": "arm64"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r"""'Name="two words" B=1'""", "two words"),
        (r"""'Name=two\ words B=1'""", "two words"),
        (r"""'Name="say \"x\"" B=1'""", 'say "x"'),
        ("'Name= B=1'", ""),
        ("'Name=a=b,c B=1'", "a=b,c"),
        ("{Name = [1, 2], B = 1}", "1,2"),
        ("{Name = true, B = 1}", "True"),
    ],
)
def test_values_keep_their_quoted_letters(tmp_path: Path, written: str, value: str):
    config = read(tmp_path, f"[default.build.parameters]\nparameter_overrides = {written}\n")
    assert config.parameters == {"Name": value, "B": "1"}


LAYERED = """\
version = 0.1
[default.global.parameters]
parameter_overrides = "A=global"
region = "eu-west-1"
[default.build.parameters]
base_dir = "code"
[prod.global.parameters]
parameter_overrides = "A=prod"
[prod.build.parameters]
parameter_overrides = "A=build"
template-file = "stack/template.yaml"
[prod.deploy.parameters]
stack_name = "shop"
"""


def test_what_the_command_says_goes_before_what_holds_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    config = read(tmp_path, LAYERED)
    assert (config.parameters, config.region, config.base, config.template) == (
        {"A": "global"},
        "eu-west-1",
        tmp_path / "code",
        None,
    )
    config = read(tmp_path, LAYERED, "prod")
    assert (config.parameters, config.template) == ({"A": "build"}, tmp_path / "stack/template.yaml")
    assert config.deploy == {"stack_name": "shop", "parameter_overrides": {"A": "prod"}}


def test_yaml_is_read_where_there_is_no_toml(tmp_path: Path):
    assert find_sam_config(tmp_path) is None
    text = "version: 0.1\ndefault:\n  build:\n    parameters:\n      parameter_overrides: {A: 1}\n"
    config = read(tmp_path, text, name="samconfig.yaml")
    assert config.parameters == {"A": "1"}
    assert find_sam_config(tmp_path) == tmp_path / "samconfig.yaml"
    (tmp_path / "samconfig.toml").touch()
    assert find_sam_config(tmp_path) == tmp_path / "samconfig.toml"


@pytest.mark.parametrize(
    ("text", "environment", "what"),
    [
        ("[default", "", "is not valid TOML"),
        ("[default.build]\nparameters = 1\n", "", "default.build.parameters must be a table"),
        ("[default.build.parameters]\nparameter_overrides = 'A'\n", "", "has no pair in 'A'"),
        ("[default.build.parameters]\nparameter_overrides = 1\n", "", "cannot be 1"),
        ("[default.build.parameters]\nparameter_overrides = 'file://none.yaml'\n", "", "none.yaml"),
        ("[default.build.parameters]\nparameter_overrides = 'file://loop.toml'\n", "", "includes itself"),
        (LAYERED, "staging", "has no environment staging"),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, environment: str, what: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.toml").write_text('"$include" = "file://loop.toml"\n')
    with pytest.raises(UsageError, match=what):
        read(tmp_path, text, environment)


def test_parameters_of_the_command_line_go_before_those_of_the_file(tmp_path: Path):
    (tmp_path / "code").mkdir()
    (tmp_path / "template.yaml").write_text(
        "Parameters: {Arch: {Type: String, Default: x86_64}}\nResources:\n  A:\n    Type: AWS::Serverless::Function\n"
        "    Properties: {CodeUri: code, Handler: app.handler, Runtime: python3.12, Architectures: [!Ref Arch]}\n"
    )
    config = read(tmp_path, "[default.build.parameters]\nparameter_overrides = 'Arch=arm64 Elsewhere=1'\n")
    given = read_template(tmp_path / "template.yaml", {}, config=config)
    assert (given.functions[0].architecture, given.functions[0].defaults) == ("arm64", ())
    assert given.given == {"Arch": "arm64"}
    assert read_template(tmp_path / "template.yaml", {"Arch": "x86_64"}, config=config).functions[0].architecture == "x86_64"


COMPLETE = {"stack_name": "shop", "resolve_s3": True, "capabilities": "CAPABILITY_IAM"}


@pytest.mark.parametrize(
    ("deploy", "given", "environment", "words"),
    [
        (None, {}, "", ("--guided",)),
        ({}, {}, "default", ("--guided",)),
        (COMPLETE, {}, "default", ()),
        (COMPLETE, {}, "prod", ("--config-env", "prod")),
        ({**COMPLETE, "resolve_s3": False}, {}, "default", ("--resolve-s3",)),
        ({**COMPLETE, "resolve_s3": False, "s3_bucket": "b"}, {}, "default", ()),
        ({**COMPLETE, "capabilities": ""}, {}, "default", ("--capabilities", "CAPABILITY_IAM")),
        ({**COMPLETE, "parameter_overrides": {"A": "1"}}, {"A": "1"}, "default", ()),
        (
            {**COMPLETE, "parameter_overrides": {"A": "1", "B": "2"}},
            {"A": "3", "Key": "hush"},
            "default",
            ("--parameter-overrides", "A=3", "B=2", "Key=VALUE"),
        ),
    ],
)
def test_deployment_gets_what_the_file_does_not_say(
    tmp_path: Path, deploy: dict[str, object] | None, given: dict[str, str], environment: str, words: tuple[str, ...]
):
    path = tmp_path / "samconfig.toml"
    config = None if deploy is None else SamConfig(path=path, environment=environment, deploy=deploy)
    assert list_deploy_options(config, given, {"Key"}) == words
