"""Images in a real engine: what is loaded answers as on Lambda, unprivileged and with nothing writable; `verify` agrees."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from builders.sandbox.emulator import VARIABLE
from tests.emulator import find_sams_emulator
from tests.engine import RUNTIME_IMAGE, docker, need_engine
from tests.images import read_layout
from tests.packer.cli.test_schemas import checked
from tests.registry import running_registry

pytestmark = pytest.mark.docker

SOURCE = """\
import os, common

def handler(event, context):
    try:
        open("/var/task/new", "w")
        writable = True
    except OSError:
        writable = False
    stage = os.environ.get("STAGE")
    return {"event": event, "version": common.VERSION, "user": os.getuid(), "writable": writable, "stage": stage}
"""
CONFIG = f"""\
runtime = "python3.11"
arch = "x86_64"
format = "image"
bytecode = "off"
verify = "none"
[oci]
base = "engine:{RUNTIME_IMAGE}"
write = ["oci", "docker-archive"]
emulator = true
environment = {{ STAGE = "test" }}
[functions.lpack-test-one]
source = "one"
handler = "app.handler"
"""


@pytest.fixture
def project(repo, shared_folder: Path, monkeypatch: pytest.MonkeyPatch):
    need_engine(RUNTIME_IMAGE)
    # What the first test here reads of the base image, and compresses, no other does again.
    monkeypatch.setenv("LPACK_CACHE_DIR", str(shared_folder / "cache-with-bases"))
    monkeypatch.setenv(VARIABLE, str(find_sams_emulator()))
    repo.function("one", repo.wheel("common"))
    (repo.folder / "one" / "app.py").write_text(SOURCE)
    (repo.folder / "lpack.toml").write_text(CONFIG)
    yield repo
    docker("image", "rm", "--force", "lpack-test-one:latest", "lpack-test-one:7")


@contextmanager
def answering(image: str) -> Iterator[str]:
    """Run an image as `docker run` does, confined as on Lambda, and give the address that it answers at."""
    confined = ("--read-only", "--tmpfs", "/tmp", "--user", "993:990", "--cap-drop", "ALL")
    started = docker("run", "--detach", "--rm", "--publish", "127.0.0.1::8080", *confined, image)
    assert started.returncode == 0, started.stderr
    container = started.stdout.strip()
    try:
        place = docker("port", container, "8080/tcp").stdout.split()[0]
        yield f"http://{place}/2015-03-31/functions/function/invocations"
    finally:
        docker("kill", container)


def asked(address: str, event: object) -> object:
    for _ in range(100):
        try:
            with urlopen(address, json.dumps(event).encode()) as answer:
                return json.loads(answer.read())
        except (URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError("it does not answer")


def test_a_loaded_image_answers_unprivileged_on_a_root_that_is_read_only(project):
    project.run("build")
    [line] = project.run("load").stdout.splitlines()
    name, identity = line.split()
    assert name == "lpack-test-one:latest"
    assert docker("image", "inspect", "--format", "{{.Id}}", name).stdout.strip() == identity
    with answering(name) as address:
        answer = asked(address, {"a": 1})
    assert answer == {"event": {"a": 1}, "version": "1.0", "user": 993, "writable": False, "stage": "test"}


def test_the_engine_takes_the_docker_archive_as_it_is(project):
    project.run("build")
    archive = project.folder / "dist/images/lpack-test-one.tar"
    loaded = docker("load", "--input", str(archive))
    assert loaded.returncode == 0, loaded.stderr
    [image] = read_layout(project.folder / "dist/images/lpack-test-one")
    layers = json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", "lpack-test-one:latest").stdout)
    assert layers == image.config["rootfs"]["diff_ids"]


def test_verify_runs_an_image_and_tells_what_breaks(project):
    project.run("build")
    assert "works" in project.run("verify").stdout
    found = json.loads(project.run("verify", "--json").stdout)
    assert found["lpack-test-one"]["milliseconds"] > 0
    (project.folder / "one" / "app.py").write_text("import absent\n")
    project.run("build")
    error = project.run("verify", status=4).stderr
    assert "lpack-test-one does not work as an image" in error
    assert "absent" in error
    (project.folder / "one" / "app.py").write_text("def handler(event, context)\n    return 1\n")
    project.run("build")
    error = project.run("verify", status=4).stderr
    assert "(app.py, line 1)" in error
    assert "Variables" not in error
    assert not docker("image", "ls", "--quiet", "lpack-verify").stdout


def test_verify_says_where_an_emulator_comes_from(project, monkeypatch):
    project.run("build")
    monkeypatch.setenv(VARIABLE, "/nowhere/aws-lambda-rie")
    error = project.run("verify", status=1).stderr
    assert "lpack-test-one is not verified: there is no Runtime Interface Emulator" in error
    assert "pip install aws-sam-cli" in error


def test_verify_runs_an_image_as_its_own_user_too(project):
    config = project.folder / "lpack.toml"
    config.write_text(CONFIG.replace("emulator = true", 'user = "nobody"'))
    project.run("build")
    assert "works" in project.run("verify").stdout
    (project.folder / "one" / "app.py").write_text(f"import os\nassert os.getuid() == 993, os.getuid()\n{SOURCE}")
    project.run("build")
    assert "lpack-test-one does not work as an image as its user nobody" in project.run("verify", status=4).stderr
    config.write_text(CONFIG)
    project.run("build")
    assert "works" in project.run("verify").stdout


def test_what_a_base_in_a_registry_does_not_have_is_seen_by_verify(project, tmp_path):
    with running_registry(tmp_path / "registry") as registry:
        base = f"{registry.host}/base:1"
        copy = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", f"docker-daemon:{RUNTIME_IMAGE}"]
        subprocess.run([*copy, f"docker://{base}"], check=True, capture_output=True)
        config = CONFIG.replace(f"engine:{RUNTIME_IMAGE}", base).replace(', "docker-archive"', "")
        for line, told in (
            ('user = "nosuch"', ("as its user nosuch", "oci.user")),
            ('entrypoint = ["/nosuch"]', ("Runtime.InvalidEntrypoint", "fork/exec /nosuch: no such file", "oci.entrypoint")),
        ):
            (project.folder / "lpack.toml").write_text(config.replace("emulator = true", f"base-layers = false\n{line}"))
            project.run("build")
            error = project.run("verify", status=4).stderr
            assert [word for word in told if word not in error] == [], error


def test_verify_needs_no_path_of_the_image_and_keeps_it_and_sets_no_home(project):
    (project.folder / "lpack.toml").write_text(CONFIG.replace('STAGE = "test"', 'PATH = "/opt/tools"'))
    (project.folder / "one" / "app.py").write_text(
        f"import os\nassert os.environ['PATH'] == '/opt/tools'\nassert 'HOME' not in os.environ\n{SOURCE}"
    )
    project.run("build")
    assert "works" in project.run("verify").stdout


def test_what_is_loaded_and_verified_is_told_as_json(project):
    events = project.folder / "events"
    events.mkdir()
    (events / "first.json").write_text("1")
    config = CONFIG.replace('verify = "none"', 'verify = { events = ["events/*.json"] }')
    (project.folder / "lpack.toml").write_text(config)
    project.run("build")
    loaded = checked("load", project.run("load", "--json").stdout)["lpack-test-one"]
    assert loaded["image"] == "lpack-test-one:latest"
    assert docker("image", "inspect", "--format", "{{.Id}}", loaded["image"]).stdout.strip() == loaded["id"]
    [event] = checked("verify", project.run("verify", "--json").stdout)["lpack-test-one"]["events"]
    assert (event["name"], event["result"]["event"]) == ("first.json", 1)
    (events / "first.expected.json").write_text("2")
    failed = checked("verify", project.run("verify", "--json", status=4).stdout)["lpack-test-one"]
    assert "first.json" in failed["error"]
    assert "Expected" in failed["detail"]
    assert failed["remedy"]


def test_a_tag_may_be_named_and_a_wrong_one_is_refused(project):
    project.run("build")
    assert project.run("load", "--tag", "7").stdout.startswith("lpack-test-one:7 ")
    project.run("load", "--tag", "no tag", status=2)


def test_an_image_of_the_engine_that_is_another_one_by_now_is_noticed(project, tmp_path: Path):
    base = "lpack-test-base:latest"
    try:
        docker("tag", RUNTIME_IMAGE, base)
        (project.folder / "lpack.toml").write_text(CONFIG.replace(RUNTIME_IMAGE, base))
        project.run("build")
        assert "unchanged" in project.run("build").stdout
        (tmp_path / "Dockerfile").write_text(f"FROM {RUNTIME_IMAGE}\nENV NEWER=yes\n")
        assert docker("build", "--quiet", "--tag", base, str(tmp_path)).returncode == 0
        assert "built" in project.run("build").stdout
        [image] = read_layout(project.folder / "dist/images/lpack-test-one")
        assert "NEWER=yes" in image.config["config"]["Env"]
    finally:
        docker("image", "rm", "--force", base)
