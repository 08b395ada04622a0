"""Addresses of remotes, where credentials come from, and short words for long errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from threading import Thread

import pytest

from packer.cache.objects import RemoteObjects, RemoteTiming, _remote_error, read_address
from packer.core.errors import UsageError
from tests.s3 import ACCESS_KEY, BUCKET, SECRET_KEY


@pytest.mark.parametrize(
    ("text", "scheme", "shown"),
    [
        ("s3://bucket", "s3", "s3://bucket"),
        ("s3://bucket/a/prefix/", "s3", "s3://bucket/a/prefix"),
        ("gs://bucket/prefix", "gs", "gs://bucket/prefix"),
        ("az://container/prefix", "az", "az://container/prefix"),
        ("abfss://container@account.dfs.core.windows.net/p", "abfss", "abfss://container@account.dfs.core.windows.net/p"),
        ("/srv/cache", "file", "/srv/cache"),
        ("file:///srv/our%20cache", "file", "/srv/our cache"),
        ("file://localhost/srv/cache", "file", "/srv/cache"),
    ],
)
def test_address_is_read_with_its_scheme(tmp_path, text, scheme, shown):
    address = read_address(text, tmp_path)
    assert (address.scheme, str(address)) == (scheme, shown)


def test_relative_path_starts_at_the_given_folder(tmp_path):
    assert str(read_address("../cache", tmp_path / "project")) == str(tmp_path / "project" / ".." / "cache")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://host/prefix", "unknown scheme"),
        ("https://bucket.s3.amazonaws.com/prefix", "unknown scheme"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://bucket/prefix?region=eu", "more than a bucket and a prefix"),
        ("s3://key:hunter2@bucket/prefix", "has credentials"),
        ("gs://hunter2@bucket/prefix", "has credentials"),
        ("az://container/prefix?sv=2024-11-04&sig=hunter2", "az://container/prefix names"),
        (
            "https://account.blob.core.windows.net/c?sig=hunter2#hunter2",
            "account.blob.core.windows.net/c has an unknown scheme",
        ),
        ("s3://[hunter2", "s3://… is not a valid URL"),
        ("s3://hunter2@[x", "s3://… is not a valid URL"),
        ("file://server/share", "names no folder"),
        ("file://", "names no folder"),
    ],
)
def test_wrong_address_is_refused(tmp_path, text, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_address(text, tmp_path)
    assert caught.value.remedy
    assert "hunter2" not in str(caught.value)


def test_missing_azure_account_is_named_in_the_remedy(tmp_path, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(UsageError, match="Account must be specified") as caught:
        RemoteObjects(read_address("az://container/prefix", tmp_path))
    assert "AZURE_STORAGE_ACCOUNT_NAME" in caught.value.remedy


def test_missing_obstore_is_named_with_its_extra(tmp_path, monkeypatch):
    for name in ("obstore", "obstore.store", "obstore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match="needs the package obstore") as caught:
        RemoteObjects(read_address("s3://bucket", tmp_path))
    assert "pip install 'lambda-lpack[remote]'" in caught.value.remedy


class _Metadata(BaseHTTPRequestHandler):
    """Gives credentials as containers get them (AWS SDKs and Tools Reference Guide, "Container credential provider")."""

    def do_GET(self) -> None:
        body = json.dumps(
            {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": "", "Expiration": "2999-01-01T00:00:00Z"}
        ).encode()
        self.send_response(200 if self.headers["Authorization"] == "let me in" else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class's name
        """Say nothing."""


class TestCredentials:
    @pytest.fixture(autouse=True)
    def _no_keys(self, monkeypatch, tmp_path, signed_s3) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")

    @pytest.fixture
    def container(self) -> Iterator[str]:
        with HTTPServer(("127.0.0.1", 0), _Metadata) as server:
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            yield f"http://127.0.0.1:{server.server_address[1]}/credentials"
            server.shutdown()
            thread.join()

    def answer(self, tmp_path, bucket) -> bool:
        return RemoteObjects(read_address(bucket, tmp_path), RemoteTiming(retrying=0.5)).read("nothing", BytesIO(), 10)

    def test_credentials_of_a_profile_are_used(self, tmp_path, bucket, monkeypatch):
        (tmp_path / "credentials").write_text(f"[ci]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
        monkeypatch.setenv("AWS_PROFILE", "ci")
        assert self.answer(tmp_path, bucket) is False

    def test_credentials_of_a_profiles_program_are_used(self, tmp_path, bucket):
        given = {"Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY}
        (tmp_path / "given.json").write_text(json.dumps(given))
        (tmp_path / "config").write_text(f"[default]\nregion = eu-west-1\ncredential_process = cat {tmp_path}/given.json\n")
        assert self.answer(tmp_path, bucket) is False

    def test_unknown_profile_is_an_error(self, tmp_path, bucket, monkeypatch):
        monkeypatch.setenv("AWS_PROFILE", "missing")
        with pytest.raises(UsageError, match="missing"):
            self.answer(tmp_path, bucket)

    def test_credentials_of_a_container_are_used(self, tmp_path, bucket, container, monkeypatch):
        (tmp_path / "token").write_text("let me in")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", container)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        assert self.answer(tmp_path, bucket) is False

    def test_missing_credentials_are_an_error(self, tmp_path, bucket):
        with pytest.raises(Exception, match="no credentials were found"):
            self.answer(tmp_path, f"s3://{BUCKET}")


def test_message_of_obstore_is_cut_to_its_first_line():
    text = "Generic LocalFileSystem error: Unable to open file /srv/x#1: Permission denied (os error 13)\n\nDebug source:"
    trouble = _remote_error(OSError(text))
    assert trouble.denied
    assert trouble.what == text.partition("\n")[0]
    assert len(_remote_error(OSError("long " * 200)).what) < 250
