"""One registry over HTTP: requests with a login, retried after transient errors, that end in a response or one error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from io import RawIOBase
from threading import Event, Lock, local
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from packer.core.errors import RegistryError
from packer.core.names import DOCKER_HUB
from packer.formats.oci import LARGEST_MANIFEST
from packer.net.http import (
    RETRIED_STATUSES,
    TIMEOUT,
    new_session,
    read_body,
    retry_after,
    short_reason,
)
from packer.net.registry_login import DockerLogins, login_remedy
from packer.net.retry import RetriesExhausted, RetryPolicy, RetryStopped, TransientError, retry
from packer.registry.challenges import RegistryAuth, is_loopback, no_netrc
from packer.registry.connection_errors import connection_error

if TYPE_CHECKING:
    import requests

_RETRIES = RetryPolicy(attempts=6)
_AGAIN = "Try again; complete layers are not sent again."
_HUB_HOST = "registry-1.docker.io"
_LARGEST_ERROR = 1 << 16
_WHO = "Ask its operator."
_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_MOST_HOPS = 5
_PORTS = {"https": 443, "http": 80}
Value = TypeVar("Value")
Body = Callable[[], "bytes | RawIOBase"]
"""Returns the body to send, a new one for each attempt."""


class RegistryResponse(Struct, frozen=True, kw_only=True):
    """A registry's response; ``content`` is the whole body."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Endpoint:
    """A registry; may be used from many threads. ``plain``: without TLS."""

    def __init__(self, host: str, logins: DockerLogins, *, plain: bool) -> None:
        self.host = host
        self.plain = plain or is_loopback(host)
        self._base = f"{'http' if self.plain else 'https'}://{_HUB_HOST if host == DOCKER_HUB else host}"
        self._threads = local()
        self._sessions: list[requests.Session] = []
        self._gate = RegistryAuth(host, logins, plain=self.plain, session=self._session)
        self._stopped = Event()
        self._lock = Lock()  # one for all parts
        self._parts: list[Endpoint] = []

    def part(self) -> Endpoint:
        """Return an endpoint for the same registry whose `stop` ends only its own requests."""
        made = copy(self)
        made._stopped, made._parts = Event(), []  # noqa: SLF001 of its own kind
        with self._lock:
            self._parts.append(made)
            stopped = self._stopped.is_set()
        if stopped:
            made.stop()
        return made

    def stop(self) -> None:
        """End all waits for another attempt, and begin none, here and in all parts."""
        with self._lock:
            self._stopped.set()
            parts = tuple(self._parts)
        for part in parts:
            part.stop()

    def raise_if_stopped(self, doing: str) -> None:
        """Raise `RegistryError` if `stop` was called."""
        if self._stopped.is_set():
            raise self._interrupted(doing)

    @staticmethod
    def _interrupted(doing: str) -> RegistryError:
        return RegistryError(f"Cannot {doing}: it was interrupted.", remedy=_AGAIN)

    def close(self) -> None:
        """Stop, and close all connections."""
        self.stop()
        for session in self._sessions:
            session.close()

    def url(self, path: str, base: str = "") -> str:
        """Return a URL relative to the registry's, or to that of a response; raise `RegistryError` for one without TLS."""
        found = urljoin(base or self._base, path)
        parts = urlsplit(found)
        if parts.scheme != "https" and not (parts.scheme == "http" and self.plain):
            what = f"The registry {self.host} redirects to {parts.scheme}://{parts.hostname}, without TLS."
            raise RegistryError(what, remedy=_WHO)
        return found

    def ask(
        self,
        method: str,
        path: str,
        scopes: Sequence[str],
        *,
        doing: str,
        expected: Sequence[int] = (200,),
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        query: Sequence[tuple[str, str]] = (),
    ) -> RegistryResponse:
        """Send a request, with retries, and return the response.

        ``doing`` completes the sentence "Cannot …". Raises `RegistryError`, also for a status that is not ``expected``.
        """

        def attempt() -> RegistryResponse:
            import requests
            import urllib3

            with self.request_once(method, self.url(path), scopes, headers=headers, body=body, query=query) as response:
                if response.status_code not in expected:
                    raise self.error(response, doing)
                try:
                    content = read_body(response, LARGEST_MANIFEST)
                except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                    raise TransientError(f"the answer of {self.host} breaks the connection ({short_reason(error)})") from error
                except ValueError as error:
                    raise RegistryError(f"Cannot {doing}: the answer of {self.host}: {error}.", remedy=_WHO) from None
                return RegistryResponse(status=response.status_code, headers=response.headers, content=content)

        return self.retry(attempt, doing)

    def retry(self, attempt: Callable[[], Value], doing: str) -> Value:
        """Call ``attempt`` until it raises no `TransientError`; raise `RegistryError` after the last, or after `stop`."""
        try:
            return retry(attempt, _RETRIES, self._stopped)
        except RetryStopped:
            raise self._interrupted(doing) from None
        except RetriesExhausted as exhausted:
            raise RegistryError(f"Cannot {doing}: {exhausted}.", remedy=exhausted.error.remedy or _AGAIN) from None

    def request_once(
        self,
        method: str,
        url: str,
        scopes: Sequence[str],
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        query: Sequence[tuple[str, str]] = (),
        redirected: bool = False,
    ) -> requests.Response:
        """Make one attempt at a request, with a login where the registry wants one. The caller closes the response.

        ``redirected`` follows redirections: a blob's bytes may be elsewhere. Raises `TransientError` or `RegistryError`.
        """
        used = self._gate.header(scopes)
        for _ in range(3):
            response = self._sent(method, url, headers, used, body, query)
            if redirected:
                response = self._followed(response, headers)
            # Only the registry itself gets its login, and only it may say where tokens come from.
            if response.status_code != 401 or not self._is_own(response.url):
                break
            challenge = response.headers.get("WWW-Authenticate", "")
            response.close()
            self._gate.answer(challenge, scopes, used)
            used = self._gate.header(scopes)
        else:
            raise self._gate.refused("it does not accept the login")
        if response.status_code in RETRIED_STATUSES:
            response.close()
            reason = f"the registry {self.host} answers {response.status_code} {response.reason}"
            raise TransientError(reason, retry_after(response))
        return response

    def _sent(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        authorization: str,
        body: Body | None,
        query: Sequence[tuple[str, str]],
    ) -> requests.Response:
        import requests
        import urllib3

        sent = {"Accept-Encoding": "identity", **(headers or {})}
        if authorization and self._is_own(url):
            sent["Authorization"] = authorization
        data = body() if body else None
        try:
            return self._session().request(
                method,
                url,
                params=list(query) or None,
                headers=sent,
                data=data,
                stream=True,
                timeout=TIMEOUT,
                allow_redirects=False,  # requests would look for logins in .netrc, and forget about TLS
                auth=no_netrc,
            )
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise connection_error(f"the registry {self.host}", error) from error
        except (requests.RequestException, ValueError) as error:
            # The message may contain the header that it rejects.
            what = f"The registry {self.host} cannot be used ({type(error).__name__})."
            raise RegistryError(what, remedy="Check its name.") from None
        finally:
            if data is not None and not isinstance(data, bytes):
                data.close()

    def _followed(self, response: requests.Response, headers: Mapping[str, str] | None) -> requests.Response:
        """Follow the redirections of a response, without the login; raise `TransientError` or `RegistryError`."""
        for _ in range(_MOST_HOPS):
            target = response.headers.get("Location")
            if response.status_code not in _REDIRECTIONS or not target:
                return response
            url = self.url(target, response.url)
            response.close()
            response = self._sent("GET", url, headers, "", None, ())
        response.close()
        raise RegistryError(f"The registry {self.host} redirects too often.", remedy=_WHO)

    def _is_own(self, url: str) -> bool:
        """Return whether a URL has the registry's own origin."""
        return _origin(url) == _origin(self._base)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = new_session()
            self._sessions.append(session)
        return session

    def error(self, response: requests.Response, doing: str) -> RegistryError:
        """Return the error for an unexpected status, with the registry's own description."""
        status = response.status_code
        said = _error_text(response)
        remedies = {
            401: login_remedy(self.host),
            403: f"Ask for permission. {login_remedy(self.host)}",
            404: "Check the name; some registries, ECR among them, require a repository to be created first.",
            413: "The registry does not accept blobs of this size; ask its operator.",
        }
        what = f"Cannot {doing}: the registry {self.host} answers {status} {response.reason}{f' ({said})' if said else ''}."
        return RegistryError(what, remedy=remedies.get(status, "Check the names of registry and repository."))


def _origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an address (RFC 6454, section 4)."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def _error_text(response: requests.Response) -> str:
    """Return a registry's own description of an error (distribution specification, "Error Codes") in one line."""
    import requests
    import urllib3

    try:
        data = response.raw.read(_LARGEST_ERROR, decode_content=False)
        listed = json.loads(data)["errors"]
        words = [f"{each.get('code', '')}: {each.get('message', '')}".strip(": ") for each in listed]
    except (ValueError, KeyError, TypeError, AttributeError, requests.RequestException, urllib3.exceptions.HTTPError):
        return ""
    return " ".join("; ".join(words).split())[:500]
