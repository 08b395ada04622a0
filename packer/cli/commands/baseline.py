"""`lpack baseline`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from packer.cache.store import replace_file
from packer.cli.common import find_flagged_project, open_reporter, open_store, project_options, shape_options
from packer.cli.project_appraisal import appraise_project
from packer.core.errors import UsageError
from packer.core.options import LAYER_MODES
from packer.core.units import count_text
from packer.manifest.baseline import BASELINE_FILE, baseline_text, make_baseline


@click.command()
@click.argument("names", nargs=-1, metavar="[PATH]")
@click.option("--file", type=click.Path(path_type=Path), metavar="FILE", help=f"Where to (default: {BASELINE_FILE}).")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the artifacts (default: dist).")
@click.option("--layers", type=click.Choice(LAYER_MODES), help="Look as if this stood in the configuration.")
@shape_options
@project_options
def command(*, names: tuple[str, ...], file: Path | None, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Write down what functions take, to check later states against.

    `lpack check` does that. The file lies beside the configuration, and is meant to be committed.
    """
    project = find_flagged_project(names, flags)
    if project.names:
        what = f"{' '.join(project.names)}: a baseline always covers all functions."
        raise UsageError(what, remedy="Name a folder, or nothing for the configuration here.")
    with open_reporter(verbose, quiet) as reporter:
        state = appraise_project(project, {**flags, "strict": False}, open_store(), reporter)
    baseline = make_baseline({name: each.report for name, each in state.functions.items()})
    path = file or project.folder / BASELINE_FILE
    replace_file(path, baseline_text(baseline).encode())
    sys.stdout.write(f"written  {os.path.relpath(path)}  ({count_text(len(baseline.functions), 'function')})\n")
