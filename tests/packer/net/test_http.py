"""Sessions: which certificates they trust, by the variables that Python tools commonly use."""

from __future__ import annotations

import certifi
import pytest

from packer.core.errors import UsageError
from packer.net.http import new_session

VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_variable_that_names_no_certificates_is_reported(tmp_path, monkeypatch, variable, content):
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(variable, str(path))
    with pytest.raises(UsageError, match=f"^{variable} names {path}, from which no certificates can be read"):
        new_session()


def test_ssl_cert_file_is_used_where_requests_has_no_variable_of_its_own(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    assert new_session().verify == certifi.where()
    monkeypatch.setenv("CURL_CA_BUNDLE", certifi.where())
    assert new_session().verify is True


def test_folder_of_certificates_is_accepted(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert new_session().verify is True


def test_variable_that_is_outweighed_is_not_looked_at(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    new_session()
