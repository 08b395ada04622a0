"""`lpack report`, and what `lpack build --report` writes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from packer.cli.common import find_flagged_project, open_reporter, open_store
from packer.cli.outcome import built_options
from packer.core.errors import UsageError
from packer.core.names import REPORT_FILE


@click.command()
@click.argument("names", nargs=-1, metavar="[PATH]")
@click.option(
    "--file", type=click.Path(path_type=Path), metavar="FILE", help=f"Where to (default: {REPORT_FILE} beside artifacts)."
)
@built_options
def command(*, names: tuple[str, ...], file: Path | None, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Write an HTML report of what was built: one file that needs nothing else.

    A treemap of every file by function and layer, budgets and limits, the imports of cold starts that `lpack coldstart` has
    measured, what functions share, what trimming removed, and the sizes of the last builds on this machine.
    """
    from packer.config.load import Overrides
    from packer.config.project_reader import read_project
    from packer.report.report_file import write_report

    project = find_flagged_project(names, flags)
    if project.names:
        what = f"{' '.join(project.names)}: a report always covers all functions."
        raise UsageError(what, remedy="Name a folder, or nothing for the configuration here.")
    with open_reporter(verbose, quiet):
        config, _ = read_project(project, Overrides(out=flags["out"]))
        path = write_report(open_store(), project, config, flags["out"], file)
    sys.stdout.write(f"{os.path.relpath(path)}\n")
