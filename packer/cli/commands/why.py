"""`lpack why`."""

from __future__ import annotations

import sys
from typing import Any

import click

from packer.cli.common import open_reporter, project_options
from packer.cli.costs import find_costs
from packer.core.records import json_text


@click.command()
@click.argument("function", metavar="FUNCTION|PATH")
@click.argument("package")
@click.option("--json", "as_json", is_flag=True, help="Print an object with all figures instead of text.")
@project_options
def command(*, function: str, package: str, as_json: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Say which requirements bring a package in, and what it costs.

    A chain for each distribution that requires it, as the metadata of the wheels has it for the target; the bytes that it takes
    as it is packed, and those of what nothing else needs.
    """
    from packer.formats.distribution_names import canonical_name
    from packer.inspect.requirement_report import why_text

    with open_reporter(verbose, quiet) as reporter:
        [costs] = find_costs((function,), flags, reporter, one=True)
        found = costs.why(canonical_name(package))
    sys.stdout.write(json_text(found, ascii_only=True) if as_json else why_text(found))
