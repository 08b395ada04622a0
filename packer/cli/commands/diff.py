"""`lpack diff`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packer.cli.common import find_flagged_project, open_reporter, open_store, project_options
from packer.cli.project_appraisal import COMMIT
from packer.core.records import json_text

if TYPE_CHECKING:
    from packer.cache.store import Store
    from packer.cli.terminal import LineReporter
    from packer.inspect.snapshot import Snapshot

_NOW = "now"


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="[NEW]", default=_NOW)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "markdown")),
    default="table",
    help="How to print it (default: table).",
)
@click.option("--files", is_flag=True, help="List the files that came, went and changed, too.")
@project_options
def command(*, old: str, new: str, form: str, files: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Compare two builds, archives, images or commits by what they hold.

    OLD and NEW are each a ZIP archive, a folder or file of a build's manifest (lpack.json), an OCI layout, a docker-archive, a
    baseline, git:REF for the project as a commit has it, or `now` for the project as it is. Commits are looked at as `lpack
    check` does, and nothing is built.
    """
    from packer.inspect.diff import compare_snapshots, diff_markdown, diff_table
    from packer.manifest.baseline import is_baseline

    store = open_store()
    with open_reporter(verbose, quiet) as reporter:
        # A baseline knows functions with their layers alone, so that the other side counts them so.
        whole = any(is_baseline(Path(side)) for side in (old, new) if not _is_project(side))
        sides = [_read_side(side, {"out": None, "strict": False, **flags}, store, reporter, whole=whole) for side in (old, new)]
    document = compare_snapshots(*sides)
    if form == "json":
        sys.stdout.write(json_text(document, ascii_only=True))
    else:
        sys.stdout.write(diff_markdown(document) if form == "markdown" else diff_table(document, files=files))


def _is_project(side: str) -> bool:
    return side == _NOW or side.startswith(COMMIT)


def _read_side(side: str, flags: dict[str, Any], store: Store, reporter: LineReporter, *, whole: bool) -> Snapshot:
    from packer.cli.project_appraisal import appraise_commit, appraise_project
    from packer.formats.wheel import stored_tree
    from packer.inspect.snapshot import read_snapshot, snapshot_of_records

    if not _is_project(side):
        return read_snapshot(Path(side), side, partial(stored_tree, store), whole=whole)
    project = find_flagged_project((), flags)
    if side == _NOW:
        states = appraise_project(project, flags, store, reporter).functions
    else:
        states = appraise_commit(project, side.removeprefix(COMMIT), flags, store, reporter)
    return snapshot_of_records(side, {name: state.report for name, state in states.items()}, whole=whole)
