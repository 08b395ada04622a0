"""What is said of bases that are wrong, by which command and with which status; and of registries that nobody answers for."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess

import pytest

from tests.images import read_layout, tar_of, write_base
from tests.packer.cli.test_images import configure
from tests.registry import running_registry


def nowhere() -> str:
    """Give a registry's name that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"localhost:{server.getsockname()[1]}"


def test_a_lock_of_bases_is_held_against_files(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    repo.run("lock", "one")
    assert set(repo.run("lock", "--check").stdout.split()) == {"fresh", "pylock.one.toml", "lpack-bases.toml"}
    shutil.rmtree(repo.folder / "base")
    write_base(repo.folder / "base", config={"author": "somebody else"})
    assert "is not the locked one any more" in repo.run("lock", "--check", status=2).stderr
    (repo.folder / "lpack-bases.toml").unlink()
    assert "one is built upon oci:base, which lpack-bases.toml does not have" in repo.run("lock", "--check", status=2).stderr
    (repo.folder / "one" / "requirements.txt").unlink()
    (repo.folder / "one" / "app.py").write_text("def handler(event, context): ...\n")
    assert "which lpack-bases.toml does not have" in repo.run("lock", "--check", status=2).stderr


def test_a_base_of_another_python_is_not_locked(repo):
    write_base(repo.folder / "base", tar_of(("usr/bin/python3.9", b"")))
    repo.function("one")
    configure(repo, "one")
    assert "has Python 3.9, and one is built for" in repo.run("lock", status=2).stderr
    assert not (repo.folder / "lpack-bases.toml").exists()


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("oic:./x", "docker-archive:FILE"),
        ("Upper/case:1", "oci:FOLDER, docker-archive:FILE and engine:NAME"),
        ("localhost:5000", "is a registry without a repository"),
        ("docker-archive:base", "names a file that `docker save` writes"),
        ("oci:lpack.toml", "names the folder of an OCI image layout"),
        ("oci:nosuch", "There is no"),
    ],
)
def test_a_base_that_is_none_is_told_with_the_forms_that_are_known(repo, base, told):
    repo.function("one")
    configure(repo, "one", base=base)
    error = repo.run("build", status=2).stderr
    assert told in error
    assert "oci.base" in error or "write " in error


def test_what_an_image_cannot_have_is_refused(repo):
    repo.function("one")
    configure(repo, "one", oci="base-layers = false\n")
    assert "'oci:base' is in no registry where layers could be left" in repo.run("build", status=2).stderr
    repo.configure("one", settings='format = "image"', more='[oci]\nbase = "oci:base"\n', of={"one": 'layers = "auto"'})
    assert "a function that is an image has no layers of Lambda's" in repo.run("build", status=2).stderr


@pytest.mark.parametrize("cut", ["in the middle", "to nothing"])
def test_a_blob_that_was_cut_short_in_place_is_written_again(repo, tmp_path, cut):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    repo.run("build")
    blobs = repo.folder / "dist/images/one/blobs/sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2 if cut == "in the middle" else 0)  # the cache has the same file
    with running_registry(tmp_path) as registry:
        error = repo.run("push", "--to", f"{registry.host}/x:1", status=1).stderr
    assert "not what its digest and size say" in error
    assert "images/one, and run `lpack build`, which writes it again" in error
    assert "built" in repo.run("build").stdout
    [found] = read_layout(repo.folder / "dist/images/one")
    assert found.file("var/task/common/__init__.py") == b"VERSION = '1.0'\n"
    assert "unchanged" in repo.run("build").stdout


def test_push_without_a_tag_uses_latest(repo, tmp_path):
    repo.function("one")
    configure(repo, "one")
    repo.run("build")
    with running_registry(tmp_path) as registry:
        pushed = repo.run("push", "--to", f"{registry.host}/shop/{{function}}").stdout
        assert f"{registry.host}/shop/one:latest@sha256:" in pushed
        command = ["skopeo", "list-tags", "--tls-verify=false", f"docker://{registry.host}/shop/one"]
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    assert json.loads(listed)["Tags"] == ["latest"]


def test_what_another_push_has_sent_is_mounted(repo, tmp_path):
    common = repo.wheel("common")
    repo.function("one", common)
    repo.function("two", common)
    configure(repo, "one", "two")
    repo.run("build")
    with running_registry(tmp_path) as registry:
        first = json.loads(repo.run("push", "one", "--to", f"{registry.host}/shop/one:1", "--json").stdout)["one"]
        second = json.loads(repo.run("push", "two", "--to", f"{registry.host}/shop/two:1", "--json").stdout)["two"]
        assert first["mounted"] == 0
        assert second["mounted"] >= 2  # of the base, and what both have
        assert registry.is_whole("shop/two", "1")


def test_a_registry_without_a_repository_is_no_place(repo):
    repo.function("one")
    configure(repo, "one")
    repo.run("build")
    assert "is a registry without a repository" in repo.run("push", "--to", "localhost:5871", status=2).stderr


def test_registry_that_does_not_answer_is_reported_soon(repo):
    repo.function("one")
    host = nowhere()
    configure(repo, "one", base=f"{host}/base:1")
    error = repo.run("build", status=1).stderr
    assert " is not read: Cannot" in error
    assert f"the registry {host} cannot be reached" in error
    assert "(2 attempts)" in error
    assert "Check its name and port, that it runs, and the network." in error
