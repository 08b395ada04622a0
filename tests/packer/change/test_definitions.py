"""What a configuration or template said of functions then and now."""

from pathlib import Path

import pytest

from packer.change.definitions import find_redefined, find_redefined_in_template
from packer.config.load import Overrides, load_config
from packer.config.project import Project
from packer.core.model import Function

BEFORE = """
runtime = "python3.12"
exclude = ["boto3"]
[functions.a]
source = "a"
handler = "app.handler"
runtime = "python3.13"
[functions.b]
source = "b"
handler = "app.handler"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text("def handler(event, context): ...\n")
    return tmp_path


def changed(folder: Path, before: str | None, now: str, name: str = "lpack.toml") -> set[str]:
    path = folder / name
    path.write_text(now)
    functions = load_config(path, Overrides()).functions
    return set(find_redefined(functions, path, None if before is None else before.encode()))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "# a comment\n", set()),
        ('runtime = "python3.13"', 'runtime = "python3.11"', {"a"}),
        ('source = "b"', 'source = "c"', {"b"}),
        ('exclude = ["boto3"]', "exclude = []", {"a", "b"}),
        ('runtime = "python3.12"', 'runtime = "python3.11"', {"b"}),
        ("[functions.b]", '[functions.c]\nsource = "c"\nhandler = "app.handler"\n[functions.b]', {"c"}),
        ("[functions.a]", 'out = "elsewhere"\n[functions.a]', set()),
        ("[functions.a]", "[packages.numpy]\nnetwork = true\n[functions.a]", {"a", "b"}),
    ],
)
def test_changed_key_affects_only_its_functions(folder, old, new, expected):
    assert changed(folder, BEFORE, BEFORE.replace(old, new, 1)) == expected


@pytest.mark.parametrize("before", [None, "", "not toml [", "functions = 3\n"])
def test_unreadable_old_configuration_affects_all(folder, before):
    assert changed(folder, before, BEFORE) == {"a", "b"}


def test_tables_of_others_in_a_pyproject_say_nothing(folder):
    now = BEFORE.replace("\nruntime", "\n[tool.lpack]\nruntime", 1).replace("[functions", "[tool.lpack.functions")
    assert changed(folder, now, now + "[tool.ruff]\nline-length = 100\n", "pyproject.toml") == set()
    assert changed(folder, "[tool.ruff]\nline-length = 100\n", now, "pyproject.toml") == {"a", "b"}
    assert changed(folder, now, now.replace('source = "b"', 'source = "c"'), "pyproject.toml") == {"b"}


def test_patterns_make_functions_of_what_they_did_not_mean(folder):
    assert changed(folder, 'discover = ["a", "b"]\n', 'discover = ["*"]\n') == {"c"}
    assert changed(folder, 'discover = ["*"]\n', 'discover = ["[abc]"]\n') == set()
    assert changed(folder, 'discover = ["*", "!b"]\n', 'discover = ["*"]\n') == {"b"}
    assert changed(folder, "discover = 3\n", 'discover = ["*"]\n') == {"a", "b", "c"}


TEMPLATE = """
Parameters:
  Runtime: {Type: String, Default: python3.12}
Resources:
  A:
    Type: AWS::Serverless::Function
    Properties: {Runtime: !Ref Runtime, Handler: app.handler, CodeUri: a}
  B:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.handler, CodeUri: b, MemorySize: 128}
"""


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (TEMPLATE, set()),
        (TEMPLATE.replace("128", "256"), set()),
        (TEMPLATE.replace("\nResources", "\n\n\nResources"), set()),
        (TEMPLATE.replace("Default: python3.12", "Default: python3.11"), {"A"}),
        (TEMPLATE.replace("CodeUri: b", "CodeUri: c"), {"B"}),
        (TEMPLATE.replace("  B:", "  Other:"), {"B"}),
        (TEMPLATE.replace("MemorySize: 128", "Layers: [arn:one]"), {"B"}),
        (TEMPLATE.replace("MemorySize: 128", "Layers: !Split [',', !Ref Runtime]"), {"B"}),
        (TEMPLATE.replace("Resources:", "Globals: {Function: {Layers: [arn:one]}}\nResources:"), {"A", "B"}),
        (TEMPLATE.replace("CodeUri: b", "CodeUri: gone"), {"A", "B"}),
        ("Resources: [", {"A", "B"}),
        (None, {"A", "B"}),
    ],
)
def test_changed_template_affects_only_its_functions(folder, before, expected):
    path = folder / "template.yaml"
    path.write_text(TEMPLATE)
    functions = [_function(folder, name) for name in ("A", "B")]
    assert (
        set(find_redefined_in_template(functions, Project(kind="template", path=path), before.encode() if before else None))
        == expected
    )


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        ("[arn:one]", "[arn:two]", {"B"}),
        ("[arn:one]", "[arn:one, arn:two]", {"B"}),
        ("[arn:one, arn:two]", "[arn:two, arn:one]", {"B"}),
        ("[arn:one]", "['arn:one']", set()),
        ("[!ImportValue one]", "[!ImportValue two]", {"B"}),
        ("!Split [',', !ImportValue one]", "!Split [',', !ImportValue two]", {"B"}),
        ("!Split [',', !ImportValue one]", "!Split  [',', !ImportValue one]", set()),
        ("[arn:one]", "!If [Gone, [arn:one], []]", {"B"}),
        ("{Ref: AWS::NoValue}", "[]", {"B"}),
    ],
)
def test_changed_layers_of_a_template_affect_their_functions(folder, then, now, expected):
    path = folder / "template.yaml"
    before, after = (TEMPLATE.replace("MemorySize: 128", f"Layers: {layers}") for layers in (then, now))
    path.write_text(after)
    functions = [_function(folder, name) for name in ("A", "B")]
    assert set(find_redefined_in_template(functions, Project(kind="template", path=path), before.encode())) == expected


def _function(folder: Path, name: str) -> Function:
    (folder / "lpack.toml").write_text(f'[functions.{name}]\nsource = "a"\nhandler = "app.handler"\n')
    return load_config(folder / "lpack.toml", Overrides()).functions[0]
