"""RECORD of each distribution, made to list what is packed of it, as installers do (PyPA, "Recording installed projects").

`importlib.metadata.files` and ``packages_distributions`` answer from it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, field

from packer.core.bytecode_paths import pycache_path, sourceless_path
from packer.core.function_tree import Part
from packer.core.model import FILE_MODE, OWN_SOURCE, BytesContent, Content, Entry, Tree

_RECORD = re.compile(r"^([^/]+\.dist-info/)RECORD$")
_QUOTED = re.compile(r'[",\r\n]')
_GUESSES_FROM_SOURCES = 11
"""The minor of the Python that takes a distribution's packages from the sources that RECORD lists, and from no bytecode."""


class PackedParts(Struct, frozen=True, kw_only=True):
    """What is packed, part by part: ``parts`` are without bytecode, ``originals`` as they were published, by their names.

    ``launchers`` are at paths as RECORD is to list them. ``moved`` are such paths of files that lie beside the tree, by the
    SHA-256 of their contents.
    """

    parts: Sequence[Part]
    originals: Mapping[str, Tree]
    launchers: Sequence[Entry] = ()
    moved: Mapping[str, str] = field(default_factory=dict)


def record_packed(tree: Tree, packed: PackedParts, minor: int) -> Tree:
    """Return a tree in which each distribution's RECORD lists what is in the tree of that distribution.

    The tree is one of all parts with their bytecode, for the Python of a ``minor``. What is as it was published keeps its
    RECORD, and who has none gets none. Of the function's own source, only an empty one is filled in: lpack made it.
    """
    present = {entry.path: entry for entry in tree}
    programs: dict[str, list[Entry]] = {}
    for entry in packed.launchers:
        programs.setdefault(entry.owner, []).append(entry)
    new: dict[str, Entry] = {}
    for name, part in packed.parts:
        is_own = name == OWN_SOURCE
        records = (entry for entry in part if _RECORD.match(entry.path) and entry.path in present)
        record = next((entry for entry in records if not is_own or not entry.content.size), None)
        if record is None:
            continue
        listed = dict(_list_packed(part, present, packed.moved, minor))
        listed |= {entry.path: entry.content for entry in programs.get(record.owner, ())}
        if not is_own and _is_as_published(listed, packed.originals.get(name)):
            continue
        for entry in _declare_packages(listed, record, minor):
            new[entry.path] = entry
            listed[entry.path] = entry.content
        content = BytesContent.of(_record_text(listed, record.path).encode())
        new[record.path] = Entry(path=record.path, mode=FILE_MODE, content=content, owner=record.owner)
    return Tree.of((present | new).values()) if new else tree


def _list_packed(
    part: Tree, present: Mapping[str, Entry], moved: Mapping[str, str], minor: int
) -> Iterator[tuple[str, Content | None]]:
    """Return the paths of a distribution's packed files with their contents, None for bytecode beside its source."""
    for entry in part:
        if entry.path in present:
            yield entry.path, present[entry.path].content
        elif entry.content.digest in moved:
            yield moved[entry.content.digest], entry.content
        if entry.path.endswith(".py"):
            beside, alone = pycache_path(entry.path, minor), sourceless_path(entry.path)
            if beside in present:
                yield beside, None
            if alone in present:
                yield alone, present[alone].content


def _is_as_published(listed: Mapping[str, Content | None], original: Tree | None) -> bool:
    return original is not None and {path: content and content.digest for path, content in listed.items()} == {
        entry.path: entry.content.digest for entry in original
    }


def _declare_packages(listed: Mapping[str, Content | None], record: Entry, minor: int) -> Iterator[Entry]:
    """Return the list of top-level packages that one version of Python needs where a distribution's sources are gone."""
    path = f"{record.path.rpartition('/')[0]}/top_level.txt"
    if minor != _GUESSES_FROM_SOURCES or path in listed or any(name.endswith(".py") for name in listed):
        return
    modules = {name.partition("/")[0].removesuffix(".pyc") for name in listed if name.endswith(".pyc")}
    if modules:
        content = BytesContent.of("".join(f"{module}\n" for module in sorted(modules)).encode())
        yield Entry(path=path, mode=FILE_MODE, content=content, owner=record.owner)


def _record_text(listed: Mapping[str, Content | None], record: str) -> str:
    rows = []
    for path, content in sorted(listed.items()):
        shown = '"{}"'.format(path.replace('"', '""')) if _QUOTED.search(path) else path
        if content is None or path == record:
            rows.append(f"{shown},,\n")
        else:
            digest = base64.urlsafe_b64encode(bytes.fromhex(content.digest)).rstrip(b"=").decode()
            rows.append(f"{shown},sha256={digest},{content.size}\n")
    return "".join(rows)
