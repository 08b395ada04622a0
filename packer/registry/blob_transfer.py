"""Uploads and downloads of blobs: in parts, and resumed after errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import RawIOBase
from pathlib import Path

from msgspec import Struct

from packer.cache.store import Store
from packer.core.errors import RegistryError
from packer.core.events import Reporter
from packer.formats.oci import Descriptor, Reference
from packer.net.http import short_reason
from packer.net.partial_file import PartialFile, open_partial_file
from packer.net.retry import TransientError
from packer.registry.endpoint import Body, Endpoint

_CHUNK = 16 << 20
"""Bytes of a part. ECR requires 5 MB of all but the last (AWS "UploadLayerPart")."""
_READ = 1 << 18
_RESTARTS = 3
"""How often an upload is begun again after the registry lost it."""
_MOST_SETBACKS = 5
"""How often an upload may go back behind parts that the registry had acknowledged, before it is begun again."""
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]+)")
_OCTETS = {"Content-Type": "application/octet-stream"}


class _UploadForgotten(Exception):
    """The registry no longer knows the upload."""


class _Slice(RawIOBase):
    """A part of a file as a stream that starts at 0 and has a length, both of which requests needs."""

    def __init__(self, path: Path, start: int, end: int, told: Callable[[int], None]) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._file.seek(start)
        self._start, self._at, self._end = start, start, end
        self._told = told

    def __len__(self) -> int:
        return self._end - self._start

    def tell(self) -> int:
        return self._at - self._start

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        left = self._end - self._at
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        self._told(self._at)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


class _Push(Struct, frozen=True, kw_only=True):
    """A blob on its way into the repository ``to``; ``scopes`` are those that uploading takes."""

    endpoint: Endpoint
    to: Reference
    blob: Descriptor
    scopes: Sequence[str]

    @property
    def doing(self) -> str:
        """What is done, as errors say it."""
        return f"push the layer {_short_digest(self.blob)} to {self.to.name}"

    def location(self, headers: Mapping[str, str], before: str) -> str:
        """Return the URL of the next request: each response may change it, relative or absolute."""
        found = headers.get("Location")
        if not found:
            what = f"The registry of {self.to.name} does not say where to send a layer."
            raise RegistryError(what, remedy="Ask its operator.")
        return self.endpoint.url(found, before)


class _Content(Struct, frozen=True, kw_only=True):
    """The file of a blob; ``told`` gets the number of bytes that were read of it."""

    path: Path
    told: Callable[[int], None]

    def slice(self, start: int, end: int) -> _Slice:
        """Return the bytes from ``start`` to ``end`` as a stream."""
        return _Slice(self.path, start, end, self.told)


class _Upload(Struct, kw_only=True):
    """An upload in progress: where to send the next part, and how many bytes the registry has."""

    location: str
    offset: int = 0
    setbacks: int = 0
    """How often the registry lost parts that it had acknowledged."""


def upload(
    endpoint: Endpoint,
    to: Reference,
    blob: Descriptor,
    bring: Callable[[], Path],
    scopes: Sequence[str],
    *,
    mount: str,
    reporter: Reporter,
) -> int:
    """Put a blob into a repository: mounted from the repository ``mount`` if that has it, else from the file of ``bring``.

    Return the bytes that were sent, 0 where it was mounted. Raises `RegistryError`, and the errors of ``bring``.
    """
    # The repository to mount from plays no part in the upload.
    push = _Push(endpoint=endpoint, to=to, blob=blob, scopes=scopes[:1])
    begun = _mount(push, mount, scopes) if mount else _begin_upload(push)
    if begun is None:
        return 0
    name = f"{to.repository} {_short_digest(blob)}"
    content = _Content(path=bring(), told=lambda sent: reporter.transfer_advanced(name, sent))
    with reporter.transfer(name, blob.size, "upload"):
        for restart in range(_RESTARTS + 1):
            try:
                _send_blob(push, content, begun)
            except _UploadForgotten:
                if restart == _RESTARTS:
                    what = f"Cannot {push.doing}: the registry loses the upload each time."
                    raise RegistryError(what, remedy="Try again, or ask the registry's operator.") from None
                begun = _begin_upload(push) or begun
            else:
                break
    return blob.size


def _short_digest(blob: Descriptor) -> str:
    return blob.sha256[:12]


def upload_bytes(endpoint: Endpoint, to: Reference, blob: Descriptor, data: bytes, scopes: Sequence[str]) -> None:
    """Send a small blob; raise `RegistryError`."""
    push = _Push(endpoint=endpoint, to=to, blob=blob, scopes=scopes)

    def attempt() -> None:
        begun = _begin_upload(push)
        if begun is not None:
            _finish_upload(push, begun, lambda: data)

    try:
        endpoint.retry(attempt, f"push to {to.name}")
    except _UploadForgotten:
        raise RegistryError(f"Cannot push to {to.name}: the registry loses the upload.", remedy="Try again.") from None


def _mount(push: _Push, source: str, scopes: Sequence[str]) -> _Upload | None:
    """Ask the registry to mount the blob from the repository ``source``; return an upload where it wants the bytes instead."""
    query = [("mount", push.blob.digest), ("from", source)]
    # Registries refuse a mount in many ways; the layer can still be sent.
    with suppress(RegistryError):
        return _begin_upload(push, scopes, query)
    return _begin_upload(push)


def _begin_upload(push: _Push, scopes: Sequence[str] = (), query: Sequence[tuple[str, str]] = ()) -> _Upload | None:
    """Begin an upload; None where the registry has the blob already."""
    endpoint, path = push.endpoint, f"/v2/{push.to.repository}/blobs/uploads/"
    response = endpoint.ask(
        "POST", path, scopes or push.scopes, doing=push.doing, expected=(201, 202), body=lambda: b"", query=query
    )
    if response.status == 201:
        return None
    return _Upload(location=push.location(response.headers, endpoint.url(path)))


def _send_blob(push: _Push, content: _Content, begun: _Upload) -> None:
    """Send what is left of a blob, part by part; raise `_UploadForgotten` where it must begin again."""
    retry, size = push.endpoint.retry, push.blob.size
    if size > _CHUNK:
        while begun.offset < size:
            _send_part(push, content, begun)
        retry(lambda: _finish_upload(push, begun, lambda: b""), push.doing)
        return

    def attempt() -> None:
        try:
            _finish_upload(push, begun, lambda: content.slice(0, size))
        except TransientError:
            fresh = _begin_upload(push)  # asking how much has arrived takes as long
            if fresh is not None:
                begun.location = fresh.location
            raise

    retry(attempt, push.doing)


def _send_part(push: _Push, content: _Content, begun: _Upload) -> None:
    """Send one part of a blob, and after an error continue with the first byte that the registry lacks."""
    endpoint, size, failed = push.endpoint, push.blob.size, False

    def attempt() -> None:
        nonlocal failed
        if failed:
            acknowledged = begun.offset
            _update_offset(push, begun)
            begun.setbacks += begun.offset < acknowledged
            if begun.setbacks > _MOST_SETBACKS:
                raise _UploadForgotten
        if begun.offset >= size:
            return
        failed = True
        start = begun.offset
        end = min(start + _CHUNK, size)  # after an interrupted part, only the last part may be short
        headers = {**_OCTETS, "Content-Range": f"{start}-{end - 1}", "Content-Length": str(end - start)}
        with endpoint.request_once(
            "PATCH", begun.location, push.scopes, headers=headers, body=lambda: content.slice(start, end)
        ) as response:
            if response.status_code in (404, 410):
                raise _UploadForgotten
            if response.status_code == 416:
                raise TransientError("the registry does not have the preceding part of the layer")
            if response.status_code not in (201, 202, 204):
                raise endpoint.error(response, push.doing)
            begun.location = push.location(response.headers, begun.location)
            begun.offset = end

    endpoint.retry(attempt, push.doing)


def _update_offset(push: _Push, begun: _Upload) -> None:
    """Ask how much of an upload the registry has (distribution specification, "Pushing a blob in chunks")."""
    with push.endpoint.request_once("GET", begun.location, push.scopes) as response:
        if response.status_code in (404, 410):
            raise _UploadForgotten
        if response.status_code not in (200, 202, 204):
            raise push.endpoint.error(response, push.doing)
        found = _RANGE.fullmatch(response.headers.get("Range", ""))
        last = int(found[1]) if found else 0
        begun.offset = last + 1 if last else 0  # registries write "nothing" as 0-0
        if response.headers.get("Location"):
            begun.location = push.location(response.headers, begun.location)


def _finish_upload(push: _Push, begun: _Upload, body: Body) -> None:
    """Complete an upload with its digest; raise `_UploadForgotten` where the registry knows neither it nor the blob."""
    endpoint, digest = push.endpoint, push.blob.digest
    query = [("digest", digest)]
    with endpoint.request_once("PUT", begun.location, push.scopes, headers=_OCTETS, query=query, body=body) as response:
        if response.status_code in (404, 410):
            # A response may have been lost: then the registry has the blob.
            there = f"/v2/{push.to.repository}/blobs/{digest}"
            if endpoint.ask("HEAD", there, push.scopes, doing=push.doing, expected=(200, 307, 404)).status != 404:
                return
            raise _UploadForgotten
        if response.status_code not in (201, 202, 204):
            raise endpoint.error(response, push.doing)
        received = response.headers.get("Docker-Content-Digest", digest)
    if received.startswith("sha256:") and received != digest:
        what = f"The registry of {push.to.name} says that a layer has the digest {received}, which is not what was sent."
        raise RegistryError(what, remedy="Do not use that repository until you know why.")


def download(endpoint: Endpoint, reference: Reference, blob: Descriptor, store: Store, reporter: Reporter) -> Path:
    """Download a blob into the store; raise `RegistryError` where that fails, or its digest is wrong."""
    name = f"{reference.repository} {_short_digest(blob)}"
    doing = f"fetch a layer of {reference}"
    with reporter.transfer(name, blob.size), store.temporary() as temporary:
        with open_partial_file(temporary) as received:
            endpoint.retry(lambda: _receive(endpoint, reference, blob, received, reporter, name), doing)
            found = received.digest()
        if (found, received.size) != (blob.sha256, blob.size):
            what = f"The registry {reference.registry} sends bytes that do not match {blob.digest} for a layer of {reference}."
            raise RegistryError(what, remedy="Do not use it until you know why.")
        return store.adopt_blob(temporary, blob.sha256, blob.size)


def _receive(
    endpoint: Endpoint, reference: Reference, blob: Descriptor, received: PartialFile, reporter: Reporter, name: str
) -> None:
    """Request the missing bytes once."""
    import requests
    import urllib3

    url = endpoint.url(f"/v2/{reference.repository}/blobs/{blob.digest}")
    headers = {"Range": f"bytes={received.size}-"} if received.size else {}
    scopes = (f"repository:{reference.repository}:pull",)
    try:
        with endpoint.request_once("GET", url, scopes, headers=headers, redirected=True) as response:
            if response.status_code not in (200, 206):
                raise endpoint.error(response, f"fetch a layer of {reference}")
            if received.size and response.status_code != 206:
                received.restart()
            length = response.headers.get("Content-Length", "")
            if length.isdigit() and received.size + int(length) > blob.size:
                raise _too_large(reference)
            while chunk := response.raw.read1(_READ, decode_content=False):
                endpoint.raise_if_stopped(f"fetch a layer of {reference}")
                if received.size + len(chunk) > blob.size:
                    raise _too_large(reference)
                received.append(chunk)
                reporter.transfer_advanced(name, received.size)
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise TransientError(short_reason(error)) from error
    if received.size < blob.size:
        raise TransientError(f"the connection ended after {received.size:,} of {blob.size:,} bytes")


def _too_large(reference: Reference) -> RegistryError:
    """Return the error for a registry that sends more than the manifest says, which is not read any further."""
    what = f"The registry {reference.registry} sends more bytes for a layer of {reference} than it has."
    return RegistryError(what, remedy="Do not use it until you know why.")
