"""`lpack graph`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from packer.cli.common import open_reporter, project_options, shape_options
from packer.cli.project_plan import plan_layers
from packer.core.options import LAYER_MODES


@click.command()
@click.argument("names", nargs=-1, metavar="[PATH]")
@click.option("--layers", type=click.Choice(LAYER_MODES), help="Plan as if this stood in the configuration.")
@click.option("-o", "out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write to this file.")
@shape_options
@project_options
def command(*, names: tuple[str, ...], out: Path | None, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Draw functions, layers and distributions as an SVG picture.

    It shows what `lpack plan` tells: which layers `lpack build` would make, who uses them, and what stays inside functions.
    Any browser shows it, and pointing at a box there shows its curves alone. Without -o it goes to standard output.
    """
    from packer.cache.store import replace_file
    from packer.report.plan_graph import draw_plan

    with open_reporter(verbose, quiet) as reporter:
        picture = draw_plan(plan_layers(names, flags, reporter)).encode()
    if out is None:
        sys.stdout.buffer.write(picture)  # bytes, as XML without a declaration is UTF-8, whatever the terminal takes
        return
    replace_file(out, picture)
    sys.stdout.write(f"written  {out}\n")
