"""Debian's docker-registry on loopback, and a proxy before it that can misbehave in the ways registries do."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Self
from urllib.request import Request, urlopen

import pytest
from msgspec import Struct, field

from tests.images import MANIFEST

_PATIENCE = 100


class Registry(Struct, frozen=True, kw_only=True):
    """A registry that is empty at first: its host with the port, and the folder that it keeps everything in."""

    host: str
    data: Path

    def blobs(self) -> dict[str, int]:
        """Give the sizes of all blobs, by their digests."""
        found = self.data.rglob("blobs/sha256/*/*/data")
        return {f"sha256:{path.parent.name}": path.stat().st_size for path in found}

    def tags(self, repository: str) -> list[str]:
        folder = self.data / "docker/registry/v2/repositories" / repository / "_manifests/tags"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def is_whole(self, repository: str, tag: str) -> bool:
        """Say whether a tag leads to a manifest all of whose blobs are there."""
        address = f"http://{self.host}/v2/{repository}/manifests/{tag}"
        with urlopen(Request(address, headers={"Accept": MANIFEST})) as answer:
            manifest = json.loads(answer.read())
        wanted = {each["digest"] for each in (manifest["config"], *manifest["layers"])}
        return wanted <= self.blobs().keys()


@contextmanager
def running_registry(folder: Path, extra: str = "") -> Iterator[Registry]:
    """Run a registry while the block lasts; skips the test where there is none to run."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, settings = folder / "data", folder / "config.yml"
    data.mkdir(parents=True)
    storage = f"storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}"
    http = f"http: {{addr: '127.0.0.1:{port}', relativeurls: true}}"
    settings.write_text(f"version: 0.1\nlog: {{level: error}}\n{storage}\n{http}\n{extra}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        for _ in range(_PATIENCE):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                break
        yield Registry(host=f"127.0.0.1:{port}", data=data)
    finally:
        process.terminate()
        process.wait()


class Fault(Struct, frozen=True, kw_only=True):
    """What is done with a request instead of passing it on, or with its answer.

    ``status`` answers by itself, with ``body``; ``reset`` ends the connection without an answer, ``cut`` passes on so many
    bytes of the body and ends the connection; ``headers`` go over those of the answer, and ``spoil`` changes its body.
    """

    status: int = 0
    body: bytes = b""
    reset: bool = False
    cut: int = -1
    headers: dict[str, str] = field(default_factory=dict)
    spoil: Callable[[bytes], bytes] | None = None


Rule = Callable[[str, str, int], Fault | None]
"""Gives the fault for a method, a path, and how often both (but for what uploads are called) were asked before."""


class FaultProxy:
    """Passes requests on to a registry while its ``with`` block lasts, and does what ``rule`` says; ``seen`` has them all."""

    def __init__(self, upstream: str, rule: Rule = lambda _method, _path, _number: None) -> None:
        self.upstream = upstream
        self.rule = rule
        self.seen: list[tuple[str, str]] = []
        self._lock = Lock()
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="fault-proxy")

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, method: str, path: str) -> Fault | None:
        plain = path.partition("?")[0]
        known = f"{plain.rpartition('/')[0]}/…" if "/uploads/" in plain and not plain.endswith("/uploads/") else plain
        with self._lock:
            number = self.seen.count((method, known))
            self.seen.append((method, known))
        return self.rule(method, path, number)

    def asked(self, method: str, word: str = "") -> int:
        return sum(one == method and word in path for one, path in self.seen)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        fault = self.server.proxy.take(self.command, self.path) or Fault()
        length = int(self.headers.get("Content-Length", 0))
        if fault.reset or fault.cut >= 0:
            body = self.rfile.read(max(fault.cut, 0))
            if fault.cut > 0:
                self._forward(body, len(body))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = self.rfile.read(length)
        if fault.status:
            self._answer(fault.status, {"Content-Length": str(len(fault.body)), **fault.headers}, fault.body)
            return
        status, headers, data = self._forward(body, length)
        if fault.spoil is not None:
            data = fault.spoil(data)
            headers["Content-Length"] = str(len(data))
        self._answer(status, {**headers, **fault.headers}, data)

    def _forward(self, body: bytes, length: int) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(self.server.proxy.upstream)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("content-length", "connection")}
        connection.request(self.command, self.path, body, {**headers, "Content-Length": str(length)})
        response = connection.getresponse()
        found = {name: value for name, value in response.getheaders() if name.lower() != "connection"}
        data = response.read()
        connection.close()
        return response.status, found, data

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815 named by http.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 named by http.server
        pass
