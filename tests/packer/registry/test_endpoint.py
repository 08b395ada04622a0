"""What a registry may lead to, and what it may not: other hosts, logins, endless answers, and what breaks off."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import requests

from packer.cache.local import LocalStore
from packer.core.errors import RegistryError
from packer.core.events import Reporter
from packer.formats.oci import OCI_LAYER, Descriptor, Reference, digest_of_bytes
from packer.net.http import retry_after
from packer.net.registry_login import DockerLogins
from packer.net.retry import RetryPolicy
from packer.registry.blob_transfer import download, upload
from packer.registry.challenges import _challenges
from packer.registry.endpoint import Endpoint
from tests.endless import EndlessServer

BLOB = b"the bytes of a layer" * 100
LAYER = Descriptor.of(BLOB, OCI_LAYER)
Answer = tuple[int, Mapping[str, str], bytes]


class Host:
    """A server that answers as it is told, and remembers what it was asked with which login."""

    def __init__(self, rule: Callable[[str, str, Mapping[str, str]], Answer]) -> None:
        self.rule = rule
        self.asked: list[tuple[str, str, str]] = []
        self.name = ""

    @contextmanager
    def running(self) -> Iterator[Host]:
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                host.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
                status, headers, data = host.rule(self.command, self.path, dict(self.headers))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                self.close_connection = "Content-Length" in headers
                del body

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self._any
                raise AttributeError(name)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the parent's name for it
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def logins(self) -> set[str]:
        return {login for _, _, login in self.asked if login}


@pytest.fixture
def logins(tmp_path) -> Callable[[Host], DockerLogins]:
    def make(host: Host) -> DockerLogins:
        (tmp_path / ".docker").mkdir(exist_ok=True)
        entry = {"username": "me", "password": "regsecret"}
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {host.name: entry}}))
        return DockerLogins({}, tmp_path)

    return make


@contextmanager
def endpoint(host: Host, logins: DockerLogins) -> Iterator[Endpoint]:
    made = Endpoint(host.name, logins, plain=True)
    try:
        yield made
    finally:
        made.close()


def fetched(made: Endpoint, tmp_path: Path) -> bytes:
    reference = Reference(registry=made.host, repository="shop/orders", tag="1")
    return download(made, reference, LAYER, LocalStore(tmp_path / "store"), Reporter()).read_bytes()


def answers(status: int, data: bytes = b"", **headers: str) -> Callable[..., Answer]:
    return lambda *_: (status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def test_a_blob_elsewhere_is_fetched_without_the_login(tmp_path, logins, monkeypatch):
    (tmp_path / ".netrc").write_text("default login netrc password netrcsecret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with Host(answers(200, BLOB)).running() as storage:

        def registry(method: str, path: str, headers: Mapping[str, str]) -> Answer:
            if "Authorization" not in headers:
                return 401, {"WWW-Authenticate": 'Basic realm="r"'}, b""
            return 307, {"Location": f"http://{storage.name}/blob"}, b""

        with Host(registry).running() as host, endpoint(host, logins(host)) as made:
            assert fetched(made, tmp_path) == BLOB
            assert len(host.logins()) == 1
        assert storage.logins() == set()


def test_what_another_host_asks_for_is_not_given(tmp_path, logins):
    with Host(answers(200, b'{"token": "t"}')).running() as thief:
        challenge = f'Bearer realm="http://{thief.name}/token"'
        with Host(answers(401, WWW_Authenticate=challenge)).running() as storage:
            to = f"http://{storage.name}/blob"
            with (
                Host(answers(307, Location=to)).running() as host,
                endpoint(host, logins(host)) as made,
                pytest.raises(RegistryError, match="answers 401"),
            ):
                fetched(made, tmp_path)
            assert storage.logins() == set()
        assert thief.asked == []


def test_an_upload_elsewhere_gets_no_login(tmp_path, logins):
    with Host(answers(401, WWW_Authenticate='Basic realm="r"')).running() as storage:

        def registry(method: str, path: str, headers: Mapping[str, str]) -> Answer:
            if "Authorization" not in headers:
                return 401, {"WWW-Authenticate": 'Basic realm="r"'}, b""
            return 202, {"Location": f"http://{storage.name}/upload"}, b""

        (tmp_path / "blob").write_bytes(BLOB)
        with Host(registry).running() as host, endpoint(host, logins(host)) as made:
            to = Reference(registry=host.name, repository="shop/orders", tag="1")
            with pytest.raises(RegistryError, match="answers 401"):
                upload(made, to, LAYER, lambda: tmp_path / "blob", ("s",), mount="", reporter=Reporter())
        assert storage.logins() == set()


def test_endless_redirects_end(tmp_path, logins):
    with Host(lambda method, path, headers: (302, {"Location": path + "x"}, b"")).running() as host:
        with endpoint(host, logins(host)) as made, pytest.raises(RegistryError, match="redirects too often"):
            fetched(made, tmp_path)
        assert len(host.asked) <= 7


def test_redirect_from_https_to_http_is_refused(logins):
    made = Endpoint("registry.example", DockerLogins({}, Path("/nowhere")), plain=False)
    with pytest.raises(RegistryError, match=r"redirects to http://storage\.example, without TLS"):
        made.url("http://storage.example/blob", "https://registry.example/v2/")


@pytest.mark.parametrize("url", ["https://REG.example/x", "https://reg.example:443/x", "https://reg.example/"])
def test_a_host_is_the_same_however_it_is_written(url):
    made = Endpoint("reg.example", DockerLogins({}, Path("/nowhere")), plain=False)
    assert made._is_own(url)
    assert not made._is_own("https://reg.example:8443/x")
    assert not made._is_own("http://reg.example/x")


def asked(made: Endpoint) -> bytes:
    return made.ask("GET", "/v2/x/manifests/1", ("s",), doing="find x").content


def test_an_answer_that_breaks_off_is_asked_for_again(logins, monkeypatch):
    monkeypatch.setattr("packer.registry.endpoint._RETRIES", RetryPolicy(attempts=6, first_pause=0.01))
    cut: list[Answer] = [(200, {"Content-Length": "1000"}, b"half")] * 2

    def rule(*_: object) -> Answer:
        return cut.pop() if cut else (200, {}, b"whole")

    with Host(rule).running() as host, endpoint(host, logins(host)) as made:
        assert asked(made) == b"whole"
        assert len(host.asked) == 3


@pytest.mark.parametrize("data", [bytes(5 << 20), gzip.compress(bytes(50 << 20))])
def test_no_answer_is_read_without_an_end(logins, data):
    rule = answers(200, data, **({"Content-Encoding": "gzip"} if len(data) < 1 << 20 else {}))
    with Host(rule).running() as host, endpoint(host, logins(host)) as made:
        if len(data) < 1 << 20:
            assert asked(made) == data  # as it was sent: nothing is unpacked
        else:
            with pytest.raises(RegistryError, match="more than 4,194,304 bytes"):
                asked(made)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"token": "' + b"x" * (2 << 20) + b'"}', "more than 1,048,576 bytes"),
        (b'{"token": "SECRET\\nTOKEN"}', "a token that is not valid in a header"),
        (b"nonsense", "sends no token"),
    ],
)
def test_malformed_token_answers_are_refused(logins, answer, expected):
    with Host(answers(200, answer)).running() as tokens:
        challenge = f'Bearer realm="http://{tokens.name}/token",service="r"'
        with Host(answers(401, WWW_Authenticate=challenge)).running() as host, endpoint(host, logins(host)) as made:
            with pytest.raises(RegistryError, match=expected) as caught:
                asked(made)
            assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_blob_is_sent_where_its_mount_is_refused(tmp_path, logins, status):
    (tmp_path / "blob").write_bytes(BLOB)

    def registry(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        if "mount=" in path:
            return status, {"WWW-Authenticate": 'Basic realm="r"'} if status == 401 else {}, b""
        if method == "POST":
            return 202, {"Location": "/upload"}, b""
        return 201, {}, b""

    with Host(registry).running() as host, endpoint(host, logins(host)) as made:
        to = Reference(registry=host.name, repository="shop/orders", tag="1")
        scopes = ("repository:shop/orders:pull,push", "repository:other:pull")
        sent = upload(made, to, LAYER, lambda: tmp_path / "blob", scopes, mount="other", reporter=Reporter())
    assert sent == len(BLOB)


def test_what_is_quoted_begins_no_scheme():
    header = 'Bearer realm="https://t/x, basic realm",service="a, bearer b", Basic realm="other"'
    found: dict[str, Any] = dict(_challenges(header))
    assert found == {"bearer": {"realm": "https://t/x, basic realm", "service": "a, bearer b"}, "basic": {"realm": "other"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python:3.12", ("docker.io", "library/python", "3.12")),
        ("docker.io/python:3.12", ("docker.io", "library/python", "3.12")),
        ("index.docker.io/library/python:3.12", ("docker.io", "library/python", "3.12")),
        ("docker.io/me/app", ("docker.io", "me/app", "")),
        ("me/app", ("docker.io", "me/app", "")),
        ("reg.example/app:1", ("reg.example", "app", "1")),
        ("localhost/app:1", ("localhost", "app", "1")),
    ],
)
def test_names_are_read_as_docker_reads_them(text, expected):
    found = Reference.parse(text)
    assert (found.registry, found.repository, found.tag) == expected


def test_digest_of_bytes_is_their_sha256():
    assert digest_of_bytes(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Received(Reporter):
    """Remembers how much has arrived of a download, at most."""

    def __init__(self) -> None:
        self.most = 0

    def transfer_advanced(self, _name: str, received: int) -> None:
        self.most = max(self.most, received)


def test_layer_that_is_announced_too_large_is_not_read(tmp_path, logins):
    told = Received()
    reference = Reference(registry="r.example", repository="shop/orders", tag="1")
    with Host(answers(200, BLOB + bytes(1 << 20))).running() as host, endpoint(host, logins(host)) as made:
        with pytest.raises(RegistryError, match="sends more bytes for a layer"):
            download(made, reference, LAYER, LocalStore(tmp_path / "store"), told)
        assert len(host.asked) == 1
    assert told.most == 0


def test_layer_without_an_end_is_cut_off_at_its_size(tmp_path):
    told = Received()
    reference = Reference(registry="r.example", repository="shop/orders", tag="1")
    layer = Descriptor(media_type=OCI_LAYER, digest=LAYER.digest, size=1_000_000)
    with EndlessServer() as server:
        made = Endpoint(server.host, DockerLogins({}, tmp_path), plain=True)
        with pytest.raises(RegistryError, match="sends more bytes for a layer"):
            download(made, reference, layer, LocalStore(tmp_path / "store"), told)
        made.close()
    assert 0 < told.most <= 1_000_000


@pytest.mark.parametrize("how", ["close", "stop", "part"])
def test_wait_for_another_attempt_ends_with_the_endpoint(logins, how):
    begun = Event()

    def busy(*_: object) -> Answer:
        begun.set()
        return 503, {"Retry-After": "20"}, b""

    with Host(busy).running() as host, endpoint(host, logins(host)) as made, ThreadPoolExecutor(1) as executor:
        task = made.part() if how == "part" else made
        asking = executor.submit(asked, task)
        assert begun.wait(10)
        started = time.monotonic()
        made.close() if how == "close" else made.stop()
        with pytest.raises(RegistryError, match="Cannot find x: it was interrupted"):
            asking.result()
        assert time.monotonic() - started < 5


def test_task_that_is_stopped_leaves_others_alone(logins):
    with Host(answers(200, b"whole")).running() as host, endpoint(host, logins(host)) as made:
        task = made.part()
        task.stop()
        with pytest.raises(RegistryError, match="interrupted"):
            asked(task)
        assert asked(made) == asked(made.part()) == b"whole"


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7), ("1e9", 30), ("-1", 0), ("nan", 0), ("inf", 30), ("soon", 0), (None, 0)]
)
def test_server_may_ask_for_a_pause_within_bounds(said, seconds):
    response = requests.Response()
    response.headers.update({"Retry-After": said} if said else {})
    assert retry_after(response) == seconds


@pytest.mark.parametrize("status", [429, 503])
def test_busy_token_server_is_asked_again(logins, monkeypatch, status):
    monkeypatch.setattr("packer.registry.endpoint._RETRIES", RetryPolicy(attempts=4, first_pause=0.01))
    busy: list[Answer] = [(status, {"Retry-After": "0"}, b"")] * 2

    def registry(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        if headers.get("Authorization") == "Bearer t":
            return 200, {}, b"whole"
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.name}/token",service="r"'}, b""

    with (
        Host(lambda *_: busy.pop() if busy else (200, {}, b'{"token": "t"}')).running() as tokens,
        Host(registry).running() as host,
        endpoint(host, logins(host)) as made,
    ):
        assert asked(made) == b"whole"
        assert len(tokens.asked) == 3


def test_token_server_that_stays_busy_is_not_a_refusal(logins, monkeypatch):
    monkeypatch.setattr("packer.registry.endpoint._RETRIES", RetryPolicy(attempts=2, first_pause=0.01))
    with Host(answers(503)).running() as tokens:
        challenge = f'Bearer realm="http://{tokens.name}/token",service="r"'
        with (
            Host(answers(401, WWW_Authenticate=challenge)).running() as host,
            endpoint(host, logins(host)) as made,
            pytest.raises(RegistryError, match=r"^Cannot find x: the token server of \S+ answers 503 .* \(2 attempts\)"),
        ):
            asked(made)


def test_token_server_that_is_away_is_asked_twice(logins, monkeypatch):
    monkeypatch.setattr("packer.registry.endpoint._RETRIES", RetryPolicy(attempts=4, first_pause=0.01))
    challenge = 'Bearer realm="http://127.0.0.1:1/token",service="r"'
    with (
        Host(answers(401, WWW_Authenticate=challenge)).running() as host,
        endpoint(host, logins(host)) as made,
        pytest.raises(RegistryError, match=r"the token server of \S+ cannot be reached \(.*\) \(2 attempts\)"),
    ):
        asked(made)


def test_part_that_begins_while_all_is_stopped_is_stopped_too():
    made = Endpoint("registry.example", DockerLogins({}, Path("/nowhere")), plain=True)
    stopping = Thread(target=made.stop)

    class Asked(Event):
        """An event that is set as soon as somebody has seen that it is not."""

        def is_set(self) -> bool:
            found = super().is_set()
            if not stopping.ident:
                stopping.start()
                stopping.join(0.3)
            return found

    made._stopped = Asked()
    task = made.part()
    stopping.join(10)
    with pytest.raises(RegistryError, match="interrupted"):
        task.raise_if_stopped("find x")
