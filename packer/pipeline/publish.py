"""The output folder: one build at a time writes to it, files appear in it whole or not at all, and nothing stale stays."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from builders.files import file_digest
from packer import __version__
from packer.cache.derived_values import derive
from packer.cache.process_lock import lock_name
from packer.cache.signatures import are_unchanged
from packer.cache.store import Store, digest_of, store_errors
from packer.config.load import Config
from packer.core.errors import VerificationError
from packer.core.model import Function, Tree
from packer.core.names import IMAGES_FOLDER, LAYERS_FOLDER, MANIFEST_FILE, TEMPLATE_FILE
from packer.core.process import is_running
from packer.core.records import DistributionRecord, FunctionRecord, FunctionRecords, LayerRecord
from packer.formats.metadata import read_requires_dist, required_names
from packer.formats.stored_wheel import read_stored_wheel
from packer.manifest.document import make_manifest, manifest_text
from packer.manifest.sbom import SUFFIX, BillEntry, Sboms
from packer.pipeline.results import Built
from packer.pipeline.state import ALWAYS, FunctionState, State
from packer.resolve.requirement_graph import RequirementGraph, RequirementGraphs, read_requirement_graph

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from packer.sam.template import Template, UnreadFunction
    from packer.sam.write_back import BuiltLayer

_STAGING_PREFIX = ".lpack-"
_NAMES = "required-names"
_GONE = Tree(())
"""Stands for a wheel that is not in the store any more."""


@contextmanager
def lock_output(store: Store, out: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Lock the output folder for this process; ``waiting`` is called once where another process has locked it."""
    # The true path, so that two spellings of one folder meet in one lock.
    with lock_name(store, digest_of(os.path.realpath(out)), waiting):
        yield


@contextmanager
def open_staging(out: Path) -> Iterator[Path]:
    """Return a new folder beside the final files; it is removed at the end, and those of killed builds at the beginning.

    Call it while the folder is held. Raises `StoreError`.
    """
    with store_errors(out, "write to"):
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(_STAGING_PREFIX + "*"):
            if not is_running(left.name.removeprefix(_STAGING_PREFIX).partition("-")[0]):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{_STAGING_PREFIX}{os.getpid()}-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_files(files: Mapping[str, Path], out: Path) -> None:
    """Rename complete files to their names below ``out``, in the mapping's order; raises `StoreError`.

    A folder is the layout of an image, which takes the place of an older one.
    """
    for name, path in files.items():
        final = out / name
        if path.is_dir():
            from packer.images.layout_writer import publish_layout

            publish_layout(path, final)
            continue
        with store_errors(final, "write"):
            final.parent.mkdir(parents=True, exist_ok=True)
            path.chmod(0o644)
            path.replace(final)


def publish(
    config: Config,
    template: Template | None,
    last: State | None,
    built: Mapping[str, Built],
    folder: Path,
    store: Store,
) -> dict[str, FunctionState]:
    """Publish what was built into a staging folder, with all that describes it, and remove what nobody has any more.

    Returns the states of all configured functions that lie in the output folder then. Raises `LpackError`.
    """
    check_archives(built.values())
    states = {**_recall_others(config, last, built), **{name: each.state for name, each in built.items()}}
    files = {name: path for each in built.values() for name, path in each.layers.items()}
    files |= {each.state.report.artifact.path: each.staged for each in built.values() if each.staged}
    states, bills = write_bills(config, built, states, folder, store)
    files |= bills | write_descriptions(config, template, {name: each.report for name, each in states.items()}, folder)
    publish_files(files, config.out)
    new = {str(config.out / name) for name in files}
    states = {
        name: each.sign_artifacts(config.out) if name in built else each.refresh_artifacts(new) for name, each in states.items()
    }
    configured = [*(function.name for function in config.functions), *(each.logical_id for each in unread_functions(template))]
    remove_unused(last, states, configured)
    _remove_descriptions(last, [str(config.out / name) for name in description_files(template)])
    return {name: states[name] for name in configured if name in states}


def check_archives(built: Iterable[Built]) -> None:
    """Check that new archives are still what was written and proved; raises `VerificationError` where one has changed since.

    Functions ran while they lay in the staging folder. Where none of them was confined, one may have reached it.
    """
    for each in built:
        report = each.state.report
        sealed = {path: report.layers[name].sha256 for name, path in _layers_by_name(report, each).items()}
        if each.staged and report.artifact.zip_bytes is not None:
            sealed[each.staged] = report.artifact.sha256
        for path, digest in sealed.items():
            with store_errors(path, "read"):
                found = file_digest(path)
            if found != digest:
                what = f"{path.name} has changed since it was written: something that ran during the build has written to it."
                raise VerificationError(what, remedy="Nothing was published. Look at what the functions run when imported.")


def _layers_by_name(report: FunctionRecord, built: Built) -> dict[str, Path]:
    """Return the new archives of a function's layers."""
    return {name: built.layers[layer.path] for name, layer in report.layers.items() if layer.path in built.layers}


def _recall_others(config: Config, last: State | None, built: Mapping[str, Built]) -> dict[str, FunctionState]:
    """Return the configured functions that were not asked for now and still lie in the output folder.

    The configuration may have changed for them too: they are checked again before they are trusted.
    """
    known = last.functions if last else {}
    names = (function.name for function in config.functions if function.name not in built and function.name in known)
    return {name: known[name].distrust() for name in names if known[name].lies_in(config.out)}


def write_bills(
    config: Config, built: Mapping[str, Built], states: Mapping[str, FunctionState], folder: Path, store: Store
) -> tuple[dict[str, FunctionState], dict[str, Path]]:
    """Write the bills of materials of what is new, and give the states that name them; raises `LpackError`."""
    if not config.sbom:
        return _drop_bills(states), {}
    new = {id(each.state) for each in built.values() if each.staged}
    mine = {name: state for name, state in states.items() if name in built}
    functions = {function.name: function for function in config.functions}
    found, texts = make_bills(mine, functions, lambda state: id(state) in new, store)
    files = {name: folder / name for name in texts}
    for name, path in files.items():
        _write_staged(path, texts[name])
    return {**states, **found}, files


def _write_staged(path: Path, data: bytes) -> None:
    """Write a file to the staging folder; raises `StoreError`."""
    with store_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _drop_bills(states: Mapping[str, FunctionState]) -> dict[str, FunctionState]:
    """Return states whose records name no bills."""
    return {name: replace(state, report=_drop_bill(state.report)) for name, state in states.items()}


def _drop_bill(report: FunctionRecord) -> FunctionRecord:
    return replace(report, sbom="", layers={name: replace(layer, sbom="") for name, layer in report.layers.items()})


def write_descriptions(config: Config, template: Template | None, reports: FunctionRecords, folder: Path) -> dict[str, Path]:
    """Write the manifest and, of a template, its copy and AWS SAM CLI's configuration.

    They come last, so that they never list a file that does not exist. Returns those whose text is not what lies in the output
    folder already, by their names there. Raises `StoreError`.
    """
    texts: dict[str, bytes] = {}
    manifest = make_manifest(reports, TEMPLATE_FILE if template else "")
    if template is not None:
        from packer.sam.write_back import images_of_manifest, layers_of_manifest

        artifacts = {name: config.out / report.artifact.path for name, report in reports.items()}
        more = layers_of_manifest(manifest, config.out), images_of_manifest(manifest, config.out)
        if template.config is not None:  # `sam deploy` looks for it beside the template
            with store_errors(template.config.path, "read"):
                texts[template.config.path.name] = template.config.path.read_bytes()
        for each in (template, *template.nested):
            texts[str(each.written)] = _template_text(each, artifacts, config.out, *more)
    texts[MANIFEST_FILE] = manifest_text(manifest).encode()
    new = {name: text for name, text in texts.items() if not _holds(config.out / name, text)}
    for name, text in new.items():
        _write_staged(folder / name, text)
    return {name: folder / name for name in new}


def _template_text(
    template: Template,
    artifacts: Mapping[str, Path],
    out: Path,
    layers: Sequence[BuiltLayer],
    images: Mapping[str, Path | str],
) -> bytes:
    """Return what is written of a template, by the names of functions: each stack has layers of its own functions alone."""
    from packer.sam.write_back import write_template

    ids = {each.name: each.logical_id for each in template.own}
    mine = (replace(layer, users=tuple(ids[user] for user in layer.users if user in ids)) for layer in layers)
    return write_template(
        template,
        {ids[name]: path for name, path in artifacts.items() if name in ids},
        out / template.written,
        tuple(layer for layer in mine if layer.users),
        {ids[name]: image for name, image in images.items() if name in ids},
        {logical_id: out / child.written for logical_id, child in template.children.items()},
    )


def _holds(path: Path, text: bytes) -> bool:
    """Return whether a file has this text."""
    try:
        return path.read_bytes() == text
    except OSError:
        return False


def remove_unused(last: State | None, states: Mapping[str, FunctionState], configured: Collection[str]) -> None:
    """Remove archives of functions that no longer exist, and layers without a user, if they are as they were written.

    Raises `StoreError`.
    """
    used = {path for state in states.values() for path in state.artifact}
    for name, state in (last.functions if last else {}).items():
        for path, known in state.artifact.items():
            kept = name in configured and name not in states and Path(path).parent.name != LAYERS_FOLDER
            if not kept and path not in used and are_unchanged([(path, known)], ALWAYS):
                _remove(Path(path))


def _remove_descriptions(last: State | None, current: Collection[str]) -> None:
    """Remove what describes the last build and has no counterpart in this one, if it is as it was written."""
    for path, known in last.outputs.items() if last else ():
        if path not in current and are_unchanged([(path, known)], ALWAYS):
            _remove(Path(path))


def _remove(path: Path) -> None:
    """Remove an artifact, or a part of an image's layout with the folders that are empty then; raises `StoreError`."""
    with store_errors(path, "remove"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    folder = path.parent
    while IMAGES_FOLDER in folder.parts:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def warn_of_bare_sources(template: Template | None, states: Mapping[str, FunctionState]) -> tuple[str, ...]:
    """Warn of functions that the written template leaves with their sources as they are."""
    missing = [name for name in template.names if name not in states] if template else []
    if not missing:
        return ()
    what = f"{TEMPLATE_FILE} was written with the bare sources of {', '.join(missing)}, which were not built"
    unknown = (f"{each.error.what}. {each.error.remedy}" for each in unread_functions(template))
    return (
        f"{what}: do not deploy it before `lpack build --template {template.path.name if template else ''}` has built all.",
        *unknown,
    )


def list_deployment(template: Template | None, states: Mapping[str, FunctionState]) -> tuple[str, ...]:
    """Return the options of the ``sam deploy`` that deploys the written template; none where something must be built before."""
    from packer.sam.samconfig import list_deploy_options

    if template is None or warn_of_bare_sources(template, states) or any(each.unbuilt for each in template.skipped):
        return ()
    options = list_deploy_options(template.config, template.given, template.secret, nested=bool(template.nested))
    return ("--template", TEMPLATE_FILE, *options)


def unread_functions(template: Template | None) -> tuple[UnreadFunction, ...]:
    """Return the functions of a template that were not asked for and are not known well enough to be built."""
    return template.unread if template else ()


def warn_of_unbuilt(template: Template | None, out: Path) -> tuple[str, ...]:
    """Warn of what lpack does not build, and what has to be built before the template written to ``out`` is deployed."""
    left = [each for each in template.skipped if each.unbuilt] if template else []
    written = os.path.relpath(out / TEMPLATE_FILE)
    return tuple(
        f"{each.logical_id} is not built, because {each.reason}, and cannot be deployed as it is: "
        f"`sam build --template {written}` builds what is left."
        for each in left
    )


def description_files(template: Template | None) -> tuple[str, ...]:
    """Return the files that describe a build as a whole."""
    if template is None:
        return (MANIFEST_FILE,)
    copies = (str(each.written) for each in (template, *template.nested))
    return (MANIFEST_FILE, *copies, *([template.config.path.name] if template.config else []))


def make_bills(
    states: Mapping[str, FunctionState], functions: Mapping[str, Function], fresh: Callable[[FunctionState], bool], store: Store
) -> tuple[dict[str, FunctionState], dict[str, bytes]]:
    """Return states whose records name their bills, and the bills to write, by their paths below the output folder.

    ``fresh`` says whether a function, or one of its layers, is new; the bills of all others exist. Raises `LpackError`.
    """
    found: dict[str, FunctionState] = {}
    files: dict[str, bytes] = {}
    sboms, wheels = Sboms(store), _Wheels(store)
    for name, state in states.items():
        report = state.report
        if report.sbom and not fresh(state):
            found[name] = state
            continue
        path = f"{name}{SUFFIX}"
        files[path] = sboms.make(name, report.artifact.sha256, list(wheels.list_entries(functions[name], report)))
        layers = {}
        for layer, each in report.layers.items():
            own = f"{Path(each.path).with_suffix('')}{SUFFIX}"
            if own not in files:
                files[own] = sboms.make(layer, each.sha256, list(wheels.list_layer_entries(each)))
            layers[layer] = replace(each, sbom=own)
        found[name] = replace(state, report=replace(report, sbom=path, layers=layers))
    return found, files


class _Wheels:
    """Reads wheels in the store, each once, and remembers what they say they require."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trees: dict[str, Tree] = {}
        self._graphs = RequirementGraphs(store)
        self._requirements: dict[int, tuple[Requirement, ...] | None] = {}

    def list_entries(self, function: Function, report: FunctionRecord) -> Iterator[BillEntry]:
        """Return what a function has."""
        readers = {each.name: self._reader(each) for each in report.distributions}
        wheels = {each.name: each.sha256 if readers[each.name] else "" for each in report.distributions}

        def read_graph() -> RequirementGraph:
            trees = {name: read() if read else _GONE for name, read in readers.items()}
            return read_requirement_graph(function, trees, self._requirements_in)

        edges = self._graphs.read(function, wheels, read_graph).edges
        for each in report.distributions:
            requires = tuple(step.name for step in edges.get(each.name, ()))
            yield BillEntry(report=each, read_tree=readers[each.name], requires=requires)

    def list_layer_entries(self, layer: LayerRecord) -> Iterator[BillEntry]:
        """Return what a layer has; some of its functions need not all of it, so that only the wheels say who requires what."""
        for each in layer.distributions:
            read = self._reader(each)
            key = digest_of("1", __version__, each.sha256)
            names = derive(self._store, _NAMES, key, tuple[str, ...], partial(_names_required_in, read)) if read else ()
            yield BillEntry(report=each, read_tree=read, requires=names)

    def _reader(self, distribution: DistributionRecord) -> Callable[[], Tree] | None:
        path = self._store.wheel(distribution.sha256)
        return partial(self._read_tree, path, distribution) if path else None

    def _read_tree(self, path: Path, distribution: DistributionRecord) -> Tree:
        if distribution.sha256 not in self._trees:
            self._trees[distribution.sha256] = read_stored_wheel(self._store, path, distribution.wheel, distribution.sha256)
        return self._trees[distribution.sha256]

    def _requirements_in(self, tree: Tree) -> tuple[Requirement, ...] | None:
        """Return what a distribution requires, of one of these trees, which stay as long as this does."""
        if id(tree) not in self._requirements:
            self._requirements[id(tree)] = read_requires_dist(tree)
        return self._requirements[id(tree)]


def _names_required_in(read: Callable[[], Tree]) -> tuple[str, ...]:
    return required_names(read())
