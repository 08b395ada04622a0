"""What several commands share: options, finding the project, and picking the concrete parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from builders.runtimes import ARCHITECTURES, RUNTIMES, WARN_BEFORE
from packer.cache.local import LocalStore, store_folder
from packer.cache.store import Store
from packer.cli.terminal import NORMAL, QUIET, VERBOSE, LineReporter, make_reporter
from packer.config.project import Project, find_project
from packer.core.options import BYTECODE_MODES, TRIM_CHOICES, ShapeFlags

Command = TypeVar("Command", bound=Callable[..., Any])


def place_options(command: Command) -> Command:
    """Add the options that say where the functions are configured."""
    file = click.Path(path_type=Path)
    options = (
        click.option("--config", type=file, metavar="FILE", help="Configuration: an lpack.toml or pyproject.toml."),
        click.option("--template", type=file, metavar="FILE", help="AWS SAM template to take the functions from."),
        click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of the template."),
        click.option("--base-dir", type=file, metavar="DIR", help="Folder that the template's paths of code start from."),
        click.option("--config-env", metavar="NAME", help="Environment of samconfig.toml that is read (default: default)."),
    )
    return _add_options(options, command)


def message_options(command: Command) -> Command:
    """Add the options that say how much is reported."""
    options = (
        click.option("-v", "--verbose", is_flag=True, help="Say more."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors and results."),
    )
    return _add_options(options, command)


def project_options(command: Command) -> Command:
    """Add the options that say what to build."""
    options = (
        click.option("--runtime", metavar="|".join(RUNTIMES), help="Build for this runtime, whatever is configured."),
        click.option("--arch", metavar="|".join(ARCHITECTURES), help="Build for this architecture, whatever is configured."),
        click.option("--offline", is_flag=True, help="Never touch the network."),
        click.option("--upgrade", is_flag=True, help="Resolve to the newest versions, not those resolved before."),
    )
    return place_options(_add_options(options, message_options(command)))


def shape_options(command: Command) -> Command:
    """Add the options that say how functions are trimmed and compiled, and whether what they require must be complete."""
    trim = click.Choice(TRIM_CHOICES)
    options = (
        click.option("--trim", type=trim, help="What to remove (default: safe; auto keeps what turns out to be needed)."),
        click.option("--bytecode", type=click.Choice(BYTECODE_MODES), help="Where bytecode goes (default: auto)."),
        click.option("--allow-incomplete", is_flag=True, help="Warn where a lock lacks what its packages require."),
    )
    return _add_options(options, command)


def _add_options(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def find_flagged_project(names: Sequence[str], flags: Mapping[str, Any], *, built: str = "") -> Project:
    """Return the project that arguments and the options of `place_options` name; raises `UsageError`.

    ``built`` is the command, where it works on what was built already.
    """
    return find_project(
        names,
        flags["config"],
        flags["template"],
        flags["parameters"],
        base=flags["base_dir"],
        environment=flags["config_env"] or "",
        built=built,
    )


def read_shape_flags(flags: Mapping[str, Any]) -> ShapeFlags:
    """Return what the command line says of how functions are shaped; None for options that the command does not have."""
    return ShapeFlags(**{name: flags.get(name) for name in ShapeFlags.__struct_fields__})


def choose_verbosity(verbose: bool, quiet: bool) -> int:
    """Return how much to say."""
    return QUIET if quiet else VERBOSE if verbose else NORMAL


@contextmanager
def open_reporter(verbose: bool, quiet: bool) -> Iterator[LineReporter]:
    """Return the reporter for this command, and put the terminal in order at the end."""
    with make_reporter(choose_verbosity(verbose, quiet)) as reporter:
        yield reporter


def open_store() -> Store:
    """Return the user's store."""
    return LocalStore(store_folder())


def warn_of_runtimes(names: Collection[str], reporter: LineReporter) -> None:
    """Warn of runtimes that are deprecated, or will be soon."""
    from datetime import UTC, datetime

    today = datetime.now(UTC).date()
    for runtime in (RUNTIMES[name] for name in sorted(names)):
        if today >= runtime.deprecated:
            reporter.warn(
                f"{runtime.name} is deprecated since {runtime.deprecated}: creating functions is blocked from "
                f"{runtime.create_blocked}, updating them from {runtime.update_blocked}."
            )
        elif today + WARN_BEFORE >= runtime.deprecated:
            reporter.warn(f"{runtime.name} will be deprecated on {runtime.deprecated}.")
