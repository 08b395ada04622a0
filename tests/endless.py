"""A server on this machine that answers every GET with bytes without end, and never says how many they are."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self

_PIECE = bytes(1 << 16)
_MOST = 1 << 28
"""Bytes after which it ends all the same, so that a client without a bound does not fill the disk."""


class EndlessServer:
    """Serves while its ``with`` block lasts; ``sent`` counts the bytes of the last answer."""

    def __init__(self) -> None:
        self.sent = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False  # closing waits for them, so that no socket is left over
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="endless")

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(server: EndlessServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()  # HTTP/1.0: the body ends with the connection
            server.sent = 0
            try:
                while server.sent < _MOST:
                    self.wfile.write(_PIECE)
                    server.sent += len(_PIECE)
            except OSError:  # the client has hung up
                return

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the parent's name for it
            """Say nothing."""

    return Handler
