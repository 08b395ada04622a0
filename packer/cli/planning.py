"""What the commands share that look at the plan of layers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from packer.cli.common import open_store
from packer.config.project import Project, find_output_folder, find_project
from packer.core.errors import UsageError
from packer.core.options import ShapeFlags
from packer.layers.assignment import unused_everywhere
from packer.pipeline.request import command_digest
from packer.pipeline.state import State, load_state, state_key

if TYPE_CHECKING:
    from packer.cache.store import Store
    from packer.cli.terminal import LineReporter
    from packer.inspect.plan_document import PlanDocument


def plan_layers(names: tuple[str, ...], flags: Mapping[str, Any], reporter: LineReporter) -> PlanDocument:
    """Plan the layers of a project, and give that as a document; ``flags`` are those of the command line.

    It is what a build with the same flags would make, knowing what the last one has found out. Raises `LpackError`.
    """
    from concurrent.futures import ThreadPoolExecutor

    from packer.cache.signatures import Digests
    from packer.cli.wiring import open_tools
    from packer.config.load import Overrides
    from packer.config.project_reader import read_project
    from packer.core.options import Policy
    from packer.inspect.plan_document import plan_document
    from packer.pipeline.functions import FunctionBuilder
    from packer.pipeline.layer_maker import Folders

    project = find_project(names, flags["config"], flags["template"], flags["parameters"])
    if project.names:
        raise UsageError(
            f"{' '.join(project.names)}: this is neither a folder nor a configuration, and a plan always covers all functions.",
            remedy="Name a folder (./NAME for one below this), or nothing for the configuration here.",
        )
    shape = ShapeFlags(trim=flags["trim"], bytecode=flags["bytecode"], layers=flags["layers"])
    config, _ = read_project(project, Overrides(runtime=flags["runtime"], architecture=flags["arch"], shape=shape))
    policy = Policy(offline=flags["offline"], upgrade=flags["upgrade"])
    jobs = os.cpu_count() or 1
    store = open_store()
    last = _last_build(store, project, flags, shape)
    digests = Digests(last.digests, last.seen_at) if last else Digests()
    known = last.functions if last else {}
    with (
        store.workspace() as folder,
        ThreadPoolExecutor(jobs, thread_name_prefix="plan") as executor,
        open_tools(store, digests, reporter, policy, jobs, config.remote) as tools,
    ):
        builder = FunctionBuilder(tools, reporter, Folders(staging=folder, out=config.out), time.time_ns())
        plans = builder.plan(config.functions, known.get, executor)
    for warning in (*config.warnings, *unused_everywhere(plan.division.unused for plan in plans)):
        reporter.warn(warning)
    planned = {name for plan in plans for name in plan.needs}
    return plan_document(plans, [function.name for function in config.functions if function.name not in planned])


def _last_build(store: Store, project: Project, flags: Mapping[str, Any], shape: ShapeFlags) -> State | None:
    """Return what the last build has left, where one with these flags would begin from it."""
    if flags["upgrade"]:
        return None
    state = load_state(store, state_key(project.path, find_output_folder(project, None)))
    digest = command_digest(project, flags["runtime"], flags["arch"], shape, frozen=False)
    return state if state is not None and state.command == digest else None
