"""`lpack build`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from packer.cache.signatures import signature
from packer.cache.store import Store
from packer.cli.common import open_store, project_options, reporting, shape_options, warn_of_runtimes
from packer.cli.quick import remember
from packer.cli.results import Changes, results_text
from packer.cli.terminal import LineReporter
from packer.config.project import TEMPLATE, Project, find_project, looked_for, named_out
from packer.core.options import FORMATS, LAYER_MODES, VERIFY_LEVELS, ShapeFlags
from packer.manifest.document import make_manifest, write_manifest
from packer.pipeline.request import command_digest
from packer.pipeline.state import FunctionState, State, load_state, save_state, state_key

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from packer.cluster.client import Cluster
    from packer.config.load import Config, Overrides
    from packer.pipeline.results import Built
    from packer.resolve.resolver import Policy
    from packer.sam.template import Template


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the artifacts (default: dist).")
@click.option("--frozen", is_flag=True, help="Fail where a lock is missing or stale, instead of resolving.")
@click.option("--sbom/--no-sbom", default=None, help="Write bills of materials beside the artifacts (default: sbom).")
@click.option("--report", is_flag=True, help="Write the HTML report of `lpack report`, too.")
@click.option("--strict", is_flag=True, help="Fail where source looks like a secret (keys, .env files), instead of warning.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="Functions to build at once (default: processors).")
@click.option("--scheduler", metavar="ADDRESS", help="Build on a Dask cluster, by way of a remote store (tcp://HOST:8786).")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest instead of the table.")
@click.option("--verify", type=click.Choice(VERIFY_LEVELS), help="How to prove it (default: import).")
@click.option("--layers", type=click.Choice(LAYER_MODES), help="Share what functions have in common (default: none).")
@click.option("--format", type=click.Choice(FORMATS), help="What to make of functions (default: zip).")
@click.option("--changed-since", metavar="REF", help="Only functions that changes since a commit of git's affect.")
@click.option("--explain", metavar="PATH", help="Build, then say why a file of the artifact is there, or was removed.")
@shape_options
@project_options
def command(
    *, names: tuple[str, ...], as_json: bool, explain: str | None, report: bool, verbose: bool, quiet: bool, **flags: Any
) -> None:
    """Build functions into reproducible archives or images, trimmed and proved.

    NAME is a configured function; without one, all are built. PATH is a folder with a configuration, or one that holds a
    handler and a dependency file.
    """
    started = time.time_ns()
    project = find_project(names, flags["config"], flags["template"], flags["parameters"])
    store = open_store()
    key = state_key(project.path, named_out(project, flags["out"]))
    shape = ShapeFlags(**{name: flags[name] for name in ("trim", "bytecode", "verify", "layers", "format")})
    digest = _digest_of(project, flags, shape)
    state, changes = load_state(store, key), Changes()
    settings = _settings_of(flags, shape)
    with reporting(verbose, quiet) as reporter:
        if flags["changed_since"] is not None:
            from packer.change.since import narrowed

            project = narrowed(project, settings.flags, flags["changed_since"], state, reporter)
        if project.nobody and project.kind != TEMPLATE:  # a template's copy may have to be written anew all the same
            sys.stdout.write(write_manifest(make_manifest({})).decode() if as_json else "")
            return
        as_it_was = state is not None and state.nothing_changed(digest, project.names, nobody=project.nobody)
        if state is None or flags["upgrade"] or not as_it_was:
            as_it_was = False
            state, changes = settings.run(store, reporter, project, started).build(digest, key, afresh=flags["upgrade"])
        chosen = {name: each for name, each in state.functions.items() if project.asks_for(name)}
        _warn(chosen, state, reporter)
        if explain is not None:
            texts = settings.run(store, reporter, project, started).explain(explain, chosen)
            sys.stdout.writelines(f"{text}\n" for text in texts)
            return
    text = results_text(state, chosen, changes, as_json=as_json)
    sys.stdout.write(text)
    if as_it_was and not report and flags["changed_since"] is None:
        looked = (started, looked_for(project, names))
        remember(sys.argv[1:], [*state.signatures(written=True), looked], text, reporter.told, 0)
    if report:
        settings.report(store, project)


def _settings_of(flags: Mapping[str, Any], shape: ShapeFlags) -> _Settings:
    return _Settings(
        flags={
            "runtime": flags["runtime"],
            "architecture": flags["arch"],
            "out": flags["out"],
            "sbom": flags["sbom"],
            "shape": shape,
        },
        policy={name: flags[name] for name in ("frozen", "offline", "upgrade", "strict")},
        jobs=flags["jobs"] or os.cpu_count() or 1,
        scheduler=flags["scheduler"] or "",
    )


def _digest_of(project: Project, flags: Mapping[str, Any], shape: ShapeFlags) -> str:
    """Give the digest of all that a build's flags say."""
    more = [f"{name} {flags[name]}" for name in ("strict", "sbom") if flags[name] not in (None, False)]
    more += ["no sbom"] if flags["sbom"] is False else []
    return command_digest(project, flags["runtime"], flags["arch"], shape, frozen=flags["frozen"], more=more)


def _warn(functions: Mapping[str, FunctionState], state: State, reporter: LineReporter) -> None:
    """Repeat what holds of the functions, built just now or not."""
    warn_of_runtimes({each.report["runtime"] for each in functions.values()}, reporter)
    for each in functions.values():
        for warning in each.warnings:
            reporter.warn(warning)
    for warning in state.warnings:
        reporter.warn(warning)


class _Settings(Struct, frozen=True, kw_only=True):
    """What the flags say; what they are for is loaded only when there is something to do."""

    flags: Mapping[str, Any]
    policy: Mapping[str, bool]
    jobs: int
    scheduler: str

    def report(self, store: Store, project: Project) -> None:
        """Write the report, and say on standard error where: standard output is for what was built."""
        from packer.config.load import Overrides
        from packer.config.project_reader import read_project
        from packer.report.report_file import write_report

        config, _ = read_project(project, Overrides(**self.flags))
        sys.stderr.write(f"report: {os.path.relpath(write_report(store, project, config, self.flags['out']))}\n")

    def run(self, store: Store, reporter: LineReporter, project: Project, started: int) -> _Run:
        """Give the build that they ask for."""
        from packer.config.load import Overrides
        from packer.resolve.resolver import Policy

        return _Run(
            store=store,
            reporter=reporter,
            project=project,
            overrides=Overrides(**self.flags),
            policy=Policy(**self.policy),
            jobs=self.jobs,
            scheduler=self.scheduler,
            started=started,
        )


class _Run(Struct, frozen=True, kw_only=True):
    """One build that has something to do; ``started`` is in nanoseconds since the epoch."""

    store: Store
    reporter: LineReporter
    project: Project
    overrides: Overrides
    policy: Policy
    jobs: int
    scheduler: str
    started: int

    def build(self, digest: str, key: str, *, afresh: bool) -> tuple[State, Changes]:
        """Build what has changed, publish it, and give the new state and what is new in it.

        ``key`` is that of the last build's state; ``afresh`` believes nothing of it.
        """
        from packer.cache.signatures import Digests
        from packer.cli.wiring import open_tools
        from packer.config.project_reader import read_project, selected, watched_files
        from packer.pipeline.build import Build
        from packer.pipeline.output_folder import only_build, publish, staging
        from packer.pipeline.publish import bills, described, descriptions, not_built, remove_strangers

        config, template = read_project(self.project, self.overrides)
        functions = selected(config, self.project)
        self._tell(config, template)
        with ExitStack() as held:
            held.enter_context(
                only_build(self.store, config.out, lambda: self.reporter.note(f"waiting for another build of {config.out}"))
            )
            last = load_state(self.store, key)  # not before: another build may just have written it
            digests = Digests(last.digests, last.seen_at) if last else Digests()
            known = last.functions if last and last.command == digest and not afresh else {}
            folder = held.enter_context(staging(config.out))
            # They end last: where the loop is interrupted, the tools stop what the executor's threads wait for.
            executor, cluster = held.enter_context(self._workers(config.remote))
            tools = held.enter_context(open_tools(self.store, digests, self.reporter, self.policy, self.jobs, config.remote))
            build = Build(tools, folder, config.out, self.started, cluster)
            built = build.all(functions, config.functions, known.get, executor)
            states = {**self._others(config, last, built), **{name: each.state for name, each in built.items()}}
            groups = {tools.resolver.group_paths(function) for function in functions}
            files = {name: path for each in built.values() for name, path in each.layers.items()}
            files |= {each.state.report["artifact"]["path"]: each.staged for each in built.values() if each.staged}
            states, more = bills(config, built, states, folder, self.store)
            files |= more | descriptions(config, template, {name: each.report for name, each in states.items()}, folder)
            publish(files, config.out)
            new = {str(config.out / name) for name in files}
            states = {name: each.placed(config.out) if name in built else each.seen_anew(new) for name, each in states.items()}
            remove_strangers(last, states, {function.name for function in config.functions})
            self._warn_of_names(config, states)
            state = State(
                command=digest,
                seen_at=self.started,
                complete=all(function.name in states for function in config.functions),
                watched={path: signature(path) for path in (*watched_files(config), *chain(*groups))},
                outputs={str(config.out / name): signature(config.out / name) for name in described(template)},
                functions={function.name: states[function.name] for function in config.functions if function.name in states},
                digests=digests.current,
                warnings=(*build.warnings, *not_built(template, states)),
            )
            self._keep(key, state)
        return state, Changes(written=tuple(name for name, each in built.items() if each.staged), before=_packed_before(last))

    def _keep(self, key: str, state: State) -> None:
        """Write down what was built, for the next build and for who wants to see where sizes go."""
        from packer.manifest.history import remember

        save_state(self.store, key, state)
        remember(self.store, key, self.started, {name: each.report for name, each in state.functions.items()})

    def _tell(self, config: Config, template: Template | None) -> None:
        for warning in config.warnings:
            self.reporter.warn(warning)
        for note in config.notes:
            self.reporter.debug(note)
        for skipped in template.skipped if template else ():
            self.reporter.note(f"{skipped.logical_id} is left as it is because {skipped.reason}")

    @contextmanager
    def _workers(self, remote: str) -> Iterator[tuple[Executor, Cluster | None]]:
        """Give what works on several functions at once, and the cluster that they are worked on by, if one is named."""
        from concurrent.futures import ThreadPoolExecutor

        if not self.scheduler:
            with ThreadPoolExecutor(self.jobs, thread_name_prefix="build") as executor:
                yield executor, None
            return
        from packer.cluster.connect import opened_cluster

        with (
            opened_cluster(self.scheduler, remote, self.policy, self.reporter) as opened,
            ThreadPoolExecutor(max(self.jobs, opened.jobs), thread_name_prefix="build") as executor,
            opened.cluster as cluster,  # ends first, for its threads wait for that
        ):
            yield executor, cluster

    def explain(self, path: str, built: Mapping[str, FunctionState]) -> list[str]:
        """Say of each built function why a path is there, or what removed it; raises `UsageError`."""
        from packer.cache.signatures import Digests
        from packer.cli.wiring import open_tools
        from packer.config.project_reader import read_project, select
        from packer.core.errors import UsageError
        from packer.pipeline.build import Build
        from packer.trim.explain import explain

        config, _ = read_project(self.project, self.overrides)
        path = (
            path.removeprefix("/opt/").removeprefix("/var/task/").removeprefix("python/")
        )  # as it lies in a layer, or on Lambda
        with (
            self.store.workspace() as folder,
            open_tools(self.store, Digests(), self.reporter, self.policy, self.jobs, config.remote) as tools,
        ):
            build = Build(tools, folder, config.out, self.started)
            texts: list[str] = []
            error: UsageError | None = None
            for function in select(config, tuple(built)):
                material = build.material(function)
                kept = frozenset((each["rule"], each["distribution"]) for each in built[function.name].report["trim"]["kept"])
                try:
                    shaped = tools.shaper.shape(material, kept)
                    untouched = tools.shaper.shape(material) if kept else shaped
                    texts.append(explain(material, shaped, untouched, path, _layers(built[function.name])))
                except UsageError as unknown:
                    error = unknown
        if error is not None and not texts:
            raise error
        return texts

    def _others(self, config: Config, last: State | None, built: Mapping[str, Built]) -> dict[str, FunctionState]:
        """Give the configured functions that were not asked for now and still lie in the output folder.

        The configuration may have changed for them too: they are looked at anew before they are believed again.
        """
        known = last.functions if last else {}
        names = (function.name for function in config.functions if function.name not in built and function.name in known)
        return {name: known[name].forgotten() for name in names if known[name].lies_in(config.out)}

    def _warn_of_names(self, config: Config, states: Mapping[str, FunctionState]) -> None:
        """Warn of packages that the configuration names, and no function needs: perhaps a name that is misspelt."""
        if any(function.name not in states for function in config.functions):
            return
        needed = {
            name
            for state in states.values()
            for each in state.report["distributions"]
            for name in (each["name"], *(tool.partition("==")[0] for tool in each.get("built", {}).get("requirements", ())))
        }
        configured = {name for function in config.functions for name, _ in function.packages}
        left_out = {name for function in config.functions for name in function.exclude}
        for name in sorted(configured - needed - left_out):
            self.reporter.warn(f"The configuration has a table [packages.{name}], and no function needs that package.")


def _packed_before(last: State | None) -> dict[str, int]:
    """Give the bytes that each function's artifact had."""
    from packer.manifest.records import packed_bytes

    return {name: packed_bytes(each.report) for name, each in (last.functions if last else {}).items()}


def _layers(state: FunctionState) -> dict[str, str]:
    """Give the layer of each distribution that lies in one."""
    return {each["name"]: each["layer"] for each in state.report["distributions"] if "layer" in each}
