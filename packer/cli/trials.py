"""What the commands share that run functions to learn of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from packer.cli.common import find_flagged_project

if TYPE_CHECKING:
    from packer.cache.store import Store
    from packer.cli.terminal import LineReporter
    from packer.core.model import Function
    from packer.inspect.trials import Trials


@contextmanager
def open_trials(
    store: Store, reporter: LineReporter, names: tuple[str, ...], flags: Mapping[str, Any]
) -> Iterator[tuple[Trials, tuple[Function, ...]]]:
    """Return what runs functions, and the functions that are named; ``flags`` are those of the command line."""
    from packer.cli.wiring import open_project_tools, read_config
    from packer.config.project_reader import select_named
    from packer.inspect.trials import Trials
    from packer.pipeline.gatherer import make_gatherer

    project = find_flagged_project(names, flags)
    config = read_config(project, flags)
    with store.workspace() as folder, open_project_tools(config, flags, store, reporter, build=True) as tools:
        gatherer = make_gatherer(tools, reporter, config.out)
        yield Trials(tools.shaping.prover, tools.shaping.verifier, gatherer, folder), select_named(config, project.names)
