"""Whether a local engine has an image, asked in milliseconds: importing the engine's client takes longer than many builds."""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote

from builders.engine.client import ENGINE_SOCKETS, silence_error
from builders.engine.images import missing_image_error
from builders.runtimes import Target

_SCHEME = "unix://"
_PATIENCE = 2.0
"""Seconds that an engine on this machine may take to answer; one that takes longer is left to the client."""


class _SocketConnection(HTTPConnection):
    """A connection to a Unix socket, which requests name by any host."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connect; raises ``OSError``."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(self._path)


def check_presence(reference: str, target: Target) -> None:
    """Raise `UnavailableError` where no engine can have an image: none answers, or the one that does has none of that name.

    Says nothing where only the engine's client can tell: an engine elsewhere, a context of docker's, an engine that is slow.
    """
    path = _local_socket()
    if not path:
        return
    with closing(_SocketConnection(path)) as connection:
        try:
            # Engine API, "Inspect an image"; without a version in the path, the engine's own is meant.
            connection.request("GET", f"/images/{quote(reference)}/json")
            status = connection.getresponse().status
        except TimeoutError:
            return
        except OSError as error:
            raise silence_error(error.strerror or str(error)) from None
        except HTTPException:
            return
    if status == HTTPStatus.NOT_FOUND:
        raise missing_image_error(reference, target)


def _local_socket() -> str:
    """Return the path of the socket of the engine that is meant; empty where it may be another one."""
    named = os.environ.get("DOCKER_HOST", "")
    if named:
        return named.removeprefix(_SCHEME) if named.startswith(_SCHEME) else ""
    return ENGINE_SOCKETS[0] if _context() in ("", "default") else ""


def _context() -> str:
    """Return docker's current context (docker CLI, "Docker contexts"); empty where none is chosen."""
    chosen = os.environ.get("DOCKER_CONTEXT")
    if chosen:
        return chosen
    settings = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker", "config.json")
    try:
        found = json.loads(settings.read_bytes())
    except (OSError, ValueError):
        return ""
    return str(found.get("currentContext") or "") if isinstance(found, dict) else ""
