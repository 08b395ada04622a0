"""What functions get where they run, as the configuration and templates say it."""

from __future__ import annotations

import pytest

from packer.config.load import Overrides
from packer.config.project import Project
from packer.config.project_reader import read_project
from packer.core.errors import UsageError
from packer.core.options import ExecutionSettings
from tests.packer.config.test_load import refusal
from tests.packer.config.test_shape_table import FUNCTION, read

TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Parameters: {Size: {Type: Number, Default: 512}}
Globals: {Function: {Timeout: 20, Environment: {Variables: {STAGE: prod, DEBUG: false}}}}
Resources:
  Table: {Type: AWS::DynamoDB::Table}
  orders:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.12
      Handler: app.handler
      CodeUri: .
      MemorySize: !Ref Size
      EphemeralStorage: {Size: 1024}
      Environment: {Variables: {STAGE: test, TABLE: !GetAtt Table.Arn, QUEUE: !GetAtt Queue.Arn}}
"""


def test_nothing_is_set_without_a_key(tmp_path):
    assert read(tmp_path).execution == ExecutionSettings()


def test_function_overrides_project_and_numbers_have_lambdas_units(tmp_path):
    found = read(
        tmp_path,
        'memory = 1024\ntimeout = "1 min"\nenvironment = { AA = "function", CC = "" }',
        'memory = "512 MB"\ntimeout = 3\nstorage = "2 GB"\nenvironment = { AA = "project", BB = "b" }',
    ).execution
    environment = (("AA", "function"), ("BB", "b"), ("CC", ""))
    assert found == ExecutionSettings(memory=1024, timeout=60, storage=2048, environment=environment)


def test_variables_of_the_proof_win(tmp_path):
    function = read(tmp_path, 'environment = { AA = "1", BB = "2" }\nverify = { environment = { AA = "3" } }')
    assert function.variables == {"AA": "3", "BB": "2"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("memory = 64", "memory: Lambda takes a whole number from 128 to 32768 MB here, not 64."),
        ('memory = "1.5 KB"', "memory: Lambda takes a whole number"),
        ('timeout = "16 min"', "timeout: Lambda takes a whole number from 1 to 900 s here, not '16 min'."),
        ('timeout = "1500 ms"', "timeout: Lambda takes a whole number"),
        ("storage = 100", "storage: Lambda takes a whole number from 512 to 10240 MB here, not 100."),
        ("memory = true", "memory: a whole number above 0 is expected, not True."),
        ("environment = { AA = 3 }", "environment.AA: a string is expected, not 3."),
        ('environment = { AWS_REGION = "eu-west-1" }', "environment.AWS_REGION: Lambda sets this variable itself"),
        ('environment = { A = "1" }', "environment.A: Lambda takes a letter here, followed by at least one more"),
        ('environment = { "MY-KEY" = "1" }', "environment.MY-KEY: Lambda takes a letter here"),
        (f'environment = {{ TOO_LONG = "{4096 * "x"}" }}', "environment: the variables take 4,111 bytes together"),
    ],
)
def test_wrong_settings_are_refused_at_their_place(tmp_path, text, what):
    assert what in refusal(tmp_path, f"{FUNCTION}{text}\n")


def test_variables_that_lambda_lets_a_function_set_are_taken(tmp_path):
    names = ("AWS_LAMBDA_EXEC_WRAPPER", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TZ")
    given = ", ".join(f'{name} = "x"' for name in names) + f', LONGEST = "{3977 * "x"}"'
    found = read(tmp_path, f"environment = {{ {given} }}").execution.environment
    assert [name for name, _ in found] == sorted((*names, "LONGEST"))


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        (
            "{AWS_LAMBDA_FUNCTION_NAME: mine}",
            "Environment.Variables.AWS_LAMBDA_FUNCTION_NAME: Lambda sets this variable itself",
        ),
        ("{_HANDLER: !GetAtt Table.Arn}", "Environment.Variables._HANDLER: Lambda sets this variable itself"),
        (f"{{BIG: {4096 * 'x'}}}", "Environment.Variables: the variables take 4,"),
    ],
)
def test_variables_of_a_template_that_a_deployment_would_be_refused_for_are_refused(tmp_path, variables, what):
    text = TEMPLATE.replace("{STAGE: test, TABLE: !GetAtt Table.Arn, QUEUE: !GetAtt Queue.Arn}", variables)
    (tmp_path / "template.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_project(Project(kind="template", path=tmp_path / "template.yaml"), Overrides())
    assert f"template.yaml:6: orders: {what}" in str(caught.value)


@pytest.mark.parametrize(
    ("properties", "memory", "timeout"),
    [
        ("", 128, 3),
        ("MemorySize: !GetAtt Table.Size", None, 3),
        ("Timeout: !GetAtt Table.Time", 128, None),
        ("MemorySize: !Ref AWS::NoValue", 128, 3),
    ],
)
def test_what_a_template_leaves_to_lambda_has_lambdas_defaults(tmp_path, properties, memory, timeout):
    text = TEMPLATE.replace("Timeout: 20, ", "").replace("MemorySize: !Ref Size", properties)
    (tmp_path / "template.yaml").write_text(text)
    project = Project(kind="template", path=tmp_path / "template.yaml")
    [function] = read_project(project, Overrides())[0].functions
    assert (function.execution.memory, function.execution.timeout) == (memory, timeout)


def test_a_template_wins_and_its_undecided_variables_come_from_the_configuration(tmp_path):
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    (tmp_path / "lpack.toml").write_text(
        '[functions.orders]\nmemory = 256\ntimeout = 5\nenvironment = { STAGE = "dev", TABLE = "orders", MORE = "1" }\n'
    )
    project = Project(kind="template", path=tmp_path / "template.yaml", config=tmp_path / "lpack.toml")
    [function] = read_project(project, Overrides())[0].functions
    environment = (("DEBUG", "false"), ("MORE", "1"), ("QUEUE", "QUEUE"), ("STAGE", "test"), ("TABLE", "orders"))
    assert function.execution == ExecutionSettings(memory=512, timeout=20, storage=1024, environment=environment)
