"""What the commands share that work on what was built: which functions are meant, and where their artifacts lie."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
from msgspec import Meta, Struct

from builders.errors import LpackError
from packer.cli.common import find_flagged_project, message_options, place_options
from packer.core.records import json_text

if TYPE_CHECKING:
    from packer.cache.store import Store
    from packer.config.load import Config
    from packer.config.project import Project
    from packer.core.events import Reporter
    from packer.core.model import Function

Command = Callable[..., Any]


def built_options(command: Command) -> Command:
    """Add the options that say what was built, and where."""
    out = click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the artifacts (default: dist).")
    return place_options(out(message_options(command)))


class BuiltProject(Struct, frozen=True, kw_only=True):
    """A project whose artifacts lie in ``config.out``; ``functions`` are those that are named, or all."""

    project: Project
    config: Config
    functions: tuple[Function, ...]

    def warn_of_changes(self, out: Path | None, store: Store, reporter: Reporter, only: str = "") -> None:
        """Warn of functions that have changed since they were built; of one format ``only``, if it is named.

        ``out`` is the output folder as the command line has it.
        """
        from packer.config.project import find_output_folder
        from packer.inspect.stale import find_outdated
        from packer.pipeline.state import load_state, state_key

        state = load_state(store, state_key(self.project.path, find_output_folder(self.project, out)))
        if state is None:
            return
        formats = {name: each.report.format for name, each in state.functions.items()}
        meant = [function for function in self.functions if only in ("", formats.get(function.name))]
        for warning in find_outdated(state, meant, self.config.out, self.project.folder):
            reporter.warn(warning)


def read_built_project(command: str, names: Sequence[str], flags: dict[str, Any]) -> BuiltProject:
    """Read a project for a command, and find the functions that are named; raises `UsageError`."""
    from packer.config.load import Overrides
    from packer.config.project_reader import read_project, select_named

    project = find_flagged_project(names, flags, built=command)
    config, _ = read_project(project, Overrides(out=flags["out"]))
    return BuiltProject(project=project, config=config, functions=select_named(config, project.names))


class ErrorRecord(Struct, frozen=True, kw_only=True):
    """An error as commands print it in the place of a function's result."""

    error: Annotated[str, Meta(description="What went wrong, and where.")]
    remedy: Annotated[str, Meta(description="The next thing to try; may be empty.")]
    detail: Annotated[str, Meta(description="A traceback, or what a tool has printed; may be empty.")]

    @classmethod
    def of(cls, error: LpackError) -> ErrorRecord:
        """Return an error's record."""
        return cls(error=error.what, remedy=error.remedy, detail=error.detail)


class ResultPrinter:
    """What came of functions, one after the other: a line for each as it comes, or one object in the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._found: dict[str, Struct] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Keep the error that ends a function's part."""
        try:
            yield
        except LpackError as error:
            self._found[name] = ErrorRecord.of(error)
            raise

    def add(self, name: str, figures: Struct, line: str) -> None:
        """Print the line of a function that succeeded."""
        self._found[name] = figures
        if not self._as_json:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def end(self) -> None:
        """Print the object."""
        if self._as_json:
            sys.stdout.write(json_text(self._found, ascii_only=True))


@contextmanager
def print_results(*, as_json: bool) -> Iterator[ResultPrinter]:
    """Return what prints the results of a command: what was done before a failure is printed too."""
    results = ResultPrinter(as_json=as_json)
    try:
        yield results
    finally:
        results.end()


def select_image_names(names: Sequence[str], functions: Sequence[Function]) -> tuple[str, ...]:
    """Return the names to look for among what was built: those that the user named, as the project knows them."""
    return tuple(function.name for function in functions) if names else ()
