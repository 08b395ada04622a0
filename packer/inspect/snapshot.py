"""The contents of a build, an archive, an image or a commit in one form, so that any two can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from builders.files import file_digest
from packer.core.errors import UsageError
from packer.core.model import OWN_SOURCE, Tree, owner_label
from packer.core.names import MANIFEST_FILE
from packer.core.records import DistributionRecord, FunctionRecord, FunctionRecords, LayerRecord, read_manifest
from packer.inspect.contents import PackedFile, assign_owners, distribution_versions, read_packed_files
from packer.inspect.image_files import archive_files, layout_files
from packer.manifest.baseline import BASELINE_FILE, Baseline, BaselineSizes, is_baseline, make_baseline, read_baseline
from packer.manifest.layer_names import all_layers, lasting_names

_WHAT = "a ZIP archive, a folder with an lpack.json, an OCI layout, a docker-archive, or git:REF"
_LAYOUT = "oci-layout"
_ARCHIVE, _IMAGE = "the archive", "the image"
"""Names of what is compared by itself, whatever its file is called."""
Trees = Callable[[str, str], Tree | None]
"""Returns what a wheel installs by its SHA-256 and file name; None where the wheel is not available."""


class Part(Struct, frozen=True, kw_only=True):
    """A distribution (or `OWN_SOURCE`) in a unit: its version, and its bytes unpacked."""

    version: str
    unzipped: int


class Unit(Struct, frozen=True, kw_only=True):
    """A function, a layer, or an archive by itself. Sizes are bytes; ``files`` is None where they are not known."""

    zipped: int
    unzipped: int
    parts: Mapping[str, Part]
    files: tuple[PackedFile, ...] | None = None


class Snapshot(Struct, frozen=True, kw_only=True):
    """Functions by their names, and layers by theirs without the digest."""

    named: str
    functions: Mapping[str, Unit]
    layers: Mapping[str, Unit] = field(default_factory=dict)


def snapshot_of_records(named: str, reports: FunctionRecords, *, whole: bool = False) -> Snapshot:
    """Return the snapshot of functions that were only looked at (`packer.inspect.appraisal`).

    With ``whole``, functions count with their layers, as they do in a baseline.
    """
    if whole:
        return _of_baseline(make_baseline(reports), named)
    names = lasting_names(reports)
    return Snapshot(
        named=named,
        functions={name: _of_report(report) for name, report in reports.items()},
        layers={names[name]: _of_layer(layer) for name, layer in all_layers(reports).items()},
    )


def read_snapshot(path: Path, named: str, trees: Trees, *, whole: bool = False) -> Snapshot:
    """Read a file or a folder; with ``whole``, functions of a manifest count with their layers, as they do in a baseline.

    Raises `UsageError` for what is none of the forms, and `PackageError` for a broken archive.
    """
    if path.is_dir() and (path / _LAYOUT).is_file():
        return _beside(path, named, trees) or Snapshot(named=named, functions={_IMAGE: _of_files(*_owned(layout_files(path)))})
    if path.is_dir():
        if not (path / MANIFEST_FILE).is_file():
            raise UsageError(f"{path} has neither an {MANIFEST_FILE} nor an OCI layout.", remedy=f"Name {_WHAT}.")
        path = path / MANIFEST_FILE
    if not path.is_file():
        raise UsageError(f"There is no {path}.", remedy=f"Name {_WHAT}.")
    if path.suffix == ".json":
        return _of_baseline(read_baseline(path), named) if whole or is_baseline(path) else _of_manifest(path, named, trees)
    if path.suffix == ".tar":
        return Snapshot(named=named, functions={_IMAGE: _of_files(*_owned(archive_files(path)))})
    beside = _beside(path, named, trees)
    return beside or Snapshot(
        named=named, functions={_ARCHIVE: _of_files(assign_owners(read_packed_files(path), {}), path.stat().st_size)}
    )


def _owned(found: tuple[list[PackedFile], int], trees: Mapping[str, Tree] | None = None) -> tuple[list[PackedFile], int]:
    files, stored = found
    return assign_owners(files, trees or {}), stored


def _beside(path: Path, named: str, trees: Trees) -> Snapshot | None:
    """Read an archive or a layout that a manifest beside it lists, which names the owners of its files; None without one."""
    for folder in (path.parent, path.parent.parent):
        if (folder / MANIFEST_FILE).is_file():
            found = _of_manifest(folder / MANIFEST_FILE, named, trees, only=path)
            for kind, units in ((_IMAGE if path.is_dir() else _ARCHIVE, found.functions), (_ARCHIVE, found.layers)):
                for unit in units.values():
                    return Snapshot(named=named, functions={kind: unit})
    return None


def _of_manifest(path: Path, named: str, trees: Trees, only: Path | None = None) -> Snapshot:
    """Read a manifest and the archives that it lists; with ``only``, that archive alone."""
    manifest = read_manifest(path, "is neither a manifest nor a baseline", f"Name {_WHAT}, or a {BASELINE_FILE}.")
    functions, names = manifest.records(), lasting_names(manifest.records())
    beside = _Beside(path.parent, trees)

    def wanted(artifact: str) -> bool:
        return only is None or (path.parent / artifact).resolve() == only.resolve()

    return Snapshot(
        named=named,
        functions={name: beside.function(each) for name, each in functions.items() if wanted(each.artifact.path)},
        layers={names[name]: beside.layer(each) for name, each in all_layers(functions).items() if wanted(each.path)},
    )


class _Beside:
    """Reads the archives and layouts beside a manifest; sizes of what is missing or changed come from the manifest."""

    def __init__(self, folder: Path, trees: Trees) -> None:
        self._folder = folder
        self._trees = trees

    def function(self, report: FunctionRecord) -> Unit:
        place = self._folder / report.artifact.path
        if (place / _LAYOUT).is_file():
            own = frozenset(each.digest for each in (report.image.layers if report.image else ()))
            return _of_files(*_owned(layout_files(place, own), self._known(report.inside)), _versions(report.inside))
        return self._archive(place, report.artifact.sha256, report.inside) or _of_report(report)

    def layer(self, layer: LayerRecord) -> Unit:
        return self._archive(self._folder / layer.path, layer.sha256, layer.distributions) or _of_layer(layer)

    def _archive(self, place: Path, sha256: str, held: Sequence[DistributionRecord]) -> Unit | None:
        if place.suffix != ".zip" or not place.is_file() or file_digest(place) != sha256:
            return None
        return _of_files(assign_owners(read_packed_files(place), self._known(held)), place.stat().st_size, _versions(held))

    def _known(self, held: Iterable[DistributionRecord]) -> dict[str, Tree]:
        known = ((each.name, self._trees(each.sha256, each.wheel)) for each in held)
        return {name: tree for name, tree in known if tree is not None}


def _versions(distributions: Iterable[DistributionRecord]) -> dict[str, str]:
    return {each.name: each.version for each in distributions}


def _of_baseline(baseline: Baseline, named: str) -> Snapshot:
    """Return a baseline, which knows no versions."""
    names = {owner_label(OWN_SOURCE): OWN_SOURCE}

    def unit(each: BaselineSizes) -> Unit:
        parts = {names.get(name, name): Part(version="", unzipped=size) for name, size in each.parts.items()}
        return Unit(zipped=each.zip_bytes, unzipped=each.unzipped_bytes, parts=parts)

    return Snapshot(
        named=named,
        functions={name: unit(each) for name, each in baseline.functions.items()},
        layers={name: unit(each) for name, each in baseline.layers.items()},
    )


def _of_report(report: FunctionRecord) -> Unit:
    parts = {**_parts(report.inside), OWN_SOURCE: Part(version="", unzipped=report.source.unzipped_bytes)}
    return Unit(zipped=report.packed_bytes, unzipped=report.artifact.unzipped_bytes, parts=parts)


def _of_layer(layer: LayerRecord) -> Unit:
    return Unit(zipped=layer.zip_bytes, unzipped=layer.unzipped_bytes, parts=_parts(layer.distributions))


def _parts(distributions: Iterable[DistributionRecord]) -> dict[str, Part]:
    return {each.name: Part(version=each.version, unzipped=each.unzipped_bytes) for each in distributions}


def _of_files(files: Iterable[PackedFile], zipped: int, versions: Mapping[str, str] | None = None) -> Unit:
    files = tuple(files)
    known = {**distribution_versions(files), **(versions or {})}
    sizes: dict[str, int] = {}
    for each in files:
        sizes[each.owner] = sizes.get(each.owner, 0) + each.size
    parts = {name: Part(version=known.get(name, ""), unzipped=size) for name, size in sizes.items()}
    return Unit(zipped=zipped, unzipped=sum(sizes.values()), parts=parts, files=files)
