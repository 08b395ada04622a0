"""Index addresses and their credentials, from the places where uv and pip take them.

Sources, first to last: the URL itself, uv's ``UV_INDEX_<NAME>_USERNAME``/``_PASSWORD``, netrc, keyring.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from shutil import which
from threading import RLock
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from msgspec import Struct

from builders.once import Once
from packer.core.errors import FetchError, UsageError
from packer.core.redaction import Redaction, hide_user_parts

# uv's own variables, and pip's where uv's are not set (documentation of both: uv "Environment variables", pip "Configuration").
_DEFAULT_INDEX = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
_EXTRA_INDEX = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")
_KEYRING_SECONDS = 30
OTHER_PLACES = "the index's URL, a netrc file, or UV_INDEX_<NAME>_USERNAME and _PASSWORD"
"""The places for a login other than the keyring."""


class Login(Struct, frozen=True, kw_only=True):
    """A user name and a password; ``repr`` shows neither."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(…)"


def without_login(url: str) -> str:
    """Return a URL without user name and password.

    Over SSH the user is kept: it is part of the address ("git" nearly everywhere) and not a secret.
    """
    parts = urlsplit(url)
    user, separator, host = parts.netloc.rpartition("@")
    kept = user.partition(":")[0] + separator if parts.scheme.endswith("ssh") else ""
    return urlunsplit(parts._replace(netloc=kept + host))


def login_in_url(url: str) -> Login | None:
    """Return the user name and password that a URL carries."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return Login(user=unquote(parts.username), password=unquote(parts.password or ""))


class Credentials:
    """Knows the indexes and finds the login for any address below them."""

    def __init__(self, index_urls: Iterable[str], variables: Mapping[str, str]) -> None:
        self._indexes: dict[str, Login] = {}
        self._variables = variables
        self._netrc = _read_netrc(variables)
        self._keyring: Once[str, Login | FetchError | None] = Once()
        self._lock = RLock()
        self._redaction = Redaction()
        for name, value in variables.items():
            if name.startswith("UV_INDEX_") and name.endswith("_PASSWORD"):
                self._redaction.add(value)
        for url in index_urls:
            self.learn(url)

    def learn(self, url: str, name: str = "") -> None:
        """Remember an index's address; ``name`` is what uv's variables call it.

        Raises `UsageError` for what is not a valid URL.
        """
        variable = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        user, password = self._variables.get(f"{variable}_USERNAME"), self._variables.get(f"{variable}_PASSWORD")
        try:
            login = login_in_url(url)
        except ValueError:  # whose text may hold a password
            what = f"{hide_user_parts(url)!r}, an index's address, is not a valid URL."
            raise UsageError(what, remedy="Fix it where it stands: in a variable, or in uv's settings.") from None
        if login is None and name and (user or password):
            login = Login(user=user or "", password=password or "")
        if login is not None:
            with self._lock:
                self._indexes[without_login(url)] = login
            self._keep_secret(login)

    def _keep_secret(self, login: Login) -> None:
        # A user name without a password is a token.
        self._redaction.add(login.password or login.user)

    def find(self, url: str) -> Login | None:
        """Return the login for an address that needs no query: of the nearest index on the same host, or from netrc."""
        own = login_in_url(url)
        if own is not None:
            return own
        parts = urlsplit(url)
        best: tuple[int, Login] | None = None
        with self._lock:
            indexes = tuple(self._indexes.items())
        for index, login in indexes:
            known = urlsplit(index)
            if _origin(known) == _origin(parts):
                common = _common_length(known.path, parts.path)
                best = max(best or (-1, login), (common, login), key=lambda pair: pair[0])
        if best is not None:
            return best[1]
        found = self._netrc.authenticators(parts.hostname) if self._netrc and parts.hostname else None
        if not found or not found[2]:
            return None
        login = Login(user=found[0] or "", password=found[2])
        self._keep_secret(login)
        return login

    def ask_keyring(self, url: str) -> Login | None:
        """Return the login in the system's keyring for an address.

        A host is looked up once: a lookup may prompt the user, and a prompt that was dismissed must not return for each file.
        Raises `FetchError` where the keyring cannot be queried.
        """
        host = urlsplit(url).netloc.rpartition("@")[2]
        found = self._keyring.get(host, lambda: self._from_keyring(host))
        if isinstance(found, FetchError):
            raise found
        return found

    def _from_keyring(self, host: str) -> Login | FetchError | None:
        try:
            login = _from_keyring(host)
        except _KeyringFailure as failure:
            reason = self.scrub(str(failure))
            what = f"{host} requires a login, and the keyring cannot be queried for one: {reason}"
            remedy = f"Try `keyring get {host} USER` and unlock or repair the keyring, or give the login by {OTHER_PLACES}."
            return FetchError(what, remedy=remedy)
        if login is not None:
            self._keep_secret(login)
        return login

    def scrub(self, text: str) -> str:
        """Return a text without any known secret or the user part of any URL, to be shown or kept."""
        return self._redaction.redacted(text)


def index_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set for uv so that pip's index variables apply where uv's own are not set."""
    settings: dict[str, str] = {}
    if not any(variables.get(name) for name in _DEFAULT_INDEX[:2]) and variables.get("PIP_INDEX_URL"):
        settings["UV_DEFAULT_INDEX"] = variables["PIP_INDEX_URL"]
    if not any(variables.get(name) for name in _EXTRA_INDEX[:2]) and variables.get("PIP_EXTRA_INDEX_URL"):
        settings["UV_INDEX"] = variables["PIP_EXTRA_INDEX_URL"]
    return settings


def index_urls(variables: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return (name, URL) of every index that the environment names; the name is empty where it has none."""
    found: list[tuple[str, str]] = []
    for names in (_DEFAULT_INDEX, _EXTRA_INDEX):
        value = next((variables[name] for name in names if variables.get(name)), "")
        for word in value.split():
            name, separator, url = word.partition("=")
            found.append((name, url) if separator and "/" not in name else ("", word))
    return tuple(found)


def _origin(parts: SplitResult) -> tuple[str, str | None, int | str | None]:
    """Return scheme, host and port of a URL; all of the address in the place of a port that is not a number."""
    try:
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return parts.scheme, parts.hostname, parts.netloc


def _common_length(one: str, other: str) -> int:
    """Count the leading path segments that two paths share."""
    count = 0
    for left, right in zip(one.strip("/").split("/"), other.strip("/").split("/"), strict=False):
        if left != right:
            break
        count += 1
    return count


def _read_netrc(variables: Mapping[str, str]) -> netrc | None:
    named = variables.get("NETRC")
    path = Path(named) if named else Path.home() / ".netrc"
    try:
        return netrc(str(path))
    except (OSError, NetrcParseError, UnicodeDecodeError):
        return None


class _KeyringFailure(Exception):
    """The keyring cannot be queried; the text says why."""


def _from_keyring(host: str) -> Login | None:
    """Return a login from the keyring package, or from its command where lpack's environment does not have the package.

    Raises `_KeyringFailure`.
    """
    try:
        import keyring
    except ModuleNotFoundError as error:
        if error.name == "keyring":
            return _from_keyring_command(host)
        raise _KeyringFailure(_summary(error)) from error
    except Exception as error:  # importing it runs plug-ins
        raise _KeyringFailure(_summary(error)) from error
    try:
        found = keyring.get_credential(host, None)
        user, password = (found.username, found.password) if found else (None, None)
    except Exception as error:  # back ends raise errors of D-Bus, keychains, files
        raise _KeyringFailure(_summary(error)) from error
    return Login(user=user or "", password=password) if password else None


def _summary(error: Exception) -> str:
    said = " ".join(str(error).split())[:300].rstrip(".")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _from_keyring_command(host: str) -> Login | None:
    """Return a login from the program; raise `_KeyringFailure`."""
    program = which("keyring")
    if program is None:
        return None
    command = [program, "--mode", "creds", "get", host, ""]
    try:
        finished = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_KEYRING_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise _KeyringFailure(f"{program} does not answer within {_KEYRING_SECONDS} s") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _KeyringFailure(f"{program}: {_summary(error)}") from error
    lines = finished.stderr.strip().splitlines()
    if finished.returncode and lines:  # for an unknown host, it ends with 1 and prints nothing
        raise _KeyringFailure(f"{program} ended with status {finished.returncode}: {lines[-1].strip()[:300].rstrip('.')}")
    user, _, password = finished.stdout.strip().partition("\n")
    return Login(user=user, password=password) if finished.returncode == 0 and password else None
