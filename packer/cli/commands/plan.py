"""`lpack plan`."""

from __future__ import annotations

import sys
from typing import Any

import click

from packer.cli.common import open_reporter, project_options, shape_options
from packer.cli.project_plan import plan_layers
from packer.core.options import LAYER_MODES
from packer.core.records import json_text


@click.command()
@click.argument("names", nargs=-1, metavar="[PATH]")
@click.option("--layers", type=click.Choice(LAYER_MODES), help="Plan as if this stood in the configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with all figures instead of a table.")
@shape_options
@project_options
def command(*, names: tuple[str, ...], as_json: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Show which layers functions would share, and what that saves.

    For each layer: what is in it, who uses it, and its bytes; for each function what stays inside. All functions are locked,
    fetched and trimmed for that, and nothing is written to the output folder.
    """
    from packer.inspect.plan_document import plan_table

    with open_reporter(verbose, quiet) as reporter:
        document = plan_layers(names, flags, reporter)
    sys.stdout.write(json_text(document, ascii_only=True) if as_json else plan_table(document))
