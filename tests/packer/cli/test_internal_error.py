"""An error of lpack's own: its traceback, a request to report it, and an exit status that nothing else has."""

from __future__ import annotations

import subprocess
import sys

from packer import __version__
from packer.cli.app import INTERNAL_ERROR


def run_failing(raised: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with a command that raises this."""
    code = f"""
from packer.cli import app

def fail(**_):
    raise {raised}

app.lpack.main = fail
app.run(["doctor"])
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_internal_error_exits_with_70_and_asks_for_a_report():
    finished = run_failing("KeyError('that')")
    assert finished.returncode == INTERNAL_ERROR == 70
    assert finished.stdout == ""
    assert "Traceback (most recent call last)" in finished.stderr
    assert "KeyError: 'that'" in finished.stderr
    assert f"error: Internal error of lpack {__version__}" in finished.stderr
    assert "Please report it" in finished.stderr


def test_internal_error_hides_logins_in_urls():
    stderr = run_failing("RuntimeError('GET https://user:hunter2@index.example/simple')").stderr
    assert "index.example/simple" in stderr
    assert "hunter2" not in stderr


def test_exit_status_of_an_internal_error_is_documented(tmp_path, lpack):
    assert "70 an internal error of lpack." in " ".join(lpack("--help", cwd=tmp_path).stdout.split())
