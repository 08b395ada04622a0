"""The story of a build: from a project to artifacts in its output folder, and what the next build begins from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from builders.errors import BuildError
from packer.cache.signatures import Digests, signature
from packer.cache.store import Store
from packer.config.load import Config
from packer.config.project_reader import list_watched_files, read_project, select_functions
from packer.core.events import Reporter
from packer.manifest.history import save_history
from packer.pipeline.functions import FunctionBuilder, Selection, WorkElsewhere
from packer.pipeline.gatherer import Tools
from packer.pipeline.layer_maker import Folders
from packer.pipeline.publish import (
    description_files,
    list_deployment,
    lock_output,
    open_staging,
    publish,
    unread_functions,
    warn_of_bare_sources,
    warn_of_unbuilt,
)
from packer.pipeline.request import BuildRequest
from packer.pipeline.state import FunctionState, State, load_state, save_state

if TYPE_CHECKING:
    from packer.sam.template import Template


class Services(Protocol):
    """What a build works with: the store, who works side by side, and what does each step."""

    @property
    def store(self) -> Store:
        """The user's store."""
        ...

    def workers(self, remote: str) -> AbstractContextManager[tuple[Executor, WorkElsewhere | None]]:
        """Open what works on several functions at once, and who does the work if not this machine.

        ``remote`` is the remote store that the configuration names.
        """
        ...

    def tools(self, digests: Digests, remote: str) -> AbstractContextManager[Tools]:
        """Open what resolves, fetches, builds, shapes and proves; ``digests`` are those of files that are known already."""
        ...


class BuildResult(Struct, frozen=True, kw_only=True):
    """What a build leaves: the state of the output folder, the functions that were written, and the bytes that each had."""

    state: State
    written: tuple[str, ...]
    before: Mapping[str, int]


def build(request: BuildRequest, services: Services, reporter: Reporter) -> BuildResult:
    """Build the functions of a project that are asked for; raises the one error, or `ManyErrors`, when all have ended.

    The project is read, its output folder locked, what was built last recalled; functions are resolved, fetched, shaped,
    planned, written and proved; what is new is published, and remembered.
    """
    config, template = read_project(request.project, request.overrides)
    functions = select_functions(config, request.project)
    _report_project(config, template, reporter)
    _refuse_unbuilt(template, config.out, strict=request.strict)
    with ExitStack() as held:
        held.enter_context(
            lock_output(services.store, config.out, lambda: reporter.note(f"waiting for another build of {config.out}"))
        )
        last = load_state(services.store, request.key)  # not before: another build may just have written it
        digests = Digests(last.digests, last.seen_at) if last else Digests()
        folder = held.enter_context(open_staging(config.out))
        # They end last: where the loop is interrupted, the tools stop what the executor's threads wait for.
        executor, elsewhere = held.enter_context(services.workers(config.remote))
        tools = held.enter_context(services.tools(digests, config.remote))
        builder = FunctionBuilder(tools, reporter, Folders(staging=folder, out=config.out), request.started, elsewhere)
        built = builder.build(
            Selection(functions=functions, everything=config.functions, previous=request.known(last).get), executor
        )
        shared = {tools.sources.locks.group_paths(function) for function in functions}
        states = publish(config, template, last, built, folder, services.store)
        state = State(
            command=request.digest,
            seen_at=request.started,
            complete=all(function.name in states for function in config.functions) and not unread_functions(template),
            watched={path: signature(path) for path in (*list_watched_files(config), *chain(*shared))},
            outputs={str(config.out / name): signature(config.out / name) for name in description_files(template)},
            functions=states,
            digests=digests.current,
            warnings=(
                *config.warnings,
                *builder.warnings,
                *_warn_of_unneeded_packages(config, states),
                *warn_of_unbuilt(template, config.out),
                *warn_of_bare_sources(template, states),
            ),
            deployment=list_deployment(template, states),
        )
        save_state(services.store, request.key, state)
        save_history(services.store, request.key, request.started, {name: each.report for name, each in states.items()})
    before = {name: each.report.packed_bytes for name, each in (last.functions if last else {}).items()}
    return BuildResult(state=state, written=tuple(name for name, each in built.items() if each.staged), before=before)


def _report_project(config: Config, template: Template | None, reporter: Reporter) -> None:
    for warning in config.warnings:
        reporter.warn(warning)
    for note in config.notes:
        reporter.debug(note)
    if template is None:
        return
    for skipped in template.skipped:
        if not skipped.unbuilt:
            reporter.note(f"{skipped.logical_id} is left as it is because {skipped.reason}")
    if not template.names:
        reporter.note(f"{template.path} has no Python function that lpack can build")
    for default in template.defaults:
        reporter.note(default)


def _refuse_unbuilt(template: Template | None, out: Path, *, strict: bool) -> None:
    """Raise `BuildError` where something would be left that must be built, and ``strict`` forbids that."""
    left = warn_of_unbuilt(template, out) if strict else ()
    if left:
        raise BuildError("\n".join(left), remedy="Build without --strict, and then what is left.")


def _warn_of_unneeded_packages(config: Config, states: Mapping[str, FunctionState]) -> Iterator[str]:
    """Return warnings of packages that the configuration names and no function needs: perhaps a name that is misspelled."""
    if any(function.name not in states for function in config.functions):
        return
    needed = {
        name
        for state in states.values()
        for each in state.report.distributions
        for name in (each.name, *(tool.partition("==")[0] for tool in (each.built.requirements if each.built else ())))
    }
    configured = {name for function in config.functions for name, _ in function.packages}
    left_out = {name for function in config.functions for name in function.exclude}
    for name in sorted(configured - needed - left_out):
        yield f"The configuration has a table [packages.{name}], and no function needs that package."
