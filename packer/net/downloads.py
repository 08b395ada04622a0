"""Downloads of a lock's archives: in parallel, resumed after a dropped connection, and checked before they enter the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, local
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from builders.once import Once
from packer.cache.store import Store, store_errors
from packer.core.errors import FetchError
from packer.core.events import Reporter
from packer.core.model import Archive
from packer.net.http import RETRIED_STATUSES, TIMEOUT, basic_auth, new_session, retry_after, short_reason
from packer.net.partial_file import PartialFile, open_partial_file
from packer.net.retry import RetriesExhausted, RetryPolicy, RetryStopped, TransientError, retry

if TYPE_CHECKING:
    import requests

    from packer.net.credentials import Credentials

_CHUNK = 1 << 18
_RETRIES = RetryPolicy(attempts=5)
_PARALLEL = 8
_LARGEST = 4 << 30
"""Bytes of an archive whose lock gives no size: only ZIP64 wheels are larger, and no function could hold one."""


class FetchedArchive(Struct, frozen=True, kw_only=True):
    """An archive in the store; ``outlined`` says how its outline was made, where only that exists
    (`packer.formats.wheel_outline`)."""

    path: Path
    sha256: str
    outlined: str = ""


class StoreFetcher:
    """Fetches into a store; each archive once, however many functions ask for it at the same time.

    ``accept`` checks a complete file before it enters the store, and raises an `LpackError` for a bad one.
    """

    def __init__(
        self,
        store: Store,
        credentials: Credentials,
        reporter: Reporter,
        accept: Callable[[Path, Archive], None],
        *,
        offline: bool = False,
    ) -> None:
        self._store = store
        self._credentials = credentials
        self._reporter = reporter
        self._accept = accept
        self._offline = offline
        self._pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="fetch")
        self._brought: Once[tuple[str, str], FetchedArchive] = Once()
        self._thread = local()
        self._stopped = Event()

    def close(self) -> None:
        """Abandon all downloads, and begin no other."""
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def fetch(self, archives: Sequence[Archive]) -> list[FetchedArchive]:
        """Return the archives' files in the store, in the same order; raise `FetchError` or what ``accept`` raises.

        The first failure is raised at once, without waiting for the other archives.
        """
        waiting = [self._known(archive) or self._started(archive) for archive in archives]
        running = [each for each in waiting if isinstance(each, Future)]
        wait(running, return_when=FIRST_EXCEPTION)
        for each in running:
            if each.done() and (error := each.exception()) is not None:
                raise error
        return [found.result() if isinstance(found, Future) else found for found in waiting]

    def _known(self, archive: Archive, prove: Callable[[Path], None] | None = None) -> FetchedArchive | None:
        path = self._store.wheel(archive.sha256, prove, archive.size) if archive.sha256 else None
        return FetchedArchive(path=path, sha256=archive.sha256) if path else None

    def _started(self, archive: Archive) -> Future[FetchedArchive]:
        # Two locks may expect different bytes at one address: each is checked against its own hash.
        return self._brought.submit(self._pool, (archive.location, archive.sha256), lambda: self._bring(archive))

    def _bring(self, archive: Archive) -> FetchedArchive:
        shared = self._known(archive, lambda path: self._accept(path, archive))
        if shared is not None:
            return shared
        with self._store.temporary() as temporary:
            if urlsplit(archive.location).scheme in ("http", "https"):
                digest, size = self._download(archive, temporary)
            else:
                digest, size = _copy_local(archive, temporary)
            if archive.sha256 and digest != archive.sha256:
                raise FetchError(
                    f"{archive.filename} does not match its lock: "
                    f"SHA-256 {digest} came from {archive.location}, {archive.sha256} was expected.",
                    remedy="Do not use it until you know why. If the index changed on purpose, lock again.",
                )
            self._accept(temporary, archive)
            return FetchedArchive(path=self._store.adopt(temporary, digest, size), sha256=digest)

    def _download(self, archive: Archive, temporary: Path) -> tuple[str, int]:
        """Fetch a file, and return the SHA-256 and the number of its bytes."""
        if self._offline:
            raise FetchError(
                f"{archive.filename} is not in the store, and --offline forbids downloading it.",
                remedy="Build once without --offline.",
            )
        telling = self._reporter.transfer(archive.filename, archive.size)
        with telling, open_partial_file(temporary) as received:
            self._download_resumed(archive, received)
            return received.digest(), received.size

    def _download_resumed(self, archive: Archive, received: PartialFile) -> None:
        def attempt() -> None:
            before = received.size
            try:
                self._attempt(archive, received)
            except TransientError as error:
                error.progressed = received.size != before
                raise

        def failed(error: TransientError, _number: int) -> None:
            reason = self._credentials.scrub(str(error))
            self._reporter.debug(f"{archive.filename}: {reason}; trying again from byte {received.size:,}")

        try:
            retry(attempt, _RETRIES, self._stopped, failed)
        except RetryStopped:
            raise _interrupted(archive) from None
        except RetriesExhausted as exhausted:
            reason = self._credentials.scrub(str(exhausted))
            raise FetchError(
                f"Cannot download {archive.filename} from {archive.location}: {reason}.",
                remedy="Check the network and the index's address, then try again; complete files are kept.",
            ) from None

    def _attempt(self, archive: Archive, received: PartialFile) -> None:
        """Request the missing bytes once; raise `TransientError` or `FetchError`."""
        import requests
        import urllib3

        try:
            with self._ask(archive, received.size) as response:
                self._check_status(archive, response)
                if received.size and response.status_code != requests.codes.partial_content:
                    received.restart()
                expected = self._expected_size(response, received.size)
                if expected is not None and expected > _size_limit(archive):
                    raise _too_large(archive)
                # Read whatever has arrived: waiting for full chunks loses the bytes before a dropped connection.
                while chunk := response.raw.read1(_CHUNK, decode_content=False):
                    if self._stopped.is_set():
                        raise _interrupted(archive)
                    if received.size + len(chunk) > _size_limit(archive):
                        raise _too_large(archive)
                    received.append(chunk)
                    self._reporter.transfer_advanced(archive.filename, received.size)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise TransientError(short_reason(error)) from error
        except OSError as error:  # RequestException, too, is one
            reason = self._credentials.scrub(str(error))
            raise FetchError(
                f"Cannot download {archive.filename} from {archive.location}: {reason}.", remedy="Check the index's address."
            ) from None
        if expected is not None and received.size < expected:
            raise TransientError(f"the connection ended after {received.size:,} of {expected:,} bytes")

    def _ask(self, archive: Archive, offset: int) -> requests.Response:
        session = self._session()
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        login = self._credentials.find(archive.location)
        response = session.get(
            archive.location,
            headers=headers,
            stream=True,
            timeout=TIMEOUT,
            auth=basic_auth(login.user, login.password) if login else None,
        )
        if response.status_code == 401 and login is None:
            response.close()
            login = self._credentials.ask_keyring(archive.location)
            if login is not None:
                auth = basic_auth(login.user, login.password)
                response = session.get(archive.location, headers=headers, stream=True, timeout=TIMEOUT, auth=auth)
        return response

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = new_session()
        return session

    def _check_status(self, archive: Archive, response: requests.Response) -> None:
        status = response.status_code
        if status in (200, 206):
            return
        if status in RETRIED_STATUSES:
            raise TransientError(f"the server answered {status} {response.reason}", retry_after(response))
        remedy = "Lock again: the file is no longer where the lock says."
        if status in (401, 403):
            remedy = (
                "Give the index's credentials in its URL, a netrc file, keyring, or UV_INDEX_<NAME>_USERNAME and _PASSWORD."
            )
        raise FetchError(
            f"Cannot download {archive.filename} from {archive.location}: the server answered {status} {response.reason}.",
            remedy=remedy,
        )

    @staticmethod
    def _expected_size(response: requests.Response, offset: int) -> int | None:
        length = response.headers.get("Content-Length", "")
        return offset + int(length) if length.isdigit() else None


def _size_limit(archive: Archive) -> int:
    return _LARGEST if archive.size is None else archive.size


def _interrupted(archive: Archive) -> FetchError:
    return FetchError(f"The download of {archive.filename} was interrupted.", remedy="Build again.")


def _too_large(archive: Archive) -> FetchError:
    """Return the error for a server that sends more than it should, which is not read any further."""
    most = _size_limit(archive)
    limit = (
        f"{most:,} bytes, which is the most that lpack downloads" if archive.size is None else f"the {most:,} bytes of its lock"
    )
    return FetchError(
        f"{archive.filename} from {archive.location} is larger than {limit}: the download was abandoned.",
        remedy="Do not use it until you know why. If the index changed on purpose, lock again.",
    )


def _copy_local(archive: Archive, temporary: Path) -> tuple[str, int]:
    """Copy a file of this machine (an absolute path or a file: URL), and return the SHA-256 and the number of its bytes."""
    parts = urlsplit(archive.location)
    path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(archive.location)
    total, size = hashlib.sha256(), 0
    with store_errors(temporary, "write"), temporary.open("wb") as target:
        for chunk in _chunks_of_file(path):
            total.update(chunk)
            size += len(chunk)
            target.write(chunk)
    return total.hexdigest(), size


def _chunks_of_file(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes; raise `FetchError` where it cannot be opened or read to its end."""
    try:
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise FetchError(f"Cannot read {path}: {error.strerror}.", remedy="Lock again, or put the file back.") from error
