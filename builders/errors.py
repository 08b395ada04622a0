"""The errors that both packages raise: the base of all of lpack's errors, and what builders cannot do.

The message is made when somebody reads it. Exit statuses: 1 the build failed, 2 wrong usage or configuration, 3 over a budget
or a limit, 4 verification failed.
"""

from __future__ import annotations

from collections.abc import Sequence


class LpackError(Exception):
    """What went wrong, where, and the next thing to try.

    ``what`` is one sentence that names the place; builders leave out its capital letter and its period, so that a caller who
    knows more can put the place in front. ``remedy`` is what to do next; ``detail`` is an underlying tool's own output, shown
    below. ``exit_status`` is the process's, where nobody handles the error.
    """

    exit_status: int = 1

    def __init__(self, what: str, *, remedy: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.detail = detail

    def __str__(self) -> str:
        what = self.what if self.what.endswith((".", "?", "!")) else f"{self.what}."
        return "\n".join(part for part in (what, self.detail, self.remedy) if part)


class BuildError(LpackError):
    """A wheel, or a file derived from one, could not be made; ``detail`` is the build tool's own output."""


class PullError(BuildError):
    """A container engine cannot get an image from its registry; ``detail`` is what the engine says."""


class NativeCodeError(BuildError):
    """This machine's builder made a wheel with native code, which is for this machine only."""


class UnavailableError(LpackError):
    """A builder or a sandbox cannot work here: its engine, image, interpreter, or a program is missing.

    ``remedy`` says how to get it.
    """


class MissingRequirementsError(LpackError):
    """The build back end asks for ``requires`` beside what pyproject.toml lists (PEP 517, get_requires_for_build_wheel)."""

    def __init__(self, requires: Sequence[str]) -> None:
        super().__init__(f"its build back end also requires {', '.join(requires)}")
        self.requires = tuple(requires)


def interruption_error(detail: str = "") -> BuildError:
    """Return the error of work that was stopped because lpack is ending; ``detail`` is what it had printed."""
    return BuildError("it was interrupted", detail=detail)
