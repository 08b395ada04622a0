"""Authentication to registries: Basic, or a token from a server that the registry names.

Sources: RFC 9110 (WWW-Authenticate), RFC 7617, and the distribution project's "Token Authentication Specification".
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterable
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packer.core.errors import RegistryError
from packer.net.credentials import Login
from packer.net.http import RETRIED_STATUSES, TIMEOUT, basic_auth, read_body, retry_after
from packer.net.registry_login import DockerLogins, login_remedy
from packer.net.retry import TransientError
from packer.registry.connection_errors import connection_error

if TYPE_CHECKING:
    import requests

_SCHEME = re.compile(r"(?:^|,\s*)(Basic|Bearer)\b\s*", re.IGNORECASE)
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_SHORTEST = 60.0
"""Seconds that a token is valid where its server does not say."""
_EARLY = 5.0
"""Seconds before its expiry at which a token is no longer used."""
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1|\[::1\]")
_LARGEST = 1 << 20
_PLAIN: dict[str, Any] = {
    "timeout": TIMEOUT,
    "allow_redirects": False,
    "stream": True,
    "headers": {"Accept-Encoding": "identity"},
}
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def is_loopback(host: str) -> bool:
    """Return whether a host, with or without a port, is this machine."""
    return bool(_LOOPBACK.fullmatch(host.rpartition(":")[0] if re.search(r"(?<!:):[0-9]+$", host) else host))


class RegistryAuth:
    """Provides the Authorization headers for a registry; may be used from many threads.

    ``plain``: the registry itself is used without TLS.
    """

    def __init__(self, host: str, logins: DockerLogins, *, plain: bool, session: Callable[[], requests.Session]) -> None:
        self._host = host
        self._logins = logins
        self._plain = plain
        self._session = session
        self._lock = Lock()
        self._basic = ""
        self._tokens: dict[frozenset[str], tuple[str, float]] = {}

    def header(self, scopes: Iterable[str]) -> str:
        """Return the Authorization header known for these scopes; empty where none is."""
        with self._lock:
            if self._basic:
                return self._basic
            token, until = self._tokens.get(frozenset(scopes), ("", 0.0))
            return f"Bearer {token}" if token and time.monotonic() < until else ""

    def answer(self, challenge: str, scopes: Iterable[str], used: str) -> None:
        """Get the login or token that a 401's WWW-Authenticate asks for, after the header ``used`` was refused.

        Raises `RegistryError` where it cannot be obtained, and `TransientError` where another attempt may obtain it.
        """
        if self.header(scopes) not in ("", used):
            return  # another thread has obtained it meanwhile
        found = dict(_challenges(challenge))
        if "bearer" in found:
            wanted = frozenset(scopes) or frozenset(found["bearer"].get("scope", "").split())
            realm, service = found["bearer"].get("realm", ""), found["bearer"].get("service", "")
            token, seconds = self._token(realm, service, sorted(wanted))
            with self._lock:
                self._tokens[frozenset(scopes)] = (token, time.monotonic() + max(seconds - _EARLY, 1.0))
            return
        login = self._logins.find(self._host)
        if "basic" not in found or login is None or login.login is None:
            raise self.refused(
                "it requires a login"
                if "basic" in found
                else "it requires an authentication scheme that lpack does not support"
            )
        header = _basic_header(login.login)
        if header == used:
            raise self.refused("it does not accept the login")
        with self._lock:
            self._basic = header

    def refused(self, why: str) -> RegistryError:
        """Return the error for a registry that refuses access."""
        return RegistryError(f"The registry {self._host} denies access: {why}.", remedy=login_remedy(self._host))

    def _token(self, realm: str, service: str, scopes: list[str]) -> tuple[str, float]:
        """Request a token; return it, and the seconds that it is valid.

        Raises `TransientError`, or `RegistryError` where the server refuses.
        """
        import requests
        import urllib3

        parts = urlsplit(realm)
        safe = parts.scheme == "https" or (parts.scheme == "http" and (self._plain or is_loopback(parts.hostname or "")))
        if not safe or not parts.hostname:
            raise self.refused(f"its token server {realm[:200]!r} is not used without TLS")
        login, server = self._logins.find(self._host), f"the token server of {self._host}"
        named = {"service": service} if service else {}
        try:
            if login is not None and login.identity:
                form = {**named, "grant_type": "refresh_token", "refresh_token": login.identity, "client_id": "lpack"}
                form["scope"] = " ".join(scopes)
                response = self._session().post(realm, data=form, auth=no_netrc, **_PLAIN)
            else:
                auth = basic_auth(login.login.user, login.login.password) if login and login.login else no_netrc
                query = [*named.items(), *(("scope", scope) for scope in scopes)]
                response = self._session().get(realm, params=query, auth=auth, **_PLAIN)
            with response:
                content = read_body(response, _LARGEST)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise connection_error(server, error) from None
        except requests.RequestException as error:  # the message may contain the login
            raise self.refused(f"its token server cannot be used ({type(error).__name__})") from None
        except ValueError as error:
            raise self.refused(f"the answer of its token server: {error}") from None
        if response.status_code in RETRIED_STATUSES:
            raise TransientError(f"{server} answers {response.status_code} {response.reason}", retry_after(response))
        if response.status_code != requests.codes.ok:
            raise self.refused(f"its token server answers {response.status_code}")
        try:
            document = json.loads(content)
            token = str(document.get("token") or document["access_token"])
            seconds = float(document.get("expires_in") or _SHORTEST)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self.refused("its token server sends no token") from None
        if not token.isprintable():
            raise self.refused("its token server sends a token that is not valid in a header")
        return token, seconds


def _basic_header(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode("ascii")


def no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return a request unchanged: without an ``auth``, requests would use a login from .netrc."""
    return request


def _challenges(header: str) -> Iterable[tuple[str, dict[str, str]]]:
    """Return the schemes of a WWW-Authenticate header in lower case, with their parameters."""
    bare = _QUOTED.sub(lambda found: "." * len(found[0]), header)  # a quoted string begins no scheme
    starts = list(_SCHEME.finditer(bare))
    for start, end in zip(starts, [*(each.start() for each in starts[1:]), len(header)], strict=True):
        text = header[start.end() : end]
        yield start[1].lower(), {each[1].lower(): each[2] or each[3] or "" for each in _PARAMETER.finditer(text)}
