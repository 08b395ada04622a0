"""Whether a local engine has an image, asked in milliseconds: importing the engine's client takes longer than many builds."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from urllib.parse import quote

from builders.errors import UnavailableError
from builders.runtimes import Target

ENGINE_SOCKETS = ("/var/run/docker.sock",)
ENGINE_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT")
"""Where an engine may appear."""
START_ENGINE = "Start the engine, or set DOCKER_HOST to one that runs."

_SCHEME = "unix://"
_LONGEST_WAIT = 2.0
"""Seconds that an engine on this machine may take to answer; one that takes longer is left to the client."""
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")
"""What an answer begins with (RFC 9112, section 4)."""
_LONGEST_LINE = 256
"""Bytes."""
_NOT_FOUND = 404


def check_presence(reference: str, target: Target) -> None:
    """Raise `UnavailableError` where no engine can have an image: none answers, or the one that does has none of that name.

    Says nothing where only the engine's client can tell: an engine elsewhere, a context of docker's, an engine that is slow.
    """
    path = _local_socket()
    if not path:
        return
    try:
        status = _ask_status(path, f"/images/{quote(reference)}/json")
    except TimeoutError:
        return
    except OSError as error:
        raise silence_error(error.strerror or str(error)) from None
    if status == _NOT_FOUND:
        raise missing_image_error(reference, target)


def silence_error(reason: str) -> UnavailableError:
    """Return the error for an engine that does not answer."""
    where = os.environ.get("DOCKER_HOST") or "its usual socket"
    return UnavailableError(f"no container engine answers at {where} ({reason})", remedy=START_ENGINE)


def missing_image_error(reference: str, target: Target, other: str = "") -> UnavailableError:
    """Return the error for an image that an engine does not have, or has for an ``other`` architecture alone."""
    platform = f"--platform linux/{target.image_architecture} " if other else ""
    remedy = f'`docker pull {platform}{reference}` brings it, or name another: image = "…" in the configuration.'
    what = f"the engine does not have the image {reference} for {target.architecture}"
    return UnavailableError(f"{what}, but for {other}" if other else what, remedy=remedy)


def _ask_status(path: str, place: str) -> int | None:
    """Return the status that an engine answers with, None where its answer is no HTTP; raises ``OSError``.

    Python's HTTP client would bring in its email package, which takes longer to import than the answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_LONGEST_WAIT)
        connection.connect(path)
        # Engine API, "Inspect an image"; without a version in the path, the engine's own is meant.
        connection.sendall(f"GET {place} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            found = _STATUS_LINE.match(answer.readline(_LONGEST_LINE))
    return int(found[1]) if found else None


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
    # Path.expanduser() raises an error for a user that this machine does not know.
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")  # noqa: PTH111
    settings = Path(folder, "config.json")
    try:
        found = json.loads(settings.read_bytes())
    except (OSError, ValueError):
        return ""
    return str(found.get("currentContext") or "") if isinstance(found, dict) else ""
