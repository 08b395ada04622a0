"""A real package index on this machine, for tests: it serves a folder of wheels and sdists, and misbehaves on request.

It speaks the simple repository API (PEP 503 HTML and PEP 691 JSON) with hashes, sizes, separate metadata files (PEP 658, 714)
and HTTP range requests, so that uv and pip resolve and download from it as from any other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import time
import zipfile
from collections.abc import Mapping
from email.parser import HeaderParser
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from msgspec import Struct
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

_JSON = "application/vnd.pypi.simple.v1+json"
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


class Fault(Struct, frozen=True, kw_only=True):
    """How a file (or a project's page) misbehaves, for its first ``times`` requests, or for good where that is None.

    ``drop_after``: send that many bytes of the answer's body and close the connection. ``status``: answer this instead, with
    ``retry_after`` seconds as a header where given. ``truncate_to``: serve only the file's first bytes, as if it had no more.
    ``content``: serve these bytes instead; pages go on promising the true hash. ``drip``: send this many bytes at a time,
    ``pause`` seconds apart. ``ignore_ranges``: answer a range request with the whole file.
    """

    times: int | None = None
    drop_after: int | None = None
    status: int | None = None
    retry_after: float | None = None
    truncate_to: int | None = None
    content: bytes | None = None
    drip: int | None = None
    pause: float = 0.01
    ignore_ranges: bool = False


class Request(Struct, frozen=True, kw_only=True):
    """What somebody asked for. ``headers`` has lower-case names and no secrets; ``status`` is what the index answered."""

    method: str
    path: str
    headers: Mapping[str, str]
    authorised: bool
    status: int

    @property
    def filename(self) -> str:
        """The file's name, or an empty string for a page."""
        return unquote(self.path.removeprefix("/files/")) if self.path.startswith("/files/") else ""


class _Answer(Struct, frozen=True, kw_only=True):
    """What the server sends: ``fault`` decides how the body goes out."""

    status: int
    body: bytes = b""
    kind: str = "application/octet-stream"
    headers: tuple[tuple[str, str], ...] = ()
    fault: Fault = Fault()


class LocalIndex:
    """Serves ``folder`` on a free port of 127.0.0.1 while its ``with`` block lasts; files may be added at any time.

    With ``user`` and ``password`` every request must carry them. ``metadata`` says whether separate metadata files are offered;
    ``html_only`` makes it an index that knows no JSON.
    """

    def __init__(
        self, folder: Path, *, user: str = "", password: str = "", metadata: bool = True, html_only: bool = False
    ) -> None:
        self.folder = folder
        self.metadata = metadata
        self.html_only = html_only
        self._login = (user, password)
        self._faults: dict[str, Fault] = {}
        self._seen: dict[str, int] = {}
        self._requests: list[Request] = []
        self._lock = Lock()
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="index")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Scheme, host and port, without credentials."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The simple index's URL, without credentials."""
        return f"{self.address}/simple"

    @property
    def url_with_login(self) -> str:
        """The simple index's URL as a user writes it who puts the credentials there."""
        user, password = (quote(part, safe="") for part in self._login)
        return self.url.replace("://", f"://{user}:{password}@")

    def file_url(self, filename: str) -> str:
        """Give the URL of a file, without credentials."""
        return f"{self.address}/files/{quote(filename)}"

    def sha256(self, filename: str) -> str:
        """Give the true hash of a file, as the pages promise it."""
        return hashlib.sha256((self.folder / filename).read_bytes()).hexdigest()

    def fault(self, key: str, fault: Fault) -> None:
        """Let a file, ``FILE.metadata``, or a project's page (by the project's normalized name) misbehave from now on."""
        with self._lock:
            self._faults[key] = fault
            self._seen[key] = 0

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request that has been answered, oldest first."""
        with self._lock:
            return tuple(self._requests)

    def requests_for(self, filename: str) -> tuple[Request, ...]:
        """The requests for one file."""
        return tuple(request for request in self.requests if request.filename == filename)

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> _Answer:
        """Decide what to send, and remember the request."""
        path = urlsplit(target).path
        authorised = self._authorised(headers.get("authorization", ""))
        answer = self._answer(path, headers) if authorised else _REFUSAL
        shown = {name: value for name, value in headers.items() if name not in _SECRET_HEADERS}
        request = Request(
            method=method,
            path=path,
            headers=shown,
            authorised=authorised and any(self._login),
            status=answer.status,
        )
        with self._lock:
            self._requests.append(request)
        return answer

    def _authorised(self, header: str) -> bool:
        if not any(self._login):
            return True
        expected = base64.b64encode(":".join(self._login).encode()).decode()
        return header == f"Basic {expected}"

    def _answer(self, path: str, headers: Mapping[str, str]) -> _Answer:
        room, _, rest = path.lstrip("/").partition("/")
        name = unquote(rest).strip("/")
        if room == "files" and "/" not in name and name:
            return self._file(name, headers)
        if room == "simple" and "/" not in name:
            return self._page(canonicalize_name(name) if name else "", headers.get("accept", ""))
        return _MISSING

    def _fault(self, key: str) -> Fault:
        with self._lock:
            fault = self._faults.get(key)
            if fault is None:
                return Fault()
            self._seen[key] += 1
            return Fault() if fault.times is not None and self._seen[key] > fault.times else fault

    def _file(self, name: str, headers: Mapping[str, str]) -> _Answer:
        fault = self._fault(name)
        if fault.status is not None:
            return _status_answer(fault)
        data = self._bytes(name)
        if data is None:
            return _MISSING
        data = data if fault.content is None else fault.content
        data = data if fault.truncate_to is None else data[: fault.truncate_to]
        return _ranged(data, "" if fault.ignore_ranges else headers.get("range", ""), fault)

    def _bytes(self, name: str) -> bytes | None:
        path = self.folder / name
        if path.is_file():
            return path.read_bytes()
        if self.metadata and name.endswith(".whl.metadata"):
            return _wheel_metadata(self.folder / name.removesuffix(".metadata"))
        return None

    def _page(self, project: str, accept: str) -> _Answer:
        fault = self._fault(project)
        if fault.status is not None:
            return _status_answer(fault)
        as_json = not self.html_only and _JSON in accept
        files = sorted(path for path in self.folder.iterdir() if _project_of(path.name))
        if not project:
            body = _root_page(sorted({_project_of(path.name) for path in files}), as_json=as_json)
        else:
            facts = [self._facts(path) for path in files if _project_of(path.name) == project]
            if not facts:
                return _MISSING
            body = _project_page(project, facts, as_json=as_json)
        return _Answer(status=200, body=body, kind=_JSON if as_json else "text/html; charset=utf-8", fault=fault)

    def _facts(self, path: Path) -> dict[str, object]:
        """Say of a file what a page says, in the words of PEP 691."""
        data = path.read_bytes()
        facts: dict[str, object] = {
            "filename": path.name,
            "url": f"/files/{quote(path.name)}",
            "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
            "size": len(data),
        }
        metadata = _wheel_metadata(path) if self.metadata else None
        if metadata is not None:
            facts["core-metadata"] = {"sha256": hashlib.sha256(metadata).hexdigest()}
            requires_python = HeaderParser().parsestr(metadata.decode())["Requires-Python"]
            facts |= {"requires-python": requires_python} if requires_python else {}
        return facts


_MISSING = _Answer(status=404, body=b"not found\n", kind="text/plain")
_REFUSAL = _Answer(
    status=401, body=b"who are you?\n", kind="text/plain", headers=(("WWW-Authenticate", 'Basic realm="index"'),)
)


def _status_answer(fault: Fault) -> _Answer:
    waiting = () if fault.retry_after is None else (("Retry-After", f"{fault.retry_after:g}"),)
    return _Answer(status=fault.status or 500, body=b"no\n", kind="text/plain", headers=waiting, fault=fault)


def _ranged(data: bytes, asked: str, fault: Fault) -> _Answer:
    """Answer with the whole file, or with the one range that was asked for."""
    ranges = (("Accept-Ranges", "none" if fault.ignore_ranges else "bytes"),)
    match = _RANGE.match(asked)
    if not match or not any(match.groups()):
        return _Answer(status=200, body=data, headers=ranges, fault=fault)
    first, last = match.groups()
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(len(data), int(last) + 1) if first and last else len(data)
    if start >= end:
        return _Answer(status=416, headers=(("Content-Range", f"bytes */{len(data)}"),))
    placed = ("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
    return _Answer(status=206, body=data[start:end], headers=(*ranges, placed), fault=fault)


def _project_of(filename: str) -> str:
    """Give the normalized project of a wheel or sdist, or an empty string for any other file."""
    if filename.endswith(".whl"):
        return parse_wheel_filename(filename)[0]
    return parse_sdist_filename(filename)[0] if filename.endswith((".tar.gz", ".zip")) else ""


def _wheel_metadata(path: Path) -> bytes | None:
    """Read a wheel's METADATA; None for what has none."""
    if path.suffix != ".whl" or not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            return archive.read(found[0]) if found else None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None


def _root_page(projects: list[str], *, as_json: bool) -> bytes:
    if as_json:
        page = {"meta": {"api-version": "1.0"}, "projects": [{"name": name} for name in projects]}
        return json.dumps(page).encode()
    return _html("Simple index", [f'<a href="/simple/{name}/">{name}</a><br>' for name in projects])


def _project_page(project: str, files: list[dict[str, object]], *, as_json: bool) -> bytes:
    if as_json:
        page = {"meta": {"api-version": "1.0"}, "name": project, "files": files}
        return json.dumps(page).encode()
    return _html(f"Links for {project}", [_link(file) for file in files])


def _link(file: dict[str, object]) -> str:
    hashes, metadata = file["hashes"], file.get("core-metadata")
    assert isinstance(hashes, dict)
    attributes = [f'href="{file["url"]}#sha256={hashes["sha256"]}"']
    if isinstance(metadata, dict):
        attributes.append(f'data-core-metadata="sha256={metadata["sha256"]}"')
        attributes.append(f'data-dist-info-metadata="sha256={metadata["sha256"]}"')
    if "requires-python" in file:
        attributes.append(f'data-requires-python="{escape(str(file["requires-python"]))}"')
    return f"<a {' '.join(attributes)}>{escape(str(file['filename']))}</a><br>"


def _html(title: str, lines: list[str]) -> bytes:
    head = f'<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.0"><title>{title}</title></head>'
    return "\n".join([head, "<body>", *lines, "</body></html>", ""]).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them, so that no socket is left over

    def __init__(self, index: LocalIndex) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.index = index
        self.connections: set[socket.socket] = set()
        self.lock = Lock()

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        with self.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # the client was quicker
                    continue

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections.add(self.connection)

    def finish(self) -> None:
        with self.server.lock:
            self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        answer = self.server.index.answer(
            self.command, self.path, {name.lower(): value for name, value in self.headers.items()}
        )
        self.send_response(answer.status)
        for name, value in (("Content-Type", answer.kind), ("Content-Length", str(len(answer.body))), *answer.headers):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send(answer.body, answer.fault)

    do_HEAD = do_GET  # noqa: N815 the parent looks for this name

    def _send(self, body: bytes, fault: Fault) -> None:
        cut = len(body) if fault.drop_after is None else min(len(body), fault.drop_after)
        step = fault.drip or max(1, cut)
        for start in range(0, cut, step):
            self.wfile.write(body[start : min(cut, start + step)])
            if fault.drip:
                time.sleep(fault.pause)
        if cut < len(body):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the parent's name for it
        """Say nothing: `LocalIndex.requests` remembers everything."""
