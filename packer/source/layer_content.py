"""The content of layers that lpack does not make, where it is on this machine: a folder of the project, or a ZIP."""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from packer.cache.signatures import Digests
from packer.cache.store import digest_of, store_errors
from packer.core.errors import UsageError
from packer.core.model import EXECUTABLE_MODE, FILE_MODE, OWN_SOURCE, Entry, FileContent, Tree
from packer.core.options import AttachedLayer
from packer.formats.zip_reader import ZipFormatError, read_members

_PACKAGES = re.compile(r"python/(?:lib/python3\.\d+/site-packages/)?")
"""Where the modules of a layer lie (AWS "Packaging your layer content")."""


class LayerContent(Struct, frozen=True, kw_only=True):
    """The files of a layer as they lie at /opt: a ``tree``, or an ``archive`` as it is.

    ``paths`` are those of the files, ``size`` is the bytes of them, and ``digest`` is of all. ``watched`` are the files and
    folders that decide them.
    """

    label: str
    tree: Tree | None = None
    archive: Path | None = None
    paths: tuple[str, ...]
    size: int
    digest: str
    watched: tuple[str, ...]


def read_layer_contents(attached: Iterable[AttachedLayer], digests: Digests) -> tuple[LayerContent, ...]:
    """Return the content of attached layers where it is known, in their order; raises `UsageError`."""
    return tuple(_read(each, each.content, digests) for each in attached if each.content is not None)


def list_modules(contents: Iterable[LayerContent]) -> set[str]:
    """Return the paths of what Python can import from layers, from where it looks for them."""
    found: set[str] = set()
    for path in (path for content in contents for path in content.paths):
        inside = _PACKAGES.match(path)
        found |= {path[inside.end() :]} if inside else set()
    return found


def read_layer_sources(contents: Iterable[LayerContent], paths: Container[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield Python sources of layers, with their paths below /opt; where ``paths`` are given, those that are imported by these.

    An archive that cannot be read has none.
    """
    from zipfile import BadZipFile, ZipFile

    def wanted(path: str) -> bool:
        return path.endswith(".py") and (paths is None or _PACKAGES.sub("", path) in paths)

    for content in contents:
        for entry in content.tree or ():
            if wanted(entry.path):
                yield entry.path, entry.content.read()
        if content.archive is not None:
            with suppress(OSError, ValueError, RuntimeError, zlib.error, BadZipFile), ZipFile(content.archive) as archive:
                for name in filter(wanted, archive.namelist()):
                    yield name, archive.read(name)


def list_content_files(attached: Iterable[AttachedLayer]) -> Iterator[Path]:
    """Yield the files that attached layers are made of."""
    for layer in attached:
        if layer.content is not None and layer.content.is_dir():
            yield from (place for place, _, _ in _walk(layer.content, []))
        elif layer.content is not None:
            yield layer.content


def _read(layer: AttachedLayer, content: Path, digests: Digests) -> LayerContent:
    try:
        return _read_folder(layer, content, digests) if content.is_dir() else _read_archive(layer, content, digests)
    except OSError as error:
        what = f"The content of the layer {layer.label} cannot be read: {error.filename or content}: {error.strerror}."
        raise UsageError(what, remedy="Correct the path, or attach the layer by its ARN.") from error


def _read_folder(layer: AttachedLayer, folder: Path, digests: Digests) -> LayerContent:
    prefix = f"{layer.prefix}/" if layer.prefix else ""
    watched: list[str] = []
    entries = []
    for place, path, status in _walk(folder, watched):
        content = FileContent(path=place, digest=digests.digest(str(place), status), size=status.st_size)
        mode = EXECUTABLE_MODE if status.st_mode & stat.S_IXUSR else FILE_MODE
        entries.append(Entry(path=prefix + path, mode=mode, content=content, owner=OWN_SOURCE))
        watched.append(str(place))
    tree = Tree.of(entries)
    parts = (part for entry in tree for part in (entry.path, str(entry.mode), entry.content.digest))
    return LayerContent(
        label=layer.label,
        tree=tree,
        paths=tuple(entry.path for entry in tree),
        size=tree.size,
        digest=digest_of(*parts),
        watched=tuple(watched),
    )


def _walk(folder: Path, folders: list[str]) -> Iterator[tuple[Path, str, os.stat_result]]:
    """Yield the files in a folder, whatever ignore rules say, with their paths in it; the folders are added to ``folders``."""
    seen = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner.sort()
        folders.append(place)
        for name in sorted(names):
            path = Path(place, name)
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                yield path, path.relative_to(folder).as_posix(), status


def _read_archive(layer: AttachedLayer, archive: Path, digests: Digests) -> LayerContent:
    with store_errors(archive, "read"), archive.open("rb", buffering=0) as file:
        try:
            members = read_members(file.fileno())
        except ZipFormatError as error:
            what = f"The content of the layer {layer.label}, {archive}, is not a readable archive: {error.what}."
            raise UsageError(what, remedy="Name a folder, or a ZIP.") from None
    return LayerContent(
        label=layer.label,
        archive=archive,
        paths=tuple(member.name for member in members),
        size=sum(member.size for member in members),
        digest=digests.digest(str(archive)),
        watched=(str(archive),),
    )
