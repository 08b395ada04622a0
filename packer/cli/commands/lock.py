"""`lpack lock`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from packer.cli.common import find_flagged_project, open_reporter, open_store, project_options


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--check", is_flag=True, help="Only say whether the locks fit what is required; never touches the network.")
@project_options
def command(
    *,
    names: tuple[str, ...],
    check: bool,
    runtime: str | None,
    arch: str | None,
    offline: bool,
    upgrade: bool,
    verbose: bool,
    quiet: bool,
    **place: Any,
) -> None:
    """Write each function's exact versions to pylock.NAME.toml.

    The files are standard locks (PEP 751), beside the configuration. A build that finds one never resolves. Versions that a
    lock already names are kept where they still satisfy the requirements; --upgrade takes the newest. The bases of functions
    that become images are locked by digest in lpack-bases.toml, of all functions at once. With --check nothing is written,
    and the status is 2 where a lock is missing or stale.
    """
    from packer.cache.signatures import Digests
    from packer.cli.wiring import open_tools
    from packer.config.load import Overrides
    from packer.config.project_reader import read_project, select_named
    from packer.core.errors import ManyErrors
    from packer.core.options import Policy
    from packer.pipeline.lock_writer import check_locks, lock_all, lock_bases

    project = find_flagged_project(names, place)
    policy = Policy(frozen=check, offline=offline or check, upgrade=upgrade)
    store = open_store()
    with open_reporter(verbose, quiet) as reporter:
        configuration, _ = read_project(project, Overrides(runtime=runtime, architecture=arch))
        functions = select_named(configuration, project.names)
        with open_tools(store, Digests(), reporter, policy, remote=configuration.remote) as tools:
            if check:
                fresh, wrong = check_locks(functions, tools.resolver, tools.imaging)
                sys.stdout.writelines(f"fresh      {os.path.relpath(path)}\n" for path in fresh)
                if wrong:
                    raise ManyErrors(wrong)
                return
            outcomes = {
                **lock_all(functions, tools.resolver, reporter),
                **lock_bases(configuration.functions, tools.imaging),
            }
    for path, changed in outcomes.items():
        done = "written" if changed else "unchanged"
        sys.stdout.write(f"{done:<9}  {os.path.relpath(path)}\n")
