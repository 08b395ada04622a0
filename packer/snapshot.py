"""What a build, an archive, an image or a commit holds, in one form, so that any two can be compared."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from packer.baseline import BASELINE_FILE
from packer.contents import PackedFile, read_archive, stems, with_owners
from packer.errors import UsageError
from packer.model import OWN_SOURCE, Tree
from packer.names import MANIFEST_FILE

_WHAT = "a ZIP archive, a folder with an lpack.json, an OCI layout, a docker-archive, or git:REF"
_LAYOUT = "oci-layout"
_ARCHIVE, _IMAGE = "the archive", "the image"
"""What is compared by itself, however its file is called."""
Trees = Callable[[str, str], Tree | None]
"""Gives what a wheel installs by its SHA-256 and file name; None where it is not at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A distribution (or `OWN_SOURCE`) in a unit: its version, and its bytes unpacked."""

    version: str
    unzipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A function, a layer, or an archive by itself. Sizes are bytes; ``files`` is None where they are not at hand."""

    zipped: int
    unzipped: int
    parts: Mapping[str, Part]
    files: tuple[PackedFile, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What there is, by names; layers are called by theirs without the digest."""

    named: str
    functions: Mapping[str, Unit]
    layers: Mapping[str, Unit] = field(default_factory=dict)


def of_reports(named: str, reports: Mapping[str, Mapping[str, Any]]) -> Snapshot:
    """Give what functions' reports say (`packer.appraise`); nothing of it lies anywhere."""
    layers = {name: layer for report in reports.values() for name, layer in report.get("layers", {}).items()}
    return Snapshot(
        named=named,
        functions={name: _of_report(report) for name, report in reports.items()},
        layers={_stem(name): _of_layer(layer) for name, layer in layers.items()},
    )


def read_snapshot(path: Path, named: str, trees: Trees) -> Snapshot:
    """Read a file or a folder; raises `UsageError` for what is none of the forms, and `PackageError` for a broken archive."""
    if path.is_dir():
        if (path / _LAYOUT).is_file():
            return Snapshot(named=named, functions={_IMAGE: _of_layout(path)})
        if (path / MANIFEST_FILE).is_file():
            return _of_manifest(path / MANIFEST_FILE, named, trees)
        raise UsageError(f"{path} has neither an {MANIFEST_FILE} nor an OCI layout.", remedy=f"Name {_WHAT}.")
    if not path.is_file():
        raise UsageError(f"There is no {path}.", remedy=f"Name {_WHAT}.")
    if path.suffix == ".json":
        return _of_manifest(path, named, trees)
    if path.suffix == ".tar":
        return Snapshot(named=named, functions={_IMAGE: _of_docker_archive(path)})
    return _of_archive(path, named, trees)


def _of_archive(path: Path, named: str, trees: Trees) -> Snapshot:
    """Read an archive; a manifest beside it that speaks of it says whose its files are."""
    beside = [path.parent / MANIFEST_FILE, path.parent.parent / MANIFEST_FILE]
    for manifest in beside:
        if manifest.is_file():
            found = _of_manifest(manifest, named, trees, only=path)
            for units in (found.functions, found.layers):
                for unit in units.values():
                    return Snapshot(named=named, functions={_ARCHIVE: unit})
    files = read_archive(path)
    return Snapshot(named=named, functions={_ARCHIVE: _of_files(with_owners(files, {}), path.stat().st_size)})


def _of_manifest(path: Path, named: str, trees: Trees, only: Path | None = None) -> Snapshot:
    """Read a manifest, and the archives that it speaks of; with ``only``, that archive alone."""
    try:
        document = json.loads(path.read_bytes())
        functions: dict[str, Any] = document["functions"]
        layers: dict[str, Any] = document.get("layers", {})
        if any("artifact" not in each for each in functions.values()):
            return _of_baseline(document, named)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        what = f"{path} is neither a manifest nor a baseline."
        raise UsageError(what, remedy=f"Name {_WHAT}, or a {BASELINE_FILE}.") from None
    folder = path.parent

    def unit(report: Mapping[str, Any], fallback: Callable[[Mapping[str, Any]], Unit], placed: Mapping[str, Any]) -> Unit:
        archive = folder / placed["path"]
        wheels = [each for each in report["distributions"] if "layer" not in each]
        known = ((each["name"], trees(each["sha256"], each["wheel"])) for each in wheels)
        if (archive / _LAYOUT).is_file():
            own = frozenset(each["digest"] for each in report["image"]["layers"])
            return _of_layout(archive, own, {name: tree for name, tree in known if tree is not None})
        if archive.suffix != ".zip" or not archive.is_file() or _sha256(archive) != placed["sha256"]:
            return fallback(report)
        files = with_owners(read_archive(archive), {name: tree for name, tree in known if tree is not None})
        versions = {each["name"]: each["version"] for each in wheels}
        return _of_files(files, archive.stat().st_size, versions)

    def wanted(placed: Mapping[str, Any]) -> bool:
        return only is None or (folder / placed["path"]).resolve() == only.resolve()

    whole = {name: {**each, "layers": {}} for name, each in functions.items() if wanted(each["artifact"])}
    return Snapshot(
        named=named,
        functions={name: unit(each, _of_report, each["artifact"]) for name, each in whole.items()},
        layers={_stem(name): unit(each, _of_layer, each) for name, each in layers.items() if wanted(each)},
    )


def _of_baseline(document: Mapping[str, Any], named: str) -> Snapshot:
    def unit(each: Mapping[str, Any]) -> Unit:
        parts = {name: Part(version="", unzipped=size) for name, size in each["parts"].items()}
        return Unit(zipped=each["zip_bytes"], unzipped=each["unzipped_bytes"], parts=parts)

    functions, layers = document["functions"], document["layers"]
    return Snapshot(
        named=named,
        functions={name: unit(each) for name, each in functions.items()},
        layers={name: unit(each) for name, each in layers.items()},
    )


def _of_report(report: Mapping[str, Any]) -> Unit:
    artifact = report["artifact"]
    inside = [each for each in report["distributions"] if "layer" not in each]
    parts = {each["name"]: Part(version=each["version"], unzipped=each["unzipped_bytes"]) for each in inside}
    parts[OWN_SOURCE] = Part(version="", unzipped=report["source"]["unzipped_bytes"])
    zipped = artifact.get("zip_bytes", artifact.get("stored_bytes"))
    return Unit(zipped=zipped, unzipped=artifact["unzipped_bytes"], parts=parts)


def _of_layer(layer: Mapping[str, Any]) -> Unit:
    parts = {each["name"]: Part(version=each["version"], unzipped=each["unzipped_bytes"]) for each in layer["distributions"]}
    return Unit(zipped=layer["zip_bytes"], unzipped=layer["unzipped_bytes"], parts=parts)


def _of_files(files: Iterable[PackedFile], zipped: int, versions: Mapping[str, str] | None = None) -> Unit:
    files = tuple(files)
    known = {**stems(files), **(versions or {})}
    sizes: dict[str, int] = {}
    for each in files:
        sizes[each.owner] = sizes.get(each.owner, 0) + each.size
    parts = {name: Part(version=known.get(name, ""), unzipped=size) for name, size in sizes.items()}
    return Unit(zipped=zipped, unzipped=sum(sizes.values()), parts=parts, files=files)


def _of_layout(folder: Path, own: Collection[str] = (), trees: Mapping[str, Tree] | None = None) -> Unit:
    """Read an OCI image layout: the layers that it holds, or those that are ``own`` by their digests, where any are named."""

    def blob(digest: str) -> Path:
        return folder / "blobs" / digest.replace(":", "/")

    try:
        [first, *_] = json.loads((folder / "index.json").read_bytes())["manifests"]
        manifest = json.loads(blob(first["digest"]).read_bytes())
        paths = [blob(each["digest"]) for each in manifest["layers"] if not own or each["digest"] in own]
        layers = [path for path in paths if path.is_file()]
        return _of_tars([path.open("rb") for path in layers], sum(path.stat().st_size for path in layers), trees)
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        raise UsageError(f"{folder} is no OCI layout that can be read ({error}).", remedy="Build it again.") from None


def _of_docker_archive(path: Path) -> Unit:
    try:
        with tarfile.open(path) as archive:
            [listed] = json.loads(_member(archive, "manifest.json").read())
            return _of_tars((_member(archive, name) for name in listed["Layers"]), path.stat().st_size)
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        raise UsageError(f"{path} is no docker-archive that can be read ({error}).", remedy="Build it again.") from None


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is no file")
    return found


def _of_tars(layers: Iterable[IO[bytes]], stored: int, trees: Mapping[str, Tree] | None = None) -> Unit:
    """Put layers over each other as an engine does (image specification, layer.md)."""
    files: dict[str, PackedFile] = {}
    for layer in layers:
        with layer, tarfile.open(fileobj=_plain(layer), mode="r|") as archive:
            for found in _regular(archive, files):
                files[found.path] = found
    return _of_files(with_owners(list(files.values()), trees or {}), stored)


def _plain(layer: IO[bytes]) -> IO[bytes]:
    magic = layer.read(4)
    layer.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast(
            "IO[bytes]", gzip.open(layer)
        )  # which reads several members, as layers have them; tarfile as a stream reads one
    if magic != b"\x28\xb5\x2f\xfd":
        return layer
    import zstandard

    return zstandard.ZstdDecompressor().stream_reader(layer, read_across_frames=True)


def _regular(archive: tarfile.TarFile, files: dict[str, PackedFile]) -> Iterator[PackedFile]:
    for info in archive:
        path = info.name.removeprefix("./")
        folder, _, name = path.rpartition("/")
        if name.startswith(".wh."):
            gone = f"{folder}/{name.removeprefix('.wh.')}".lstrip("/")
            for each in [each for each in files if each == gone or each.startswith(f"{gone}/")]:
                del files[each]
        elif info.isreg():
            content = archive.extractfile(info)
            mark = hashlib.file_digest(content, "sha256").hexdigest() if content else ""  # type: ignore[arg-type]
            yield PackedFile(path=path, size=info.size, packed=0, mark=mark)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stem(layer: str) -> str:
    return layer.rpartition("-")[0] or layer
