"""`lpack build --template`: an AWS SAM template in, and one out that points at the archives."""

import json
import zipfile

import pytest
from ruamel.yaml import YAML

TEMPLATE = """\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Parameters:
  Arch:
    Type: String
    Default: x86_64
  Stage:
    Type: String
Globals:
  Function:
    Runtime: python3.12
    Handler: app.handler
    Architectures: [!Ref Arch]
Resources:
  Orders:   # takes orders
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: orders/
      Environment:
        Variables:
          STAGE: !Ref Stage
  Users:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: users/
  Front:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: nodejs20.x
      Handler: index.handler
      Architectures: [x86_64]
      CodeUri: front/
"""


@pytest.fixture
def folder(tmp_path, index, cache):
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    for name, requirements in (("orders", "alpha\n"), ("users", "native\n"), ("front", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text("def handler(event, context): ...\n")
        (tmp_path / name / "requirements.txt").write_text(requirements)
    return tmp_path


def native_tag(folder) -> bytes:
    with zipfile.ZipFile(folder / "dist" / "Users.zip") as archive:
        return archive.read("native/__init__.py")


def test_functions_come_from_the_template_and_the_template_comes_out(folder, lpack):
    finished = lpack("build", "--template", "template.yaml", "--json", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    manifest = json.loads(finished.stdout)
    assert set(manifest["functions"]) == {"Orders", "Users"}
    assert manifest["template"] == "template.yaml"
    assert "Front" in finished.stderr
    text = (folder / "dist" / "template.yaml").read_text()
    assert "# takes orders" in text
    assert "!Ref Stage" in text
    resources = YAML(typ="rt").load(text)["Resources"]
    places = {name: resource["Properties"]["CodeUri"] for name, resource in resources.items()}
    assert places == {"Orders": "Orders.zip", "Users": "Users.zip", "Front": "../front"}
    assert b"manylinux_2_34_x86_64" in native_tag(folder)


def test_a_parameter_changes_the_target(folder, lpack):
    finished = lpack("build", "--template", "template.yaml", "--parameter", "Arch=arm64", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert b"manylinux_2_34_aarch64" in native_tag(folder)


def test_lost_template_is_written_again(folder, lpack):
    lpack("build", "--template", "template.yaml", cwd=folder)
    (folder / "dist" / "template.yaml").unlink()
    assert lpack("build", "--template", "template.yaml", cwd=folder).stdout.count("unchanged") == 2
    assert (folder / "dist" / "template.yaml").exists()
    (folder / "template.yaml").write_text(TEMPLATE + "  # a comment at the end\n")
    assert lpack("build", "--template", "template.yaml", cwd=folder).stdout.count("unchanged") == 2
    assert "a comment at the end" in (folder / "dist" / "template.yaml").read_text()


def test_locks_of_a_template_stand_beside_it(folder, lpack):
    assert lpack("lock", "--template", "template.yaml", cwd=folder).returncode == 0
    assert (folder / "pylock.Orders.toml").exists()
    finished = lpack("build", "--template", "template.yaml", "--frozen", "Orders", cwd=folder)
    assert finished.returncode == 0, finished.stderr


def packed(folder, name: str) -> set[str]:
    with zipfile.ZipFile(folder / "dist" / f"{name}.zip") as archive:
        return {path.split("/")[0] for path in archive.namelist() if "dist-info" not in path}


def test_a_configuration_beside_the_template_says_how_its_functions_are_built(folder, lpack):
    lpack("build", "--template", "template.yaml", cwd=folder)
    assert "alpha" in packed(folder, "Orders")
    # The runtime is the template's.
    configuration = 'runtime = "python3.9"\nexclude = ["native"]\n'
    configuration += '[functions.Orders]\nexclude = ["alpha"]\n'
    configuration += '[functions.elsewhere]\nsource = "none"\nhandler = "app.handler"\n'
    (folder / "lpack.toml").write_text(configuration)
    finished = lpack("build", "--template", "template.yaml", "--json", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["functions"]["Orders"]["runtime"] == "python3.12"
    assert not {"alpha", "native"} & (packed(folder, "Orders") | packed(folder, "Users"))
    assert lpack("build", "--template", "template.yaml", cwd=folder).stdout.count("unchanged") == 2
    (folder / "lpack.toml").write_text(configuration.replace('["native"]', "[]"))
    lpack("build", "--template", "template.yaml", cwd=folder)
    assert "native" in packed(folder, "Users")
    (folder / "elsewhere.toml").write_text('exclude = ["native", "alpha"]\n')
    lpack("build", "--template", "template.yaml", "--config", "elsewhere.toml", cwd=folder)
    assert not {"alpha", "native"} & (packed(folder, "Orders") | packed(folder, "Users"))


def test_a_mistake_in_the_configuration_beside_a_template(folder, lpack):
    (folder / "lpack.toml").write_text('[functions.Orders]\nexclud = ["alpha"]\n')
    finished = lpack("build", "--template", "template.yaml", cwd=folder)
    assert finished.returncode == 2
    assert "lpack.toml: functions.Orders.exclud: this key is not known" in finished.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[functions.Oders]\nexclude = ["alpha"]\n', "functions.Oders: the template has no function of that name"),
        (
            '[functions.Orders]\nruntime = "python3.13"\n',
            "functions.Orders.runtime: ignored, because the template sets runtime",
        ),
    ],
)
def test_what_a_configuration_says_in_vain_is_told(folder, lpack, text, expected):
    (folder / "lpack.toml").write_text(text)
    finished = lpack("build", "--template", "template.yaml", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    said = " ".join(finished.stderr.split())
    assert f"lpack.toml: {expected}" in said
    assert "Did you mean 'Orders'?" in said or "Oders" not in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("[!Ref Arch]", "[!Ref Stage]"), ("template.yaml", "Stage", "--parameter")),
        (("python3.12", "python3.2"), ("python3.2",)),
        (("orders/\n", "nowhere/\n"), ("nowhere",)),
        (("Resources:", "Resource:"), ("Resources",)),
        (("    Runtime", "  Runtime"), ("template.yaml",)),
    ],
)
def test_wrong_templates_are_named(folder, lpack, change, expected):
    (folder / "template.yaml").write_text(TEMPLATE.replace(*change))
    finished = lpack("build", "--template", "template.yaml", cwd=folder)
    assert finished.returncode == 2, finished.stderr
    for part in expected:
        assert part in finished.stderr


def test_conflicting_flags_are_refused(folder, lpack):
    missing = lpack("build", "--template", "template.yaml", "--config", "x.toml", cwd=folder)
    assert missing.returncode == 2
    assert "x.toml" in missing.stderr
    assert lpack("build", "--parameter", "a=b", cwd=folder).returncode == 2
    assert lpack("build", "--template", "template.yaml", "--parameter", "Stage", cwd=folder).returncode == 2
