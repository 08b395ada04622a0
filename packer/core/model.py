"""The words of the design as values: entries, trees, locks, functions, artifacts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Protocol

from msgspec import Struct, field

from builders.errors import BuildError
from builders.recipes import BuildSettings
from builders.runtimes import Target
from packer.core.options import (
    Budget,
    BytecodeOptions,
    ExecutionSettings,
    ImageOptions,
    LayerOptions,
    TrimOptions,
    VerifyOptions,
)

FILE_MODE = 0o644
EXECUTABLE_MODE = 0o755
"""The only two modes that artifacts have (AWS: files must be world-readable)."""

OWN_SOURCE = "<source>"
"""The owner of entries that come from the function's own folder; no distribution can have this name."""

RUNTIME_WORD = "runtime"
"""What stands among excluded distributions for all that the runtime has (`builders.runtimes.RUNTIME_DISTRIBUTIONS`)."""


def owner_label(owner: str) -> str:
    """Return an owner's name for messages."""
    return "the function's own source" if owner == OWN_SOURCE else owner


def handler_sources(handler: str) -> tuple[str, str]:
    """Return the two possible paths of a handler's module: as a module, and as a package."""
    module = handler.rpartition(".")[0].replace(".", "/")
    return f"{module}.py", f"{module}/__init__.py"


STORED = 0
DEFLATED = 8
"""Compression methods of a ZIP member (APPNOTE.TXT 4.4.5)."""


class Span(Struct, frozen=True, kw_only=True):
    """Bytes ``offset`` to ``offset + length`` of the file ``path``, which a ZIP member can hold as they are.

    ``method`` says how they are compressed, ``crc32`` and ``size`` describe the raw bytes.
    """

    path: Path
    offset: int
    length: int
    method: int
    crc32: int
    size: int


class Content(Protocol):
    """A file's bytes, known by the SHA-256 ``digest`` (hex) and ``size`` of the raw bytes."""

    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...
    def read(self) -> bytes:
        """Return the raw bytes; raise an `LpackError` where they cannot be read, or are not these any more."""
        ...

    def span(self) -> Span | None:
        """Return where the bytes are already compressed; None where they are not."""
        ...


class BytesContent(Struct, frozen=True, kw_only=True):
    """Content that lpack made itself and holds in memory."""

    data: bytes
    digest: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> BytesContent:
        return cls(data=data, digest=hashlib.sha256(data).hexdigest(), size=len(data))

    def read(self) -> bytes:
        return self.data

    def span(self) -> Span | None:
        return None


class FileContent(Struct, frozen=True, kw_only=True):
    """Content in an uncompressed file of the user's."""

    path: Path
    digest: str
    size: int

    def read(self) -> bytes:
        """Read the file; raise `BuildError` if it has been removed or changed since it was hashed."""
        data = self.beginning()
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise BuildError(f"{self.path} changed while it was packed.", remedy="Build again.")
        return data

    def beginning(self, length: int = -1) -> bytes:
        """Return the first ``length`` bytes, or all, without checking them; raise `BuildError` where they cannot be read."""
        try:
            with self.path.open("rb") as file:
                return file.read(length)
        except OSError as error:
            raise BuildError(f"{self.path} can no longer be read: {error.strerror}.", remedy="Build again.") from error

    def span(self) -> Span | None:
        return None


def folders_above(paths: Iterable[str]) -> set[str]:
    """Return the folders that files lie in, and those that these lie in, without the one at the top; paths have ``/``."""
    found: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


class Entry(Struct, frozen=True, kw_only=True):
    """One file of an artifact. ``path`` is relative, with ``/``; ``owner`` names the distribution it came from."""

    path: str
    mode: int
    content: Content
    owner: str


class Tree(Struct, frozen=True):
    """Entries sorted by path (as UTF-8), each path once. Make one with `of`."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Tree:
        """Sort entries into a tree; raise ``ValueError`` with a path that occurs twice."""
        ordered = sorted(entries, key=_sort_key)
        for before, after in pairwise(ordered):
            if before.path == after.path:
                raise ValueError(before.path)
        return cls(tuple(ordered))

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def size(self) -> int:
        """Bytes of all contents, uncompressed."""
        return sum(entry.content.size for entry in self.entries)


def _sort_key(entry: Entry) -> bytes:
    return entry.path.encode("utf-8", "surrogatepass")


class Archive(Struct, frozen=True, kw_only=True, tag=True):
    """A downloadable file of a lock: a wheel or an sdist.

    ``location`` is a URL without credentials, or an absolute path; ``sha256`` is empty only for a path that no lock pins.
    """

    filename: str
    location: str
    sha256: str
    size: int | None = None


class SourceFolder(Struct, frozen=True, kw_only=True, tag=True):
    """A local project that must be built: an absolute folder."""

    path: Path


class Repository(Struct, frozen=True, kw_only=True, tag=True):
    """A version-control reference that must be built, as pip writes it: ``git+https://host/repo@commit``."""

    url: str
    subdirectory: str = ""


class LockedPackage(Struct, frozen=True, kw_only=True):
    """One exact package of a lock. ``name`` is normalized; ``version`` is empty for local projects without one.

    ``wheels`` are all in the lock, whatever their tags; ``source`` is what to build from when none of them fits.
    """

    name: str
    version: str = ""
    wheels: tuple[Archive, ...] = ()
    source: Archive | SourceFolder | Repository | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip()


class Lock(Struct, frozen=True, kw_only=True):
    """The exact packages of one requirement set on one target, sorted by name.

    ``origin`` says where they come from, for messages: a lock file's name, or ``resolved``. ``warnings`` are
    for the user.
    """

    target: Target
    packages: tuple[LockedPackage, ...]
    origin: str
    warnings: tuple[str, ...] = ()


class Distribution(Struct, frozen=True, kw_only=True):
    """A wheel in the store: ``path`` is its file, ``digest`` its SHA-256.

    If ``outlined`` is not empty, only an outline is in the store, made from this (`packer.formats.wheel_outline`).
    """

    name: str
    version: str
    filename: str
    digest: str
    path: Path
    outlined: str = ""


class Requirements(Struct, frozen=True, kw_only=True):
    """Where a function's dependencies are declared.

    ``kind`` is one that `packer.source.dependency_files.standard_files` returns; ``path`` is the absolute file. ``package``
    names the member of a workspace lock.
    """

    kind: str
    path: Path
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    package: str = ""


class Function(Struct, frozen=True, kw_only=True):
    """One function to build. ``source`` is an absolute folder; ``handler`` is ``module.attribute``.

    Its files are packed below the folder ``prefix``, which ends in a slash; it is empty where they lie on top.

    ``exclude`` are normalized names of distributions, and `RUNTIME_WORD` beside those for which it stands. ``allow`` are
    patterns of its source that may be packed though they look like secrets, ``provided`` are libraries (by soname) that others
    bring; ``building`` says how packages are built, and ``packages`` how some of them are; ``trim``, ``bytecode`` and
    ``verify`` say how what is packed is shaped and proved, ``execution`` what the function gets where it runs, ``layers`` what
    lies elsewhere, ``image`` whether it becomes an image. ``sharing`` are all functions whose versions are to agree, itself
    among them; empty where it has its own.
    """

    name: str
    source: Path
    handler: str
    target: Target
    requirements: Requirements | None
    lock_path: Path
    prefix: str = ""
    exclude: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    overlap: tuple[tuple[str, str], ...] = ()
    budget: Budget = field(default_factory=Budget)
    provided: tuple[str, ...] = ()
    building: BuildSettings = field(default_factory=BuildSettings)
    packages: tuple[tuple[str, BuildSettings], ...] = ()
    trim: TrimOptions = field(default_factory=TrimOptions)
    bytecode: BytecodeOptions = field(default_factory=BytecodeOptions)
    verify: VerifyOptions = field(default_factory=VerifyOptions)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    layers: LayerOptions = field(default_factory=LayerOptions)
    image: ImageOptions = field(default_factory=ImageOptions)
    # What the others declare decides this one's lock (`packer.resolve.shared_resolution`), and is no part of what it is itself.
    sharing: tuple[Function, ...] = ()

    unkeyed: ClassVar = ("sharing",)

    @property
    def root(self) -> Path:
        """The folder of the configuration that names it."""
        return self.lock_path.parent

    @property
    def base_name(self) -> str:
        """The name of what its image is built upon: AWS's run-time image, where the user names none."""
        return self.image.base or self.target.base_image

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of its own that it is proved with."""
        return dict((*self.execution.environment, *self.verify.environment))

    def settings_for(self, package: str) -> BuildSettings:
        """Return the settings for building a package of this function."""
        return dict(self.packages).get(package, self.building)

    def leaves_out(self, package: LockedPackage) -> bool:
        """Return whether a package is neither packed nor put into a layer: it is excluded, or an attached layer holds it."""
        return package.name in self.exclude or self.layers.bring(package.name, package.version)


class PartSize(Struct, frozen=True, kw_only=True):
    """What one distribution (or the function's own source) adds to an artifact, in bytes."""

    name: str
    version: str
    files: int
    unzipped: int


class Artifact(Struct, frozen=True, kw_only=True):
    """A written archive. ``path`` is relative to the output folder; sizes are bytes; ``sha256`` is hex."""

    path: str
    sha256: str
    zipped: int
    unzipped: int
    files: int
