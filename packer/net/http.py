"""What all that asks over HTTP has in common: sessions, logins, and which troubles pass by themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

TIMEOUT = (15, 60)
"""Seconds to connect, and to wait for the next bytes."""
_PIECE = 1 << 18
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may go well."""


def new_session() -> requests.Session:
    """Give a session that reads proxies and certificates as every Python tool does."""
    import requests

    session = requests.Session()
    # uv's variable for a private certificate authority counts here too; requests reads its own.
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle and not (os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")):
        session.verify = bundle
    return session


def basic(user: str, password: str) -> requests.auth.HTTPBasicAuth:
    """Give a login as requests takes it."""
    from requests.auth import HTTPBasicAuth

    # As UTF-8 bytes: requests would encode text as Latin-1.
    return HTTPBasicAuth(user.encode(), password.encode())


def read_at_most(response: requests.Response, most: int) -> bytes:
    """Read a body as it is sent, of ``most`` bytes and not more; raises ``ValueError`` for a longer one.

    Raises what urllib3 raises where it breaks off.
    """
    found = bytearray()
    while len(found) <= most and (part := response.raw.read(min(_PIECE, most + 1 - len(found)), decode_content=False)):
        found += part
    if len(found) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return bytes(found)


def is_untrusted(error: Exception) -> bool:
    """Say whether a certificate was refused: other troubles of TLS pass by themselves."""
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        inner = cause.args[0] if cause.args and isinstance(cause.args[0], BaseException) else getattr(cause, "reason", None)
        cause = cause.__cause__ or cause.__context__ or (inner if isinstance(inner, BaseException) else None)
    return False


def short_reason(error: Exception) -> str:
    """Give the innermost cause: what urllib3 wraps around it repeats the address."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__ or (cause.args and isinstance(cause.args[0], BaseException)):
        inner = cause.__cause__ or cause.__context__
        cause = inner if inner is not None else cause.args[0]
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
