"""Checks each layer of a base once: refuses what could harm whoever unpacks it, and notes the facts that lpack needs.

Nothing is unpacked. A layer may come from anywhere, and its tar is read as a stream: names that lead out of the image, hard
links that do, symbolic links that lead in a circle, and more than Lambda takes are refused. Other symbolic links may lead
anywhere: within an image they cannot leave it, and lpack follows none.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from builders.once import Once
from builders.runtimes import IMAGE_LIMIT
from packer.cache.store import Store, digest_of, store_errors
from packer.core.errors import ImageError
from packer.formats.image import BlobSource
from packer.formats.oci import LAYER_MEDIA_TYPES, Descriptor

_FORM = "2"
_KIND = "checked-layers"
LARGEST = IMAGE_LIMIT
"""Bytes of an image, unpacked, that Lambda takes (AWS "Lambda quotas")."""
_MOST_FILES = 1_000_000
_MOST_BLOAT = 2000
"""How many times its own size a layer may unpack to: deflate itself cannot do more than 1032."""
_LARGEST_HEADER = 1 << 20
"""Bytes of an extended header, which holds names and attributes."""
_PIECE = 1 << 20
_MOST_LINKS = 40
"""Symbolic links that Linux follows, one after the other (path_resolution(7))."""
_MARKS = re.compile(
    r"(?:usr/(?:local/)?bin|var/lang/bin|opt/[^/]+/bin)/python3(?:\.[0-9]+)?"
    r"|lambda-entrypoint\.sh|var/runtime/bootstrap|usr/local/bin/aws-lambda-rie|(?:.*/)?awslambdaric/__init__\.py"
)
"""Files by which lpack tells what an image can run."""
_NAMES = ("etc/passwd", "etc/group")
"""Files whose lines begin with the names of users and groups (passwd(5), group(5))."""


class LayerFacts(Struct, frozen=True, kw_only=True):
    """What a layer says of what an image can run, and as whom; paths as in its tar.

    ``marks`` are the files by which lpack tells how Python is started, ``programs`` all files that can be, ``links`` where
    symbolic links lead, and ``names`` the users and groups, by the files that list them.
    """

    marks: frozenset[str] = frozenset()
    programs: frozenset[str] = frozenset()
    links: Mapping[str, str]
    names: Mapping[str, tuple[str, ...]]

    def encode(self) -> bytes:
        """Write it down."""
        document = {"marks": sorted(self.marks), "programs": sorted(self.programs), "links": self.links, "names": self.names}
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, data: bytes) -> LayerFacts:
        """Read what `encode` has written."""
        read = json.loads(data)
        return cls(
            marks=frozenset(read["marks"]),
            programs=frozenset(read["programs"]),
            links=read["links"],
            names={path: tuple(names) for path, names in read["names"].items()},
        )


_NOTHING = LayerFacts(links={}, names={})


class CheckedLayers(BlobSource):
    """Gives the blobs of a base; each layer is looked through before anybody else gets it. May be used from many threads."""

    def __init__(self, store: Store, blobs: BlobSource, layers: dict[str, str], named: str) -> None:
        """``layers`` maps digests of layers to their diff ids; ``named`` is what the user calls the base."""
        self._store = store
        self._blobs = blobs
        self._layers = layers
        self._named = named
        self._seen: Once[str, LayerFacts] = Once()

    def bring(self, blob: Descriptor) -> Path:
        """Return a blob's file; raises `LpackError`."""
        path = self._blobs.bring(blob)
        self.seen(blob, path)
        return path

    def seen(self, blob: Descriptor, path: Path | None = None) -> LayerFacts:
        """Return what a layer says of what an image can run; raises `LpackError`."""
        diff_id = self._layers.get(blob.digest)
        if diff_id is None:  # no layer
            return _NOTHING
        key = digest_of(_FORM, blob.digest, blob.media_type, diff_id)

        def look() -> LayerFacts:
            record = self._store.load(_KIND, key)
            if record is None:
                found = check_layer(path or self._blobs.bring(blob), blob.media_type, diff_id, self._named)
                record = self._store.save(_KIND, key, found.encode())
            return LayerFacts.decode(record.payload)

        return self._seen.get(key, look)


def check_layer(path: Path, media_type: str, diff_id: str, named: str) -> LayerFacts:
    """Look through a layer; return what it says of what an image can run.

    Raises `ImageError` for what must not be unpacked, for what is cut short, and where the tar is not what ``diff_id`` says.
    """
    with open_layer(path, media_type, diff_id, named) as opened:
        return _read_layer_facts(opened, named)


@contextmanager
def open_layer(path: Path, media_type: str, diff_id: str, named: str) -> Iterator[tarfile.TarFile]:
    """Open a layer as a stream of `members`; at the end of the block the rest is read, and all of it is checked.

    Raises `ImageError` as `check_layer` does.
    """
    with store_errors(path, "read"), path.open("rb") as file:
        tar = _Raw(_decompress(file, media_type), path.stat().st_size, named)
        try:
            with _open_tar(tar) as opened:
                yield opened
            while tar.read(_PIECE):
                pass
        except (tarfile.TarError, zlib.error, EOFError, ValueError, UnicodeError) as error:
            raise refuse_layer(named, f"it is no whole tar ({error})") from None
    if f"sha256:{tar.digest}" != diff_id:
        raise refuse_layer(named, "its tar is not the one that the configuration promises (diff id)")


class _Raw:
    """A tar as a stream that is hashed, and that ends with an error where it is too long."""

    def __init__(self, parts: Iterator[bytes], packed: int, named: str) -> None:
        self._parts = parts
        self._left = b""
        self._hash = hashlib.sha256()
        self._read = 0
        self._most = min(LARGEST, max(packed, _PIECE) * _MOST_BLOAT)
        self._named = named

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int) -> bytes:
        """Return as many bytes, or fewer at the end."""
        found = []
        while size > 0:
            if not self._left:
                self._left = next(self._parts, b"")
                if not self._left:
                    break
                self._hash.update(self._left)
                self._read += len(self._left)
                if self._read > self._most:
                    raise refuse_layer(self._named, f"it unpacks to more than {self._most:,} bytes")
            part, self._left = self._left[:size], self._left[size:]
            found.append(part)
            size -= len(part)
        return b"".join(found)


def _decompress(file: BinaryIO, media_type: str) -> Iterator[bytes]:
    kind = LAYER_MEDIA_TYPES[media_type]
    if kind == "gzip":
        return _decompress_gzip(file)
    if kind == "zstd":
        return _decompress_zstd(file)
    return iter(lambda: file.read(_PIECE), b"")


def _decompress_gzip(file: BinaryIO) -> Iterator[bytes]:
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for data in iter(lambda: file.read(_PIECE), b""):
        left = data
        while left:
            if stream.eof:  # another member, or zeros that fill a block, which gzip(1) ignores
                left = left.lstrip(b"\0")
                if left:
                    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
                continue
            yield stream.decompress(left, _PIECE)
            left = stream.unused_data if stream.eof else stream.unconsumed_tail
    if not stream.eof:
        raise EOFError("its compressed data is cut short")


def _decompress_zstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    try:
        yield from iter(lambda: reader.read(_PIECE), b"")
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


@contextmanager
def _open_tar(tar: _Raw) -> Iterator[tarfile.TarFile]:
    # Read as a stream: nothing that a header says can make it seek.
    with tarfile.open(fileobj=tar, mode="r|", bufsize=_PIECE, tarinfo=GuardedInfo) as opened:  # type: ignore[call-overload]
        yield opened


class GuardedInfo(tarfile.TarInfo):
    """A header whose extensions are refused where they are gigantic: `tarfile` reads them into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        extended = self.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, *_LONG)
        if extended and self.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"an extended header has {self.size:,} bytes")
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return found


_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def _read_layer_facts(opened: tarfile.TarFile, named: str) -> LayerFacts:
    links: dict[str, str] = {}
    names: dict[str, tuple[str, ...]] = {}
    marks, programs = set(), set()
    for path, info in members(opened, named):
        if info.issym():
            links[path] = info.linkname
        if _MARKS.fullmatch(path):
            marks.add(path)
        if (info.isreg() or info.islnk()) and info.mode & 0o111:
            programs.add(path)
        if info.isreg() and path in _NAMES:
            names[path] = _read_names(opened, info)
    for path in links:
        if resolve_link(path, links) is None:
            raise refuse_layer(named, f"the symbolic link {path} leads in a circle")
    return LayerFacts(marks=frozenset(marks), programs=frozenset(programs), links=links, names=names)


def members(opened: tarfile.TarFile, named: str) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Return the members of a tar with their paths; raises `ImageError` for what must not be unpacked."""
    for number, info in enumerate(opened):
        if number >= _MOST_FILES:
            raise refuse_layer(named, f"it has more than {_MOST_FILES:,} files")
        path = _check_path(info.name, named)
        if info.islnk() and _check_path(info.linkname, named) == path:
            raise refuse_layer(named, f"{path} is a link to itself")
        if not (info.issym() or info.isreg() or info.isdir() or info.islnk() or info.isdev() or info.isfifo()):
            raise refuse_layer(named, f"{path} is of a kind that no file system knows")
        opened.members.clear()  # type: ignore[attr-defined]  # of hundreds of thousands of files
        yield path, info


def _read_names(opened: tarfile.TarFile, info: tarfile.TarInfo) -> tuple[str, ...]:
    """Return the names in a file of users or groups, whose first fields they are."""
    file = opened.extractfile(info)
    lines = file.read(_PIECE).decode("utf-8", "replace").splitlines() if file else []
    return tuple(line.partition(":")[0] for line in lines if ":" in line)


def resolve_link(path: str, links: Mapping[str, str]) -> str | None:
    """Return where a path leads by symbolic links (path_resolution(7)); None where it leads back to itself."""
    left, done, hops = path.split("/"), list[str](), 0
    while left:
        part = left.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        target = links.get("/".join((*done, part)))
        if target is None:
            done.append(part)
            continue
        hops += 1
        if hops > _MOST_LINKS:
            return None
        left = [*target.split("/"), *left]
        done = [] if target.startswith("/") else done
    return "/".join(done)


def _check_path(name: str, named: str) -> str:
    """Return a path as it lies in the image; raises `ImageError` for one that leads out of it."""
    path = name.removeprefix("./").rstrip("/")
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise refuse_layer(named, f"the path {name[:200]!r} leads out of it")
    return path


def refuse_layer(named: str, what: str) -> ImageError:
    """Return the error for a layer that must not be unpacked."""
    return ImageError(f"A layer of the base {named} is refused: {what}.", remedy="Name another base (oci.base).")
