"""What was built and has changed since is told of by who sends or runs it."""

from __future__ import annotations

import os

import pytest

from tests.packer.cli.test_images import configure
from tests.registry import running_registry

OLD = "is as it was built before"


@pytest.fixture
def project(repo):
    for name in ("one", "two"):
        repo.function(name)
    (repo.folder / "one" / "more.py").write_text("VALUE = 1\n")
    repo.configure("one", "two", settings='layers = "none"')
    repo.build()
    assert OLD not in repo.run("verify").stderr
    return repo


@pytest.mark.parametrize("change", ["edit", "add", "remove", "requirements", "configuration"])
def test_a_change_since_the_build_is_told(project, change):
    source = project.folder / "one"
    if change == "edit":
        (source / "app.py").write_text("def handler(event, context):\n    return 1\n")
    elif change == "add":
        (source / "new.py").write_text("")
    elif change == "remove":
        (source / "more.py").unlink()
    elif change == "requirements":
        (source / "requirements.txt").write_text("# nothing\n")
    else:
        config = project.folder / "lpack.toml"
        config.write_text(config.read_text() + "# a word\n")
    named = {"edit": "one/app.py", "add": "one/new.py", "remove": "one/more.py", "requirements": "one/requirements.txt"}
    stderr = project.run("verify").stderr
    assert f"one {OLD} {named.get(change, 'lpack.toml')} changed; `lpack build` builds it again" in stderr
    assert (f"two {OLD}" in stderr) == (change == "configuration")
    assert OLD not in project.run("verify", "two").stderr or change == "configuration"
    project.run("build")
    assert OLD not in project.run("verify").stderr


def test_what_changes_nothing_is_not_told(project):
    source = project.folder / "one"
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"x")
    path = source / "app.py"
    path.write_text(path.read_text())
    os.utime(path, (1, 1))
    assert OLD not in project.run("verify").stderr


def test_a_push_tells_of_images_alone(repo, tmp_path):
    for name in ("one", "two"):
        repo.function(name)
    configure(repo, "one")
    config = repo.folder / "lpack.toml"
    config.write_text(f'{config.read_text()}[functions.two]\nsource = "two"\nhandler = "app.handler"\nformat = "zip"\n')
    repo.run("build")
    for name in ("one", "two"):
        (repo.folder / name / "new.py").write_text("")
    with running_registry(tmp_path / "registry") as registry:
        stderr = repo.run("push", "--to", f"{registry.host}/shop/one:1").stderr
    assert f"one {OLD} one/new.py changed" in stderr
    assert f"two {OLD}" not in stderr
