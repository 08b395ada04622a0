"""The small interfaces between floors: what a step may tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Reporter:
    """Listens to the work; every method is empty, so that silence costs nothing. May be called from any thread."""

    def note(self, message: str) -> None:
        """Something worth knowing happened."""

    def warn(self, message: str) -> None:
        """Something is likely to hurt later."""

    def debug(self, message: str) -> None:
        """A detail for ``-v``."""

    def output(self, name: str, text: str) -> None:
        """A program that works on something has printed this much."""

    def expect(self, functions: int) -> None:
        """So many functions are going to be worked on."""

    def stage(self, function: str, name: str) -> None:
        """A function enters a stage: ``resolving``, ``fetching``, ``packing``, ``verifying``, ``done`` or ``unchanged``."""

    def transfer_started(self, name: str, size: int | None, doing: str = "download") -> None:
        """A download, or an ``upload``, begins; ``size`` in bytes where it is known."""

    def transfer_advanced(self, name: str, received: int) -> None:
        """``received`` bytes are across in all."""

    def transfer_ended(self, name: str, *, complete: bool = True) -> None:
        """It is complete, or given up."""

    @contextmanager
    def transfer(self, name: str, size: int | None, doing: str = "download") -> Iterator[None]:
        """Tell of a transfer from its begin to its end, complete where nothing was raised."""
        self.transfer_started(name, size, doing)
        complete = False
        try:
            yield
            complete = True
        finally:
            self.transfer_ended(name, complete=complete)
