"""What the commands share that look at the plan of layers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from packer.cli.common import find_project, open_store

if TYPE_CHECKING:
    from packer.ui import LineReporter


def plan_of(names: tuple[str, ...], flags: Mapping[str, Any], reporter: LineReporter) -> dict[str, Any]:
    """Plan the layers of a project, and give that as a document; ``flags`` are those of the command line."""
    from concurrent.futures import ThreadPoolExecutor

    from packer.cli.wiring import open_tools, read_project
    from packer.config import Overrides
    from packer.options import ShapeFlags
    from packer.pipeline import Build
    from packer.planreport import describe_plan
    from packer.resolve import Policy
    from packer.watch import Digests

    project = find_project(names, flags["config"], flags["template"], flags["parameters"])
    shape = ShapeFlags(trim=flags["trim"], bytecode=flags["bytecode"], layers=flags["layers"])
    config, _ = read_project(project, Overrides(runtime=flags["runtime"], architecture=flags["arch"], shape=shape))
    policy = Policy(offline=flags["offline"], upgrade=flags["upgrade"])
    jobs = os.cpu_count() or 1
    store = open_store()
    with (
        store.workspace() as folder,
        ThreadPoolExecutor(jobs, thread_name_prefix="plan") as executor,
        open_tools(store, Digests(), reporter, policy, jobs, config.remote) as tools,
    ):
        plans = Build(tools, folder, config.out, time.time_ns()).plan(config.functions, lambda _: None, executor)
    for warning in (*config.warnings, *(text for plan in plans for text in plan.division.unused.values())):
        reporter.warn(warning)
    planned = {name for plan in plans for name in plan.needs}
    return describe_plan(plans, [function.name for function in config.functions if function.name not in planned])
