"""Compares two folders that two installations of lpack wrote: byte for byte, but for times and for lpack's own version.

A difference is told by where it stands: the member of an archive, the key of a JSON document, the layer of an image, the line
of a text, or else the first byte.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from msgspec import Struct

TIMES = ("seconds", "milliseconds")
"""The keys of JSON documents whose values are times: what a build took, and what an import took when it was verified."""
_LAYOUT = "oci-layout"
_BLOBS = "blobs/sha256"
_TIME = re.compile(rb'("(?:' + b"|".join(each.encode() for each in TIMES) + rb')":\s*)-?[\d.]+(?:[eE][+-]?\d+)?')
_VERSIONS = (
    re.compile(rb'("lpack":\s*)"\d[^"]*"'),  # of manifests
    re.compile(rb'("name":\s*"lambda-lpack",\s*"type":\s*"application",\s*"version":\s*)"[^"]*"'),  # of bills of materials
)


class Difference(Struct, frozen=True, kw_only=True):
    """A path, relative to both folders, and what differs there."""

    path: str
    what: str


def compare_folders(reference: Path, new: Path) -> list[Difference]:
    """Return what differs between two folders, sorted by path, after what differs in each image as a whole."""
    ours, theirs = _files_of(reference), _files_of(new)
    found = []
    for path in sorted(ours.keys() | theirs.keys()):
        if path not in theirs:
            found.append(Difference(path=path, what="is missing"))
        elif path not in ours:
            found.append(Difference(path=path, what="is more than the reference has"))
        elif what := compare_files(ours[path], theirs[path]):
            found.append(Difference(path=path, what=what))
    return [*_differing_images(reference, new, found), *found]


def compare_files(reference: Path, new: Path) -> str:
    """Return what differs between two files; an empty string where nothing does."""
    if reference.is_symlink() or new.is_symlink():
        targets = [str(each.readlink()) if each.is_symlink() else "no link" for each in (reference, new)]
        return "" if targets[0] == targets[1] else f"leads to {targets[1]}, not {targets[0]}"
    modes = [each.stat().st_mode & 0o7777 for each in (reference, new)]
    if modes[0] != modes[1]:
        return f"mode {modes[1]:04o}, not {modes[0]:04o}"
    old, now = (_comparable(each) for each in (reference, new))
    return "" if old == now else _explain(reference.name, old, now)


def _comparable(path: Path) -> bytes:
    data = path.read_bytes()
    return without_times(data) if path.suffix == ".json" else data


def without_times(document: bytes) -> bytes:
    """Return a JSON document's text with 0 for each time, and with no version of lpack."""
    document = _TIME.sub(rb"\g<1>0", document)
    for pattern in _VERSIONS:
        document = pattern.sub(rb'\g<1>""', document)
    return document


def _files_of(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def _explain(name: str, old: bytes, now: bytes) -> str:
    if zipfile.is_zipfile(io.BytesIO(old)) and zipfile.is_zipfile(io.BytesIO(now)):
        return _first_member(_zip_members(old), _zip_members(now)) or _first_byte(old, now)
    if name.endswith((".tar", ".gz")):
        return _first_member(_tar_members(old), _tar_members(now)) or _first_byte(old, now)
    try:
        texts = [each.decode() for each in (old, now)]
    except UnicodeDecodeError:
        return _first_byte(old, now)
    return (_first_key(*texts) if name.endswith(".json") else "") or _first_line(*texts)


def _first_key(old: str, now: str) -> str:
    try:
        return first_key(json.loads(old), json.loads(now))
    except ValueError:
        return ""


def first_key(old: Any, now: Any, at: str = "") -> str:
    """Return the first key at which two JSON documents differ, with both values; an empty string where they are equal."""
    if isinstance(old, dict) and isinstance(now, dict):
        if list(old) != list(now) and old == now:
            return f"{at or 'keys'}: in another order"
        pairs = [(f"{at}.{key}".lstrip("."), old.get(key, _NOTHING), now.get(key, _NOTHING)) for key in {**old, **now}]
    elif isinstance(old, list) and isinstance(now, list):
        pairs = [(f"{at}[{number}]", *pair) for number, pair in enumerate(zip_longest(old, now, fillvalue=_NOTHING))]
    else:
        return "" if old == now and type(old) is type(now) else f"{at}: {_short(now)}, not {_short(old)}"
    return next(filter(None, (first_key(one, other, key) for key, one, other in pairs)), "")


_NOTHING = object()


def _short(value: object) -> str:
    text = "nothing" if value is _NOTHING else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _zip_members(data: bytes) -> dict[str, tuple[object, ...]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {
            each.filename: (each.CRC, each.file_size, each.compress_size, each.date_time, each.external_attr, each.extra)
            for each in archive.infolist()
        }


def _tar_members(data: bytes) -> dict[str, tuple[object, ...]]:
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            each.name: (each.type, each.mode, each.uid, each.gid, each.mtime, each.linkname, each.size, _content(archive, each))
            for each in archive
        }


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member) if member.isreg() else None
    return hashlib.sha256(file.read()).hexdigest() if file else ""


def _first_member(old: Mapping[str, object], now: Mapping[str, object]) -> str:
    for name in sorted(old.keys() | now.keys()):
        if name not in now:
            return f"member {name} is missing"
        if name not in old:
            return f"member {name} is more than the reference has"
        if old[name] != now[name]:
            return f"member {name} differs"
    return "" if list(old) == list(now) else "members are in another order"


def _first_line(old: str, now: str) -> str:
    pairs = enumerate(zip_longest(old.splitlines(), now.splitlines(), fillvalue=""), 1)
    number, (one, other) = next((pair for pair in pairs if pair[1][0] != pair[1][1]), (0, ("", "")))
    return f"line {number}: {_short(other)}, not {_short(one)}" if number else "line ends differ"


def _first_byte(old: bytes, now: bytes) -> str:
    pairs = enumerate(zip(old, now, strict=False))
    offset = next((offset for offset, (one, other) in pairs if one != other), min(len(old), len(now)))
    return f"byte {offset:,} of {len(now):,}, reference {len(old):,}"


def _differing_images(reference: Path, new: Path, found: list[Difference]) -> Iterator[Difference]:
    """Return a difference for each image layout in which something differs: blobs are named by digest, which tells little."""
    for layout in sorted(path for path in _files_of(reference) if path.rpartition("/")[2] == _LAYOUT):
        folder = layout.removesuffix(_LAYOUT)
        if (new / layout).is_file() and any(each.path.startswith(folder) for each in found):
            yield Difference(path=folder.rstrip("/"), what=_first_layer(reference / folder, new / folder))


def _first_layer(reference: Path, new: Path) -> str:
    try:
        old, now = (_image_of(each) for each in (reference, new))
    except (OSError, ValueError, KeyError, IndexError) as error:
        return f"cannot be read as an image: {error!r}"
    for number, (one, other) in enumerate(zip_longest(old["layers"], now["layers"])):
        if one is None or other is None:
            return f"{len(now['layers'])} layers, not {len(old['layers'])}"
        if one != other:
            return (
                f"layer {number}: {_first_of_layer(reference / _BLOBS / one['digest'][7:], new / _BLOBS / other['digest'][7:])}"
            )
    return first_key(old, now) or "index.json or blobs that belong to no image"


def _first_of_layer(reference: Path, new: Path) -> str:
    old, now = (each.read_bytes() if each.is_file() else b"" for each in (reference, new))
    try:
        return _first_member(_tar_members(old), _tar_members(now)) or _first_byte(old, now)
    except (OSError, tarfile.TarError):  # compressed by zstd, or left in the registry of its base
        return _first_byte(old, now)


def _image_of(layout: Path) -> dict[str, Any]:
    """Return the manifest of a layout's first image, with its configuration in it."""
    [descriptor, *_] = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest: dict[str, Any] = json.loads((layout / _BLOBS / descriptor["digest"][7:]).read_bytes())
    config = json.loads((layout / _BLOBS / manifest["config"]["digest"][7:]).read_bytes())
    return {"layers": manifest["layers"], "configuration": config, "manifest": manifest}
