"""Events: what steps report, and who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Reporter:
    """Listens to events; every method is empty, so that a silent one costs nothing. May be called from any thread."""

    def note(self, message: str) -> None:
        """Something worth knowing happened."""

    def warn(self, message: str) -> None:
        """Something is likely to cause trouble later."""

    def debug(self, message: str) -> None:
        """A detail for ``-v``."""

    def output(self, name: str, text: str) -> None:
        """A program working on ``name`` printed ``text``."""

    def expect(self, functions: int) -> None:
        """This many functions are going to be built."""

    def stage(self, function: str, name: str) -> None:
        """A function enters a stage: ``resolving``, ``fetching``, ``packing``, ``verifying``, ``done`` or ``unchanged``."""

    def transfer_started(self, name: str, size: int | None, doing: str = "download") -> None:
        """A download, or an ``upload``, begins; ``size`` in bytes where it is known."""

    def transfer_advanced(self, name: str, received: int) -> None:
        """``received`` bytes have been transferred in all."""

    def transfer_ended(self, name: str, *, complete: bool = True) -> None:
        """A transfer is complete, or abandoned."""

    @contextmanager
    def transfer(self, name: str, size: int | None, doing: str = "download") -> Iterator[None]:
        """Report the start and the end of a transfer, which is complete unless something is raised."""
        self.transfer_started(name, size, doing)
        complete = False
        try:
            yield
            complete = True
        finally:
            self.transfer_ended(name, complete=complete)
