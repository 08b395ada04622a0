"""`lpack affected`, and what `lpack build --changed-since` builds."""

from __future__ import annotations

import sys
from typing import Any

import click

from packer.cli.common import find_flagged_project, message_options, open_reporter, open_store, place_options
from packer.config.project import find_output_folder
from packer.core.records import json_text
from packer.pipeline.state import load_state, state_key


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--since", required=True, metavar="REF", help="Compare with where HEAD and this commit, branch or tag part.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with names and reasons instead of names.")
@place_options
@message_options
def command(
    *,
    names: tuple[str, ...],
    since: str,
    as_json: bool,
    verbose: bool,
    quiet: bool,
    **place: Any,
) -> None:
    """List the functions that what git has changed affects.

    The working tree, with what is not committed or not tracked yet, is compared with the commit where HEAD and REF part, as
    `git diff REF...HEAD` does. A function is affected by its source, its dependency files and locks, its part of the
    configuration or template, its events, its profile, the local projects that it uses, and by what the functions declare with
    which it shares versions. Nothing is resolved or fetched. What git ignores is not seen.
    """
    from packer.change.since import find_affected
    from packer.config.load import Overrides

    project = find_flagged_project(names, place)
    state = load_state(open_store(), state_key(project.path, find_output_folder(project, None)))
    with open_reporter(verbose, quiet) as reporter:
        answer = find_affected(project, Overrides(), since, state, reporter)
        if not answer.reasons:
            reporter.note(f"No function is affected by what has changed since {since}.")
        for name, paths in answer.reasons.items():
            reporter.debug(f"{name}: {', '.join(paths)}")
    if as_json:
        sys.stdout.write(json_text(answer.document()))
    else:
        sys.stdout.write("".join(f"{name}\n" for name in answer.reasons))
