"""What a worker of a Dask cluster runs: jobs of builds, with tools and a cache of this machine's own."""

from __future__ import annotations

import atexit
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from packer.cli.common import open_store
from packer.cluster import Answer, Site, load_ticket
from packer.errors import LpackError
from packer.ports import Reporter
from packer.remote import opened_remote

_MOST = 4
"""Sites that are kept open: a build has one for each target, and a worker may serve some builds at once."""
_sites: dict[str, _Open] = {}
_opening = Lock()


class _Notes(Reporter):
    """Keeps what is said, for the machine that asks to say it again."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str]] = []
        self._lock = Lock()

    def warn(self, message: str) -> None:
        self._keep("warn", message)

    def note(self, message: str) -> None:
        self._keep("note", message)

    def debug(self, message: str) -> None:
        self._keep("debug", message)

    def _keep(self, kind: str, message: str) -> None:
        with self._lock:
            self._said.append((kind, message))

    def taken(self) -> tuple[tuple[str, str], ...]:
        """Give what was said since this was asked last."""
        with self._lock:
            said, self._said = tuple(self._said), []
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A site, what it says, and what closes it."""

    site: Site
    notes: _Notes
    closing: ExitStack


def run(remote: str, ticket: str, name: str, arguments: tuple[Any, ...]) -> Answer:
    """Do a job; what it raises is part of the answer."""
    try:
        opened = _opened(remote, ticket)
    except LpackError as error:
        return Answer(error=error)
    try:
        return Answer(value=opened.site.do(name, arguments), said=opened.notes.taken())
    except LpackError as error:
        return Answer(error=error, said=opened.notes.taken())


def _opened(remote: str, digest: str) -> _Open:
    """Give the site of a ticket, one for all jobs of it that this process does."""
    from packer.cli.wiring import open_tools
    from packer.watch import Digests

    with _opening:
        if digest not in _sites:
            notes = _Notes()
            with opened_remote(open_store(), remote, notes) as store:
                found = load_ticket(store, digest)
            closing = ExitStack()
            temporary = tempfile.TemporaryDirectory(prefix="lpack-", ignore_cleanup_errors=True)
            folder = Path(closing.enter_context(temporary))
            tools = closing.enter_context(open_tools(open_store(), Digests(), notes, found.policy, remote=remote))
            _sites[digest] = _Open(site=Site(found, tools, folder), notes=notes, closing=closing)
            while len(_sites) > _MOST:
                _sites.pop(next(iter(_sites))).closing.close()
        return _sites[digest]


@atexit.register
def _close() -> None:
    for each in _sites.values():
        each.closing.close()
