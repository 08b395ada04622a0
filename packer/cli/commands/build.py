"""`lpack build`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from packer.cache.store import Store
from packer.cli.answer_cache import remember
from packer.cli.common import (
    find_flagged_project,
    open_reporter,
    open_store,
    project_options,
    read_shape_flags,
    shape_options,
    warn_of_runtimes,
)
from packer.cli.results import Changes, format_deployment, format_results
from packer.cli.terminal import LineReporter
from packer.config.project import TEMPLATE, Project, find_output_folder, sign_searched_paths
from packer.core.options import FORMATS, LAYER_MODES, VERIFY_LEVELS, ShapeFlags
from packer.manifest.document import make_manifest, manifest_text
from packer.pipeline.request import digest_flags
from packer.pipeline.state import FunctionState, State, load_state, state_key

if TYPE_CHECKING:
    from packer.cli.wiring import BuildServices
    from packer.pipeline.build import BuildResult


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the artifacts (default: dist).")
@click.option("--frozen", is_flag=True, help="Fail where a lock is missing or stale, instead of resolving.")
@click.option("--sbom/--no-sbom", default=None, help="Write bills of materials beside the artifacts (default: sbom).")
@click.option("--report", is_flag=True, help="Write the HTML report of `lpack report`, too.")
@click.option("--strict", is_flag=True, help="Fail where source looks like a secret, or a function is not verified.")
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
    project = find_flagged_project(names, flags)
    store = open_store()
    key = state_key(project.path, find_output_folder(project, flags["out"]))
    shape = read_shape_flags(flags)
    digest = digest_flags(project, flags, shape)
    state, changes = load_state(store, key), Changes()
    settings = _read_settings(flags, shape)
    with open_reporter(verbose, quiet) as reporter:
        if flags["changed_since"] is not None:
            from packer.change.since import narrow_project

            project = narrow_project(project, settings.flags, flags["changed_since"], state, reporter)
        if project.nothing_selected and project.kind != TEMPLATE:  # a template's copy may have to be written anew all the same
            sys.stdout.write(manifest_text(make_manifest({})) if as_json else "")
            return
        as_it_was = state is not None and state.is_current(digest, project.names, nothing_selected=project.nothing_selected)
        if state is None or flags["upgrade"] or not as_it_was:
            as_it_was = False
            result = settings.build(project, key, digest, started, settings.services(store, reporter))
            state, changes = result.state, Changes(written=result.written, before=result.before)
        chosen = {name: each for name, each in state.functions.items() if project.asks_for(name)}
        _repeat_warnings(chosen, state, reporter)
        if explain is not None:
            texts = settings.explain(explain, project, chosen, settings.services(store, reporter))
            sys.stdout.writelines(f"{text}\n" for text in texts)
            return
    text = format_results(state, chosen, changes, as_json=as_json)
    sys.stdout.write(text)
    told = reporter.told + ("" if quiet else format_deployment(state))
    sys.stderr.write(told[len(reporter.told) :])
    if as_it_was and not report and flags["changed_since"] is None:
        looked = (started, sign_searched_paths(project, names))
        remember(sys.argv[1:], [*state.signatures(written=True), looked], text, told, 0)
    if report:
        settings.report(store, project)


def _read_settings(flags: Mapping[str, Any], shape: ShapeFlags) -> _BuildSettings:
    return _BuildSettings(
        flags={
            "runtime": flags["runtime"],
            "architecture": flags["arch"],
            "out": flags["out"],
            "sbom": flags["sbom"],
            "shape": shape,
        },
        policy={name: flags[name] for name in ("frozen", "offline", "upgrade", "strict", "allow_incomplete")},
        jobs=flags["jobs"] or os.cpu_count() or 1,
        scheduler=flags["scheduler"] or "",
    )


def _repeat_warnings(functions: Mapping[str, FunctionState], state: State, reporter: LineReporter) -> None:
    """Repeat what holds of the functions, built just now or not."""
    warn_of_runtimes({each.report.runtime for each in functions.values()}, reporter)
    for each in functions.values():
        for warning in each.warnings:
            reporter.warn(warning)
    for warning in state.warnings:
        reporter.warn(warning)


class _BuildSettings(Struct, frozen=True, kw_only=True):
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

    def build(self, project: Project, key: str, digest: str, started: int, services: BuildServices) -> BuildResult:
        """Build what has changed; raises `LpackError`."""
        from packer.config.load import Overrides
        from packer.pipeline.build import build
        from packer.pipeline.request import BuildRequest

        request = BuildRequest(
            project=project,
            overrides=Overrides(**self.flags),
            key=key,
            digest=digest,
            afresh=self.policy["upgrade"],
            strict=self.policy["strict"],
            started=started,
        )
        return build(request, services, services.reporter)

    def services(self, store: Store, reporter: LineReporter) -> BuildServices:
        """Return what a build works with."""
        from packer.cli.wiring import BuildServices
        from packer.core.options import Policy

        return BuildServices(store, reporter, Policy(**self.policy), self.jobs, self.scheduler)

    def explain(self, path: str, project: Project, built: Mapping[str, FunctionState], services: BuildServices) -> list[str]:
        """Return, for each built function, why a path is in it, or what removed it; raises `UsageError`."""
        from packer.cache.signatures import Digests
        from packer.config.load import Overrides
        from packer.config.project_reader import read_project, select_named
        from packer.core.errors import UsageError
        from packer.pipeline.gatherer import make_gatherer
        from packer.trim.explain import explain

        config, _ = read_project(project, Overrides(**self.flags))
        for place in ("/opt/", "/var/task/", "python/"):  # as it lies in a layer, or on Lambda
            path = path.removeprefix(place)
        with services.tools(Digests(), config.remote) as tools:
            gatherer, shaper = make_gatherer(tools, services.reporter, config.out), tools.shaping.shaper
            texts: list[str] = []
            error: UsageError | None = None
            for function in select_named(config, tuple(built)):
                material = gatherer.gather_material(function)
                kept = frozenset((each.rule, each.distribution) for each in built[function.name].report.trim.kept)
                try:
                    shaped = shaper.shape(material, kept)
                    untouched = shaper.shape(material) if kept else shaped
                    texts.append(explain(material, shaped, untouched, path, _find_layers(built[function.name])))
                except UsageError as unknown:
                    error = unknown
        if error is not None and not texts:
            raise error
        return texts


def _find_layers(state: FunctionState) -> dict[str, str]:
    """Return the layer of each distribution that lies in one."""
    return {each.name: each.layer for each in state.report.distributions if each.layer}
