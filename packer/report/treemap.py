"""The files of artifacts as nested lists, each distribution once however many functions have it: for the treemap."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

from packer.core.model import OWN_SOURCE, owner_label
from packer.inspect.contents import KINDS, PackedFile
from packer.inspect.snapshot import Snapshot, Unit

Node = list[Any]
"""A file: its name, the number of its kind, and its bytes unpacked and packed; a folder: its name, and what is in it."""
_FUNCTION, _LAYER = "function", "layer"


def make_treemap(snapshot: Snapshot) -> dict[str, Any]:
    """Return the kinds of files, the trees of distributions, and the numbers of the trees that each function and layer has."""
    parts: list[Node] = []
    known: dict[str, int] = {}
    units = []
    for kind, listed in ((_FUNCTION, snapshot.functions), (_LAYER, snapshot.layers)):
        for name, unit in listed.items():
            held = []
            for label, node in _nodes(unit):
                text = json.dumps([label, node])
                if text not in known:
                    known[text] = len(parts)
                    parts.append([label, node])
                held.append(known[text])
            units.append({"name": name, "kind": kind, "parts": held})
    return {"kinds": list(KINDS), "parts": parts, "units": units}


def encode_data(data: Mapping[str, Any]) -> str:
    """Return data as text that is safe within a page: JSON, compressed, in base 64."""
    plain = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.b64encode(gzip.compress(plain, 9, mtime=0)).decode("ascii")


def _nodes(unit: Unit) -> Iterable[tuple[str, list[Node]]]:
    """Return the files of each distribution of a unit, the largest first; sizes alone where no files are available."""
    if unit.files is None:
        for name, part in sorted(unit.parts.items(), key=lambda item: -item[1].unzipped):
            packed = round(part.unzipped * unit.zipped / unit.unzipped) if unit.unzipped else 0
            yield _label(name, part.version), [["all of it", KINDS.index("data"), part.unzipped, packed]]
        return
    owners: dict[str, list[PackedFile]] = {}
    for each in unit.files:
        owners.setdefault(each.owner, []).append(each)
    for owner, files in sorted(owners.items(), key=lambda item: -sum(each.size for each in item[1])):
        version = unit.parts[owner].version if owner in unit.parts else ""
        yield _label(owner, version), nest_files(files)


def _label(owner: str, version: str) -> str:
    return owner_label(OWN_SOURCE) if owner == OWN_SOURCE else f"{owner} {version}".rstrip()


def nest_files(files: Iterable[PackedFile]) -> list[Node]:
    """Return files as nested folders; a folder that holds nothing but one folder is merged with it.

    So is one that holds all of the files, unless files lie in it itself.
    """
    root: dict[str, Any] = {}
    for each in files:
        *folders, name = each.path.split("/")
        place = root
        for folder in folders:
            place = place.setdefault(folder + "/", {})
        place[name] = [name, KINDS.index(each.kind), each.size, each.packed]
    [*tops] = root.items()
    # A layer's python/, which all of a distribution is in, would be one step more for nothing.
    if len(tops) == 1 and isinstance(tops[0][1], dict) and all(isinstance(each, dict) for each in tops[0][1].values()):
        root = {tops[0][0] + name: value for name, value in tops[0][1].items()}
    return [_fold_folder(name, value) for name, value in sorted(root.items())]


def _fold_folder(name: str, value: Any) -> Node:
    if isinstance(value, list):
        return value
    while len(value) == 1:
        [(inner, below)] = value.items()
        if isinstance(below, list):
            break
        name, value = name + inner, below
    return [name, [_fold_folder(inner, below) for inner, below in sorted(value.items())]]
