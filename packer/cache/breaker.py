"""Circuit breaker: stop using a remote after 3 consecutive failures or 20 s of them, with one warning."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import IO

from packer.cache.objects import OversizedObjectError, RemoteError, RemoteObjects
from packer.core.events import Reporter

_MOST_FAILURES = 3
_MOST_SECONDS = 20.0
_RIGHTS = ", which is also S3's answer for missing objects where s3:ListBucket is not allowed"


class CircuitBreaker:
    """Reads and writes objects of a remote until it has failed too often; may be used from many threads.

    It opens, with one warning, after three consecutive failures, or when failed requests have taken 20 s in all. Where only
    writing is denied, reading continues. A request that fails reads or writes nothing, and raises no error.
    """

    def __init__(self, objects: RemoteObjects, reporter: Reporter) -> None:
        self.name = str(objects.address)
        self.reporter = reporter
        self.reads = True
        self.writes = True
        self._objects = objects
        self._lock = Lock()
        self._failures = 0
        self._seconds = 0.0
        self._warned = False

    def read(self, key: str, file: IO[bytes], limit: int) -> bool:
        """Write an object's bytes to a file; False where there is none, or only a part could be read."""
        if not self.reads:
            return False
        found = False
        with self._counting(f"reading {key}", writing=False):
            try:
                found = self._objects.read(key, file, limit)
            except OversizedObjectError as error:
                self.report_wrong(key, error.what)
        if found:
            self.reporter.debug(f"{key} came from {self.name}")
        return found

    def write(self, key: str, source: bytes | Path, stopped: Event, *, replace: bool) -> None:
        """Write an object, unless it exists and ``replace`` is False; raise ``OSError`` where ``source`` cannot be read."""
        if self.writes:
            with self._counting(f"writing {key}", writing=True):
                self._objects.write(key, source, stopped, replace=replace)

    def report_wrong(self, key: str, reason: str) -> None:
        """Report an object that is not what its key promises: the first as a warning, others for ``-v``."""
        with self._lock:
            first, self._warned = not self._warned, True
        what = f"{self.name} has a wrong object {key}: {reason}. It is ignored, and made again."
        if first:
            self.reporter.warn(f"{what} Others like it are reported with -v only.")
        else:
            self.reporter.debug(what)

    @contextmanager
    def _counting(self, doing: str, *, writing: bool) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except RemoteError as trouble:
            self.reporter.debug(f"{self.name}: {doing}: {trouble.what}")
            self._failed(trouble, time.monotonic() - started, writing=writing)
        else:
            with self._lock:
                self._failures = 0

    def _failed(self, trouble: RemoteError, seconds: float, *, writing: bool) -> None:
        with self._lock:
            self._failures += 1
            self._seconds += seconds
            said = self._open(trouble, writing=writing)
        if said:
            self.reporter.warn(said)

    def _open(self, trouble: RemoteError, *, writing: bool) -> str:
        """Decide which requests to stop, and return the warning about it; empty where nothing changes."""
        if not (self.writes if writing else self.reads):
            return ""  # another thread failed in the same way at the same time
        if trouble.denied and writing:
            self.writes = False
            return f"Nothing may be written to {self.name}: {trouble.what}. It is only read."
        reason = trouble.what
        if trouble.denied:
            reason = f"reading is denied: {reason}{_RIGHTS if 'AccessDenied' in reason else ''}"
        if not (trouble.denied or trouble.lasting):
            if self._failures < _MOST_FAILURES and self._seconds < _MOST_SECONDS:
                return ""
            what = f"failed requests have taken {self._seconds:.0f} s"
            if self._failures >= _MOST_FAILURES:
                what = f"{self._failures} requests in a row failed"
            reason = f"{what}, the last because {reason}"
        self.reads = self.writes = False
        return f"{self.name} is not used for the rest of this run: {reason}. The build goes on without it."
