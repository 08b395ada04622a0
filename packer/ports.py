"""The small interfaces between floors: what a step may be given, and what it may tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from builders.recipes import BuildRequest


class Reporter:
    """Listens to the work; every method is empty, so that silence costs nothing. May be called from any thread."""

    def note(self, message: str) -> None:
        """Something worth knowing happened."""

    def warn(self, message: str) -> None:
        """Something is likely to hurt later."""

    def debug(self, message: str) -> None:
        """A detail for ``-v``."""

    def stage(self, function: str, name: str) -> None:
        """A function enters a stage: ``resolving``, ``fetching``, ``packing``, ``done``."""

    def transfer_started(self, name: str, size: int | None) -> None:
        """A download begins; ``size`` in bytes where it is known."""

    def transfer_advanced(self, name: str, received: int) -> None:
        """``received`` bytes of the download are here in all."""

    def transfer_ended(self, name: str) -> None:
        """A download is complete, or given up."""


class Builder(Protocol):
    """Turns an sdist, a source folder or a repository into a wheel for a target.

    Raises `builders.recipes.BuildFailure`. Caching, limiting and recording wrap a builder; they are never inside one.
    """

    @property
    def recipe(self) -> str:
        """Everything about this builder that can change a wheel's bytes, for cache keys."""
        ...

    def build(self, request: BuildRequest, into: Path) -> Path:
        """Build, and give the path of the one wheel that was written to the folder ``into``."""
        ...
