"""The files of an image as a container sees them: its layers on top of each other, read as streams."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from packer.core.errors import UsageError
from packer.images.base_check import GuardedInfo
from packer.inspect.contents import PackedFile

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# What a layer says of those below it (image specification, layer.md, "Whiteouts").
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_BUILD = "Build it again."


def layout_files(folder: Path, own: Collection[str] = ()) -> tuple[list[PackedFile], int]:
    """Return the files of an OCI image layout, and the bytes of its layers as they are stored.

    Only layers that the layout holds are read; with ``own``, only those with these digests. Raises `UsageError`.
    """

    def blob(digest: str) -> Path:
        return folder / "blobs" / digest.replace(":", "/")

    with _ReadErrors(folder, "OCI layout"):
        [first, *_] = json.loads((folder / "index.json").read_bytes())["manifests"]
        manifest = json.loads(blob(first["digest"]).read_bytes())
        paths = [blob(each["digest"]) for each in manifest["layers"] if not own or each["digest"] in own]
        layers = [path for path in paths if path.is_file()]
        return _stack_layers(path.open("rb") for path in layers), sum(path.stat().st_size for path in layers)


def archive_files(path: Path) -> tuple[list[PackedFile], int]:
    """Return the files of a docker-archive, and its bytes; raises `UsageError`."""
    with _ReadErrors(path, "docker-archive"), tarfile.open(path, tarinfo=GuardedInfo) as archive:
        [listed] = json.loads(_member(archive, "manifest.json").read())
        return _stack_layers(_member(archive, name) for name in listed["Layers"]), path.stat().st_size


class _ReadErrors:
    """Turns what goes wrong while a file is read into a `UsageError`."""

    def __init__(self, path: Path, form: str) -> None:
        self._path = path
        self._form = form

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise `UsageError` for what went wrong."""
        from zstandard import ZstdError

        known = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, EOFError)
        if isinstance(error, (*known, tarfile.TarError, zlib.error, ZstdError)):
            raise UsageError(f"{self._path} is no {self._form} that can be read ({error}).", remedy=_BUILD) from None


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is no file")
    return found


def _stack_layers(layers: Iterable[IO[bytes]]) -> list[PackedFile]:
    """Return the files of layers on top of each other, as an engine stacks them (image specification, layer.md)."""
    files: dict[str, PackedFile] = {}
    for layer in layers:
        with layer, tarfile.open(fileobj=_decompress(layer), mode="r|", tarinfo=GuardedInfo) as archive:
            _put_over(files, archive)
    return list(files.values())


def _decompress(layer: IO[bytes]) -> IO[bytes]:
    magic = layer.read(4)
    layer.seek(0)
    if magic.startswith(_GZIP):  # which has several members, as lpack's layers have them; tarfile as a stream reads one
        return cast("IO[bytes]", gzip.open(layer))
    if magic != _ZSTD:
        return layer
    import zstandard

    return zstandard.ZstdDecompressor().stream_reader(layer, read_across_frames=True)


def _put_over(files: dict[str, PackedFile], archive: tarfile.TarFile) -> None:
    """Add one layer to the files of those below; whiteouts hide files of lower layers only, wherever they stand."""
    own: dict[str, PackedFile] = {}
    for info in archive:
        path = info.name.removeprefix("./").strip("/")
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            _hide(files, f"{folder}/" if folder else "")
        elif name.startswith(_WHITEOUT):
            gone = f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/")
            files.pop(gone, None)
            _hide(files, f"{gone}/")
        elif info.isdir():
            files.pop(path, None)
        else:
            files.pop(path, None)
            _hide(files, f"{path}/")
            own |= {each.path: each for each in _packed(archive, info, path, files | own if info.islnk() else {})}
    files |= own


def _hide(files: dict[str, PackedFile], below: str) -> None:
    for each in [each for each in files if each.startswith(below)]:
        del files[each]


def _packed(archive: tarfile.TarFile, info: tarfile.TarInfo, path: str, known: dict[str, PackedFile]) -> Iterator[PackedFile]:
    """Return a member that has content; a hard link takes no bytes of its own."""
    target = known.get(info.linkname.removeprefix("./"))
    if info.isreg():
        content = archive.extractfile(info)
        mark = hashlib.file_digest(content, "sha256").hexdigest() if content else ""  # type: ignore[arg-type]
        yield PackedFile(path=path, size=info.size, packed=0, mark=mark)
    elif info.islnk() and target is not None:
        yield PackedFile(path=path, size=0, packed=0, mark=target.mark)
