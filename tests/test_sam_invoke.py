"""What `lpack build --template` writes really runs in SAM CLI: in a container of the runtime, from the archive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builders.runtimes import Target
from tests.samcli import sam_command

IMAGE = Target.of("python3.11", "x86_64").runtime_image

TEMPLATE = """\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Runtime: python3.11
    Handler: app.handler
    Timeout: 30
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: api/  # what `sam build` would build
"""

HANDLER = """\
import sys

import alpha

def handler(event, context):
    return {"python": list(sys.version_info[:2]), "file": __file__, "alpha": alpha.VERSION, "event": event}
"""


def need_image() -> None:
    if shutil.which("docker") is None:
        pytest.skip("needs the docker command")
    if run(["docker", "info"]).returncode:
        pytest.skip("needs a Docker Engine that answers")
    if run(["docker", "image", "inspect", IMAGE]).returncode:
        pytest.skip(f"needs the image {IMAGE}: pull it, or make a stand-in with fixtures/images/runtime.sh")


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def invoke(sam: str, template: Path, name: str, event: object) -> Any:
    """Invoke a function locally and give what it returned."""
    (template.parent / "event.json").write_text(json.dumps(event))
    command = [sam, "local", "invoke", name, "--template", str(template), "--event", str(template.parent / "event.json")]
    done = run([*command, "--skip-pull-image"])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def built(tmp_path: Path, lpack, index, cache) -> Path:
    """A template that `lpack build --template` has written; gives its path."""
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "app.py").write_text(HANDLER)
    (tmp_path / "api" / "requirements.txt").write_text("alpha==1.1\n")
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    finished = lpack("build", "--template", "template.yaml", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    return tmp_path / "dist" / "template.yaml"


def test_sam_validates_the_written_template(built: Path, sam_validate):
    sam_validate(built)


@pytest.mark.docker
def test_sam_invokes_the_function_from_its_archive(built: Path):
    sam = sam_command()
    need_image()
    assert invoke(sam, built, "Api", {"order": 7}) == {
        "python": [3, 11],
        "file": "/var/task/app.py",
        "alpha": "1.1",
        "event": {"order": 7},
    }
