"""Logins for registries, as Docker and Podman keep them: in a file, or with a credential helper that the file names.

Sources: Docker's documentation of `docker login` (config.json: auths, credsStore, credHelpers; the protocol of
docker-credential-helpers) and containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import Any

from msgspec import Struct

from builders.once import Once
from packer.core.errors import RegistryError
from packer.core.names import DOCKER_HUB
from packer.net.credentials import Login

_HUB_KEY = "https://index.docker.io/v1/"
_TOKEN = "<token>"  # noqa: S105 the user name that says so
_ECR = re.compile(r"[0-9]{12}\.dkr(?:\.ecr(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?|-ecr\.[a-z0-9-]+\.on\.aws)")
_ECR_HELPER = "ecr-login"
_PROGRAM = re.compile(r"[A-Za-z0-9._-]+")
_SECONDS = 60
_UNKNOWN = "credentials not found in native keychain"
"""The message of helpers for an unknown host (docker-credential-helpers, errors.go)."""
_LARGEST = 1 << 20


class RegistryLogin(Struct, frozen=True, kw_only=True):
    """A user name and password, or an identity token of an earlier login; ``repr`` shows neither."""

    login: Login | None = None
    identity: str = ""

    def __repr__(self) -> str:
        return "RegistryLogin(…)"


class DockerLogins:
    """Finds logins by registry host; may be used from many threads. ``variables`` are the environment's."""

    def __init__(self, variables: Mapping[str, str], home: Path) -> None:
        folder = Path(variables.get("DOCKER_CONFIG") or home / ".docker")
        self._files = [folder / "config.json"]
        if variables.get("REGISTRY_AUTH_FILE"):
            self._files.insert(0, Path(variables["REGISTRY_AUTH_FILE"]))
        if variables.get("XDG_RUNTIME_DIR"):
            self._files.append(Path(variables["XDG_RUNTIME_DIR"]) / "containers" / "auth.json")
        self._variables = variables
        self._found: Once[str, RegistryLogin | None] = Once()

    def find(self, host: str) -> RegistryLogin | None:
        """Return the login for a registry; raise `RegistryError` where the file or helper that should know it is broken."""
        return self._found.get(host, lambda: self._look(host))

    def _look(self, host: str) -> RegistryLogin | None:
        for path in self._files:
            document = _read(path)
            helper = next(filter(None, (_string(document.get("credHelpers"), key) for key in _host_keys(host))), "")
            store = document.get("credsStore")
            program = helper or (store if isinstance(store, str) else "")
            found = self._ask(program, host, path) if program else None
            found = found or _login_in_file(document.get("auths"), host)
            if found is not None:
                return found
        if _ECR.fullmatch(host) and which(f"docker-credential-{_ECR_HELPER}", path=self._variables.get("PATH")):
            return self._ask(_ECR_HELPER, host, None)
        return None

    def _ask(self, program: str, host: str, path: Path | None) -> RegistryLogin | None:
        """Return the login that a credential helper has; None where it has none."""
        name = f"docker-credential-{program}"
        where = f", which {path} names," if path else ""
        if not _PROGRAM.fullmatch(program):
            raise RegistryError(f"{program[:80]!r}{where} is not the name of a credential helper.", remedy="Correct the file.")
        found = which(name, path=self._variables.get("PATH"))
        if found is None:
            remedy = f"Install {name}, or log in with `docker login {host}` after removing it from the file."
            raise RegistryError(f"{name}{where} is not installed.", remedy=remedy)
        asked = _HUB_KEY if host == DOCKER_HUB else host
        try:
            done = subprocess.run(
                [found, "get"],
                input=asked.encode(),
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                env=dict(self._variables),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            remedy = f"Try `echo {asked} | {name} get`."
            raise RegistryError(f"{name}{where} does not answer ({type(error).__name__}).", remedy=remedy) from None
        if done.returncode:
            said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
            if _UNKNOWN in said:
                return None
            what = f"{name}{where} has no login for {host}: it ended with status {done.returncode}."
            raise RegistryError(what, detail=said[:500], remedy=f"Try `echo {asked} | {name} get`.")
        try:
            answer = json.loads(done.stdout)
            user, secret = answer["Username"], answer["Secret"]
        except (ValueError, KeyError, TypeError):
            raise RegistryError(f"{name}{where} does not return a login.", remedy=f"Try `{name} get`.") from None
        return _new_login(str(user), str(secret), str(secret) if user == _TOKEN else "")


def login_remedy(host: str) -> str:
    """Return the remedy that tells a user how to log in to a registry."""
    if _ECR.fullmatch(host):
        command = f"aws ecr get-login-password | docker login --username AWS --password-stdin {host}"
        return f"Log in: `{command}`, or install docker-credential-{_ECR_HELPER}."
    return f"Log in: `docker login {host}`."


def _new_login(user: str, password: str, identity: str) -> RegistryLogin:
    return RegistryLogin(identity=identity) if identity else RegistryLogin(login=Login(user=user, password=password))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RegistryError(f"{path}, which holds logins for registries, is not JSON.", remedy="Fix it, or log in again.")
    return document


def _string(table: object, host: str) -> str | None:
    found = table.get(host) if isinstance(table, dict) else None
    return found if isinstance(found, str) else None


def _host_keys(host: str) -> tuple[str, ...]:
    """Return the keys under which a file may hold the login for a host."""
    keys = (host, f"https://{host}", f"http://{host}", f"https://{host}/", f"https://{host}/v1/", f"https://{host}/v2/")
    return (*keys, _HUB_KEY, "index.docker.io") if host == DOCKER_HUB else keys


def _login_in_file(auths: object, host: str) -> RegistryLogin | None:
    """Return the login that a file itself holds for a host."""
    for key in _host_keys(host):
        entry = auths.get(key) if isinstance(auths, dict) else None
        if not isinstance(entry, dict):
            continue
        if isinstance(entry.get("identitytoken"), str) and entry["identitytoken"]:
            return RegistryLogin(identity=entry["identitytoken"])
        user, password = entry.get("username"), entry.get("password")
        if isinstance(entry.get("auth"), str) and entry["auth"]:
            try:
                user, _, password = base64.b64decode(entry["auth"], validate=True).decode().rstrip("\0").partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise RegistryError(f"The login for {host} cannot be read.", remedy=login_remedy(host)) from None
        if isinstance(user, str) and isinstance(password, str) and user:
            return _new_login(user, password, "")
    return None
