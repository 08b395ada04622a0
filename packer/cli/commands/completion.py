"""`lpack completion`."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(*, shell: str) -> None:
    """Print a shell's completion script.

    For bash: lpack completion bash > ~/.local/share/bash-completion/completions/lpack
    """
    from packer.cli import COMPLETE_VARIABLE
    from packer.cli.app import lpack

    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"click has no completion for {shell}.")
    sys.stdout.write(completion(lpack, {}, "lpack", COMPLETE_VARIABLE).source())
