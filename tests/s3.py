"""Servers that speak S3, as processes of their own, and a proxy before them that misbehaves on request.

rclone's checks signatures, and knows neither conditional writes nor answers with a part; moto's knows both, and checks none.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from msgspec import Struct

BUCKET = "bucket"
ACCESS_KEY, SECRET_KEY = "accesskey", "secretsecret"
RCLONE, MOTO = "rclone", "moto"
_LISTENING = re.compile(rb"http://127\.0\.0\.1:(\d+)")
_HOP = frozenset(("connection", "transfer-encoding", "keep-alive"))


@contextmanager
def server(kind: str, folder: Path) -> Iterator[str]:
    """Run a server with an empty bucket on a free port of 127.0.0.1, and give its address."""
    (folder / BUCKET).mkdir(parents=True)
    rclone = [str(Path(sysconfig.get_path("scripts")) / "rclone"), "serve", "s3", "--config", str(folder / "no.conf")]
    rclone += ["--addr", "127.0.0.1:0", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--vfs-cache-mode", "off", str(folder)]
    command = rclone if kind == RCLONE else [sys.executable, "-m", "moto.server", "-p", "0"]
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        address = _address(process, log)
        if kind == MOTO:
            _create(address)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    waiting = Event()
    for _ in range(600):
        found = _LISTENING.search(log.read_bytes())
        if found:
            return f"http://127.0.0.1:{int(found.group(1))}"
        assert process.poll() is None, log.read_text()
        waiting.wait(0.1)
    raise AssertionError(log.read_text())


def _create(address: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    connection.request("PUT", f"/{BUCKET}")
    assert connection.getresponse().status == 200
    connection.close()


class Fault(Struct, frozen=True, kw_only=True):
    """How requests of a method misbehave, for the first ``times`` of them, or for good where that is None.

    ``status`` and ``body``: answer this. ``change``: change the body before it is sent, its length told truly. ``drop_after``:
    promise all of the body, send that many bytes, and close. ``hang``: do not answer. ``stall_after``: send that many bytes of
    the body, and no more. ``reset``: break the connection off. ``header``: only requests that have it misbehave.
    """

    method: str = "GET"
    times: int | None = None
    status: int = 0
    body: bytes = b""
    change: Callable[[bytes], bytes] | None = None
    drop_after: int | None = None
    stall_after: int | None = None
    hang: bool = False
    reset: bool = False
    header: str = ""


_NONE = Fault(method="")


class Seen(Struct, frozen=True, kw_only=True):
    """A request that came through."""

    method: str
    path: str


class Proxy:
    """Passes requests on to a server while its ``with`` block lasts; what hangs then is let go of."""

    def __init__(self, address: str) -> None:
        self.upstream = urlsplit(address).netloc
        self.fault = _NONE
        self.released = Event()
        self.hanging = Event()
        self._seen: list[Seen] = []
        self._used = 0
        self._lock = Lock()
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def seen(self) -> tuple[Seen, ...]:
        with self._lock:
            return tuple(self._seen)

    def count(self, method: str) -> int:
        return sum(each.method == method for each in self.seen)

    def break_with(self, fault: Fault) -> None:
        """Misbehave like this from now on."""
        with self._lock:
            self.fault, self._used = fault, 0

    def mend(self) -> None:
        self.break_with(_NONE)

    def take(self, method: str, path: str, headers: Message[str, str]) -> Fault:
        """Remember a request, and give how it is to misbehave."""
        with self._lock:
            self._seen.append(Seen(method=method, path=path))
            fault = self.fault
            if fault.method != method or (fault.header and fault.header not in headers):
                return _NONE
            self._used += 1
            return fault if fault.times is None or self._used <= fault.times else _NONE


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that have gone away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        proxy = self.server.proxy
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = proxy.take(self.command, self.path, self.headers)
        if fault.hang:
            proxy.hanging.set()
            proxy.released.wait(60)
        if fault.hang or fault.reset:
            return self._break_off()
        if fault.status:
            return self._answer(fault.status, {"Content-Type": "application/xml"}, fault.body)
        connection = http.client.HTTPConnection(proxy.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, sent, dict(self.headers.items()))
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
        if fault.change is not None and response.status == 200:
            body = fault.change(body)
            kept["Content-Length"] = str(len(body))
        self._answer(response.status, kept, body, fault)
        return None

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 the base class's names

    def _answer(self, status: int, headers: dict[str, str], body: bytes, fault: Fault = _NONE) -> None:
        self.send_response_only(status)
        headers = {name: value for name, value in headers.items() if name.lower() != "content-length" or self.command == "HEAD"}
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = fault.drop_after if fault.drop_after is not None else fault.stall_after
        self.wfile.write(body if cut is None else body[:cut])
        self.wfile.flush()
        if fault.stall_after is not None and len(body) > fault.stall_after:
            self.server.proxy.released.wait(60)
        if cut is not None and len(body) > cut:
            self._break_off()

    def _break_off(self) -> None:
        """Close the connection so that the other side sees a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def error_body(code: str) -> bytes:
    """Give the body with which S3 says what is wrong."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>No.</Message></Error>'.encode()
