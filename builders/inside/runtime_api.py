"""Answers a runtime as far as its start goes: the part of AWS's "Using the Lambda runtime API" that tells how it went."""

from __future__ import annotations

import _socket  # not socket, which imports more than all of this takes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select

_NEXT, _INIT_ERROR = b"/2018-06-01/runtime/invocation/next", b"/2018-06-01/runtime/init/error"
"""Where a runtime asks for an event, and reports that it cannot start."""
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_LARGEST_REQUEST = 1 << 16
"""Bytes of a request that are read."""
_MOST_CLIENTS = 32
"""Connections that are kept open at once: the oldest one is closed for another."""
STARTED, FAILED = 0, 1


class RuntimeApi:
    """Listens at an address; never waits for a client. ``answer`` is the descriptor that a report of a failure goes to."""

    def __init__(self, address: str, answer: int) -> None:
        """``address`` is a host and a port, as in AWS_LAMBDA_RUNTIME_API; raises ``OSError``."""
        host, _, port = address.rpartition(":")
        self._answer = answer
        self._clients: dict[int, tuple[_socket.socket, bytes]] = {}
        self._poll: select.poll | None = None
        self._listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self._listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        self._listener.bind((host, int(port)))
        self._listener.listen()
        self._listener.setblocking(False)

    def watch(self, poll: select.poll) -> None:
        """Register with a poll, which then tells when there is something to `serve`."""
        self._poll = poll
        poll.register(self._listener, 1)  # POLLIN

    def serve(self, ready: set[int]) -> int | None:
        """Take in what has come on these descriptors; return `STARTED` or `FAILED` once that is known."""
        if self._listener.fileno() in ready:
            self._accept()
        for descriptor in ready & self._clients.keys():
            outcome = self._read(descriptor)
            if outcome is not None:
                return outcome
        return None

    def _accept(self) -> None:
        try:
            descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 the one of this class
        except OSError:  # it has gone away again
            return
        if len(self._clients) >= _MOST_CLIENTS:
            self._close(next(iter(self._clients)))
        client = _socket.socket(fileno=descriptor)
        client.setblocking(False)
        self._clients[descriptor] = client, b""
        if self._poll:
            self._poll.register(descriptor, 1)  # POLLIN

    def _read(self, descriptor: int) -> int | None:
        """Read what there is of a request, and answer one that is whole."""
        client, data = self._clients[descriptor]
        try:
            part = client.recv(_LARGEST_REQUEST)
        except BlockingIOError:
            return None
        except OSError:
            part = b""
        data += part
        head, there, body = data.partition(b"\r\n\r\n")
        if part and len(data) < _LARGEST_REQUEST and not (there and len(body) >= content_length(head)):
            self._clients[descriptor] = client, data
            return None
        path = head.split(b" ", 2)[1:2] if there else []
        if path == [_INIT_ERROR]:
            os.write(self._answer, body)
        elif there and path != [_NEXT]:
            try:
                client.send(_NOT_FOUND)
            except OSError:
                pass  # it has gone away: that says nothing
        self._close(descriptor)
        return {_NEXT: STARTED, _INIT_ERROR: FAILED}.get(path[0]) if path else None

    def _close(self, descriptor: int) -> None:
        if self._poll:
            self._poll.unregister(descriptor)
        self._clients.pop(descriptor)[0].close()


def content_length(head: bytes) -> int:
    """Return how many bytes a request's head says that its body has; 0 where it does not."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0
