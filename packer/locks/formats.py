"""The formats of lock files: how each is found, and what reads it.

To add a format: a module with a `LockReader`, and a row in `LOCK_FORMATS`. Nothing else asks for the kind of a lock.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar, Protocol

from msgspec import Struct

from packer.core.model import Lock, LockedPackage, Requirements, SourceFolder
from packer.core.names import PYPROJECT_FILE
from packer.core.process import Run, run

if TYPE_CHECKING:
    from builders.runtimes import Target
    from packer.locks.declared import DeclaredRequirement
    from packer.locks.pins import Pin

PYLOCK, UV_LOCK, POETRY_LOCK, PIPFILE_LOCK = "pylock", "uv.lock", "poetry.lock", "Pipfile.lock"


class LockPart(Struct, frozen=True, kw_only=True):
    """What one function takes of a lock.

    ``packages`` is a text that changes when one of the function's packages does; empty where any change of the file concerns
    the function. ``places`` are the absolute paths of what lies on this machine: local projects, and archives.
    """

    packages: str = ""
    places: tuple[Path, ...] = ()


class Adjustments(Struct, frozen=True, kw_only=True):
    """Requirements that the user overrides, all by normalized names of packages.

    What anyone requires of ``overridden`` does not count, and nothing that ``described`` require by their own metadata.
    """

    overridden: frozenset[str] = frozenset()
    described: frozenset[str] = frozenset()


class ParsePylock(Protocol):
    """Parses the text of a pylock.toml: `packer.locks.pylock.parse_pylock`, or what remembers its answers."""

    def __call__(
        self, text: str, path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()
    ) -> Lock: ...


class LockReader(Protocol):
    """Reads one format of lock files; may be used from many threads. Only `read` has no default."""

    is_complete: ClassVar[bool] = True
    """Every package comes with its address or place; otherwise uv is asked where the exact versions (`Pin`) lie."""
    follows_project: ClassVar[bool] = False
    """The pyproject.toml beside the lock may make it stale, or choose another part of it."""
    keeps_logins: ClassVar[bool] = False
    """URLs in the file may carry logins, which whoever fetches from there needs."""
    command: ClassVar[str] = ""
    """The command that renews a stale lock."""

    def read(
        self, requirements: Requirements, target: Target, run: Run = run, parse: ParsePylock | None = None
    ) -> tuple[Pin | LockedPackage, ...]:
        """Return the packages for a target, with the extras, groups and member that are asked for, sorted by name.

        ``run`` starts the format's own tool, where it takes one; ``parse`` reads what that, or the file, says as a pylock.toml
        (None: `packer.locks.pylock.parse_pylock`). Raises `ResolveError` that names the file and the key, and
        `UsageError` for an extra, a group or a member that does not exist.
        """
        ...

    def declared(
        self,
        requirements: Requirements,  # noqa: ARG002 for those that follow a project
        target: Target,  # noqa: ARG002
    ) -> tuple[DeclaredRequirement, ...]:
        """Return what the project that the lock was made for requires directly on a target; raises what `read` raises."""
        return ()

    def declaring_files(self, requirements: Requirements) -> tuple[Path, ...]:
        """Return the project's files that `declared` reads, whether they are there or not."""
        beside = requirements.path.with_name(PYPROJECT_FILE)
        return (beside,) if self.follows_project else ()

    def describe_absence(
        self,
        requirements: Requirements,  # noqa: ARG002 for those that look
        target: Target,  # noqa: ARG002
        name: str,  # noqa: ARG002
        requirer: str,  # noqa: ARG002
    ) -> str:
        """Return where the lock has a package that it does not give for the target: "only where MARKER"; empty if nowhere.

        ``requirer`` is the package that requires it, empty for the project itself.
        """
        return ""

    def renewal(self, requirements: Requirements, target: Target | None) -> str:  # noqa: ARG002 for those that ask more
        """Return the command that makes the lock anew, for this target where one lock does not serve all; empty if unknown."""
        return self.command

    def adjusted(self, requirements: Requirements) -> Adjustments:  # noqa: ARG002 for those that know
        """Return where the project has its tool go by other requirements than the packages' own."""
        return Adjustments()

    def is_stale(self, requirements: Requirements, target: Target, run: Run = run) -> bool:  # noqa: ARG002 for those that know
        """Return whether the projects that the lock was made for have changed since."""
        return False

    def part(self, requirements: Requirements, target: Target, data: bytes) -> LockPart:  # noqa: ARG002 for those that look
        """Return what a function takes of the lock when its file holds ``data``, now or before a change.

        Raises what `read` raises.
        """
        locked = (each for each in self.read(requirements, target) if isinstance(each, LockedPackage))
        return LockPart(places=tuple(place for package in locked for place in find_local_places(package)))


class PinnedLockReader(LockReader):
    """Base of the readers of exact versions without addresses, which uv has to locate; no other program is needed.

    Only `read_packages` has no default.
    """

    is_complete = False
    follows_project = True

    def read(
        self,
        requirements: Requirements,
        target: Target,
        run: Run = run,  # noqa: ARG002 no other program is needed
        parse: ParsePylock | None = None,  # noqa: ARG002 the form is another
    ) -> tuple[Pin | LockedPackage, ...]:
        """Return exact versions, and packages that come from elsewhere than an index; see `read_packages`."""
        return self.read_packages(requirements, target)

    @abstractmethod
    def read_packages(self, requirements: Requirements, target: Target) -> tuple[Pin | LockedPackage, ...]:
        """Return the packages for a target, sorted by name; raise what `read` raises."""


class LockFormat(Struct, frozen=True, kw_only=True):
    """A format's row: ``reader`` names the class of its `LockReader` as ``module:Class``, imported when a lock is read.

    ``filename`` is what a folder is searched for, ``pattern`` matches further names (a regular expression).
    """

    filename: str
    reader: str
    pattern: str = ""

    def is_named(self, name: str) -> bool:
        """Return whether a file of this name is a lock of the format."""
        return name == self.filename or bool(self.pattern and re.fullmatch(self.pattern, name))


LOCK_FORMATS: dict[str, LockFormat] = {
    PYLOCK: LockFormat(filename="pylock.toml", reader="packer.locks.pylock:PylockReader", pattern=r"pylock\.[^.]+\.toml"),
    UV_LOCK: LockFormat(filename="uv.lock", reader="packer.locks.uv:UvReader"),
    POETRY_LOCK: LockFormat(filename="poetry.lock", reader="packer.locks.poetry:PoetryReader"),
    PIPFILE_LOCK: LockFormat(filename="Pipfile.lock", reader="packer.locks.pipfile:PipfileReader"),
}
"""The formats by the kind that `packer.core.model.Requirements` names, in the order in which a folder is searched for them."""


def find_lock_reader(requirements: Requirements | None) -> LockReader | None:
    """Return the reader of a lock file; None for requirements that are no lock."""
    row = LOCK_FORMATS.get(requirements.kind) if requirements else None
    if row is None:
        return None
    reader: LockReader = resolve_name(row.reader)()
    return reader


def find_local_places(package: LockedPackage) -> tuple[Path, ...]:
    """Return where a locked package lies on this machine: its project's folder, and its wheels."""
    folder = (package.source.path,) if isinstance(package.source, SourceFolder) else ()
    return (*folder, *(Path(wheel.location) for wheel in package.wheels if "://" not in wheel.location))
