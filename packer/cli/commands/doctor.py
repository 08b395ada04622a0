"""`lpack doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from packer.core.records import json_text

if TYPE_CHECKING:
    from packer.inspect.doctor import Finding, Place

_FAILED = 1


@click.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration with the targets to look at.")
@click.option(
    "--template", type=click.Path(path_type=Path), metavar="FILE", help="AWS SAM template whose targets are looked at."
)
@click.option("--offline", is_flag=True, help="Never touch the network.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects instead of lines.")
def command(*, config: Path | None, template: Path | None, offline: bool, as_json: bool) -> int:
    """Say whether what builds rely on is there, and what would bring it.

    Looks at the cache, the package index, the remote store, the runtimes' file systems, the container engine with its images
    and emulation, the interpreters, the cross compiler, eu-strip and the Runtime Interface Emulator, for the targets of the
    configuration here, or else for the default runtime. Ends with status 1 where no build could succeed.
    """
    from builders.engine.client import connect
    from packer.cli.common import open_store
    from packer.inspect.doctor import BAD, check_environment

    folder, places, remote = _find_places(config, template)
    findings = []
    for finding in check_environment(open_store(), folder, places, connect, offline=offline, remote=remote):
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
    if as_json:
        sys.stdout.write(json_text(findings))
    return _FAILED if any(finding.verdict == BAD for finding in findings) else 0


def _print_finding(finding: Finding) -> None:
    sys.stdout.write(f"{finding.verdict:<7} {finding.check:<10} {finding.what}\n")
    if finding.remedy:
        sys.stdout.write(f"{'':<18} {finding.remedy}\n")
    sys.stdout.flush()


def _find_places(config: Path | None, template: Path | None) -> tuple[Path, list[Place], str]:
    """Return the project's folder, targets and remote store; without a project, this folder and the default runtime twice."""
    from builders.recipes import BuildSettings
    from builders.runtimes import ARCHITECTURES, DEFAULT_RUNTIME, Target
    from packer.config.load import Overrides
    from packer.config.project import find_project
    from packer.config.project_reader import read_project
    from packer.core.errors import UsageError

    try:
        project = find_project((), config, template)
    except UsageError:
        if config or template:
            raise
        targets = (Target.of(DEFAULT_RUNTIME, architecture) for architecture in ARCHITECTURES)
        return Path.cwd(), [(target, BuildSettings()) for target in targets], ""
    read, _ = read_project(project, Overrides())
    places = [
        (function.target, settings)
        for function in read.functions
        for settings in (function.building, *(settings for _, settings in function.packages))
    ]
    return read.root, list(dict.fromkeys(places)), read.remote
