"""Images from end to end: what is built, read back by other code than the writer's, and when it is built again."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from typing import Any

import pytest

from tests.images import ENTRY, Read, read_layout, tar_of, write_base
from tests.monorepo import Monorepo, noise
from tests.schemas import check_document
from tests.shaped import RUNTIME

PLAIN = 'verify = "none"\nbytecode = "off"'


def configure(repo: Monorepo, *names: str, settings: str = PLAIN, oci: str = "", base: str = "oci:base") -> None:
    """Have functions become images upon a base in the project's folder."""
    if not (repo.folder / "base").exists():
        write_base(repo.folder / "base")
    repo.configure(*names, settings=f'format = "image"\n{settings}', more=f'[oci]\nbase = "{base}"\n{oci}')


def build(repo: Monorepo, *flags: str) -> dict[str, Any]:
    """Build, hold the manifest against its schema, and give it."""
    manifest: dict[str, Any] = json.loads(repo.run("build", "--json", *flags).stdout)
    check_document("manifest", manifest)
    return manifest


def image(repo: Monorepo, name: str) -> Read:
    [found] = read_layout(repo.folder / "dist" / "images" / name)
    return found


def test_an_image_holds_the_base_and_the_function_and_says_how_it_runs(repo):
    repo.function("one", repo.wheel("common"))
    more = 'environment = { STAGE = "test" }\nlabels = { "org.opencontainers.image.source" = "here" }\n'
    configure(repo, "one", oci=more)
    report = build(repo)["functions"]["one"]
    found = image(repo, "one")
    assert report["image"]["digest"] == found.digest
    assert report["artifact"]["stored_bytes"] == sum(each["bytes"] for each in report["image"]["layers"])
    assert [each["digest"] for each in report["image"]["layers"]] == found.digests[report["image"]["base"]["layers"] :]
    assert [each["holds"] for each in report["image"]["layers"]] == ["common 1.0", "the function's own source"]
    run = found.config["config"]
    assert (run["Cmd"], run["Entrypoint"], run["WorkingDir"]) == (["app.handler"], [ENTRY], "/var/task")
    assert run["Env"] == ["PATH=/usr/bin", "FROM_BASE=yes", "STAGE=test"]
    assert run["Labels"] == {"org.opencontainers.image.title": "one", "org.opencontainers.image.source": "here"}
    assert found.config["created"] == "1970-01-01T00:00:00Z"
    assert found.file("etc/os-release") == b"ID=tiny\n"
    assert found.file("var/task/common/__init__.py") == b"VERSION = '1.0'\n"
    assert b"def handler" in found.file("var/task/app.py")


def test_files_of_layers_belong_to_root_and_are_readable_for_all(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    build(repo)
    for members in image(repo, "one").layers[1:]:
        for name, member in members.items():
            assert (member.uid, member.gid, member.mtime) == (0, 0, 0), name
            assert member.mode in ((0o755,) if member.isdir() else (0o644, 0o755)), name
            assert not name.startswith("/"), name
            above = name.rpartition("/")[0]
            assert not above or members[above].isdir(), name


@pytest.mark.parametrize("compression", ["gzip", "gzip-whole", "zstd"])
def test_every_compression_holds_the_same_files(repo, compression):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one", oci=f'compression = "{compression}"\n')
    build(repo)
    found = image(repo, "one")
    assert found.file("var/task/common/data.bin") == noise("common 1.0")


def test_the_same_inputs_give_the_same_digest_with_any_jobs_in_any_cache(repo, monkeypatch, tmp_path):
    for name in ("one", "two"):
        repo.function(name, *(repo.wheel(f"lib{number}") for number in range(4)))
    configure(repo, "one", "two", settings='verify = "none"')  # which is not about whether the base starts
    digests = []
    for number, jobs in enumerate(("1", "4")):
        monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / f"cache{number}"))
        shutil.rmtree(repo.folder / "dist", ignore_errors=True)
        manifest = build(repo, "--jobs", jobs)
        digests.append({name: each["image"]["digest"] for name, each in manifest["functions"].items()})
    assert digests[0] == digests[1]


def test_source_date_epoch_says_when_an_image_was_made_and_moves_no_layer(repo, monkeypatch):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    build(repo)
    before = image(repo, "one")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    build(repo)
    after = image(repo, "one")
    assert after.config["created"] == "2023-11-14T22:13:20Z"
    assert after.digests == before.digests
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert "no number of seconds" in repo.run("build", status=2).stderr


def test_functions_share_the_layers_of_what_they_share_and_a_line_changes_one_layer(repo):
    common, own = repo.wheel("common"), repo.wheel("own")
    repo.function("one", common, own)
    repo.function("two", common)
    configure(repo, "one", "two")
    build(repo)
    one, two = image(repo, "one"), image(repo, "two")
    assert one.digests[:2] == two.digests[:2]
    assert "var/task/common/__init__.py" in one.contents[1]
    with (repo.folder / "two" / "app.py").open("a") as file:
        file.write("# another line\n")
    lines = repo.run("build").stdout.splitlines()
    assert [("built" in line.split(), line.split()[0]) for line in lines] == [(False, "one"), (True, "two")]
    assert image(repo, "one").digest == one.digest
    assert image(repo, "two").digests[:-1] == two.digests[:-1]
    assert image(repo, "two").digests[-1] != two.digests[-1]


def test_nothing_changed_writes_nothing(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    build(repo)
    place = repo.folder / "dist"
    before = {path: path.stat().st_mtime_ns for path in sorted(place.rglob("*"))}
    assert "unchanged" in repo.run("build").stdout
    assert {path: path.stat().st_mtime_ns for path in sorted(place.rglob("*"))} == before


def test_a_blob_that_is_gone_from_the_layout_is_written_again(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    build(repo)
    lost = repo.folder / "dist/images/one/blobs/sha256" / image(repo, "one").digests[-1].removeprefix("sha256:")
    lost.unlink()
    assert "built" in repo.run("build").stdout
    assert lost.is_file()
    image(repo, "one")


def test_another_base_makes_another_image(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    build(repo)
    before = image(repo, "one")
    shutil.rmtree(repo.folder / "base")
    write_base(repo.folder / "base", config={"author": "somebody else"})
    build(repo)
    after = image(repo, "one")
    assert after.digest != before.digest
    assert after.digests == before.digests
    assert after.config["author"] == "somebody else"


def test_the_artifact_of_another_format_goes(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one", oci='write = ["oci", "docker-archive"]\n')
    assert build(repo)["functions"]["one"]["image"]["also"] == ["images/one.tar"]
    assert sorted(path.name for path in (repo.folder / "dist/images").iterdir()) == ["one", "one.tar"]
    assert build(repo, "--format", "zip")["functions"]["one"]["format"] == "zip"
    assert (repo.folder / "dist/one.zip").is_file()
    assert not (repo.folder / "dist/images/one").exists()
    assert not (repo.folder / "dist/images/one.tar").exists()
    build(repo)
    assert not (repo.folder / "dist/one.zip").exists()
    image(repo, "one")


def test_a_docker_archive_holds_the_same_image(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one", oci='write = ["oci", "docker-archive"]\n')
    build(repo)
    found = image(repo, "one")
    with tarfile.open(repo.folder / "dist/images/one.tar") as archive:
        members = {each.name: archive.extractfile(each).read() for each in archive if each.isreg()}  # type: ignore[union-attr]
    [entry] = json.loads(members["manifest.json"])
    assert entry["RepoTags"] == ["one:latest"]
    assert json.loads(members[entry["Config"]]) == found.config
    assert len(entry["Layers"]) == len(found.digests)


@pytest.mark.parametrize("tool", ["skopeo", "umoci"])
def test_other_tools_read_a_layout(repo, tmp_path, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    repo.function("one", repo.wheel("common"))
    configure(repo, "one", oci='write = ["oci", "docker-archive"]\n')
    build(repo)
    layout = f"{repo.folder}/dist/images/one:one:latest"
    if tool == "umoci":
        command = ["umoci", "stat", "--json", "--image", layout]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert [each["layer"]["digest"] for each in json.loads(done.stdout)["history"]] == image(repo, "one").digests
        return
    for number, source in enumerate((f"oci:{layout}", f"docker-archive:{repo.folder}/dist/images/one.tar")):
        done = subprocess.run(
            ["skopeo", "copy", "--insecure-policy", source, f"dir:{tmp_path}/copy{number}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "copy0/manifest.json").read_bytes())
    assert [each["digest"] for each in manifest["layers"]] == image(repo, "one").digests


def test_a_base_is_locked_and_kept_to(repo):
    repo.function("one")
    configure(repo, "one")
    assert "is not locked" in repo.run("build", "--frozen", status=2).stderr
    assert "lpack-bases.toml" in repo.run("lock").stdout
    build(repo, "--frozen")
    shutil.rmtree(repo.folder / "base")
    write_base(repo.folder / "base", config={"author": "somebody else"})
    assert "is not the locked one any more" in repo.run("build", status=2).stderr
    repo.run("lock")
    build(repo, "--frozen")
    assert image(repo, "one").config["author"] == "somebody else"


def test_a_base_for_another_machine_is_refused(repo):
    write_base(repo.folder / "base", architecture="arm64")
    repo.function("one")
    configure(repo, "one")
    finished = repo.run("build", status=2)
    assert "oci:base is for linux/arm64, and the function for linux/amd64" in finished.stderr
    assert not (repo.folder / "dist/images").exists()


def test_a_base_without_the_functions_python_is_refused(repo):
    write_base(repo.folder / "base", tar_of(("usr/bin/python3.9", b"")))
    repo.function("one")
    configure(repo, "one")
    assert f"has Python 3.9, and one is built for {RUNTIME.removeprefix('python')}" in repo.run("build", status=2).stderr


@pytest.mark.parametrize(
    ("oci", "told"),
    [
        ('bas = "x"', "oci.bas"),
        ('compression = "lzma"', "oci.compression"),
        ("write = []", "oci.write"),
        ('write = ["tar"]', "oci.write"),
        ('working-dir = "task"', "oci.working-dir"),
        ('environment = { "A B" = "x" }', "oci.environment"),
        ("environment = { A = 1 }", "oci.environment"),
        ('emulator = "yes"', "oci.emulator"),
        ("base-layers = 1", "oci.base-layers"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_named(repo, oci, told):
    repo.function("one")
    write_base(repo.folder / "base")
    repo.configure("one", settings='format = "image"', more=f"[oci]\n{oci}\n")
    error = repo.run("build", status=2).stderr
    assert told in error
    assert "lpack.toml" in error


def test_what_was_not_built_cannot_be_pushed(repo):
    repo.function("one")
    configure(repo, "one")
    assert "Run `lpack build` first." in repo.run("push", "--to", "localhost:1/x:1", status=2).stderr
    repo.configure("one", settings=PLAIN)
    repo.build()
    assert "has no image" in repo.run("push", "--to", "localhost:1/x:1", status=2).stderr
    assert "was built as a ZIP archive" in repo.run("push", "one", "--to", "localhost:1/x:1", status=2).stderr


def test_an_archive_is_verified_as_it_lies_there(repo):
    repo.function("one", repo.wheel("common"))
    repo.configure("one", settings='verify = "none"')
    repo.build()
    assert "works" in repo.run("verify").stdout
    (repo.folder / "one" / "app.py").write_text("import absent\n")
    repo.build()
    assert "absent" in repo.run("verify", status=4).stderr
    assert "There is no" in repo.run("verify", "--out", "elsewhere", status=2).stderr


def test_a_layout_that_was_changed_is_not_pushed(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    build(repo)
    found = image(repo, "one").digest
    path = repo.folder / "dist/images/one/blobs/sha256" / found.removeprefix("sha256:")
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data.replace(b"layer", b"liars"))
    error = repo.run("push", "--to", "localhost:1/x:1", status=1).stderr
    assert f"the blob {found} is not what its digest and size say" in error
