"""Writes the HTML report of what lies in an output folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from packer.cache.store import Store, replace_file
from packer.config.load import Config
from packer.config.project import Project, find_output_folder
from packer.core.names import MANIFEST_FILE, REPORT_FILE
from packer.core.records import read_manifest
from packer.formats.wheel import stored_tree
from packer.inspect.snapshot import read_snapshot
from packer.manifest.budget import function_measures, layer_budget, layer_measures, start_measure
from packer.manifest.history import load_history
from packer.manifest.start_history import load_start
from packer.pipeline.state import state_key
from packer.report.page import ReportContent, render_page


def write_report(store: Store, project: Project, config: Config, out: Path | None, file: Path | None = None) -> Path:
    """Write the report of what lies in the output folder, and return its path; raises `LpackError`."""
    path = config.out / MANIFEST_FILE
    manifest = read_manifest(path)
    functions = {function.name: function for function in config.functions if function.name in manifest.functions}
    whole = manifest.records()
    measures = [each for name, function in functions.items() for each in function_measures(name, whole[name], function.budget)]
    for name, layer in manifest.layers.items():
        options = next((functions[user].layers for user in layer.functions if user in functions), None)
        measures += layer_measures(name, layer, layer_budget(name, options)) if options else []
    starts = {name: load_start(store, project.path, name) for name in manifest.functions}
    for name, start in starts.items():
        if start is not None and name in functions:
            start_limit = start_measure(name, start.after.median, functions[name].budget, start.distributions)
            measures += [start_limit] if start_limit else []
    page = render_page(
        ReportContent(
            title=project.folder.name,
            manifest=manifest,
            snapshot=read_snapshot(path, str(path), partial(stored_tree, store)),
            measures=measures,
            starts={name: found for name, found in starts.items() if found is not None},
            history=load_history(store, state_key(project.path, find_output_folder(project, out))),
        )
    )
    target = file or config.out / REPORT_FILE
    replace_file(target, page.encode())
    return target
