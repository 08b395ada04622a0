"""Shared by commands that report what functions would become, without building them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from packer.cache.signatures import signature
from packer.cache.store import Store, digest_of
from packer.cli.common import read_shape_flags
from packer.config.project import Project, find_output_folder
from packer.config.project_reader import list_watched_files
from packer.core.errors import UsageError
from packer.core.options import Budget
from packer.manifest.baseline import Baseline, make_baseline
from packer.pipeline.request import digest_flags
from packer.pipeline.state import Estimate, FunctionState, State, load_state, save_state, state_key, state_path

if TYPE_CHECKING:
    from packer.cli.terminal import LineReporter
    from packer.core.model import Function

COMMIT = "git:"
"""What a commit is named with where a file could be."""


def appraise_project(project: Project, flags: Mapping[str, Any], store: Store, reporter: LineReporter) -> State:
    """Return what a project's functions would become, from the last appraisal where nothing has changed since.

    ``flags`` are those of the command line. Raises `LpackError`.
    """
    built = state_key(project.path, find_output_folder(project, flags["out"]))
    key = digest_of("check 2", built, str(flags["offline"]))
    digest = digest_flags(project, flags, read_shape_flags(flags))
    state = load_state(store, key)
    if state is not None and not flags["upgrade"] and state.is_current(digest, project.names, written=False):
        return state
    state = _ProjectAppraisal(project, flags, store, reporter).state(digest, built, None if flags["upgrade"] else state)
    save_state(store, key, state)
    return state


class _ProjectAppraisal:
    """Appraises a project in which something has changed."""

    def __init__(self, project: Project, flags: Mapping[str, Any], store: Store, reporter: LineReporter) -> None:
        self._project = project
        self._flags = flags
        self._store = store
        self._reporter = reporter

    def state(self, digest: str, built: str, last: State | None) -> State:
        """Appraise what has changed since the last look and the last build, whose state has the key ``built``."""
        from concurrent.futures import ThreadPoolExecutor
        from itertools import chain

        from packer.cache.signatures import Digests
        from packer.cli.wiring import open_project_tools, read_config
        from packer.config.project_reader import select_functions
        from packer.inspect.appraisal import Appraisal
        from packer.pipeline.functions import Selection

        flags, started = self._flags, time.time_ns()
        config = read_config(self._project, flags)
        functions = select_functions(config, self._project)
        build = load_state(self._store, built)
        known = _KnownStates(last, build, digest)
        newest = max(filter(None, (last, build)), key=lambda each: each.seen_at, default=None)
        digests = Digests(newest.digests, newest.seen_at) if newest else Digests()
        with (
            # It ends last: where the loop is interrupted, the tools stop what its threads wait for.
            ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="check") as executor,
            open_project_tools(config, flags, self._store, self._reporter, digests, build=False) as tools,
        ):
            appraisal = Appraisal(tools, self._reporter, config.out, started, offline=flags["offline"])
            selection = Selection(functions=functions, everything=config.functions, previous=known.get)
            found = appraisal.states(selection, executor)
            groups = {tools.sources.locks.group_paths(function) for function in functions}
        by_name = {function.name: function for function in config.functions}
        states = {name: _record_budgets(each, by_name[name]) for name, each in found.items()}
        path = str(state_path(self._store, built))
        return State(
            command=digest,
            seen_at=started,
            complete=len(states) == len(config.functions),
            watched={path: signature(path) for path in (*list_watched_files(config), *chain(*groups))},
            outputs={path: signature(path)},
            functions=states,
            digests=digests.current,
            warnings=config.warnings,
        )


class _KnownStates:
    """What is remembered of functions: by the last build of all, else by the last look."""

    def __init__(self, last: State | None, build: State | None, digest: str) -> None:
        self._states = [each.functions for each in (build, last) if each is not None and each.command == digest]

    def get(self, name: str) -> FunctionState | None:
        """Return what fits best: one that is as it was, else the newest."""
        found = [states[name] for states in self._states if name in states]
        return next((state for state in found if state.is_unchanged()), found[0] if found else None)


def _record_budgets(state: FunctionState, function: Function) -> FunctionState:
    """Return the state with the configuration's budgets, for commands that do not read the configuration."""
    from packer.manifest.budget import layer_budget

    layers = {name: layer_budget(name, function.layers) for name in state.report.layers}
    estimate = replace(state.estimate or Estimate(known_by={}), budget=function.budget, layer_budgets=layers)
    return replace(state, artifact={}, estimate=estimate)


def collect_budgets(states: Mapping[str, FunctionState]) -> tuple[dict[str, Budget], dict[str, Budget]]:
    """Return the budgets of functions and of layers, by their names."""
    estimates = {name: state.estimate for name, state in states.items() if state.estimate}
    own = {name: estimate.budget for name, estimate in estimates.items()}
    return own, {name: budget for each in estimates.values() for name, budget in each.layer_budgets.items()}


def make_commit_baseline(
    project: Project, ref: str, flags: Mapping[str, Any], store: Store, reporter: LineReporter
) -> Baseline:
    """Return the baseline of a project as a commit has it: looked at in a copy of that, once.

    Raises `LpackError`.
    """
    return make_baseline({name: each.report for name, each in appraise_commit(project, ref, flags, store, reporter).items()})


def appraise_commit(
    project: Project, ref: str, flags: Mapping[str, Any], store: Store, reporter: LineReporter
) -> dict[str, FunctionState]:
    """Return what a project's functions would have become in a commit; raises `LpackError`."""
    from packer.source.git import find_working_tree

    tree = find_working_tree(project.folder)
    if tree is None:
        raise UsageError(f"{project.folder} lies in no git repository.", remedy="Name a file instead of a commit.")
    commit = tree.commit(ref)
    with store.workspace() as folder:
        tree.export(commit, folder)  # links and .gitignore files reach as far as in the repository itself
        there = _move_project(project, Path(os.path.realpath(project.folder)), tree.top, folder)
        if not there.path.exists():
            what = f"{ref} has no {os.path.relpath(os.path.realpath(project.path), tree.top)}."
            raise UsageError(what, remedy="Commit it, or name a commit that has it.")
        then = {**flags, "out": None, "strict": False, "upgrade": False}  # errors of a past commit can no longer be fixed
        state = _ProjectAppraisal(there, then, store, reporter).state("", state_key(there.path, None), None)
    return dict(state.functions)


def _move_project(project: Project, folder: Path, top: Path, to: Path) -> Project:
    """Return the project as it lies in a copy of its repository, all functions asked for."""
    place = to / os.path.relpath(folder, top)
    path = place if project.path == project.folder else place / project.path.name
    config = place / os.path.relpath(project.config, project.folder) if project.config else None
    return replace(project, path=path, config=config, names=())
