"""The errors that only packer raises, by who can fix them; `builders.errors` holds their base."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from builders.errors import LpackError


class UsageError(LpackError):
    """The command line or the configuration asks for something impossible."""

    exit_status: int = 2


class ResolveError(LpackError):
    """No set of versions satisfies the requirements, or a lock cannot be read."""


class NoSolutionError(ResolveError):
    """The requirements exclude each other, or nothing that fits exists."""


class FetchError(LpackError):
    """A file could not be downloaded, or does not match its lock."""


class PackageError(LpackError):
    """A wheel or sdist is broken, hostile, or does not fit the target."""


class ImageError(LpackError):
    """A container image is broken, hostile, or does not fit the target."""


class RegistryError(LpackError):
    """A registry refused a request, cannot be reached, or does not follow its specification."""


class StoreError(LpackError):
    """The store or the output folder cannot be read or written."""


class ToolError(LpackError):
    """A program that a command relies on is not on this machine."""


class LimitError(LpackError):
    """An artifact is over a budget or over one of Lambda's limits."""

    exit_status: int = 3


class VerificationError(LpackError):
    """A function does not work as it was written, or this could not be checked."""

    exit_status: int = 4


class ManyErrors(LpackError):
    """Several things failed, such as functions; ``errors`` are in their order, and none of them is a `ManyErrors`."""

    def __init__(self, errors: Sequence[LpackError]) -> None:
        flat = tuple(chain.from_iterable(each.errors if isinstance(each, ManyErrors) else (each,) for each in errors))
        super().__init__("\n".join(map(str, flat)))
        self.errors: tuple[LpackError, ...] = flat
        statuses = {error.exit_status for error in flat}
        self.exit_status = statuses.pop() if len(statuses) == 1 else LpackError.exit_status

    def __reduce__(self) -> tuple[type[ManyErrors], tuple[tuple[LpackError, ...]]]:
        return (type(self), (self.errors,))  # by default, an exception is pickled by its text


def raise_any(errors: Sequence[LpackError]) -> None:
    """Raise the one error, or `ManyErrors`, if there is any."""
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
