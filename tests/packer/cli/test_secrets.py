"""What should not be packed is found, whatever it is called, and nothing else is."""

from __future__ import annotations

import subprocess

import pytest

from packer.core.errors import PackageError
from packer.core.model import OWN_SOURCE, BytesContent, Entry, Tree
from packer.source.secrets import describe_secrets, find_secrets, refuse_secrets

_ID = "AKIA" + "Q3EGRZTT5B2NABCD"
_SECRET = "abcdEFGH0123abcdEFGH0123abcdEFGH0123/+xy"


def found(path: str, content: bytes = b"x", allowed: tuple[str, ...] = ()) -> str:
    tree = Tree.of([Entry(path=path, mode=0o644, content=BytesContent.of(content), owner=OWN_SOURCE)])
    return "".join(each.what for each in find_secrets(tree, allowed))


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Give real keys by the command that makes each."""
    folder = tmp_path_factory.mktemp("keys")
    subprocess.run(["openssl", "genrsa", "-out", folder / "rsa", "2048"], check=True, capture_output=True)
    words = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", folder / "ed25519"]
    subprocess.run(words, check=True, capture_output=True)
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / "ec"], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "ssh"], check=True)
    of_rsa = ["openssl", "rsa", "-in", folder / "rsa"]
    encrypted = ["-aes128", "-passout", "pass:secret", "-traditional", "-out", folder / "old"]
    subprocess.run([*of_rsa, *encrypted], check=True, capture_output=True)
    subprocess.run([*of_rsa, "-pubout", "-out", folder / "public"], check=True, capture_output=True)
    words = ["openssl", "req", "-x509", "-key", folder / "rsa", "-subj", "/CN=test", "-out", folder / "certificate"]
    subprocess.run(words, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", ["rsa", "ed25519", "ec", "ssh", "old"])
def test_a_private_key_is_found_by_its_content(keys, name):
    data = (keys / name).read_bytes()
    assert found("config/settings.txt", data) == "a private key"
    assert found("app.py", b'KEY = """\n' + data + b'"""\n') == "a private key"
    assert found("key.json", b'{"key": "' + data.replace(b"\n", b"\\n") + b'"}') == "a private key"


@pytest.mark.parametrize("name", ["public", "certificate", "ssh.pub"])
def test_what_is_public_is_no_secret(keys, name):
    assert found("config/settings.txt", (keys / name).read_bytes()) == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"KEY = '{_ID}'", "an AWS access key"),
        (f"id:{_ID},", "an AWS access key"),
        (f"ASIA{_ID[4:]}", "an AWS access key"),
        (f"aws_secret_access_key = {_SECRET}", "an AWS secret key"),
        (f'AWS_SECRET_ACCESS_KEY="{_SECRET}"', "an AWS secret key"),
        (f'"aws_secret_key": "{_SECRET}"', "an AWS secret key"),
        ("KEY = 'AKIAIOSFODNN7EXAMPLE'", ""),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""),
        (f"X{_ID}", ""),
        (f"{_ID}7", ""),
        (f"aws_secret_access_key = {_SECRET}0", ""),
        ("aws_secret_access_key = os.environ['AWS_SECRET_ACCESS_KEY_OF_THE_FUNCTION_HERE']", ""),
        ("-----BEGIN PRIVATE KEY-----", ""),
        ("if line.startswith('-----BEGIN RSA PRIVATE KEY-----'):", ""),
    ],
)
def test_keys_of_aws_are_found_and_what_only_speaks_of_keys_is_not(content, expected):
    assert found("app.py", content.encode()) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".env", "a file of environment variables"),
        ("config/.env.production", "a file of environment variables"),
        (".env.example", ""),
        ("environment.env", ""),
        (".netrc", "a file of passwords or keys"),
        ("home/.aws/credentials", "a file of passwords or keys"),
        ("credentials", ""),
        ("keys/id_rsa", "a file of passwords or keys"),
        ("vendored/.git/config", "a part of a repository"),
        (".git", "a part of a repository"),
        ("git/config", ""),
    ],
)
def test_secret_is_found_by_its_file_name(path, expected):
    assert found(path) == expected


def test_what_was_looked_at_is_allowed():
    assert found("tests/key.pem", allowed=("tests/*",)) == ""
    assert found("tests/.env", allowed=("tests/*",)) == ""
    assert found("config/.env", allowed=("tests/*",)) != ""


def test_many_are_told_shortly_and_no_secret_is_shown():
    entries = [Entry(path=f"{n}/.env", mode=0o644, content=BytesContent.of(b"SECRET=x"), owner=OWN_SOURCE) for n in range(9)]
    findings = find_secrets(Tree.of(entries))
    warnings = describe_secrets("orders", findings)
    assert len(warnings) == 6
    assert warnings[-1] == "orders packs 4 more files that should not be packed."
    with pytest.raises(PackageError) as caught:
        refuse_secrets("orders", findings)
    assert "8/.env: a file of environment variables" in caught.value.detail
    refuse_secrets("orders", ())


def test_a_build_warns_each_time_and_fails_where_it_is_strict(repo):
    repo.function("one")
    repo.configure("one")
    (repo.folder / "one" / ".env").write_text("PASSWORD=hunter2\n")
    for _ in range(2):
        for command in ("build", "check"):
            told = repo.run(command).stderr
            assert "one packs .env, which is a file of environment variables" in told
            assert 'ignore = [".env"]' in told
            assert "hunter2" not in told
    for command in ("check", "build"):
        told = repo.run(command, "--strict", status=1).stderr
        assert "one would pack what should not be packed" in told
    repo.configure("one", settings='allow = [".env"]')
    assert repo.run("build", "--strict").stderr.count("warning") == 0
    assert "warning" not in repo.run("check", "--strict").stderr
