"""Errors, split by who can mend them; the text is made when somebody reads it.

Exit statuses: 1 the build failed, 2 wrong usage or configuration, 3 over a budget or a limit, 4 verification failed.
"""

from __future__ import annotations

from collections.abc import Sequence


class LpackError(Exception):
    """What went wrong, where, and the next thing to try.

    ``what`` is one sentence that names the place; ``remedy`` is what to do next; ``detail`` is an underlying tool's own
    output, shown below.
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


class UsageError(LpackError):
    """The command line or the configuration asks for something that cannot be."""

    exit_status: int = 2


class ResolveError(LpackError):
    """No set of versions satisfies the requirements, or a lock cannot be read."""


class NoSolutionError(ResolveError):
    """The requirements exclude each other, or nothing that fits exists."""


class FetchError(LpackError):
    """A file could not be downloaded, or is not what its lock promised."""


class PackageError(LpackError):
    """A wheel or sdist is broken, hostile, or does not fit the target."""


class BuildError(LpackError):
    """A builder could not make a wheel."""


class ImageError(LpackError):
    """A container image is broken, hostile, or does not fit the target."""


class RegistryError(LpackError):
    """A registry refused something, cannot be reached, or broke its word."""


class StoreError(LpackError):
    """The store or the output folder cannot be read or written."""


class ToolError(LpackError):
    """A program that a command relies on is not on this machine."""


class LimitError(LpackError):
    """An artifact is over a budget or over one of Lambda's limits."""

    exit_status: int = 3


class VerificationError(LpackError):
    """A function does not work as it was written, or cannot be proved to."""

    exit_status: int = 4


class ManyErrors(LpackError):
    """Several functions failed; ``errors`` are in the order of the functions."""

    def __init__(self, errors: Sequence[LpackError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)
        statuses = {error.exit_status for error in errors}
        self.exit_status = statuses.pop() if len(statuses) == 1 else LpackError.exit_status

    def __reduce__(self) -> tuple[type[ManyErrors], tuple[tuple[LpackError, ...]]]:
        return (type(self), (self.errors,))  # an exception is pickled by its text, of which these cannot be made again
