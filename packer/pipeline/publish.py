"""What a build leaves in the output folder beside archives: manifest, template, bills of materials, and nothing stale."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from packer.cache.signatures import unchanged
from packer.cache.store import Store
from packer.core.names import IMAGES_FOLDER, LAYERS_FOLDER, MANIFEST_FILE, TEMPLATE_FILE
from packer.manifest.document import make_manifest, write_manifest
from packer.pipeline.state import ALWAYS, SBOM, FunctionState, State

if TYPE_CHECKING:
    from packer.config.load import Config
    from packer.pipeline.results import Built
    from packer.sam.template import Template


def bills(
    config: Config, built: Mapping[str, Built], states: Mapping[str, FunctionState], folder: Path, store: Store
) -> tuple[dict[str, FunctionState], dict[str, Path]]:
    """Write the bills of materials of what is new, and give the states that name them; raises `LpackError`."""
    if not config.sbom:
        return _without_bills(states), {}
    from packer.pipeline.bills import with_bills

    new = {id(each.state) for each in built.values() if each.staged}
    mine = {name: state for name, state in states.items() if name in built}
    functions = {function.name: function for function in config.functions}
    found, texts = with_bills(mine, functions, lambda state: id(state) in new, store)
    files = {name: folder / name for name in texts}
    for name, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(texts[name])
    return {**states, **found}, files


def _without_bills(states: Mapping[str, FunctionState]) -> dict[str, FunctionState]:
    """Give states whose reports name no bills."""
    return {name: replace(state, report=dict(_without(state.report))) for name, state in states.items()}


def _without(report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in report.items():
        if key == "layers":
            yield key, {name: {word: each for word, each in layer.items() if word != SBOM} for name, layer in value.items()}
        elif key != SBOM:
            yield key, value


def descriptions(config: Config, template: Template | None, reports: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write the template and the manifest, which come last so that they never speak of what is not there."""
    files: dict[str, Path] = {}
    manifest = make_manifest(reports, TEMPLATE_FILE if template else "")
    if template is not None:
        from packer.sam.write_back import images_of_manifest, layers_of_manifest, write_template

        artifacts = {name: config.out / report["artifact"]["path"] for name, report in reports.items()}
        more = layers_of_manifest(manifest, config.out), images_of_manifest(manifest, config.out)
        files[TEMPLATE_FILE] = folder / TEMPLATE_FILE
        files[TEMPLATE_FILE].write_bytes(write_template(template, artifacts, config.out / TEMPLATE_FILE, *more))
    files[MANIFEST_FILE] = folder / MANIFEST_FILE
    files[MANIFEST_FILE].write_bytes(write_manifest(manifest))
    return files


def remove_strangers(last: State | None, states: Mapping[str, FunctionState], configured: Collection[str]) -> None:
    """Remove archives of functions that are not there any more, and layers without a user, if they are as they were written."""
    used = {path for state in states.values() for path in state.artifact}
    for name, state in (last.functions if last else {}).items():
        for path, known in state.artifact.items():
            kept = name in configured and name not in states and Path(path).parent.name != LAYERS_FOLDER
            if not kept and path not in used and unchanged([(path, known)], ALWAYS):
                _remove(Path(path))


def _remove(path: Path) -> None:
    """Remove an artifact, or a part of an image's layout with the folders that are empty then."""
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


def not_built(template: Template | None, states: Mapping[str, FunctionState]) -> tuple[str, ...]:
    """Warn of functions that the written template leaves with their sources as they are."""
    missing = [each.logical_id for each in template.functions if each.logical_id not in states] if template else []
    if not missing:
        return ()
    what = f"{TEMPLATE_FILE} was written with the bare sources of {', '.join(missing)}, which were not built"
    return (
        f"{what}: do not deploy it before `lpack build --template {template.path.name if template else ''}` has built all.",
    )


def described(template: Template | None) -> tuple[str, ...]:
    """Give the files that describe a build as a whole."""
    return (MANIFEST_FILE, TEMPLATE_FILE) if template is not None else (MANIFEST_FILE,)
