"""What must hold of images in corners: names, layers that were touched, frames of zstd, and whose emulator goes in."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from builders.sandbox.emulator import VARIABLE, find_emulator
from packer.core.errors import ImageError
from packer.formats.image import Base, Image, ImageLayer
from packer.formats.oci import OCI_CONFIG, OCI_LAYER, Descriptor, ImageConfig, Manifest, Platform
from packer.images.builder import _ENTRY
from packer.images.layout_writer import RunSettings, assemble_image, write_docker_archive
from tests.images import digest, read_layout, tar_of
from tests.packer.cli.test_images import build, configure, image


def test_images_that_would_be_called_alike_are_refused(repo):
    for name in ("orders", "Orders"):
        repo.function(name)
    configure(repo, "orders", "Orders")
    told = repo.run("build", status=2).stderr
    assert "The images of orders and Orders would both be called orders" in told


@pytest.mark.parametrize("name", ["orders_", "a___b", "a_-b"])
def test_a_function_that_no_image_can_be_called_after_is_refused(repo, name):
    repo.function(name)
    configure(repo, name)
    assert f"The function {name} becomes an image, which cannot be called" in repo.run("build", status=2).stderr


def test_a_layer_that_somebody_has_changed_is_made_again(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    before = build(repo)["functions"]["one"]["image"]
    blobs = repo.folder / "dist" / "images" / "one" / "blobs" / "sha256"
    for layer in before["layers"]:
        path = blobs / layer["digest"].removeprefix("sha256:")
        size = path.stat().st_size
        path.unlink()  # the store has it by the same inode
        path.write_bytes(bytes(size))
    (repo.folder / "one" / "more.py").write_text("VALUE = 1\n")
    build(repo)
    for name, data in ((each.name, each.read_bytes()) for each in blobs.iterdir()):
        assert hashlib.sha256(data).hexdigest() == name
    assert image(repo, "one").file("var/task/more.py") == b"VALUE = 1\n"


class _Blobs:
    def __init__(self, path: Path) -> None:
        self._path = path

    def bring(self, blob: Descriptor) -> Path:
        del blob
        return self._path


def archived(tmp_path: Path, data: bytes, diff_id: str) -> bytes:
    """Write a docker-archive of an image with one layer in zstd, and give that as the archive has it."""
    (tmp_path / "layer").write_bytes(data)
    described = Descriptor.of(data, f"{OCI_LAYER}+zstd")
    layer = ImageLayer(descriptor=described, diff_id=diff_id, blobs=_Blobs(tmp_path / "layer"), own=False)
    base = read_fields(layer)
    file = io.BytesIO()
    write_docker_archive(base, "one:latest", file)
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        found = archive.extractfile(f"{diff_id.removeprefix('sha256:')}.tar")
        assert found is not None
        return found.read()


def read_fields(layer: ImageLayer) -> Image:
    """Make an image of one layer."""
    text = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}}
    ).encode()
    config = ImageConfig.parse(text, "x")
    manifest = Manifest(config=Descriptor.of(text, OCI_CONFIG), layers=(layer.descriptor,))
    base = Base(named="x", digest=digest(text), manifest=manifest, config=config, blobs=layer.blobs)
    assert Platform.of("x86_64").serves(config.platform)
    return assemble_image(base, [], RunSettings(command=("app.handler",), environment={}, labels={}), 0)


def test_a_layer_of_several_frames_of_zstd_is_whole_in_an_archive(tmp_path):
    tar = tar_of(("a.txt", b"a" * 70_000), ("b.txt", b"b" * 70_000))
    frames = b"".join(zstandard.compress(tar[at : at + 50_000]) for at in range(0, len(tar), 50_000))
    assert archived(tmp_path, frames, digest(tar)) == tar


def test_a_layer_that_is_not_what_its_configuration_says_is_refused(tmp_path):
    with pytest.raises(ImageError, match="not the one that its configuration promises"):
        archived(tmp_path, zstandard.compress(tar_of(("a.txt", b"a"))), digest(b"another"))


def program(path: Path, machine: int) -> Path:
    """Write the head of a program for a machine (gABI, "ELF Header")."""
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine) + bytes(44))
    path.chmod(0o755)
    return path


def test_the_emulator_is_the_targets(tmp_path, monkeypatch):
    arm = program(tmp_path / "rie", 183)
    monkeypatch.setenv(VARIABLE, str(arm))
    assert find_emulator("arm64") == arm
    assert find_emulator("x86_64") is None
    program(arm, 62)
    assert find_emulator("arm64") is None
    assert find_emulator("x86_64") == arm
    arm.chmod(0o644)
    assert find_emulator("x86_64") is None
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    assert find_emulator("x86_64") is None


@pytest.mark.parametrize("variables", [{}, {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}])
def test_the_handler_is_told_with_the_emulator_and_without(tmp_path, variables):
    for name in ("rie", "bootstrap"):
        own = 'exec "$@"' if name == "rie" else 'echo "$_HANDLER $*"'
        (tmp_path / name).write_text(f"#!/bin/sh\n{own}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "entry").write_text(_ENTRY.format(emulator=str(tmp_path / "rie")[1:], command=str(tmp_path / "bootstrap")))
    command, environment = ["sh", str(tmp_path / "entry"), "app.handler"], {"PATH": "/usr/bin:/bin", **variables}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == "app.handler app.handler\n"


def test_layouts_read_back(repo):
    repo.function("one", repo.wheel("common"))
    configure(repo, "one")
    build(repo)
    [found] = read_layout(repo.folder / "dist" / "images" / "one")
    old = repo.run("diff", "dist/images/one", "dist/images/one").stdout
    assert old == "Nothing differs.\n"
    assert found.file("var/task/common/__init__.py")
    document = json.loads(repo.run("diff", "dist/one.cdx.json", "dist/images/one", status=2).stdout or "{}")
    assert document == {}
    (repo.folder / "one" / "more.py").write_text("VALUE = 1\n")
    (repo.folder / "dist" / "images" / "one").rename(repo.folder / "before")
    build(repo)
    told = json.loads(repo.run("diff", "before", "dist/images/one", "--format", "json").stdout)["functions"]
    assert {name: each["status"] for name, each in told.items()} == {"the image": "changed"}
    assert [each["path"] for each in told["the image"]["files"]["added"]] == ["var/task/more.py"]
