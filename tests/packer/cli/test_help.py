"""Help pages, and a start that does not wait for imports."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from packer import __version__
from packer.cli.app import COMMANDS
from packer.cli.app import lpack as group
from packer.cli.help_page import HELP

HEAVY = ("requests", "rich", "ruamel", "uv", "docker", "packaging", "pathspec", "deflate", "keyring", "tomli_w", "filelock")


def test_prepared_help_page_equals_clicks():
    page = CliRunner().invoke(group, ["--help"], prog_name="lpack").output
    assert page == HELP, "Renew packer/cli/help_page.py: its text is the output of this command."


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_is_printed_without_click(arguments):
    code = "import sys; from packer.cli import main; main(); assert 'click' not in sys.modules"
    finished = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert finished.stdout == HELP


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(tmp_path, fresh_lpack, name):
    finished = fresh_lpack(name, "--help", cwd=tmp_path)
    assert finished.returncode == 0
    assert COMMANDS[name] in " ".join(finished.stdout.split())


def test_version_is_printed(tmp_path, lpack):
    assert lpack("--version", cwd=tmp_path).stdout == f"lpack {__version__}\n"


def test_wrong_usage_exits_with_two(tmp_path, lpack):
    for arguments in (["bild"], ["build", "--no-such-flag"], ["build", "--jobs", "0"], ["completion", "tcsh"]):
        finished = lpack(*arguments, cwd=tmp_path)
        assert finished.returncode == 2, arguments
        assert finished.stdout == ""


def test_nothing_heavy_is_imported_where_nothing_changed():
    code = "import packer.cli.app, packer.cli.commands.build, sys; print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(finished.stdout.split())
    assert loaded.isdisjoint(HEAVY)
