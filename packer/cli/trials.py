"""What the commands share that run functions to learn of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from packer.config.project import find_project

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
    from packer.cache.signatures import Digests
    from packer.cli.wiring import open_tools
    from packer.config.load import Overrides
    from packer.config.project_reader import read_project, select_named
    from packer.core.options import Policy, ShapeFlags
    from packer.inspect.trials import Trials
    from packer.pipeline.gatherer import make_gatherer

    project = find_project(names, flags["config"], flags["template"], flags["parameters"])
    shape = ShapeFlags(trim=flags.get("trim"), bytecode=flags.get("bytecode"))
    config, _ = read_project(project, Overrides(runtime=flags["runtime"], architecture=flags["arch"], shape=shape))
    policy = Policy(offline=flags["offline"], upgrade=flags["upgrade"])
    jobs = os.cpu_count() or 1
    with store.workspace() as folder, open_tools(store, Digests(), reporter, policy, jobs, config.remote) as tools:
        gatherer = make_gatherer(tools, reporter, config.out)
        yield Trials(tools.shaping.prover, tools.shaping.verifier, gatherer, folder), select_named(config, project.names)
