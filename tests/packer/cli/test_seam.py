"""A command comes from outside: one module and one row of the table are all that listing, help and running need."""

from __future__ import annotations

from click.testing import CliRunner

from packer.cli import commands
from packer.cli.app import COMMANDS, lpack

GREET = '''
import click

@click.command()
@click.argument("name")
def command(name):
    """Greet somebody."""
    click.echo(f"Hello, {name}!")
'''


def test_command_is_added_from_outside(tmp_path, monkeypatch):
    (tmp_path / "greet.py").write_text(GREET)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    monkeypatch.setitem(COMMANDS, "greet", "Greet somebody.")
    assert CliRunner().invoke(lpack, ["greet", "World"]).output == "Hello, World!\n"
    assert "greet       Greet somebody." in CliRunner().invoke(lpack, ["--help"]).output
    assert "Usage: lpack greet [OPTIONS] NAME" in CliRunner().invoke(lpack, ["greet", "--help"], prog_name="lpack").output


def test_name_that_is_not_in_the_table_is_no_command(tmp_path, monkeypatch):
    (tmp_path / "greet.py").write_text(GREET)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert CliRunner().invoke(lpack, ["greet", "World"]).exit_code == 2
