"""What all HTTP requests share: sessions, logins, statuses to retry, and short reasons for errors."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from builders.causes import causes
from packer.core.errors import UsageError
from packer.net.retry import LONGEST_PAUSE

if TYPE_CHECKING:
    import requests

TIMEOUT = (15, 60)
"""Seconds to connect, and to wait for the next bytes."""
_PIECE = 1 << 18
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may succeed."""
_OWN_BUNDLES, _BUNDLE = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), "SSL_CERT_FILE"
"""Variables that name certificates: those that requests reads by itself, in its order, and uv's."""


def retry_after(response: requests.Response) -> float:
    """Return the seconds that a server asks to wait (Retry-After); 0 where it gives none, or a date."""
    try:
        seconds = float(response.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else 0.0  # and 0 for NaN


def new_session() -> requests.Session:
    """Return a session with the proxies and certificates that Python tools commonly use.

    Raises `UsageError` where a variable names a bundle of certificates that cannot be used.
    """
    import requests

    session = requests.Session()
    # uv's variable for a private certificate authority applies here too; requests reads its own.
    variable = next((name for name in (*_OWN_BUNDLES, _BUNDLE) if os.environ.get(name)), "")
    if variable:
        _check_bundle(variable, os.environ[variable])
    if variable == _BUNDLE:
        session.verify = os.environ[_BUNDLE]
    return session


@cache
def _check_bundle(variable: str, path: str) -> None:
    """Raise `UsageError` unless certificates can be read from a file or a folder of them."""
    import ssl

    try:
        folder = Path(path).is_dir()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(None if folder else path, path if folder else None)
    except OSError as error:  # which SSLError is
        what = f"{variable} names {path}, from which no certificates can be read: {error.strerror or error}."
        raise UsageError(what, remedy="Name a file of certificates in PEM, or unset it.") from None


def basic_auth(user: str, password: str) -> requests.auth.HTTPBasicAuth:
    """Return a login as requests takes it."""
    from requests.auth import HTTPBasicAuth

    # As UTF-8 bytes: requests would encode text as Latin-1.
    return HTTPBasicAuth(user.encode(), password.encode())


def read_body(response: requests.Response, most: int) -> bytes:
    """Return a body of at most ``most`` bytes, as it is sent; raise ``ValueError`` for a longer one.

    Raises the errors of urllib3 where the connection breaks.
    """
    found = bytearray()
    while len(found) <= most and (part := response.raw.read(min(_PIECE, most + 1 - len(found)), decode_content=False)):
        found += part
    if len(found) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return bytes(found)


def is_untrusted(error: Exception) -> bool:
    """Return whether a certificate was refused: other TLS errors may pass."""
    import ssl

    def wrapped(cause: BaseException) -> BaseException | None:
        reason = getattr(cause, "reason", None)
        return _first_argument(cause) or (reason if isinstance(reason, BaseException) else None)

    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error, wrapped))


def short_reason(error: Exception) -> str:
    """Return the innermost cause as text: the errors that urllib3 wraps around it repeat the address."""
    *_, cause = causes(error, _first_argument)
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


def _first_argument(error: BaseException) -> BaseException | None:
    """Return the error that another one wraps in the way of urllib3 and requests; None where it wraps none."""
    first = error.args[0] if error.args else None
    return first if isinstance(first, BaseException) else None
