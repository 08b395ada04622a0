"""What a builder is asked for, and how it says no."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from builders.runtimes import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """A source to turn into a wheel for a target.

    ``path`` is an sdist or a project folder; where it is None, ``url`` is a version-control URL in pip's form. ``name`` is for
    messages.
    """

    name: str
    target: Target
    path: Path | None = None
    url: str = ""


class BuildFailure(Exception):
    """A build did not give a wheel; ``log`` is the build tool's own output."""

    def __init__(self, reason: str, *, log: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.log = log
