"""The objects of a bucket or a shared folder, read and written through obstore, each request in bounded time.

Credentials come from the cloud's own chain, never from the address. For S3, obstore reads the ``AWS_`` variables, web identity
tokens, and what containers and machines are given (ECS, EKS, EC2); where ``~/.aws`` has files and no variable gives a key,
boto3 is asked, which also knows profiles and single sign-on. For Google Cloud Storage obstore reads
``GOOGLE_APPLICATION_CREDENTIALS``, what ``gcloud auth application-default login`` has written, and the metadata server; for
Azure the ``AZURE_`` variables, workload and managed identities. Other servers that speak S3 are named by ``AWS_ENDPOINT_URL``.

On S3 the rights s3:GetObject, s3:PutObject and s3:ListBucket are needed: without the last, what is not there is answered with
403 (Amazon S3 API Reference, "GetObject").
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from msgspec import Struct

from builders.runtimes import MEGABYTE
from packer.core.errors import StoreError, UsageError

if TYPE_CHECKING:
    from threading import Event

    from obstore.store import ObjectStore

FOLDER = "file"
_SCHEMES = (FOLDER, "s3", "gs", "az", "abfs", "abfss")
_FORMS = "Write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or the path of a shared folder."
_PART = 5 * MEGABYTE
"""Bytes of one part of an upload: S3's minimum (Amazon S3 User Guide, "multipart upload limits")."""
_CHUNK = MEGABYTE
_PROGRESS = 2 * MEGABYTE
"""Bytes that a request must have received before its time ran out, for another one to continue from there."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3}[^:\n]*)")
_LONGEST = 200
_KNOWN: tuple[tuple[re.Pattern[str], str, dict[str, bool]], ...] = (
    (re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist"), "the bucket does not exist", {"lasting": True}),
    (
        re.compile(r"RequestTimeTooSkewed"),
        "the clocks of this machine and of the remote differ too much (RequestTimeTooSkewed)",
        {"denied": True},
    ),
    (
        re.compile(r"/latest/api/token|metadata\.google\.internal|/metadata/identity"),
        "no credentials were found, and this machine has no role that provides some",
        {"lasting": True},
    ),
    (re.compile(r"\bTimedOut\b"), "it did not answer in time", {}),
    (re.compile(r"\bConnectionRefused\b"), "the connection was refused", {}),
    (
        re.compile(r"\b(ConnectionReset|BrokenPipe|IncompleteMessage|IncompleteBody|UnexpectedEof)\b"),
        "the connection broke off",
        {},
    ),
)
"""A pattern in obstore's message, the reason to give instead, and arguments for `RemoteError`."""


class RemoteTiming(Struct, frozen=True, kw_only=True):
    """Seconds: to connect, for one request in all, and during which failed requests are retried."""

    connect: float = 5.0
    request: float = 30.0
    retrying: float = 20.0


_TIMING = RemoteTiming()


class RemoteError(StoreError):
    """A request to a remote failed. ``denied``: the remote refused it; ``lasting``: every other request would fail too."""

    def __init__(self, what: str, *, denied: bool = False, lasting: bool = False) -> None:
        super().__init__(what)
        self.denied = denied
        self.lasting = lasting


class OversizedObjectError(StoreError):
    """An object is larger than any that lpack writes, or than its lock says: it has more than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it has more than {limit:,} bytes")


class RemoteAddress(Struct, frozen=True, kw_only=True):
    """Where a remote is; ``rest`` is the bucket and the prefix, or the folder's absolute path."""

    scheme: str
    rest: str

    def __str__(self) -> str:
        return self.rest if self.scheme == FOLDER else f"{self.scheme}://{self.rest}"


def read_address(text: str, folder: Path) -> RemoteAddress:
    """Parse the address of a remote; a relative path starts at ``folder``. Raises `UsageError`."""
    if "://" not in text:
        return RemoteAddress(scheme=FOLDER, rest=str((folder / Path(text).expanduser()).absolute()))
    try:
        parts = urlsplit(text)
    except ValueError:
        scheme = text.partition("://")[0]
        raise UsageError(f"The remote store's address {scheme}://… is not a valid URL.", remedy=_FORMS) from None
    shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))  # the rest may be a secret
    if parts.scheme not in _SCHEMES:
        raise UsageError(f"The remote store {shown} has an unknown scheme.", remedy=_FORMS)
    if parts.scheme == FOLDER:
        if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
            raise UsageError(f"The remote store {shown} names no folder of this machine.", remedy="Write file:///PATH.")
        return RemoteAddress(scheme=FOLDER, rest=unquote(parts.path))
    if parts.password or (parts.username and parts.scheme not in ("abfs", "abfss")):
        remedy = "Leave them to the cloud's own places: variables, profiles, or the machine's role."
        raise UsageError(f"The address of the remote store {shown} has credentials in it.", remedy=remedy)
    if not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"The remote store {shown} names no bucket, or more than a bucket and a prefix.", remedy=_FORMS)
    return RemoteAddress(scheme=parts.scheme, rest=f"{parts.netloc}{parts.path.rstrip('/')}")


class RemoteObjects:
    """The objects at an address; may be used from many threads.

    Methods raise `RemoteError` for a request that failed, after obstore has retried it where that is safe.
    """

    def __init__(self, address: RemoteAddress, timing: RemoteTiming = _TIMING) -> None:
        """Open a remote, without a request; raise `UsageError` for an invalid one, or where obstore is not installed."""
        self.address = address
        self._store = _open_backend(address, timing)
        self._conditional = True

    def read(self, key: str, file: IO[bytes], limit: int) -> bool:
        """Write an object's bytes to a file; False where there is none.

        Raises `OversizedObjectError` for one of more than ``limit`` bytes.
        """
        from obstore.exceptions import BaseError

        received = 0
        while True:
            before = received
            try:
                for chunk in self._chunks(key, received, limit):
                    file.write(chunk)
                    received += len(chunk)
            except FileNotFoundError as error:
                trouble = _remote_error(error)
                if trouble.lasting:  # the bucket does not exist
                    raise trouble from None
                return False
            except BaseError as error:
                # A large object may take longer than one request may: as long as each brings some of it, request the rest.
                if received - before < _PROGRESS:
                    raise _remote_error(error) from None
            else:
                return True

    def _chunks(self, key: str, start: int, limit: int) -> Iterator[bytes]:
        # The first request asks for no range: some servers answer it with the whole object, which obstore takes for an error.
        result = self._store.get(key, options={"range": {"offset": start}} if start else None)
        left = limit - start
        if result.meta["size"] > limit:
            raise OversizedObjectError(limit)
        for chunk in result.stream(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise OversizedObjectError(limit)
            yield chunk

    def write(self, key: str, source: bytes | Path, stopped: Event, *, replace: bool) -> None:
        """Write an object, unless there is one and ``replace`` is False; in both cases readers see all of it or nothing.

        A large upload is abandoned when ``stopped`` is set. Raises ``OSError`` where ``source`` cannot be read.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError

        size = source.stat().st_size if isinstance(source, Path) else len(source)
        with source.open("rb") if isinstance(source, Path) else BytesIO(source) as file:
            first = file.read(_PART)
            try:
                if size == len(first):
                    self._put(key, first, replace=replace)
                elif replace or self._size(key) != size:
                    parts = chain((first,), _parts(file, stopped))
                    self._store.put(key, parts, use_multipart=True, chunk_size=_PART, max_concurrency=2)
            except AlreadyExistsError:
                pass  # another machine was quicker: what has the same name has the same content, and readers check that
            except (BaseError, FileNotFoundError) as error:
                raise _remote_error(error) from None

    def _put(self, key: str, data: bytes, *, replace: bool) -> None:
        from obstore.exceptions import GenericError, NotSupportedError

        if self._conditional and not replace:
            try:
                self._store.put(key, data, mode="create", use_multipart=False)
            except (GenericError, NotSupportedError) as error:
                if isinstance(error, GenericError) and _error_code(error) != "NotImplemented":
                    raise
                self._conditional = False  # some servers do not support conditions: write the same bytes again
            else:
                return
        self._store.put(key, data, use_multipart=False)

    def _size(self, key: str) -> int | None:
        """Return the size of an object; None where there is none."""
        with suppress(FileNotFoundError):
            return int(self._store.head(key)["size"])
        return None


class UploadStopped(Exception):
    """An upload was abandoned."""


def _parts(file: IO[bytes], stopped: Event) -> Iterator[bytes]:
    while chunk := file.read(_PART):
        if stopped.is_set():
            raise UploadStopped
        yield chunk


def _open_backend(address: RemoteAddress, timing: RemoteTiming) -> ObjectStore:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import LocalStore, from_url
    except ImportError:
        what = f"The remote store {address} needs the package obstore, which is not installed."
        raise UsageError(what, remedy="Run `pip install 'lambda-lpack[remote]'`.") from None
    try:
        if address.scheme == FOLDER:
            return LocalStore(address.rest)
        return from_url(str(address), **_settings(address, timing))
    except (BaseError, ValueError) as error:
        remedy = _FORMS if address.scheme != "az" else "Name the account: AZURE_STORAGE_ACCOUNT_NAME."
        raise UsageError(f"The remote store {address} cannot be opened: {_remote_error(error).what}.", remedy=remedy) from None


def _settings(address: RemoteAddress, timing: RemoteTiming) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "client_options": {
            "connect_timeout": timedelta(seconds=timing.connect),
            "timeout": timedelta(seconds=timing.request),
            # Without TLS only where the user's own setting says so.
            "allow_http": any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS),
        },
        "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=timing.retrying)},
    }
    if address.scheme == "s3" and "AWS_ACCESS_KEY_ID" not in os.environ and _has_profiles():
        settings |= _profile_settings()
    return settings


def _has_profiles() -> bool:
    files = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
    return "AWS_PROFILE" in os.environ or any(
        Path(os.environ.get(name, default)).expanduser().is_file() for name, default in files.items()
    )


def _profile_settings() -> dict[str, Any]:
    """Let boto3 find the credentials; raise `UsageError` for an unknown profile."""
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        provider = Boto3CredentialProvider()
    except BotoCoreError as error:
        raise UsageError(f"The credentials of AWS cannot be read: {error}.", remedy="Fix AWS_PROFILE or ~/.aws.") from None
    except ValueError:
        return {}  # it found none: obstore looks in other places itself
    if {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys():
        provider.config = {}  # a region in a variable takes precedence over the profile's
    return {"credential_provider": provider}


def _error_code(error: Exception) -> str:
    """Return the code of an answer in S3's or Azure's form; empty where there is none."""
    found = _CODE.search(str(error))
    return found.group(1) if found else ""


def _remote_error(error: Exception) -> RemoteError:
    """Return obstore's error in one short line; only its text has statuses and codes."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    text, code, status = str(error), _error_code(error), _STATUS.search(str(error))
    for pattern, reason, facts in _KNOWN:
        if pattern.search(text):
            return RemoteError(reason, **facts)
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or "Permission denied (os error" in text
    if status:
        return RemoteError(f"it answered {status.group(1).strip()}{f' ({code})' if code else ''}", denied=refused)
    first = text.partition("\n")[0].rpartition(" - ")[2].strip().rstrip(".")
    return RemoteError(first if len(first) <= _LONGEST else f"{first[:_LONGEST]}…", denied=refused)
