"""Building for another machine than the engine's: with emulation as for one's own, and without it a clear error."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from builders.engine.client import connect
from builders.engine.container_builder import ContainerBuilder
from builders.engine.images import EngineImages
from builders.errors import UnavailableError
from builders.recipes import BuildSettings, Limits
from builders.runtimes import IMAGE_ARCHITECTURES, Target
from packer.formats.elf import read_elf
from tests.builders.engine.test_container_builder import request, sdist
from tests.engine import ARM_IMAGE, docker, left_behind, need_engine

pytestmark = [pytest.mark.docker, pytest.mark.slow]
TARGET = Target.of("python3.11", "arm64")


@pytest.fixture
def builder() -> Iterator[ContainerBuilder]:
    need_engine()
    engine = connect()
    yield ContainerBuilder(
        engine, EngineImages(engine, lambda _text: None, lambda _name, _text: None, offline=True), lambda *_: None
    )
    engine.close()
    assert left_behind() == []


def asked(tmp_path, image: str):
    settings = BuildSettings(image=image, limits=Limits(seconds=300))
    return replace(request(sdist(tmp_path), settings), target=TARGET)


def load_image(name: str, programs: dict[str, bytes]) -> None:
    """Make an image for arm64 that holds nothing but some programs."""
    layer = tar(programs)
    config = {
        "architecture": IMAGE_ARCHITECTURES["arm64"],
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(config).encode(), "layer.tar": layer}
    subprocess.run(["docker", "load"], input=tar(files), check=True, capture_output=True)


def tar(files: dict[str, bytes]) -> bytes:
    with io.BytesIO() as packed:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, data in files.items():
                info = tarfile.TarInfo(path)
                info.mode, info.size = 0o755, len(data)
                archive.addfile(info, io.BytesIO(data))
        return packed.getvalue()


def test_wheel_for_arm64_is_built_under_emulation(builder, tmp_path):
    need_engine(ARM_IMAGE)
    ran = docker("run", "--rm", "--network", "none", "--platform", "linux/arm64", ARM_IMAGE, "uname", "-m")
    if ran.stdout.strip() != "aarch64":
        pytest.skip("needs emulation for arm64: the packages qemu-user-static and binfmt-support")
    into = tmp_path / "into"
    into.mkdir()
    with builder.build(asked(tmp_path, ARM_IMAGE), into) as built, zipfile.ZipFile(built.path) as archive:
        found = read_elf(io.BytesIO(archive.read("answer.so")), "answer.so")
    assert found is not None
    assert found.machine == "aarch64"


def test_an_engine_that_cannot_run_the_image_says_so(builder, tmp_path):
    """An image whose programs no kernel can run stands for an engine without emulation: both give ENOEXEC."""
    if os.uname().machine == "aarch64":
        pytest.skip("needs an engine on another machine than arm64")
    name = "lpack-test/unrunnable-arm64:1"
    load_image(name, {"bin/sh": b"\x7fELF" + bytes(60)})
    into = tmp_path / "into"
    into.mkdir()
    try:
        with pytest.raises(UnavailableError) as caught, builder.build(asked(tmp_path, name), into):
            pass
    finally:
        docker("rmi", "--force", name)
    assert caught.value.what == "the container engine cannot run programs for arm64"
    assert "qemu-user-static" in caught.value.remedy
    assert 'builder = "cross"' in caught.value.remedy
