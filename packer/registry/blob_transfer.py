"""Uploads and downloads of blobs: in parts, and resumed after errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import RawIOBase
from pathlib import Path
from typing import IO

from msgspec import Struct

from builders.files import stream_digest
from packer.cache.store import Store, store_errors
from packer.core.errors import RegistryError
from packer.core.events import Reporter
from packer.formats.oci import Descriptor, Reference
from packer.net.http import short_reason
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
    begun = _begin_upload(endpoint, to, blob, scopes, mount)
    if begun is None:
        return 0
    scopes = scopes[:1]  # the repository to mount from plays no part in the upload
    path = bring()
    name = f"{to.repository} {_short_digest(blob)}"
    with reporter.transfer(name, blob.size, "upload"):
        for restart in range(_RESTARTS + 1):
            try:
                _send_blob(endpoint, to, blob, path, scopes, begun, lambda sent: reporter.transfer_advanced(name, sent))
            except _UploadForgotten:
                if restart == _RESTARTS:
                    what = f"Cannot push the layer {_short_digest(blob)} to {to.name}: the registry loses the upload each time."
                    raise RegistryError(what, remedy="Try again, or ask the registry's operator.") from None
                begun = _begin_upload(endpoint, to, blob, scopes, "") or begun
            else:
                break
    return blob.size


def _short_digest(blob: Descriptor) -> str:
    return blob.sha256[:12]


def upload_bytes(endpoint: Endpoint, to: Reference, blob: Descriptor, data: bytes, scopes: Sequence[str]) -> None:
    """Send a small blob; raise `RegistryError`."""

    def attempt() -> None:
        begun = _begin_upload(endpoint, to, blob, scopes, "")
        if begun is not None:
            _finish_upload(endpoint, to, blob, scopes, begun, lambda: data)

    try:
        endpoint.retry(attempt, f"push to {to.name}")
    except _UploadForgotten:
        raise RegistryError(f"Cannot push to {to.name}: the registry loses the upload.", remedy="Try again.") from None


def _begin_upload(endpoint: Endpoint, to: Reference, blob: Descriptor, scopes: Sequence[str], mount: str) -> _Upload | None:
    """Begin an upload; None where the registry has mounted the blob instead."""
    doing = f"push the layer {_short_digest(blob)} to {to.name}"
    path = f"/v2/{to.repository}/blobs/uploads/"
    ask = partial(endpoint.ask, "POST", path, doing=doing, expected=(201, 202), body=lambda: b"")
    if mount:
        # Registries refuse a mount in many ways; the layer can still be sent.
        with suppress(RegistryError):
            response = ask(scopes, query=[("mount", blob.digest), ("from", mount)])
            if response.status == 201:
                return None
            return _Upload(location=_location(endpoint, response.headers, endpoint.url(path), to))
    response = ask(scopes[:1])
    if response.status == 201:
        return None
    return _Upload(location=_location(endpoint, response.headers, endpoint.url(path), to))


def _location(endpoint: Endpoint, headers: Mapping[str, str], before: str, to: Reference) -> str:
    """Return the URL of the next request of an upload: each response may change it, relative or absolute."""
    found = headers.get("Location")
    if not found:
        raise RegistryError(f"The registry of {to.name} does not say where to send a layer.", remedy="Ask its operator.")
    return endpoint.url(found, before)


def _send_blob(
    endpoint: Endpoint,
    to: Reference,
    blob: Descriptor,
    path: Path,
    scopes: Sequence[str],
    begun: _Upload,
    told: Callable[[int], None],
) -> None:
    """Send what is left of a blob, part by part; raise `_UploadForgotten` where it must begin again."""
    doing = f"push the layer {_short_digest(blob)} to {to.name}"
    if blob.size > _CHUNK:
        while begun.offset < blob.size:
            _send_part(endpoint, to, blob, path, scopes, begun, told)
        endpoint.retry(lambda: _finish_upload(endpoint, to, blob, scopes, begun, lambda: b""), doing)
        return

    def whole() -> _Slice:
        return _Slice(path, 0, blob.size, told)

    def attempt() -> None:
        try:
            _finish_upload(endpoint, to, blob, scopes, begun, whole)
        except TransientError:
            fresh = _begin_upload(endpoint, to, blob, scopes, "")  # asking how much has arrived takes as long
            if fresh is not None:
                begun.location = fresh.location
            raise

    endpoint.retry(attempt, doing)


def _send_part(
    endpoint: Endpoint,
    to: Reference,
    blob: Descriptor,
    path: Path,
    scopes: Sequence[str],
    begun: _Upload,
    told: Callable[[int], None],
) -> None:
    """Send one part of a blob, and after an error continue with the first byte that the registry lacks."""
    doing = f"push the layer {_short_digest(blob)} to {to.name}"
    trouble = False

    def attempt() -> None:
        nonlocal trouble
        if trouble:
            acknowledged = begun.offset
            _update_offset(endpoint, to, scopes, begun)
            begun.setbacks += begun.offset < acknowledged
            if begun.setbacks > _MOST_SETBACKS:
                raise _UploadForgotten
        if begun.offset >= blob.size:
            return
        trouble = True
        start = begun.offset
        end = min(start + _CHUNK, blob.size)  # after an interrupted part, only the last part may be short
        headers = {**_OCTETS, "Content-Range": f"{start}-{end - 1}", "Content-Length": str(end - start)}
        with endpoint.request_once(
            "PATCH", begun.location, scopes, headers=headers, body=lambda: _Slice(path, start, end, told)
        ) as response:
            if response.status_code in (404, 410):
                raise _UploadForgotten
            if response.status_code == 416:
                raise TransientError("the registry does not have the preceding part of the layer")
            if response.status_code not in (201, 202, 204):
                raise endpoint.error(response, doing)
            begun.location = _location(endpoint, response.headers, begun.location, to)
            begun.offset = end

    endpoint.retry(attempt, doing)


def _update_offset(endpoint: Endpoint, to: Reference, scopes: Sequence[str], begun: _Upload) -> None:
    """Ask how much of an upload the registry has (distribution specification, "Pushing a blob in chunks")."""
    with endpoint.request_once("GET", begun.location, scopes) as response:
        if response.status_code in (404, 410):
            raise _UploadForgotten
        if response.status_code not in (200, 202, 204):
            raise endpoint.error(response, f"push a layer to {to.name}")
        found = _RANGE.fullmatch(response.headers.get("Range", ""))
        last = int(found[1]) if found else 0
        begun.offset = last + 1 if last else 0  # registries write "nothing" as 0-0
        if response.headers.get("Location"):
            begun.location = _location(endpoint, response.headers, begun.location, to)


def _finish_upload(
    endpoint: Endpoint,
    to: Reference,
    blob: Descriptor,
    scopes: Sequence[str],
    begun: _Upload,
    body: Body,
) -> None:
    """Complete an upload with its digest; raise `_UploadForgotten` where the registry knows neither it nor the blob."""
    doing = f"push the layer {_short_digest(blob)} to {to.name}"
    query = [("digest", blob.digest)]
    with endpoint.request_once("PUT", begun.location, scopes, headers=_OCTETS, query=query, body=body) as response:
        if response.status_code in (404, 410):
            # A response may have been lost: then the registry has the blob.
            there = f"/v2/{to.repository}/blobs/{blob.digest}"
            if endpoint.ask("HEAD", there, scopes, doing=doing, expected=(200, 307, 404)).status != 404:
                return
            raise _UploadForgotten
        if response.status_code not in (201, 202, 204):
            raise endpoint.error(response, doing)
        told = response.headers.get("Docker-Content-Digest", blob.digest)
    if told.startswith("sha256:") and told != blob.digest:
        what = f"The registry of {to.name} says that a layer has the digest {told}, which is not what was sent."
        raise RegistryError(what, remedy="Do not use that repository until you know why.")


def download(endpoint: Endpoint, reference: Reference, blob: Descriptor, store: Store, reporter: Reporter) -> Path:
    """Download a blob into the store; raise `RegistryError` where that fails, or its digest is wrong."""
    name = f"{reference.repository} {_short_digest(blob)}"
    doing = f"fetch a layer of {reference}"
    with reporter.transfer(name, blob.size), store.temporary() as temporary:
        with store_errors(temporary, "write"), temporary.open("w+b") as file:
            endpoint.retry(lambda: _receive(endpoint, reference, blob, file, reporter, name), doing)
            found = stream_digest(file)
        if (found, temporary.stat().st_size) != (blob.sha256, blob.size):
            what = f"The registry {reference.registry} sends bytes that do not match {blob.digest} for a layer of {reference}."
            raise RegistryError(what, remedy="Do not use it until you know why.")
        return store.adopt_blob(temporary, blob.sha256, blob.size)


def _receive(
    endpoint: Endpoint, reference: Reference, blob: Descriptor, file: IO[bytes], reporter: Reporter, name: str
) -> None:
    """Request the missing bytes once."""
    import requests
    import urllib3

    have = file.seek(0, 2)
    url = endpoint.url(f"/v2/{reference.repository}/blobs/{blob.digest}")
    headers = {"Range": f"bytes={have}-"} if have else {}
    scopes = (f"repository:{reference.repository}:pull",)
    try:
        with endpoint.request_once("GET", url, scopes, headers=headers, redirected=True) as response:
            if response.status_code not in (200, 206):
                raise endpoint.error(response, f"fetch a layer of {reference}")
            if have and response.status_code != 206:
                have = file.seek(0)
                file.truncate()
            length = response.headers.get("Content-Length", "")
            if length.isdigit() and have + int(length) > blob.size:
                raise _too_large(reference)
            while chunk := response.raw.read1(_READ, decode_content=False):
                endpoint.raise_if_stopped(f"fetch a layer of {reference}")
                if have + len(chunk) > blob.size:
                    raise _too_large(reference)
                file.write(chunk)
                have += len(chunk)
                reporter.transfer_advanced(name, have)
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise TransientError(short_reason(error)) from error
    if have < blob.size:
        raise TransientError(f"the connection ended after {have:,} of {blob.size:,} bytes")


def _too_large(reference: Reference) -> RegistryError:
    """Return the error for a registry that sends more than the manifest says, which is not read any further."""
    what = f"The registry {reference.registry} sends more bytes for a layer of {reference} than it has."
    return RegistryError(what, remedy="Do not use it until you know why.")
