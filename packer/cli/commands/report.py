"""`lpack report`, and what `lpack build --report` writes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packer.cache.store import Store, replace_file
from packer.cli.commands.build import named_out
from packer.cli.common import Project, find_project, open_store, reporting
from packer.cli.outcome import built_options
from packer.core.errors import UsageError
from packer.core.names import MANIFEST_FILE
from packer.pipeline.state import state_key

if TYPE_CHECKING:
    from packer.config.load import Config
    from packer.core.model import Tree

REPORT_FILE = "lpack-report.html"


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
    from packer.cli.wiring import read_project
    from packer.config.load import Overrides

    project = find_project(names, flags["config"], flags["template"], flags["parameters"])
    if project.names:
        what = f"{' '.join(project.names)}: a report is always of all functions."
        raise UsageError(what, remedy="Name a folder, or nothing for the configuration here.")
    with reporting(verbose, quiet):
        config, _ = read_project(project, Overrides(out=flags["out"]))
        path = write_report(open_store(), project, config, flags["out"], file)
    sys.stdout.write(f"{os.path.relpath(path)}\n")


def write_report(store: Store, project: Project, config: Config, out: Path | None, file: Path | None = None) -> Path:
    """Write the report of what lies in the output folder, and give its path; raises `LpackError`."""
    from packer.formats.wheel import read_wheel
    from packer.inspect.snapshot import read_snapshot
    from packer.manifest.budget import function_measures, layer_budget, layer_measures, start_measure
    from packer.manifest.history import recall
    from packer.manifest.records import functions_of, read_manifest
    from packer.manifest.start_history import load_start
    from packer.report.page import Report, render

    path = config.out / MANIFEST_FILE
    if not path.is_file():
        raise UsageError(f"There is no {path}.", remedy="Run `lpack build` first.")

    def tree(digest: str, filename: str) -> Tree | None:
        found = store.wheel(digest)
        return read_wheel(found, filename) if found else None

    try:
        manifest = read_manifest(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}).", remedy="Remove it, and run `lpack build`.") from None
    functions = {function.name: function for function in config.functions if function.name in manifest["functions"]}
    layers = manifest.get("layers", {})
    whole = functions_of(manifest)
    measures = [each for name, function in functions.items() for each in function_measures(name, whole[name], function.budget)]
    for name, layer in layers.items():
        options = next((functions[user].layers for user in layer["functions"] if user in functions), None)
        measures += layer_measures(name, layer, layer_budget(name, options)) if options else []
    starts = {name: load_start(store, project.path, name) for name in manifest["functions"]}
    for name, start in starts.items():
        if start is not None and name in functions:
            start_limit = start_measure(name, start["after"]["median"], functions[name].budget, start["distributions"])
            measures += [start_limit] if start_limit else []
    page = render(
        Report(
            title=project.folder.name,
            manifest=manifest,
            snapshot=read_snapshot(path, str(path), tree),
            measures=measures,
            starts={name: found for name, found in starts.items() if found is not None},
            history=recall(store, state_key(project.path, named_out(project, out))),
        )
    )
    target = file or config.out / REPORT_FILE
    replace_file(target, page.encode())
    return target
