"""Pushing to a real registry: what is sent, in which order, and what comes of the faults that registries and networks have."""

from __future__ import annotations

import base64
import gzip
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from packer.cache.local import LocalStore
from packer.core.errors import RegistryError, StoreError
from packer.core.events import Reporter
from packer.formats.image import Image
from packer.formats.oci import Platform, Reference
from packer.images.base import BaseReader
from packer.images.base_sources import base_sources
from packer.images.layout_writer import RunSettings, assemble_image
from packer.net.registry_login import DockerLogins
from packer.net.retry import RetryPolicy
from packer.registry.client import Registries
from packer.registry.endpoint import Endpoint
from tests.images import plain_layer, tar_of, write_base
from tests.registry import Fault, FaultProxy, Registry, Rule, running_registry

HERE = Platform.of("x86_64")
CHUNK = 1 << 18
LARGE = random.Random(7).randbytes(5 * CHUNK)  # noqa: S311 nothing secret
RUNNING = RunSettings(command=("app.handler",), environment={}, labels={})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packer.registry.endpoint._RETRIES", RetryPolicy(attempts=6, first_pause=0.001))
    monkeypatch.setattr("packer.registry.blob_transfer._CHUNK", CHUNK)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with running_registry(tmp_path / "registry") as found:
        yield found


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return made(tmp_path / "image", plain_layer(), tar_of(("large", LARGE)))


def made(folder: Path, *layers: bytes) -> Image:
    """Give an image of these layers, which lie in a layout."""

    def nobody(*_: object) -> Any:
        raise AssertionError("no registry and no engine is asked")

    write_base(folder, *layers)
    with ThreadPoolExecutor(1) as executor:
        store = LocalStore(folder / "store")
        reader = BaseReader(store, base_sources(store, executor, nobody, nobody))
        return assemble_image(reader.read(f"oci:{folder}", HERE, folder), (), RUNNING, 0)


def opened(tmp_path: Path, **variables: str) -> Registries:
    store = LocalStore(tmp_path / "store")
    return Registries(store, Reporter(), DockerLogins({"DOCKER_CONFIG": str(tmp_path), **variables}, tmp_path))


def reference(host: str, name: str = "shop/one:1") -> Reference:
    return Reference.parse(f"{host}/{name}")


def first(method: str, word: str, fault: Fault, times: int = 1) -> Rule:
    """Give the rule that the first requests of a kind meet a fault."""
    met: list[str] = []

    def rule(asked: str, path: str, _number: int) -> Fault | None:
        if asked != method or word not in path or len(met) >= times:
            return None
        met.append(path)
        return fault

    return rule


def test_an_image_arrives_whole_and_its_manifest_last(tmp_path: Path, registry: Registry, image: Image) -> None:
    with FaultProxy(registry.host) as proxy, opened(tmp_path) as registries:
        pushed = registries.push(image, reference(proxy.host))
    assert pushed.reference.digest == image.descriptor.digest
    assert registry.tags("shop/one") == ["1"]
    assert registry.is_whole("shop/one", "1")
    assert proxy.seen[-1] == ("PUT", "/v2/shop/one/manifests/1")
    assert (pushed.uploaded, pushed.present, pushed.mounted) == (3, 0, 0)
    assert pushed.sent == sum(registry.blobs().values())
    assert proxy.asked("PATCH") >= 5  # in parts


def test_what_is_there_is_not_sent_again(tmp_path: Path, registry: Registry, image: Image) -> None:
    with opened(tmp_path) as registries:
        registries.push(image, reference(registry.host))
    with FaultProxy(registry.host) as proxy, opened(tmp_path) as registries:
        again = registries.push(image, reference(proxy.host))
        assert (again.sent, again.uploaded, again.reference.digest) == (0, 0, image.descriptor.digest)
        assert {method for method, _ in proxy.seen} == {"HEAD"}
        other = registries.push(image, reference(proxy.host, "shop/one:2"))
        assert other.uploaded <= 1
        assert proxy.asked("POST") == 0
    assert registry.tags("shop/one") == ["1", "2"]


def test_another_repository_gets_blobs_without_their_bytes(tmp_path: Path, registry: Registry, image: Image) -> None:
    with FaultProxy(registry.host) as proxy, opened(tmp_path) as registries:
        registries.push(image, reference(proxy.host))
        sent = proxy.asked("PATCH")
        second = registries.push(image, reference(proxy.host, "shop/two:1"))
        assert second.mounted >= 2
        assert proxy.asked("PATCH") == sent
    assert registry.is_whole("shop/two", "1")


def test_a_base_that_the_registry_has_is_neither_fetched_nor_sent(tmp_path: Path, registry: Registry, image: Image) -> None:
    with opened(tmp_path) as registries:
        registries.push(image, reference(registry.host, "base:1"))
    with FaultProxy(registry.host) as proxy, opened(tmp_path / "fresh") as registries:
        base = registries.resolve(reference(proxy.host, "base:1"), HERE)
        upon = assemble_image(base, (), replace(RUNNING, command=("other.handler",)), 0)
        pushed = registries.push(upon, reference(proxy.host, "shop/upon:1"))
        fetched = [path for method, path in proxy.seen if method == "GET" and "/blobs/" in path]
        assert fetched == [f"/v2/base/blobs/{base.manifest.config.digest}"]
        assert proxy.asked("PATCH") == 0
        assert pushed.mounted == len(image.layers)
    assert registry.is_whole("shop/upon", "1")


def test_what_was_pushed_is_found_again_and_offline_only_by_its_digest(
    tmp_path: Path, registry: Registry, image: Image
) -> None:
    with opened(tmp_path) as registries:
        registries.push(image, reference(registry.host))
        base = registries.resolve(reference(registry.host), HERE)
        assert base.digest == image.descriptor.digest
        for layer, own in zip(base.manifest.layers, image.layers, strict=True):
            assert base.blobs.bring(layer).read_bytes() == own.blobs.bring(own.descriptor).read_bytes()
    logins = DockerLogins({}, tmp_path)
    with Registries(LocalStore(tmp_path / "store"), Reporter(), logins, offline=True) as registries:
        pinned = replace(reference(registry.host), tag="", digest=image.descriptor.digest)
        assert registries.resolve(pinned, HERE).digest == base.digest
        with pytest.raises(RegistryError, match="--offline forbids"):
            registries.resolve(reference(registry.host), HERE)


def test_several_architectures_are_one_index(tmp_path: Path, registry: Registry, image: Image) -> None:
    other = replace(made(tmp_path / "arm", tar_of(("arm", b"x"))), platform=Platform.of("arm64"))
    with opened(tmp_path) as registries:
        pushed = registries.push_index([image, other], reference(registry.host, "shop/both:1"))
        assert registries.resolve(reference(registry.host, "shop/both:1"), HERE).digest == image.descriptor.digest
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/shop/both:1"]
    index = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm64"]
    assert pushed.reference.digest


def test_other_tools_fetch_what_was_pushed(tmp_path: Path, registry: Registry, image: Image) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    with opened(tmp_path) as registries:
        registries.push(image, reference(registry.host))
    command = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{registry.host}/shop/one:1"]
    done = subprocess.run([*command, f"oci:{tmp_path}/copy:x"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    copied = json.loads((tmp_path / "copy/index.json").read_bytes())["manifests"][0]
    assert copied["digest"] == image.descriptor.digest


PASSING = {
    "a connection that is reset": first("POST", "/uploads/", Fault(reset=True)),
    "too many requests": first("POST", "/uploads/", Fault(status=429, headers={"Retry-After": "0"}), 2),
    "an error of the server's": first("PATCH", "", Fault(status=500), 2),
    "a registry that is busy": first("HEAD", "", Fault(status=503), 3),
    "a part that is cut in the middle": first("PATCH", "", Fault(cut=CHUNK // 3)),
    "a reset in the middle of a part": first("PATCH", "", Fault(cut=0)),
    "a manifest that is not taken at once": first("PUT", "/manifests/", Fault(status=500), 2),
    "a blob that is not closed at once": first("PUT", "/uploads/", Fault(reset=True), 2),
    "an upload that is forgotten": first("PATCH", "", Fault(status=404)),
}


@pytest.mark.parametrize("rule", PASSING.values(), ids=PASSING)
def test_a_fault_that_passes_is_outlasted(tmp_path: Path, registry: Registry, image: Image, rule: Rule) -> None:
    with FaultProxy(registry.host, rule) as proxy, opened(tmp_path) as registries:
        registries.push(image, reference(proxy.host))
    assert registry.is_whole("shop/one", "1")


LASTING = {
    "a registry that is down": lambda _method, _path, _number: Fault(status=503),
    "blobs that are never taken": lambda method, _path, _number: Fault(status=500) if method == "PATCH" else None,
    "uploads that are always forgotten": lambda method, _path, _number: Fault(status=404) if method == "PATCH" else None,
    "no right to push": lambda method, _path, _number: Fault(status=403) if method == "POST" else None,
    "connections that always break": lambda method, _path, _number: Fault(reset=True) if method == "PATCH" else None,
    "blobs of another digest": lambda method, path, _number: (
        Fault(headers={"Docker-Content-Digest": "sha256:" + "0" * 64}) if method == "PUT" and "/uploads/" in path else None
    ),
}


@pytest.mark.parametrize("rule", LASTING.values(), ids=LASTING)
def test_a_fault_that_lasts_is_told_and_leaves_no_tag(
    tmp_path: Path, registry: Registry, image: Image, monkeypatch: pytest.MonkeyPatch, rule: Rule
) -> None:
    monkeypatch.setattr("packer.registry.endpoint._RETRIES", RetryPolicy(attempts=3, first_pause=0.001))
    with FaultProxy(registry.host, rule) as proxy, opened(tmp_path) as registries:
        with pytest.raises(RegistryError) as caught:
            registries.push(image, reference(proxy.host))
        assert proxy.host in str(caught.value)
        assert proxy.asked("PUT", "/manifests/") == 0
    assert registry.tags("shop/one") == []


def test_an_upload_goes_on_where_it_was_cut(tmp_path: Path, registry: Registry, image: Image) -> None:
    cut = first("PATCH", "", Fault(reset=True))
    with FaultProxy(registry.host, cut) as proxy, opened(tmp_path) as registries:
        registries.push(image, reference(proxy.host), workers=1)
        assert proxy.asked("GET", "/uploads/") >= 1  # where it stands
        assert proxy.asked("POST", "/uploads/") <= 4


def test_uploads_may_go_elsewhere(tmp_path: Path, registry: Registry, image: Image) -> None:
    """A registry gives another place for each part: always the whole address is to be used."""
    places: list[str] = []

    def rule(method: str, path: str, _number: int) -> Fault | None:
        if method in ("PATCH", "PUT") and "/uploads/" in path:
            places.append(path)
        return None

    with FaultProxy(registry.host, rule) as proxy, opened(tmp_path) as registries:
        registries.push(image, reference(proxy.host))
    states = [path.partition("_state=")[2] for path in places]
    assert all(states)
    assert len(set(states)) == len(states)


@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_what_comes_with_another_digest_is_refused(
    tmp_path: Path, registry: Registry, image: Image, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr("packer.registry.endpoint._RETRIES", RetryPolicy(attempts=2, first_pause=0.001))
    with opened(tmp_path) as registries:
        registries.push(image, reference(registry.host))

    def rule(method: str, path: str, _number: int) -> Fault | None:
        return Fault(spoil=lambda data: data + b" ") if method == "GET" and where in path else None

    def everything(registries: Registries, host: str) -> None:
        base = registries.resolve(reference(host), HERE)
        for layer in base.manifest.layers:
            base.blobs.bring(layer)

    with FaultProxy(registry.host, rule) as proxy, opened(tmp_path / "fresh") as registries, pytest.raises(RegistryError):
        everything(registries, proxy.host)


def test_a_download_goes_on_where_it_was_cut(tmp_path: Path, registry: Registry, image: Image) -> None:
    with opened(tmp_path) as registries:
        registries.push(image, reference(registry.host))

    def rule(method: str, path: str, number: int) -> Fault | None:
        if method == "GET" and image.layers[1].descriptor.digest in path and number == 0:
            return Fault(
                spoil=lambda data: data[: len(data) // 2], headers={"Content-Length": str(len(LARGE)), "Connection": "close"}
            )
        return None

    with FaultProxy(registry.host, rule) as proxy, opened(tmp_path / "fresh") as registries:
        base = registries.resolve(reference(proxy.host), HERE)
        found = base.blobs.bring(base.manifest.layers[1]).read_bytes()
    assert LARGE in gzip.decompress(found)


def test_a_token_that_expires_in_the_middle_of_an_upload_is_renewed(tmp_path: Path, registry: Registry, image: Image) -> None:
    expired: list[str] = []

    def rule(method: str, path: str, _number: int) -> Fault | None:
        if path.startswith("/token"):
            return Fault(status=200, body=json.dumps({"token": f"token-{len(expired)}"}).encode())
        if method == "PATCH" and len(expired) < 2:
            expired.append(path)
            challenge = f'Bearer realm="http://{proxy.host}/token",service="here",scope="repository:shop/one:pull,push"'
            return Fault(status=401, headers={"WWW-Authenticate": challenge})
        return None

    with FaultProxy(registry.host, rule) as proxy, opened(tmp_path) as registries:
        registries.push(image, reference(proxy.host), workers=1)
        assert proxy.asked("GET", "/token") >= 2
    assert registry.is_whole("shop/one", "1")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Registry]:
    """A registry that wants a name and a password."""
    bcrypt = shutil.which("htpasswd")
    if bcrypt is None:
        pytest.skip("needs htpasswd (apache2-utils)")
    users = tmp_path / "users"
    made = subprocess.run([bcrypt, "-nbB", "me", "secret"], capture_output=True, check=True)
    users.write_bytes(made.stdout)
    with running_registry(tmp_path / "registry", f"auth: {{htpasswd: {{realm: here, path: {users}}}}}\n") as found:
        yield found


def log_in(folder: Path, host: str, password: str) -> None:
    """Write what `docker login` writes."""
    auth = base64.b64encode(f"me:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def test_the_login_of_docker_lets_in(tmp_path: Path, guarded: Registry, image: Image) -> None:
    log_in(tmp_path, guarded.host, "secret")
    with opened(tmp_path) as registries:
        registries.push(image, reference(guarded.host))
    assert guarded.tags("shop/one") == ["1"]


@pytest.mark.parametrize("password", ["", "wrong"])
def test_without_the_right_login_the_way_in_is_told(tmp_path: Path, guarded: Registry, image: Image, password: str) -> None:
    if password:
        log_in(tmp_path, guarded.host, password)
    with opened(tmp_path) as registries, pytest.raises(RegistryError) as caught:
        registries.push(image, reference(guarded.host))
    assert f"docker login {guarded.host}" in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_a_registry_that_is_asked_for_while_all_are_closed_is_no_trouble(tmp_path: Path, monkeypatch) -> None:
    registries = opened(tmp_path)
    registries.endpoint("one.example")
    monkeypatch.setattr(Endpoint, "close", lambda _endpoint: registries.endpoint("two.example"))
    registries.close()


def test_blob_that_is_refused_ends_the_push_while_another_waits(tmp_path: Path, registry: Registry, image: Image) -> None:
    posts: list[str] = []

    def rule(method: str, path: str, _number: int) -> Fault | None:
        if method != "POST":
            return None
        posts.append(path)
        return Fault(status=503, headers={"Retry-After": "20"}) if len(posts) == 1 else Fault(status=403)

    started = time.monotonic()
    with FaultProxy(registry.host, rule) as proxy, opened(tmp_path) as registries:
        with pytest.raises(RegistryError, match="answers 403"):
            registries.push(image, reference(proxy.host))
        assert time.monotonic() - started < 10
        proxy.rule = lambda _method, _path, _number: None
        registries.push(image, reference(proxy.host))  # what was only stopped is sent then
    assert registry.is_whole("shop/one", "1")


def test_full_disk_does_not_undo_a_push_and_connections_are_closed(
    tmp_path: Path, registry: Registry, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    said: list[str] = []

    def save(*_: object) -> None:
        raise StoreError("Cannot write there: the disk is full.")

    class Listener(Reporter):
        def debug(self, message: str) -> None:
            said.append(message)

    with Registries(LocalStore(tmp_path / "store"), Listener(), DockerLogins({}, tmp_path)) as registries:
        registries.push(image, reference(registry.host))
        monkeypatch.setattr(LocalStore, "save", save)
        monkeypatch.setattr(Endpoint, "close", lambda endpoint: closed.append(endpoint.host))
    assert closed == [registry.host]
    assert "Cannot write there: the disk is full." in said[-1]


def test_registry_that_is_first_asked_for_after_the_end_is_not_waited_for(tmp_path: Path) -> None:
    registries = opened(tmp_path)
    registries.stop()
    with pytest.raises(RegistryError, match="it was interrupted"):
        registries.endpoint("localhost:1").ask("GET", "/v2/", (), doing="find it")
