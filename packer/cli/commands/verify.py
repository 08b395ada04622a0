"""`lpack verify`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import click
import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from builders.errors import LpackError
from packer.cli.common import open_reporter, open_store
from packer.cli.outcome import ErrorRecord, built_options, read_built_project
from packer.core.errors import raise_any
from packer.core.records import Milliseconds, UnverifiedRecord, json_text

if TYPE_CHECKING:
    from builders.engine.client import Engine
    from packer.cache.store import Store
    from packer.cli.terminal import LineReporter
    from packer.config.load import Config
    from packer.core.model import Function
    from packer.verify.runner import Outcome


class RaisedError(Struct, frozen=True, kw_only=True):
    """What a handler raised."""

    type: str
    message: str
    trace: str


class EventRecord(Struct, frozen=True, kw_only=True):
    """What came of a sample event."""

    name: Annotated[str, Meta(description="The event's file.")]
    result: Annotated[Any, Meta(description="What the handler returned.")] | UnsetType = UNSET
    error: Annotated[RaisedError, Meta(description="What it raised.")] | UnsetType = UNSET


class VerifyRecord(Struct, frozen=True, kw_only=True):
    """What `lpack verify --json` prints of a function that works."""

    milliseconds: Milliseconds
    events: tuple[EventRecord, ...]


class SkippedRecord(Struct, frozen=True, kw_only=True):
    """What `lpack verify --json` prints of a function that nothing here can run."""

    not_verified: Annotated[UnverifiedRecord, Meta(description="Why nothing here can run it.")]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--json", "as_json", is_flag=True, help="Print an object with what came of each function.")
@built_options
def command(*, names: tuple[str, ...], as_json: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Run what was built, with the configured sample events.

    Images run in the local container engine, by Lambda's Runtime Interface Emulator: without network, as an unprivileged user
    (and as their own, where they name one), on a root file system that is read-only. Archives run in the target's own Python,
    with their layers. A function whose handler is a script, or lies in a layer that lpack does not make, is not run, and its
    line says so. Ends with status 4 where a function does not work, or does not give what is expected, and with 1 where the
    engine, the emulator or the Python is missing.
    """
    from packer.images.reader import find_unverified

    project = read_built_project("verify", names, flags)
    found: dict[str, Outcome] = {}
    errors: list[LpackError] = []
    others: dict[str, ErrorRecord | SkippedRecord] = {}
    with open_reporter(verbose, quiet) as reporter, ExitStack() as closing:
        store = open_store()
        project.warn_of_changes(flags["out"], store, reporter)
        runner = _ArtifactRunner(project.config, store, reporter, closing)
        for function in project.functions:
            try:
                skipped = find_unverified(project.config.out, function.name)
                if skipped is None:
                    found[function.name] = runner.run(function)
                else:
                    others[function.name] = SkippedRecord(not_verified=skipped)
            except LpackError as error:
                errors.append(error)
                others[function.name] = ErrorRecord.of(error)
    _print_outcomes(found, others, project.functions, as_json=as_json)
    raise_any(errors)


def _print_outcomes(
    found: Mapping[str, Outcome],
    others: Mapping[str, ErrorRecord | SkippedRecord],
    functions: tuple[Function, ...],
    *,
    as_json: bool,
) -> None:
    if as_json:
        files = {function.name: [path.name for path in function.verify.events] for function in functions}
        records = {name: _make_record(each, files[name]) for name, each in found.items()}
        sys.stdout.write(json_text({**records, **others}, ascii_only=True))
        return
    skipped = {name: each.not_verified for name, each in others.items() if isinstance(each, SkippedRecord)}
    width = max(map(len, (*found, *skipped)), default=0)
    for name, each in found.items():
        raised = sum("error" in event for event in each.events)
        told = f", {raised} of which raise" if raised else ""
        events = f"{len(each.events)} events{told}" if each.events else "no events"
        sys.stdout.write(f"{name:<{width}}  works  {each.milliseconds:7.1f} ms to start  {events}\n")
    for name, why in skipped.items():
        sys.stdout.write(f"{name:<{width}}  not verified: {why.reason}\n")


def _make_record(outcome: Outcome, names: list[str]) -> VerifyRecord:
    """Return what came of a function, each event with the name of its file."""
    pairs = zip(names, outcome.events, strict=False)  # some levels send none
    events = (msgspec.convert({"name": name, **event}, EventRecord) for name, event in pairs)
    return VerifyRecord(milliseconds=round(outcome.milliseconds, 1), events=tuple(events))


class _ArtifactRunner:
    """Runs functions of a project as they lie in the output folder; what it opens is closed with ``closing``."""

    def __init__(self, config: Config, store: Store, reporter: LineReporter, closing: ExitStack) -> None:
        self._config = config
        self._store = store
        self._reporter = reporter
        self._closing = closing
        self._open_engine: Callable[[], Engine] | None = None

    def run(self, function: Function) -> Outcome:
        """Run a function; raises `LpackError`."""
        from packer.images.reader import read_format

        return (
            self._run_image(function)
            if read_format(self._config.out, function.name) == "image"
            else self._run_archive(function)
        )

    def _run_image(self, function: Function) -> Outcome:
        from packer.cli.image_wiring import engine_opener, open_registries
        from packer.images.reader import read_images
        from packer.registry.client import RegistryBlobs
        from packer.verify.image_runner import run_built

        with ExitStack() as closing:
            registries = open_registries(self._store, self._reporter, closing)
            [built] = read_images(self._config.out, (function.name,), lambda home: RegistryBlobs(registries, home))
            self._open_engine = self._open_engine or engine_opener(self._closing)
            return run_built(built, function, self._open_engine(), self._store)

    def _run_archive(self, function: Function) -> Outcome:
        from packer.cache.signatures import Digests
        from packer.cli.wiring import open_tools
        from packer.core.options import Policy
        from packer.images.reader import read_archives
        from packer.inspect.trials import verify_archive
        from packer.pipeline.gatherer import make_gatherer

        archive, layers = read_archives(self._config.out, function.name)
        jobs = os.cpu_count() or 1
        with open_tools(self._store, Digests(), self._reporter, Policy(), jobs, self._config.remote) as tools:
            gatherer = make_gatherer(tools, self._reporter, self._config.out)
            return verify_archive(tools.shaping.verifier, gatherer, function, archive, layers)
