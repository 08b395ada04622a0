"""What a build, an archive, an image or a commit holds, in one form, so that any two can be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from builders.files import file_digest
from packer.core.errors import UsageError
from packer.core.model import OWN_SOURCE, Tree, owner_label
from packer.core.names import MANIFEST_FILE
from packer.inspect.contents import PackedFile, read_archive, stems, with_owners
from packer.inspect.image_files import archive_files, layout_files
from packer.manifest.baseline import BASELINE_FILE, Sized, make_baseline, read_baseline
from packer.manifest.records import (
    Report,
    Reports,
    all_layers,
    functions_of,
    inside,
    lasting_names,
    packed_bytes,
    read_manifest,
)

_WHAT = "a ZIP archive, a folder with an lpack.json, an OCI layout, a docker-archive, or git:REF"
_LAYOUT = "oci-layout"
_ARCHIVE, _IMAGE = "the archive", "the image"
"""What is compared by itself, however its file is called."""
Trees = Callable[[str, str], Tree | None]
"""Gives what a wheel installs by its SHA-256 and file name; None where it is not at hand."""


class Part(Struct, frozen=True, kw_only=True):
    """A distribution (or `OWN_SOURCE`) in a unit: its version, and its bytes unpacked."""

    version: str
    unzipped: int


class Unit(Struct, frozen=True, kw_only=True):
    """A function, a layer, or an archive by itself. Sizes are bytes; ``files`` is None where they are not at hand."""

    zipped: int
    unzipped: int
    parts: Mapping[str, Part]
    files: tuple[PackedFile, ...] | None = None


class Snapshot(Struct, frozen=True, kw_only=True):
    """What there is, by names; layers are called by theirs without the digest."""

    named: str
    functions: Mapping[str, Unit]
    layers: Mapping[str, Unit] = field(default_factory=dict)


def of_reports(named: str, reports: Reports, *, whole: bool = False) -> Snapshot:
    """Give what functions' reports say (`packer.inspect.appraisal`); nothing of it lies anywhere.

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


def is_baseline(path: Path) -> bool:
    """Say whether a file is a baseline, in which functions count with their layers."""
    try:
        functions = json.loads(path.read_bytes())["functions"].values() if path.suffix == ".json" else ()
        return bool(functions) and not any("artifact" in each for each in functions)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


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
        named=named, functions={_ARCHIVE: _of_files(with_owners(read_archive(path), {}), path.stat().st_size)}
    )


def _owned(found: tuple[list[PackedFile], int], trees: Mapping[str, Tree] | None = None) -> tuple[list[PackedFile], int]:
    files, stored = found
    return with_owners(files, trees or {}), stored


def _beside(path: Path, named: str, trees: Trees) -> Snapshot | None:
    """Read an archive or a layout by way of a manifest beside it that speaks of it, which says whose its files are."""
    for folder in (path.parent, path.parent.parent):
        if (folder / MANIFEST_FILE).is_file():
            found = _of_manifest(folder / MANIFEST_FILE, named, trees, only=path)
            for kind, units in ((_IMAGE if path.is_dir() else _ARCHIVE, found.functions), (_ARCHIVE, found.layers)):
                for unit in units.values():
                    return Snapshot(named=named, functions={kind: unit})
    return None


def _of_manifest(path: Path, named: str, trees: Trees, only: Path | None = None) -> Snapshot:
    """Read a manifest, and the archives that it speaks of; with ``only``, that archive alone."""
    try:
        manifest = read_manifest(path)
    except (OSError, ValueError) as error:
        what = f"{path} is neither a manifest nor a baseline ({error})."
        raise UsageError(what, remedy=f"Name {_WHAT}, or a {BASELINE_FILE}.") from None
    folder = path.parent

    def unit(report: Report, fallback: Callable[[Report], Unit], placed: Mapping[str, Any]) -> Unit:
        archive = folder / placed["path"]
        wheels = inside(report)
        known = ((each["name"], trees(each["sha256"], each["wheel"])) for each in wheels)
        if (archive / _LAYOUT).is_file():
            own = frozenset(each["digest"] for each in report["image"]["layers"])
            held = {name: tree for name, tree in known if tree is not None}
            return _of_files(*_owned(layout_files(archive, own), held), _versions(wheels))
        if archive.suffix != ".zip" or not archive.is_file() or file_digest(archive) != placed["sha256"]:
            return fallback(report)
        files = with_owners(read_archive(archive), {name: tree for name, tree in known if tree is not None})
        return _of_files(files, archive.stat().st_size, _versions(wheels))

    def wanted(placed: Mapping[str, Any]) -> bool:
        return only is None or (folder / placed["path"]).resolve() == only.resolve()

    functions = functions_of(manifest)
    names = lasting_names(functions)
    return Snapshot(
        named=named,
        functions={
            name: unit(each, _of_report, each["artifact"]) for name, each in functions.items() if wanted(each["artifact"])
        },
        layers={names[name]: unit(each, _of_layer, each) for name, each in all_layers(functions).items() if wanted(each)},
    )


def _versions(distributions: Iterable[Report]) -> dict[str, str]:
    return {each["name"]: each["version"] for each in distributions}


def _of_baseline(document: Mapping[str, Any], named: str) -> Snapshot:
    """Give a baseline, which knows no versions."""
    names = {owner_label(OWN_SOURCE): OWN_SOURCE}

    def unit(each: Sized) -> Unit:
        parts = {names.get(name, name): Part(version="", unzipped=size) for name, size in each["parts"].items()}
        return Unit(zipped=each["zip_bytes"], unzipped=each["unzipped_bytes"], parts=parts)

    return Snapshot(
        named=named,
        functions={name: unit(each) for name, each in document["functions"].items()},
        layers={name: unit(each) for name, each in document["layers"].items()},
    )


def _of_report(report: Report) -> Unit:
    parts = {**_parts(inside(report)), OWN_SOURCE: Part(version="", unzipped=report["source"]["unzipped_bytes"])}
    return Unit(zipped=packed_bytes(report), unzipped=report["artifact"]["unzipped_bytes"], parts=parts)


def _of_layer(layer: Report) -> Unit:
    return Unit(zipped=layer["zip_bytes"], unzipped=layer["unzipped_bytes"], parts=_parts(layer["distributions"]))


def _parts(distributions: Iterable[Report]) -> dict[str, Part]:
    return {each["name"]: Part(version=each["version"], unzipped=each["unzipped_bytes"]) for each in distributions}


def _of_files(files: Iterable[PackedFile], zipped: int, versions: Mapping[str, str] | None = None) -> Unit:
    files = tuple(files)
    known = {**stems(files), **(versions or {})}
    sizes: dict[str, int] = {}
    for each in files:
        sizes[each.owner] = sizes.get(each.owner, 0) + each.size
    parts = {name: Part(version=known.get(name, ""), unzipped=size) for name, size in sizes.items()}
    return Unit(zipped=zipped, unzipped=sum(sizes.values()), parts=parts, files=files)
