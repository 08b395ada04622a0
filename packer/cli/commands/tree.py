"""`lpack tree`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from packer.cli.common import project_options, reporting
from packer.cli.costs import costs_of


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--json", "as_json", is_flag=True, help="Print an object with all figures instead of text.")
@project_options
def command(*, names: tuple[str, ...], as_json: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Show what functions require, as a tree with bytes.

    What a distribution takes as it is packed, and what it takes with all that it requires. Nothing is built.
    """
    from packer.inspect.requirement_report import SCHEMA_VERSION, tree_text

    with reporting(verbose, quiet) as reporter:
        found = [costs.tree() for costs in costs_of(names, flags, reporter)]
    document = {"schema_version": SCHEMA_VERSION, "functions": {each["function"]: each for each in found}}
    sys.stdout.write(json.dumps(document, indent=2) + "\n" if as_json else "\n".join(map(tree_text, found)))
