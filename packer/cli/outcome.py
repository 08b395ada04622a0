"""What the commands share that work on what was built: which functions are meant, and where their artifacts lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packer.cli.common import find_project, message_options, place_options

if TYPE_CHECKING:
    from packer.config import Config
    from packer.model import Function

Command = Callable[..., Any]


def built_options(command: Command) -> Command:
    """Add the options that say what was built, and where."""
    out = click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the artifacts (default: dist).")
    return place_options(out(message_options(command)))


def read_built_project(names: Sequence[str], flags: dict[str, Any]) -> tuple[Config, tuple[Function, ...]]:
    """Give a project's configuration, and the functions that are named, or all; raises `packer.errors.UsageError`."""
    from packer.cli.wiring import read_project, select
    from packer.config import Overrides

    project = find_project(names, flags["config"], flags["template"], flags["parameters"])
    config, _ = read_project(project, Overrides(out=flags["out"]))
    return config, select(config, project.names)


def images_of(names: Sequence[str], functions: Sequence[Function]) -> tuple[str, ...]:
    """Give the names to look for among what was built: those that the user named, as the project knows them."""
    return tuple(function.name for function in functions) if names else ()
