"""AWS's SAM CLI in tests: where it is, and how it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.forkserver import CommandServer

# Read here and not in a test, where lpack's own variables are taken away.
_SAM = os.environ.get("LPACK_TEST_SAM") or shutil.which("sam")
_MODULES = (
    "samcli.cli.main",
    "samcli.commands.validate.validate",
    "cfnlint.api",
    "cfnlint.runner",
    "samtranslator.translator.translator",
    "boto3",
)
"""What `sam validate --lint` imports, which takes it two seconds."""
_PROGRAM = "from samcli.cli.main import cli\ncli(prog_name='sam')\n"


def sam_command() -> str:
    """Return the path of SAM CLI; skips the test where there is none."""
    if _SAM is None:
        pytest.skip("needs SAM CLI: pip install aws-sam-cli, and LPACK_TEST_SAM where it is not on PATH")
    return _SAM


@contextmanager
def sam_server() -> Iterator[CommandServer | None]:
    """Give a server whose forks are SAM CLI; None where that was not installed by pip."""
    python = Path(os.path.realpath(sam_command())).with_name("python3")
    if not python.exists():
        yield None
        return
    with CommandServer(*_MODULES, python=str(python), packages=()) as server:
        yield server


def validate(server: CommandServer | None, template: Path) -> subprocess.CompletedProcess[str]:
    """Run ``sam validate --lint`` on a template."""
    words = ("validate", "--lint", "--template", str(template))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM_CLI_TELEMETRY", "0")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        if server is not None:
            return server.run(words, template.parent, 120, _PROGRAM)
        return subprocess.run([sam_command(), *words], capture_output=True, text=True, check=False)
