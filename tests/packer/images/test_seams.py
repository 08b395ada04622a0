"""Places that bases come from, and forms that images are written in, are added from outside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from packer.cache.local import LocalStore
from packer.core.names import LOCAL_FORMS
from packer.core.options import IMAGE_FORMS
from packer.formats.image import Base, Image
from packer.formats.oci import Platform
from packer.images.base import REGISTRY, BaseReader
from packer.images.base_sources import base_sources
from packer.images.layout_writer import RunSettings, assemble_image
from packer.images.outputs import OUTPUTS, write_image
from tests.images import plain_layer, write_base

HERE = Platform.of("x86_64")


def unused(*_: object) -> Any:
    raise AssertionError("no registry and no engine is asked")


def open_reader(folder: Path, executor: ThreadPoolExecutor, **more: Any) -> BaseReader:
    store = LocalStore(folder / "store")
    return BaseReader(store, {**base_sources(store, executor, unused, unused), **more})


def write_one(folder: Path) -> str:
    write_base(folder / "base", plain_layer())
    return f"oci:{folder / 'base'}"


def test_base_source_is_added_from_outside(tmp_path):
    class Mirror:
        def find(self, named: str, place: str, platform: Platform, folder: Path) -> Base:
            return layouts.read(f"oci:mirrors/{place}", platform, folder)

    write_one(tmp_path / "mirrors")
    with ThreadPoolExecutor(1) as executor:
        layouts = open_reader(tmp_path, executor)
        found = open_reader(tmp_path, executor, mirror=Mirror()).read("mirror:base", HERE, tmp_path)
    assert (found.named, found.digest) == ("mirror:base", layouts.read("oci:mirrors/base", HERE, tmp_path).digest)


def test_output_is_added_from_outside(tmp_path):
    class DigestOutput:
        def path(self, function: str) -> str:
            return f"images/{function}.digest"

        def write(self, image: Image, name: str, path: Path, **_: object) -> None:
            path.write_text(f"{name} {image.descriptor.digest}")

    with ThreadPoolExecutor(1) as executor:
        base = open_reader(tmp_path, executor).read(write_one(tmp_path), HERE, tmp_path)
        image = assemble_image(base, (), RunSettings(command=("app.handler",), environment={}, labels={}), 0)
        outputs = {**OUTPUTS, "digest": DigestOutput()}
        first = write_image("Orders", image, ("digest", "oci"), tmp_path / "new", tmp_path / "out", outputs=outputs)
    assert first.read_text() == f"orders:latest {image.descriptor.digest}"
    assert (tmp_path / "new" / "images" / "Orders" / "index.json").is_file()


def test_tables_have_what_the_configuration_names(tmp_path):
    sources = base_sources(LocalStore(tmp_path), ThreadPoolExecutor(1), unused, unused)
    assert {f"{form}:" for form in sources if form != REGISTRY} == set(LOCAL_FORMS)
    assert set(OUTPUTS) == set(IMAGE_FORMS)
