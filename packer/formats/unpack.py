"""Unpacks written archives as Lambda does, for code to be run on them: in memory where there is plenty, which is far faster.

Layers lie merged in one folder. Each is unpacked once for all functions that have it, and then shown to each set of layers by
hard links.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

from msgspec import Struct

from builders.files import write_whole
from builders.runtimes import UNZIPPED_LIMIT
from builders.sandbox.task import LayerStack
from packer.cache.deflate import inflate
from packer.cache.store import Store, store_errors
from packer.core.errors import PackageError
from packer.core.model import EXECUTABLE_MODE, FILE_MODE, folders_above
from packer.formats.zip_reader import ZipFormatError, ZipMember, read_members

_MEMORY = Path("/dev/shm")  # noqa: S108 a folder of one's own is made in it
"""The folder of Linux's shared file system in memory (shm_overview(7))."""
_PLENTY = 6
"""Free memory required, as a multiple of the unpacked size: other functions are unpacked and run at the same time."""
_BATCH = 256
"""Files that one task unpacks."""
_MOST = 4 * UNZIPPED_LIMIT
"""Bytes of unpacked layers that are kept for later functions."""


@contextmanager
def scratch_folder(size: int, store: Store) -> Iterator[Path]:
    """Return a new folder for ``size`` bytes, in memory or in the store; it is removed at the end."""
    if not _fits_in_memory(size):
        with store.workspace() as folder:
            yield folder
        return
    from builders.leftovers import OwnFolder

    made = OwnFolder(_MEMORY)
    try:
        yield made.path
    finally:
        made.close()


def _fits_in_memory(size: int) -> bool:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        facts = os.statvfs(_MEMORY)
    except (OSError, ValueError, StopIteration):
        return False
    free = min(available, facts.f_bavail * facts.f_frsize)
    return size * _PLENTY < free and not facts.f_flag & os.ST_NOEXEC and os.access(_MEMORY, os.W_OK)


class PackedArchive(Struct, frozen=True, kw_only=True):
    """An open archive whose directory was read; valid while its descriptor is."""

    path: Path
    descriptor: int
    members: tuple[ZipMember, ...]

    @property
    def size(self) -> int:
        """Bytes that it unpacks to."""
        return sum(member.size for member in self.members)

    def unpack(self, folder: Path, executor: Executor) -> None:
        """Unpack it into a new folder, with its modes; raise `LpackError`."""
        with store_errors(folder, "write to"):
            for path in ("", *sorted(folders_above(member.name for member in self.members))):
                make_folder(f"{folder}/{path}")
            batches = [self.members[start : start + _BATCH] for start in range(0, len(self.members), _BATCH)]
            futures: list[Future[None]] = []
            try:
                futures += (executor.submit(self._write, batch, str(folder)) for batch in batches)
                for future in futures:
                    future.result()
            finally:
                wait([future for future in futures if not future.cancel()])  # they read the descriptor, which is closed next

    def _write(self, members: Sequence[ZipMember], folder: str) -> None:
        for member in members:
            try:
                data = inflate(member.span(self.path), self.descriptor)
            except ValueError:
                raise PackageError(
                    f"{member.name} in the archive is broken.", remedy="Run `lpack cache verify`, and build again."
                ) from None
            mode = EXECUTABLE_MODE if member.mode & 0o111 else FILE_MODE
            to = os.open(f"{folder}/{member.name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                os.fchmod(to, mode)  # whatever the umask is
                write_whole(to, data)
            finally:
                os.close(to)


def make_folder(path: str) -> None:
    """Make a folder that every user can read, whatever the umask is, as on Lambda; raise ``OSError``."""
    os.mkdir(path)  # noqa: PTH102 thousands of them
    os.chmod(path, 0o755)  # noqa: PTH101, S103 the modes of Lambda


@contextmanager
def open_archive(archive: Path) -> Iterator[PackedArchive]:
    """Open an archive for unpacking; raise `LpackError`."""
    with store_errors(archive, "read"):
        file = archive.open("rb", buffering=0)
    with file:
        try:
            with store_errors(archive, "read"):
                members = read_members(file.fileno())
        except ZipFormatError as error:
            raise PackageError(f"{archive} is not a readable archive: {error.what}.", remedy="Build again.") from None
        yield PackedArchive(path=archive, descriptor=file.fileno(), members=members)


def unpack(archive: Path, folder: Path, executor: Executor) -> None:
    """Unpack an archive into a new folder; raise `LpackError`."""
    with open_archive(archive) as packed:
        packed.unpack(folder, executor)


class LayerArchive(Struct, frozen=True, kw_only=True):
    """A layer's archive, and its SHA-256."""

    path: Path
    sha256: str


class _Kept:
    """A folder of layers that is made or being made, its number of users, and what removes it."""

    def __init__(self) -> None:
        self.folder: Future[Path] = Future()
        self.size = 0
        self.users = 0
        self.removing = ExitStack()


class LayerFolders:
    """Unpacks and merges layers, and keeps up to ``most`` bytes of them for later functions, besides those in use.

    May be used from many threads.
    """

    def __init__(self, store: Store, executor: Executor, most: int = _MOST) -> None:
        self._store = store
        self._executor = executor
        self._most = most
        self._kept: dict[tuple[str, ...], _Kept] = {}  # by the layers' digests, the most recently used one last
        self._lock = Lock()

    def close(self) -> None:
        """Remove all folders, those in use once they are released."""
        self._most = -1
        self._tidy()

    @contextmanager
    def merged(self, layers: Sequence[LayerArchive]) -> Iterator[Path]:
        """Return a read-only folder with the files of layers as at /opt, where the last layer's file wins.

        It exists until the context ends. Raises `LpackError`.
        """
        with self._used(layers) as kept:
            yield kept.folder.result()

    @contextmanager
    def _used(self, layers: Sequence[LayerArchive]) -> Iterator[_Kept]:
        """Merge layers, and keep the folder until the context ends."""
        key = tuple(layer.sha256 for layer in layers)
        with self._lock:
            kept = self._kept.pop(key, None)
            found = kept is not None
            kept = self._kept[key] = kept or _Kept()
            kept.users += 1
        try:
            if not found:
                self._make(key, kept, layers)
            kept.folder.result()
            yield kept
        finally:
            with self._lock:
                kept.users -= 1
            self._tidy()

    @contextmanager
    def stacked(self, layers: Sequence[LayerArchive]) -> Iterator[LayerStack]:
        """Return the folders of layers, one each, and a function that merges them; they exist until the context ends.

        Both raise `LpackError`.
        """
        with ExitStack() as using:
            parts = tuple(using.enter_context(self.merged([layer])) for layer in layers)
            yield LayerStack(parts=parts, merged=lambda: using.enter_context(self.merged(layers)))

    def _make(self, key: tuple[str, ...], kept: _Kept, layers: Sequence[LayerArchive]) -> None:
        try:
            folder = self._unpacked(kept, layers[0]) if len(layers) == 1 else self._joined(kept, layers)
        except BaseException as error:
            with self._lock:
                del self._kept[key]
            kept.folder.set_exception(error)
            kept.removing.close()
            raise
        kept.folder.set_result(folder)

    def _unpacked(self, kept: _Kept, layer: LayerArchive) -> Path:
        with open_archive(layer.path) as packed:
            kept.size = packed.size
            folder = kept.removing.enter_context(scratch_folder(packed.size, self._store)) / "layers"
            packed.unpack(folder, self._executor)
        return folder

    def _joined(self, kept: _Kept, layers: Sequence[LayerArchive]) -> Path:
        with ExitStack() as using:
            parts = [using.enter_context(self._used([layer])) for layer in layers]
            kept.size = sum(part.size for part in parts)
            folder = kept.removing.enter_context(scratch_folder(kept.size, self._store)) / "layers"
            with store_errors(folder, "write to"):
                for part in reversed(parts):
                    _link(str(part.folder.result()), str(folder))
        return folder

    def _tidy(self) -> None:
        """Remove the least recently used folders that are not in use, until the rest is small enough."""
        gone = []
        with self._lock:
            size = sum(kept.size for kept in self._kept.values())
            for key, kept in tuple(self._kept.items()):
                if size > self._most and not kept.users:
                    size -= kept.size
                    gone.append(self._kept.pop(key))
        for kept in gone:
            kept.removing.close()


def _link(folder: str, into: str) -> None:
    """Link the files of a folder into another one, except where a file exists there; raise ``OSError``."""
    try:
        make_folder(into)
    except FileExistsError:
        if not os.path.isdir(into):  # noqa: PTH112 thousands of them
            return  # it is a file there
    with os.scandir(folder) as found:
        for each in found:
            if each.is_dir(follow_symlinks=False):
                _link(each.path, f"{into}/{each.name}")
                continue
            to = f"{into}/{each.name}"
            try:
                os.link(each.path, to)
            except OSError:  # there is one, or it is another file system, or one without links
                if not os.path.lexists(to):
                    shutil.copy(each.path, to)
