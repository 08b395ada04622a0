"""`lpack tree`."""

from __future__ import annotations

import sys
from typing import Any

import click

from packer.cli.common import open_reporter, project_options
from packer.cli.costs import find_costs
from packer.core.records import json_text


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--json", "as_json", is_flag=True, help="Print an object with all figures instead of text.")
@project_options
def command(*, names: tuple[str, ...], as_json: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Show what functions require, as a tree with bytes.

    What a distribution takes as it is packed, and what it takes with all that it requires. Nothing is built.
    """
    from packer.inspect.requirement_report import TreeDocument, tree_text

    with open_reporter(verbose, quiet) as reporter:
        found = [costs.tree() for costs in find_costs(names, flags, reporter)]
    document = TreeDocument(functions={each.function: each for each in found})
    sys.stdout.write(json_text(document, ascii_only=True) if as_json else "\n".join(map(tree_text, found)))
