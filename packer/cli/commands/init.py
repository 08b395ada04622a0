"""`lpack init`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from builders.runtimes import ARCHITECTURES, DEFAULT_ARCHITECTURE, DEFAULT_RUNTIME, RUNTIMES


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".", required=False)
@click.option("--runtime", metavar="|".join(RUNTIMES), default=DEFAULT_RUNTIME, show_default=True, help="Runtime to write.")
@click.option("--arch", metavar="|".join(ARCHITECTURES), default=DEFAULT_ARCHITECTURE, show_default=True, help="Architecture.")
@click.option("--print", "only_print", is_flag=True, help="Print the configuration instead of writing it.")
def command(*, folder: Path, runtime: str, arch: str, only_print: bool) -> None:
    """Write a configuration from what a folder holds.

    Every folder below FOLDER with a handler becomes a function of lpack.toml.
    """
    from packer.config.load import make_target
    from packer.config.scaffold import config_text, find_functions
    from packer.core.errors import UsageError
    from packer.core.names import CONFIG_FILE

    make_target((runtime, "--runtime"), (arch, "--arch"))
    text = config_text(find_functions(folder.absolute()), folder.absolute(), runtime, arch)
    path = folder / CONFIG_FILE
    if only_print:
        sys.stdout.write(text)
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists.", remedy="Edit it, or see what would be written: lpack init --print.") from None
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}.", remedy="Name a folder that can be written.") from error
    sys.stdout.write(f"written  {path}\n")
