"""AWS SAM CLI's configuration file: what it says is built, and it lies where `sam deploy` looks for it."""

import json
import os
import shlex
import subprocess

import pytest

from tests.samcli import sam_command

TEMPLATE = """\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Parameters:
  CpuType: {Type: String, Default: x86_64, AllowedValues: [x86_64, arm64]}
Resources:
  Prices:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: src, Handler: app.handler, Runtime: python3.12, Architectures: [!Ref CpuType]}
"""
CONFIG = """\
version = 0.1
[default.global.parameters]
stack_name = "prices"
parameter_overrides = "CpuType=arm64"
[default.deploy.parameters]
resolve_s3 = true
capabilities = "CAPABILITY_IAM"
"""


@pytest.fixture
def folder(tmp_path, index, cache):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/app.py").write_text("def handler(event, context): ...\n")
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return tmp_path


def architecture(finished) -> str:
    assert finished.returncode == 0, finished.stderr
    return str(json.loads(finished.stdout)["functions"]["Prices"]["architecture"])


def test_parameters_of_the_file_are_built(folder, lpack):
    build = ("build", "--template", "template.yaml", "--json", "--verify", "none")
    finished = lpack(*build, cwd=folder)
    assert architecture(finished) == "x86_64"
    assert "Architectures of Prices: CpuType has its default, x86_64; --parameter CpuType=VALUE" in finished.stderr
    assert finished.stderr.endswith("deploy it with: sam deploy --template dist/template.yaml --guided\n")
    (folder / "samconfig.toml").write_text(CONFIG + '[old.build.parameters]\nparameter_overrides = "CpuType=x86_64"\n')
    for _ in range(2):
        finished = lpack(*build, cwd=folder)
        assert architecture(finished) == "arm64"
        assert "its default" not in finished.stderr
        assert finished.stderr.endswith("deploy it with: sam deploy --template dist/template.yaml\n")
    finished = lpack(*build, "--config-env", "old", cwd=folder)
    assert architecture(finished) == "x86_64"
    assert "--config-env old" in finished.stderr
    assert architecture(lpack(*build, "--parameter", "CpuType=x86_64", cwd=folder)) == "x86_64"


def test_file_lies_beside_the_written_template_as_long_as_it_exists(folder, lpack):
    build = ("build", "--template", "template.yaml", "--verify", "none")
    for text in (CONFIG, CONFIG + "# changed\n"):
        (folder / "samconfig.toml").write_text(text)
        lpack(*build, cwd=folder)
        assert (folder / "dist/samconfig.toml").read_text() == text
    (folder / "dist/samconfig.toml").unlink()
    lpack(*build, cwd=folder)
    assert (folder / "dist/samconfig.toml").exists()
    (folder / "samconfig.toml").unlink()
    lpack(*build, cwd=folder)
    assert not (folder / "dist/samconfig.toml").exists()


def test_template_that_the_file_names_is_built_without_a_word(folder, lpack):
    (folder / "samconfig.toml").write_text(CONFIG.replace("stack_name", 'template_file = "template.yaml"\nstack_name'))
    assert architecture(lpack("build", "--json", "--verify", "none", cwd=folder)) == "arm64"
    (folder / "lpack.toml").write_text('[functions.other]\nsource = "src"\nhandler = "app.handler"\n')
    assert list(json.loads(lpack("build", "--json", cwd=folder).stdout)["functions"]) == ["other"]


def test_environment_without_a_file_is_refused(folder, lpack):
    finished = lpack("build", "--template", "template.yaml", "--config-env", "prod", cwd=folder)
    assert finished.returncode == 2
    assert "no samconfig.toml" in finished.stderr


def test_sam_finds_the_stack_by_the_printed_command(folder, lpack):
    (folder / "samconfig.toml").write_text(CONFIG)
    finished = lpack("build", "--template", "template.yaml", "--verify", "none", cwd=folder)
    words = shlex.split(finished.stderr.splitlines()[-1].partition("deploy it with: sam ")[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**kept, "SAM_CLI_TELEMETRY": "0", "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    deployed = subprocess.run(
        [sam_command(), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert "Missing option" not in deployed.stderr
    assert "Unable to resolve a region" in deployed.stderr
