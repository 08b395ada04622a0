"""What the commands share that look at the plan of layers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from packer.cli.common import find_flagged_project, open_store, read_shape_flags
from packer.config.project import Project, find_output_folder
from packer.core.errors import UsageError
from packer.layers.assignment import unused_everywhere
from packer.pipeline.request import digest_flags
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
    from packer.cli.wiring import open_project_tools, read_config
    from packer.inspect.plan_document import plan_document
    from packer.pipeline.functions import FunctionBuilder, Selection
    from packer.pipeline.layer_maker import Folders

    project = find_flagged_project(names, flags)
    if project.names:
        raise UsageError(
            f"{' '.join(project.names)}: this is neither a folder nor a configuration, and a plan always covers all functions.",
            remedy="Name a folder (./NAME for one below this), or nothing for the configuration here.",
        )
    config, store = read_config(project, flags), open_store()
    last = _last_build(store, project, flags)
    digests = Digests(last.digests, last.seen_at) if last else Digests()
    known = last.functions if last else {}
    wanted = [function for function in config.functions if function.layers.wanted]
    with (
        store.workspace() as folder,
        ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="plan") as executor,
        open_project_tools(config, flags, store, reporter, digests, build=True) as tools,
    ):
        builder = FunctionBuilder(tools, reporter, Folders(staging=folder, out=config.out), time.time_ns())
        plans = builder.plan(Selection(functions=wanted, everything=config.functions, previous=known.get), executor)
    for warning in (*config.warnings, *unused_everywhere(plan.division.unused for plan in plans)):
        reporter.warn(warning)
    planned = {name for plan in plans for name in plan.needs}
    return plan_document(plans, [function.name for function in config.functions if function.name not in planned])


def _last_build(store: Store, project: Project, flags: Mapping[str, Any]) -> State | None:
    """Return what the last build has left, where one with these flags would begin from it."""
    if flags["upgrade"]:
        return None
    state = load_state(store, state_key(project.path, find_output_folder(project, None)))
    digest = digest_flags(project, flags, read_shape_flags(flags))
    return state if state is not None and state.command == digest else None
