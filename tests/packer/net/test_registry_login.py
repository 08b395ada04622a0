"""Logins for registries, as Docker's and Podman's files and credential helpers have them."""

from __future__ import annotations

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from packer.core.errors import RegistryError
from packer.net.registry_login import DockerLogins

UNKNOWN = "credentials not found in native keychain"
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.fixture
def home(tmp_path):
    (tmp_path / ".docker").mkdir()
    (tmp_path / "bin").mkdir()
    return tmp_path


def helper(home: Path, name: str, script: str) -> None:
    """Write a credential helper."""
    path = home / "bin" / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\nread host\n{script}\n")
    path.chmod(0o755)


def found(home: Path, host: str, config: object, **variables: str) -> Any:
    """Give what is known of a host: user and password, or the identity token."""
    (home / ".docker" / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    environment = {"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}", **variables}
    login = DockerLogins(environment, home).find(host)
    if login is None:
        return None
    return login.identity or (login.login and (login.login.user, login.login.password))


def encoded(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("reg.example", "reg.example"),
        ("reg.example", "https://reg.example"),
        ("reg.example", "https://reg.example/v2/"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("reg.example:5000", "reg.example:5000"),
    ],
)
def test_login_of_the_docker_configuration_is_read(home, host, key):
    assert found(home, host, {"auths": {key: encoded("me:a:b")}}) == ("me", "a:b")
    assert found(home, "other.example", {"auths": {key: encoded("me:a")}}) is None


def test_an_identity_token_goes_before_a_password(home):
    assert found(home, "r.example", {"auths": {"r.example": {**encoded("me:x"), "identitytoken": "token"}}}) == "token"


@pytest.mark.parametrize("how", ["credsStore", "credHelpers"])
def test_a_helper_is_asked_for_the_host(home, how):
    helper(home, "test", 'echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"$host\\"}"')
    value = "test" if how == "credsStore" else {"r.example": "test"}
    assert found(home, "r.example", {how: value}) == ("me", "r.example")


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_docker_hub_has_names_of_its_own(home, key):
    helper(home, "test", 'echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"$host\\"}"')
    assert found(home, "docker.io", {"credHelpers": {key: "test"}}) == ("me", "https://index.docker.io/v1/")


def test_a_helpers_token_is_an_identity(home):
    helper(home, "test", 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"abc\\"}"')
    assert found(home, "r.example", {"credsStore": "test"}) == "abc"


def test_a_helper_that_knows_nothing_leaves_it_to_the_file(home):
    helper(home, "test", f"echo '{UNKNOWN}'; exit 1")
    assert found(home, "r.example", {"credsStore": "test", "auths": {"r.example": encoded("me:x")}}) == ("me", "x")
    assert found(home, "r.example", {"credsStore": "test"}) is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'aws: command not found' >&2; exit 127", "ended with status 127"),
        ("echo nonsense", "does not return a login"),
        ("exit 3", "ended with status 3"),
    ],
)
def test_a_helper_that_fails_is_an_error(home, script, expected):
    helper(home, "test", script)
    with pytest.raises(RegistryError, match=expected):
        found(home, "r.example", {"credsStore": "test"})


def test_a_helper_that_is_not_there_is_an_error(home):
    with pytest.raises(RegistryError, match=r"docker-credential-gone, which .*config\.json names, is not installed"):
        found(home, "r.example", {"credsStore": "gone"})
    with pytest.raises(RegistryError, match="is not the name of a credential helper"):
        found(home, "r.example", {"credsStore": "../evil"})


def test_ecr_is_asked_through_its_helper_without_a_word_in_the_file(home):
    helper(home, "ecr-login", 'echo "{\\"Username\\": \\"AWS\\", \\"Secret\\": \\"$host\\"}"')
    assert found(home, ECR, {}) == ("AWS", ECR)


def test_logins_of_podman_are_read(home, tmp_path):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {"r.example": encoded("podman:x")}}))
    assert found(home, "r.example", {}, REGISTRY_AUTH_FILE=str(path)) == ("podman", "x")
    (tmp_path / "containers").mkdir()
    path.rename(tmp_path / "containers" / "auth.json")
    assert found(home, "r.example", {}, XDG_RUNTIME_DIR=str(tmp_path)) == ("podman", "x")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("nonsense", "is not JSON"),
        ("[]", "is not JSON"),
        ({"auths": {"r.example": {"auth": "%%%"}}}, "cannot be read"),
    ],
)
def test_broken_files_are_told(home, config, expected):
    with pytest.raises(RegistryError, match=expected):
        found(home, "r.example", config)


@pytest.mark.parametrize("config", [{}, {"auths": None}, {"auths": {"r.example": 3}}, {"auths": {"r.example": {}}}])
def test_configuration_without_a_login_gives_none(home, config):
    assert found(home, "r.example", config) is None


def test_a_login_is_never_shown(home):
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {"r.example": encoded("me:hunter2")}}))
    assert "hunter2" not in repr(DockerLogins({}, home).find("r.example"))


def logins(home: Path) -> DockerLogins:
    (home / ".docker" / "config.json").write_text(json.dumps({"credsStore": "test"}))
    return DockerLogins({"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"}, home)


def test_helper_is_asked_once_for_a_host_by_eight_threads(home):
    asked = home / "asked"
    helper(home, "test", f'echo "$host" >> {asked}; sleep 0.2; echo "{{\\"Username\\": \\"me\\", \\"Secret\\": \\"x\\"}}"')
    known = logins(home)
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(known.find, ["r.example"] * 8))
    assert [each and each.login and each.login.user for each in found] == ["me"] * 8
    assert asked.read_text().split() == ["r.example"]


def test_helper_that_is_slow_for_one_host_does_not_keep_another_waiting(home):
    # The helper answers for the first host only after it was asked for the second.
    gate = home / "gate"
    slow = f"for n in $(seq 100); do [ -e {gate} ] && break; sleep 0.05; done; [ -e {gate} ] || exit 1"
    answer = 'echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"x\\"}"'
    helper(home, "test", f'if [ "$host" = slow.example ]; then {slow}; else touch {gate}; fi; {answer}')
    known = logins(home)
    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(known.find, "slow.example")
        second = executor.submit(known.find, "quick.example")
        assert second.result() is not None
        assert first.result() is not None


def test_helper_that_failed_is_asked_again(home):
    # The first time it fails, as a keychain does that is locked.
    once = home / "once"
    answer = 'echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"x\\"}"'
    helper(home, "test", f"if [ ! -e {once} ]; then touch {once}; echo locked; exit 1; fi; {answer}")
    known = logins(home)
    with pytest.raises(RegistryError, match="ended with status 1"):
        known.find("r.example")
    assert known.find("r.example") is not None
