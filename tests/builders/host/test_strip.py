"""Stripping in a container, where this machine has no eu-strip: the same bytes, or a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.engine.client import connect
from builders.engine.container_sandbox import ContainerSandbox
from builders.engine.images import EngineImages
from builders.errors import UnavailableError
from builders.host.strip import HostStrip, SandboxStrip, StripRefusal
from builders.recipes import BuildSettings
from builders.runtimes import Target
from tests.engine import BUILD_IMAGE, RUNTIME_IMAGE, need_engine
from tests.native import compile_library
from tests.packer.trim.test_strip_check import MANY

pytestmark = pytest.mark.docker


@pytest.fixture
def library(tmp_path: Path) -> bytes:
    return compile_library(tmp_path / "libmany.so", MANY, options=("-g",)).read_bytes()


def tool(image: str) -> SandboxStrip:
    need_engine(image)
    engine = connect()
    images = EngineImages(engine, lambda _text: None, lambda _name, _text: None, offline=True)
    return SandboxStrip(ContainerSandbox(engine, images, Target.of("python3.11", "x86_64"), BuildSettings(image=image)))


def test_a_container_strips_several_files_as_this_machine_does(tmp_path, library):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    files = [library, b"#!/bin/sh\n", library[:-1]]
    here = HostStrip().strip(files, tmp_path / "here")
    there = tool(BUILD_IMAGE).strip(files, tmp_path / "there")
    assert isinstance(here[0], bytes)
    assert len(here[0]) < len(library) - 100_000
    assert there[0] == here[0]
    assert isinstance(there[1], StripRefusal)
    assert there[1].reason == "eu-strip ended with status 1"
    assert [type(each) for each in there] == [type(each) for each in here]


def test_an_image_without_it_says_what_brings_it(tmp_path, library):
    with pytest.raises(UnavailableError, match="eu-strip cannot be run in the image") as caught:
        tool(RUNTIME_IMAGE).strip([library], tmp_path)
    assert "dnf install -y elfutils" in caught.value.remedy
