"""The interface of builders: recipes, requests for wheels, and the wheels that come of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol, get_args

from msgspec import Struct, field

from builders.errors import BuildError
from builders.runtimes import MEGABYTE, Target

BuilderName = Literal["auto", "host", "container", "cross"]
BUILDERS: tuple[BuilderName, ...] = get_args(BuilderName)

SOURCE_DATE_EPOCH = "315532800"
"""1980-01-01T00:00:00Z, the earliest time a ZIP member can carry: build back ends that write times all write this one."""


class Limits(Struct, frozen=True, kw_only=True):
    """What one build may take: bytes of memory, processes and threads, processors (None: all there are), seconds."""

    memory: int = 4096 * MEGABYTE
    processes: int = 1024
    cpus: float | None = None
    seconds: float = 1800.0


class BuildSettings(Struct, frozen=True, kw_only=True):
    """How a package is to be built.

    ``image`` is empty for the target's own build image; ``setup`` are shell commands that prepare it; ``network`` lets the
    build itself reach the network; ``config`` are (key, value) for the build back end (PEP 517, ``config_settings``), of which
    several with one key are a list.
    """

    builder: BuilderName = "auto"
    image: str = ""
    setup: tuple[str, ...] = ()
    network: bool = False
    config: tuple[tuple[str, str], ...] = ()
    limits: Limits = field(default_factory=Limits)


class WheelRequest(Struct, frozen=True, kw_only=True):
    """A source to turn into a wheel for a target.

    ``path`` is an sdist, named as it was published, or a project folder. ``wheels`` are the files of all build requirements and
    what those need; ``requires`` are the requirements that they were resolved for. ``name`` is for messages, ``variables`` for
    the environment of the build.
    """

    name: str
    target: Target
    path: Path
    settings: BuildSettings = field(default_factory=BuildSettings)
    wheels: tuple[Path, ...] = ()
    requires: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


class BuiltWheel(Struct, frozen=True, kw_only=True):
    """A wheel as its build left it. ``library`` finds a shared library (by its soname) of where it was built."""

    path: Path
    log: str = ""
    library: Callable[[str, tuple[str, ...]], Path | None] = lambda _name, _folders: None


class Recipe(Struct, frozen=True, kw_only=True):
    """How a builder would build a request.

    ``key`` changes with everything about the builder that can change a wheel's bytes. ``requirements_for`` is what the build
    requirements must run on. ``image`` and ``image_digest`` may be empty.
    """

    key: str
    requirements_for: Target
    image: str = ""
    image_digest: str = ""


class Builder(Protocol):
    """Turns an sdist or a project folder into a wheel for a target; may be used from many threads.

    Caching, limiting and recording wrap a builder; they are never inside one.
    """

    def recipe(self, target: Target, settings: BuildSettings) -> Recipe:
        """Return the recipe of a build for a target; raises `UnavailableError`."""
        ...

    def build(self, request: WheelRequest, into: Path) -> AbstractContextManager[BuiltWheel]:
        """Build in the empty folder ``into``; what was built can be looked at until the context ends.

        Raises `BuildError`, `UnavailableError`, or `MissingRequirementsError`.
        """
        ...

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        ...


LONGEST_LOG = 64 * MEGABYTE
"""Most bytes that a build may print: its output is kept in memory."""


def output_limit_error(log: str) -> BuildError:
    """Return the error of a build that printed more than `LONGEST_LOG`."""
    return BuildError(f"it printed more than {LONGEST_LOG // MEGABYTE} MB", detail=log, remedy="Have it say less.")
