"""`lpack check`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packer.cache.signatures import signature
from packer.cli.answer_cache import remember
from packer.cli.common import find_flagged_project, open_reporter, open_store, project_options, shape_options
from packer.cli.project_appraisal import COMMIT, appraise_project, collect_budgets, make_commit_baseline
from packer.config.project import sign_searched_paths
from packer.core.errors import LimitError, raise_any
from packer.core.options import LAYER_MODES
from packer.core.records import json_text
from packer.inspect.check_document import Checked, check_table
from packer.manifest.baseline import BASELINE_FILE, Baseline, read_baseline
from packer.manifest.start_history import PastStart, load_start, start_path
from packer.pipeline.state import FunctionState, State

if TYPE_CHECKING:
    from packer.cache.store import Store
    from packer.cli.terminal import LineReporter
    from packer.config.project import Project


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--baseline", metavar="FILE|git:REF", help=f"What growth is measured against (default: {BASELINE_FILE}, if any).")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the artifacts (default: dist).")
@click.option("--layers", type=click.Choice(LAYER_MODES), help="Look as if this stood in the configuration.")
@click.option("--strict", is_flag=True, help="Fail where source looks like a secret (keys, .env files), instead of warning.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with all figures instead of a table.")
@shape_options
@project_options
def command(*, names: tuple[str, ...], baseline: str | None, as_json: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Check functions against budgets and limits, without building them.

    Sizes are exact where wheels are in the cache. Of a wheel that is not, a few KB are read, which tell what is in it; with
    --offline, all to go by is the size that the lock tells. Ends with status 3 where something is over a limit.
    """
    started = time.time_ns()
    project = find_flagged_project(names, flags)
    store = open_store()
    with open_reporter(verbose, quiet) as reporter:
        state = appraise_project(project, flags, store, reporter)
        states = {name: each for name, each in state.functions.items() if project.asks_for(name)}
        budgets, layers = collect_budgets(states)
        starts = {name: load_start(store, project.path, name) for name, budget in budgets.items() if budget.init is not None}
        against = _read_baseline(project, baseline, flags, store, reporter)
        checked = Checked(
            reports={name: each.report for name, each in states.items()},
            estimates={name: each.estimate for name, each in states.items() if each.estimate},
            budgets=budgets,
            layer_budgets=layers,
            starts={name: found for name, found in starts.items() if found is not None},
            baseline=against,
        )
        warnings = tuple(dict.fromkeys(_collect_warnings(state, states, starts)))
        for warning in warnings:
            reporter.warn(warning)
    document = checked.document(warnings)
    text = json_text(document, ascii_only=True) if as_json else check_table(document)
    sys.stdout.write(text)
    errors = checked.errors()
    # What a commit means, git alone knows, and what is newest, only an index.
    if not flags["upgrade"] and (baseline is None or not baseline.startswith(COMMIT)):
        told = [] if quiet else [reporter.style("warning", warning) for warning in warnings]
        told += [reporter.style("error", str(error)) for error in errors]
        files = [Path(baseline) if baseline else project.folder / BASELINE_FILE]
        files += [start_path(store, project.path, name) for name in starts]
        watched = [*state.signatures(written=False), (started, sign_searched_paths(project, names))]
        watched += [(started, {str(path.absolute()): signature(path) for path in files})]
        remember(sys.argv[1:], watched, text, "".join(f"{line}\n" for line in told), LimitError.exit_status if errors else 0)
    raise_any(errors)


def _collect_warnings(
    state: State, states: Mapping[str, FunctionState], starts: Mapping[str, PastStart | None]
) -> Iterator[str]:
    yield from state.warnings
    yield from (warning for each in states.values() for warning in each.warnings)
    for name, found in starts.items():
        if found is None:
            yield f"{name} has a budget for its start, and none was measured: run `lpack coldstart {name}`."


def _read_baseline(
    project: Project, named: str | None, flags: dict[str, Any], store: Store, reporter: LineReporter
) -> Baseline | None:
    """Return what growth is measured against: what was named, or the file beside the configuration."""
    if named is None:
        path = project.folder / BASELINE_FILE
        return read_baseline(path) if path.is_file() else None
    if named.startswith(COMMIT):
        return make_commit_baseline(project, named.removeprefix(COMMIT), flags, store, reporter)
    return read_baseline(Path(named))
