"""What a broken connection to a registry or its token server means: another attempt, or the end."""

from __future__ import annotations

from packer.core.errors import RegistryError
from packer.net.http import is_untrusted, short_reason
from packer.net.retry import TransientError

_UNREACHABLE_ATTEMPTS = 2
_THERE = "Check its name and port, that it runs, and the network."
_CERTIFICATE = "Its certificate is not trusted: set SSL_CERT_FILE to its authority's certificate."


def connection_error(server: str, error: Exception) -> TransientError | RegistryError:
    """Return the error for a server to which a connection fails with an error of requests or urllib3.

    ``server`` names it as in the middle of a sentence. Only an untrusted certificate is final.
    """
    import requests
    import urllib3

    reason = short_reason(error)
    if isinstance(error, requests.exceptions.SSLError):
        if is_untrusted(error):
            what = f"{server[0].upper()}{server[1:]} cannot be reached over TLS: {reason}."
            return RegistryError(what, remedy=_CERTIFICATE)
        return TransientError(f"{server} breaks the connection ({reason})")
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(cause, urllib3.exceptions.NewConnectionError):  # also for an unknown host name
        return TransientError(f"{server} cannot be reached ({reason})", attempts=_UNREACHABLE_ATTEMPTS, remedy=_THERE)
    return TransientError(f"{server} cannot be reached ({reason})")
