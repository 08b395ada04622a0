"""The user and the entrypoint of the configuration: what neither a base nor the function has is refused at build."""

from __future__ import annotations

import stat
import tarfile

import pytest

from tests.images import plain_layer, special, tar_of, write_base
from tests.packer.cli.test_images import build, configure, image

PASSWD = ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
GROUP = ("etc/group", b"root:x:0:\nstaff:x:50:\n")


def based(repo, oci: str, *members: tarfile.TarInfo | tuple[str, bytes]) -> None:
    """Have a function that becomes an image upon a base with these files in its upper layer."""
    write_base(repo.folder / "base", plain_layer(), tar_of(PASSWD, GROUP, *members))
    repo.function("one")
    configure(repo, "one", oci=f"{oci}\n")


@pytest.mark.parametrize("user", ["app", "app:staff", "1234", "1234:5678", "root"])
def test_a_user_of_the_base_or_a_number_is_taken(repo, user):
    based(repo, f'user = "{user}"')
    build(repo)
    assert image(repo, "one").config["config"]["User"] == user


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("ap", "its base oci:base has no ap in /etc/passwd"),
        ("app:people", "has no people in /etc/group"),
        ("app:staff:x", "has no staff:x"),
    ],
)
def test_a_user_that_the_base_does_not_have_is_refused(repo, user, told):
    based(repo, f'user = "{user}"')
    error = repo.run("build", status=2).stderr
    assert told in error
    assert "oci.user" in error
    assert "root" in error
    assert not (repo.folder / "dist" / "images").exists()


def test_the_uppermost_file_of_users_is_the_one_that_counts(repo):
    write_base(repo.folder / "base", tar_of(PASSWD), tar_of(("etc/passwd", b"other:x:7:7::/:/bin/sh\n")))
    repo.function("one")
    configure(repo, "one", oci='user = "app"\nentrypoint = ["/x"]\n')
    assert "has no app" in repo.run("build", status=2).stderr


LINKS = (special("bin", tarfile.SYMTYPE, "usr/bin"), ("usr/bin/start1", b"#!/bin/sh\n"))
MORE = (*LINKS, special("usr/bin/start", tarfile.SYMTYPE, "/bin/start1"))


@pytest.mark.parametrize(
    "word", ["/usr/bin/start1", "/bin/start", "start", "../../usr/bin/start", "/var/task/run.sh", "./run.sh"]
)
def test_an_entrypoint_of_the_base_or_the_function_is_taken(repo, word):
    based(repo, f'entrypoint = ["{word}", "-x"]', *MORE)
    script = repo.folder / "one" / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    build(repo)
    assert image(repo, "one").config["config"]["Entrypoint"] == [word, "-x"]


@pytest.mark.parametrize("word", ["/usr/bin/stat", "stat", "/var/task/run.sh", "/etc", "bin/start"])
def test_an_entrypoint_that_is_nowhere_is_refused(repo, word):
    based(repo, f'entrypoint = ["{word}", "-x"]', *MORE)
    error = repo.run("build", status=2).stderr
    assert f"is to start {word}, which is no program of its base oci:base or its own" in error
    assert "oci.entrypoint" in error


def test_a_path_of_the_configuration_is_looked_along(repo):
    based(repo, 'entrypoint = ["tool"]\nenvironment = { PATH = "/opt/own:/usr/bin" }', ("opt/own/tool", b"x"))
    build(repo)
    configure(repo, "one", oci='entrypoint = ["tool"]\n')
    assert "is to start tool" in repo.run("build", status=2).stderr
