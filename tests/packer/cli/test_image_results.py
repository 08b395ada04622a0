"""What `lpack push` and `lpack verify` say of what went well, and of what did not."""

from __future__ import annotations

import pytest

from tests.images import write_base
from tests.packer.cli.test_images import build, configure, image
from tests.packer.cli.test_schemas import checked
from tests.registry import running_registry


def test_what_is_pushed_before_a_failure_is_told_and_so_is_the_failure(repo, tmp_path):
    repo.function("one")
    repo.function("two", source="VALUE = 2\n")
    configure(repo, "one", "two")
    build(repo)
    digest = image(repo, "one").digest
    with running_registry(tmp_path / "registry") as registry:
        to = f"{registry.host}/shop/{{function}}:1"
        pushed = checked("push", repo.run("push", "one", "--to", to, "--json").stdout)
        assert pushed["one"]["digest"] == digest
        layer = repo.folder / "dist/images/two/blobs/sha256" / image(repo, "two").digests[-1].removeprefix("sha256:")
        layer.unlink()
        both = checked("push", repo.run("push", "--to", to, "--json", status=1).stdout)
        assert both["one"]["digest"] == digest
        assert "it lacks the blob" in both["two"]["error"]
    failed = checked("push", repo.run("push", "one", "--to", to, "--json", status=1).stdout)["one"]
    assert registry.host in failed["error"]
    assert failed["remedy"]


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("", "--to names no registry"),
        ("localhost:1/shop/{fn}:1", "{fn} in --to localhost:1/shop/{fn}:1 is not a known placeholder"),
        ("localhost:1/shop/{}:1", "{} in --to"),
        ("localhost:1/SHOP:1", "is not the name of an image"),
    ],
)
def test_a_place_that_is_none_is_refused_and_nothing_printed(repo, to, told):
    repo.function("one")
    configure(repo, "one")
    build(repo)
    finished = repo.run("push", "--to", to, "--json", status=2)
    assert told in finished.stderr
    assert not finished.stdout


def test_events_are_told_by_the_names_of_their_files(repo):
    repo.function("one")
    (repo.folder / "one" / "app.py").write_text("def handler(event, context):\n    return 1 / event\n")
    (repo.folder / "events").mkdir()
    for name, text in (("first", "1"), ("second", "0")):
        (repo.folder / "events" / f"{name}.json").write_text(text)
    repo.configure("one", settings='verify = { events = ["events/*.json"] }')
    repo.build()
    first, second = checked("verify", repo.run("verify", "--json").stdout)["one"]["events"]
    assert (first["name"], first["result"]) == ("first.json", 1.0)
    assert (second["name"], second["error"]["type"]) == ("second.json", "ZeroDivisionError")
    (repo.folder / "events" / "first.expected.json").write_text("2")
    failed = checked("verify", repo.run("verify", "--json", status=4).stdout)["one"]
    assert "first.json" in failed["error"]
    assert "Fix the function" in failed["remedy"]


def test_a_name_that_a_layout_does_not_have_is_told(repo):
    write_base(repo.folder / "base")
    repo.function("one")
    configure(repo, "one", base="oci:base:nosuch")
    assert "oci:base:nosuch names no image of the layout" in repo.run("build", status=2).stderr


@pytest.mark.parametrize("command", [("push", "--to", "localhost:1/one:1"), ("load",), ("verify",)])
def test_an_archive_for_docker_alone_is_told_of(repo, command):
    repo.function("one")
    configure(repo, "one", oci='write = ["docker-archive"]\n')
    build(repo)
    error = repo.run(*command, status=2).stderr
    assert "one was written as a docker-archive alone" in error
    assert 'oci.write = ["oci", "docker-archive"]' in error
    assert "docker load --input" in error


@pytest.mark.parametrize("command", [("push", "--to", "localhost:1/one:1"), ("load",), ("verify",)])
def test_what_was_built_without_a_configuration_is_named_by_its_folder(tmp_path, lpack, cache, command):
    finished = lpack(*command, cwd=tmp_path)
    assert finished.returncode == 2
    assert f"lpack {command[0]} PATH" in finished.stderr
    assert "lpack build PATH" not in finished.stderr
    (tmp_path / "template.yaml").write_text("Resources: {}\n")
    assert "--template template.yaml" in lpack(*command, cwd=tmp_path).stderr
