"""Reads the directories of wheels that are not in the store: a few KB of each, by ranges of bytes (RFC 9110, section 14)."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from builders.errors import LpackError
from builders.once import Once
from packer.cache.store import Store, digest_of
from packer.core.errors import FetchError
from packer.core.events import Reporter
from packer.core.model import Archive
from packer.formats.wheel_outline import (
    DIRECTORY,
    NOTHING,
    OUTLINES,
    SIZE,
    OutlinedFile,
    guess_files,
    outline_members,
    write_outline,
)
from packer.formats.zip_reader import ZipFormatError, ZipMember, read_directory
from packer.net.downloads import FetchedArchive
from packer.net.http import RETRIED_STATUSES, TIMEOUT, basic_auth, new_session, short_reason
from packer.net.retry import RetriesExhausted, RetryPolicy, RetryStopped, TransientError, retry
from packer.wheels.provider import ArchiveFetcher

if TYPE_CHECKING:
    import requests

    from packer.net.credentials import Credentials

_FORM = "1"
_TAIL = 16 << 10
"""Bytes to ask for first: nearly always all of the directory of a small wheel, and the end of a large one's."""
_MOST = 32 << 20
"""Bytes that a directory may have; one for each of a million files would not."""
_RETRIES = RetryPolicy(attempts=3, first_pause=0.0)
_PARALLEL = 8
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_WEB = ("http", "https")


class _NoRangesError(FetchError):
    """A server does not give parts of files, or not these."""


class OutlineFetcher:
    """Gives what the store has of archives, and the outlines of those that it has not; fetches no archive whole.

    An outline is made of a wheel's directory where the network may be used, and of the size that the lock tells elsewhere.
    ``local`` brings what lies on this machine.
    """

    def __init__(
        self, local: ArchiveFetcher, store: Store, credentials: Credentials, reporter: Reporter, *, offline: bool
    ) -> None:
        self._local = local
        self._store = store
        self._credentials = credentials
        self._reporter = reporter
        self._offline = offline
        self._thread = threading.local()
        self._stopped = threading.Event()
        self._outlines: Once[str, FetchedArchive] = Once()
        self._pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="outline")

    def close(self) -> None:
        """Stop: begin to read nothing else, and ask for nothing again."""
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def fetch(self, archives: Sequence[Archive]) -> list[FetchedArchive]:
        """Return the archives, or their outlines, in the same order; raises `LpackError` where the store cannot be used."""
        known = [None if _is_remote(archive) else self._local.fetch([archive])[0] for archive in archives]
        known = [found or self._known(archive) for archive, found in zip(archives, known, strict=True)]
        missing = [archive for archive, found in zip(archives, known, strict=True) if found is None]
        outlined = iter(list(self._pool.map(self._outline, missing)) if missing else ())
        return [found or next(outlined) for found in known]

    def _known(self, archive: Archive) -> FetchedArchive | None:
        path = self._store.wheel(archive.sha256) if archive.sha256 else None
        return FetchedArchive(path=path, sha256=archive.sha256) if path else None

    def _outline(self, archive: Archive) -> FetchedArchive:
        digest = archive.sha256 or digest_of("unpinned", archive.location)
        return self._outlines.get(digest, lambda: self._made(archive, digest))

    def _made(self, archive: Archive, digest: str) -> FetchedArchive:
        key = digest_of(_FORM, digest)
        record = self._store.load(OUTLINES, key)
        if record is not None:
            return FetchedArchive(path=record.path, sha256=digest, outlined=DIRECTORY)
        files, how = None, DIRECTORY
        if archive.filename.endswith(".whl") and not self._offline:
            files = self._read(archive)
        if files is None:
            # A size is no directory: what is known by it alone is asked for again when there is a network.
            name, _, rest = archive.filename.removesuffix(".whl").partition("-")
            key, how = digest_of(_FORM, digest, SIZE), SIZE if archive.size else NOTHING
            files = guess_files(name, rest.partition("-")[0], archive.size or 0)
        return FetchedArchive(path=self._store.save(OUTLINES, key, write_outline(files)).path, sha256=digest, outlined=how)

    def _read(self, archive: Archive) -> list[OutlinedFile] | None:
        """Read a wheel's directory; None, and a word for ``-v``, where it cannot be had."""
        try:
            return outline_members(_Remote(self, archive).members(), archive.filename)
        except LpackError as error:
            why = error.what.rstrip(".")
            self._reporter.debug(f"{archive.filename}: its directory cannot be read ({why}), and its size is all to go by")
            return None

    def ask(self, archive: Archive, wanted: str) -> requests.Response:
        """Ask for a range of an archive's bytes; raises `_NoRangesError`."""

        def failed(error: TransientError, number: int) -> None:
            self._reporter.debug(f"{archive.filename}: {error} ({number} of {_RETRIES.attempts})")

        try:
            return retry(lambda: self._attempt(archive, wanted), _RETRIES, self._stopped, failed)
        except RetryStopped:
            raise _NoRangesError("it was interrupted") from None
        except RetriesExhausted as exhausted:
            raise _NoRangesError(str(exhausted.error)) from None

    def _attempt(self, archive: Archive, wanted: str) -> requests.Response:
        import requests
        import urllib3

        try:
            response = self._ask(archive, wanted)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise TransientError(self._credentials.scrub(short_reason(error))) from error
        if response.status_code == requests.codes.partial_content:
            return response
        response.close()  # unread: it may be all of the archive
        kind = TransientError if response.status_code in RETRIED_STATUSES else _NoRangesError
        raise kind(f"the server answered {response.status_code}")

    def _ask(self, archive: Archive, wanted: str) -> requests.Response:
        session: requests.Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = new_session()
        login = self._credentials.find(archive.location)
        return session.get(
            archive.location,
            headers={"Accept-Encoding": "identity", "Range": f"bytes={wanted}"},
            stream=True,
            timeout=TIMEOUT,
            auth=basic_auth(login.user, login.password) if login else None,
        )


def _is_remote(archive: Archive) -> bool:
    return urlsplit(archive.location).scheme in _WEB


class _Remote:
    """A wheel on a server, read from its end."""

    def __init__(self, fetcher: OutlineFetcher, archive: Archive) -> None:
        self._fetcher = fetcher
        self._archive = archive
        self._start = 0
        self._held = b""

    def members(self) -> Sequence[ZipMember]:
        """Return what the wheel holds; raises `ZipFormatError`, or `_NoRangesError`."""
        first, self._held, size = self._part(f"-{_TAIL}", _TAIL)
        self._start = first
        return read_directory(self._read, size)

    def _read(self, length: int, offset: int) -> bytes:
        if offset < self._start and length:
            if self._start - offset > _MOST:
                raise ZipFormatError("its central directory is too large")
            missing = self._start - offset
            first, data, _ = self._part(f"{offset}-{self._start - 1}", missing)
            if first != offset or len(data) != missing:
                raise _NoRangesError("the server gave another range")
            self._start, self._held = offset, data + self._held
        return self._held[offset - self._start : offset - self._start + length]

    def _part(self, wanted: str, most: int) -> tuple[int, bytes, int]:
        """Return the offset of what the server sends, its bytes, and the size of the whole."""
        import urllib3

        with self._fetcher.ask(self._archive, wanted) as response:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not found or int(found[2]) - int(found[1]) + 1 > most:
                raise _NoRangesError("the server gave another range")
            try:
                data = response.raw.read(most, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise _NoRangesError(short_reason(error)) from None
        if len(data) != int(found[2]) - int(found[1]) + 1:
            raise _NoRangesError("the connection ended early")
        return int(found[1]), data, int(found[3])
