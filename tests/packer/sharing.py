"""Stores with a remote behind them, what they told, and what they hold: what tests of the remote store have in common."""

from __future__ import annotations

import hashlib
from pathlib import Path

from msgspec import Struct

from packer.cache.breaker import CircuitBreaker
from packer.cache.local import LocalStore
from packer.cache.objects import RemoteObjects, RemoteTiming, read_address
from packer.cache.remote import RemoteStore
from packer.cache.store import digest_of
from packer.core.events import Reporter

PATIENT = RemoteTiming(request=60.0, retrying=30.0)
QUICK = RemoteTiming(request=1.0, retrying=0.5)
"""For a remote that does not answer."""


class Told(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.details: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def debug(self, message: str) -> None:
        self.details.append(message)


class Machine(Struct, frozen=True, kw_only=True):
    """A cache of its own, and what its user was told."""

    store: RemoteStore
    told: Told

    def adopt(self, data: bytes) -> str:
        """Take in a wheel, as if it had been downloaded."""
        digest = hashlib.sha256(data).hexdigest()
        with self.store.temporary() as temporary:
            temporary.write_bytes(data)
            self.store.adopt(temporary, digest, len(data))
        return digest

    def wheel(self, digest: str) -> bytes | None:
        path = self.store.wheel(digest, lambda _path: None)
        return None if path is None else path.read_bytes()

    def load(self, kind: str, key: str) -> bytes | None:
        record = self.store.load(kind, key)
        if record is None:
            return None
        assert record.path.read_bytes()[record.offset :] == record.payload
        return record.payload

    def close(self, seconds: float = 30) -> None:
        self.store.close(seconds)


def machine(folder: Path, remote: str, *, secret: str = "", timing: RemoteTiming = PATIENT, patience: float = 30) -> Machine:
    """Give a machine whose cache lies in ``folder``."""
    told = Told()
    store = RemoteStore(
        LocalStore(folder), CircuitBreaker(RemoteObjects(read_address(remote, folder), timing), told), secret, patience
    )
    return Machine(store=store, told=told)


KEY = digest_of("a key")
"""A key of derived files."""
KEYS = tuple(digest_of("a library", str(number)) for number in range(30))
"""Keys of derived files that are asked for together."""
PAYLOAD = b"bytecode of a distribution " * 40
