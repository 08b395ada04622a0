"""`lpack schema`."""

from __future__ import annotations

import sys

import click

from packer.manifest.schemas import NAMES, schema_text


@click.command()
@click.argument("name", type=click.Choice(NAMES), metavar="[NAME]", default="manifest")
def command(*, name: str) -> None:
    """Print the JSON Schema of a file, or of what a command prints as JSON.

    NAME is `manifest` for lpack.json and what a build prints, `baseline` for that file, or the command: affected, cache-info,
    check, coldstart, diff, doctor, load, plan, push, tree, verify, why. Without one, it is the manifest's.
    """
    sys.stdout.write(schema_text(name))
