"""Credentials: found where uv and pip find them, and never shown."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from packer.core.errors import FetchError, UsageError
from packer.net.credentials import Credentials, Login, index_urls, index_variables, login_in_url, without_login


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_urls_lose_their_login():
    assert without_login("https://me:p%40ss@host:8443/simple/?a=1#b") == "https://host:8443/simple/?a=1#b"
    assert login_in_url("https://me:p%40ss@host/simple") == Login(user="me", password="p@ss")
    assert login_in_url("https://host/simple") is None


def test_a_login_does_not_show_itself():
    assert "secret" not in repr(Login(user="me", password="secret"))


def test_the_nearest_index_on_the_same_host_decides():
    credentials = Credentials(["https://a:1@host/team-a/simple", "https://b:2@host/team-b/simple", "https://c:3@other/"], {})
    assert credentials.find("https://host/team-b/files/x.whl") == Login(user="b", password="2")
    assert credentials.find("https://host/team-a/files/x.whl") == Login(user="a", password="1")
    assert credentials.find("https://elsewhere/x.whl") is None
    assert credentials.find("http://other/x.whl") is None


def test_uvs_variables_name_an_indexs_login():
    variables = {"UV_INDEX_MY_CORP_USERNAME": "me", "UV_INDEX_MY_CORP_PASSWORD": "secret"}
    credentials = Credentials([], variables)
    credentials.learn("https://host/simple", "my-corp")
    assert credentials.find("https://host/x.whl") == Login(user="me", password="secret")


def test_netrc_is_read_and_a_broken_one_passed_over(home):
    (home / ".netrc").write_text("machine host login me password secret\n")
    assert Credentials([], {}).find("https://host/x.whl") == Login(user="me", password="secret")
    named = home / "named"
    named.write_text("nonsense")
    assert Credentials([], {"NETRC": str(named)}).find("https://host/x.whl") is None


def test_no_secret_survives_scrubbing(home):
    (home / ".netrc").write_text("machine host login me password netrc-secret\n")
    variables = {"UV_INDEX_CORP_USERNAME": "me", "UV_INDEX_CORP_PASSWORD": "uv-secret"}
    credentials = Credentials(["https://token-only@a/simple", "https://me:p%40ss@b/simple"], variables)
    credentials.learn("https://c/simple", "corp")
    credentials.find("https://host/x.whl")
    text = "token-only p@ss p%40ss netrc-secret uv-secret https://who:ever@d/simple ssh://git@e/repo"
    scrubbed = credentials.scrub(text)
    for secret in ("token-only", "p@ss", "p%40ss", "netrc-secret", "uv-secret", "who", "ever", "git@"):
        assert secret not in scrubbed
    assert "https://****@d/simple" in scrubbed


def test_pips_variables_count_where_uvs_are_not_set():
    variables = {"PIP_INDEX_URL": "https://one/simple", "PIP_EXTRA_INDEX_URL": "https://two/simple https://three/simple"}
    assert index_variables(variables) == {
        "UV_DEFAULT_INDEX": "https://one/simple",
        "UV_INDEX": "https://two/simple https://three/simple",
    }
    assert [url for _, url in index_urls(variables)] == ["https://one/simple", "https://two/simple", "https://three/simple"]
    variables |= {"UV_DEFAULT_INDEX": "https://uv/simple", "UV_INDEX": "corp=https://corp/simple"}
    assert index_variables(variables) == {}
    assert index_urls(variables) == (("", "https://uv/simple"), ("corp", "https://corp/simple"))


def test_the_keyring_command_is_asked_where_the_package_is_missing(tmp_path, monkeypatch):
    script = tmp_path / "bin" / "keyring"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\n[ "$4" = host:8080 ] || exit 1\nprintf "me\\nsecret\\n"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    credentials = Credentials([], {})
    assert credentials.ask_keyring("https://host:8080/x.whl") == Login(user="me", password="secret")
    assert credentials.ask_keyring("https://other/x.whl") is None
    assert credentials.scrub("secret") == "****"


def test_the_keyring_is_asked_once_for_a_host_by_many_threads(tmp_path, monkeypatch):
    script = tmp_path / "bin" / "keyring"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho asked >> {tmp_path}/asked\nsleep 0.2\nprintf "me\\nsecret\\n"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    credentials = Credentials([], {})
    with ThreadPoolExecutor(4) as executor:
        found = set(executor.map(credentials.ask_keyring, ["https://host/x.whl"] * 4))
    assert found == {Login(user="me", password="secret")}
    assert (tmp_path / "asked").read_text() == "asked\n"


def keyring_that(get: Callable[[str], object], monkeypatch) -> None:
    """Have a keyring package that answers by ``get``."""
    monkeypatch.setitem(__import__("sys").modules, "keyring", SimpleNamespace(get_credential=lambda host, _user: get(host)))


def test_keyring_is_asked_once_for_a_host_by_eight_threads(monkeypatch):
    asked: list[str] = []

    def prompt(host: str) -> object:
        asked.append(host)
        time.sleep(0.2)  # as long as the user takes
        return SimpleNamespace(username="me", password="secret") if host == "host" else None

    keyring_that(prompt, monkeypatch)
    credentials = Credentials([], {})
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(credentials.ask_keyring, ["https://host/a.whl", "https://other/b.whl"] * 4))
    assert found == [Login(user="me", password="secret"), None] * 4
    assert sorted(asked) == ["host", "other"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to unlock the collection!"),
        ImportError("cannot import name 'x' from 'secretstorage'"),
        OSError(5, "the bus is away"),
        KeyError("backend"),
        Exception(),
    ],
    ids=repr,
)
def test_trouble_with_the_keyring_is_an_error_that_says_what_to_do_and_is_found_out_once(monkeypatch, error):
    asked: list[str] = []

    def fail(host: str) -> object:
        asked.append(host)
        raise error

    keyring_that(fail, monkeypatch)
    credentials = Credentials([], {})

    def attempt(_: int) -> str:
        with pytest.raises(FetchError) as caught:
            credentials.ask_keyring("https://host:8080/x.whl")
        return str(caught.value)

    with ThreadPoolExecutor(8) as executor:
        (said,) = set(executor.map(attempt, range(8)))
    assert attempt(8) == said
    assert said.startswith(f"host:8080 requires a login, and the keyring cannot be queried for one: {type(error).__name__}")
    assert "netrc" in said
    assert "keyring get host:8080" in said
    assert asked == ["host:8080"]


def test_keyring_whose_own_modules_are_missing_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "keyring").mkdir()
    (tmp_path / "keyring" / "__init__.py").write_text("import jaraco_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "keyring", raising=False)
    with pytest.raises(FetchError, match="ModuleNotFoundError: No module named 'jaraco_that_is_not_there'"):
        Credentials([], {}).ask_keyring("https://host/x.whl")


@pytest.mark.parametrize(
    "found", [SimpleNamespace(username=None, password="secret"), SimpleNamespace(username="me", password=None)]
)
def test_keyring_may_lack_the_user_or_the_password(monkeypatch, found):
    keyring_that(lambda _host: found, monkeypatch)
    login = Login(user="", password="secret") if found.password else None
    assert Credentials([], {}).ask_keyring("https://host/x.whl") == login


def test_keyring_command_that_fails_is_an_error_with_its_last_line(tmp_path, monkeypatch):
    script = tmp_path / "keyring"
    script.write_text(
        "#!/bin/sh\necho 'Traceback (most recent call last):' >&2\necho 'NoKeyringError: no backend.' >&2\nexit 1\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    with pytest.raises(FetchError, match="keyring ended with status 1: NoKeyringError: no backend") as caught:
        Credentials([], {}).ask_keyring("https://host/x.whl")
    assert "Traceback" not in str(caught.value)


def test_netrc_in_another_encoding_is_passed_over(home):
    (home / ".netrc").write_bytes(b"machine host login me password \xff\xfe\n")
    assert Credentials([], {}).find("https://host/x.whl") is None


def test_password_of_one_letter_leaves_messages_readable():
    credentials = Credentials(["https://me:a@host/simple"], {"UV_INDEX_CORP_PASSWORD": "e"})
    assert credentials.scrub("cannot read a page at https://me:a@host/a") == "cannot read a page at https://****@host/a"


def test_index_address_that_is_not_a_url_is_refused_without_its_password():
    with pytest.raises(UsageError, match=r"\[bad/simple', an index's address, is not a valid URL") as caught:
        Credentials([], {}).learn("https://me:s3cret@[bad/simple")
    assert "s3cret" not in str(caught.value)


def test_port_that_is_not_a_number_is_no_port_of_others():
    credentials = Credentials(["https://me:secret@host:port/simple"], {})
    assert credentials.find("https://host/x.whl") is None
    assert credentials.find("https://host:port/x.whl") == Login(user="me", password="secret")
