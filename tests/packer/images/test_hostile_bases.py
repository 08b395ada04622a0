"""Bases that lie or could harm whoever unpacks them: each is refused by name, and honest ones are looked through once."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, BinaryIO

import pytest
import zstandard

from builders.errors import LpackError
from packer.cache.local import LocalStore
from packer.core.errors import ImageError, UsageError
from packer.formats.image import Base
from packer.formats.oci import Platform, Reference
from packer.images.base import BaseReader
from packer.images.base_check import LayerFacts, check_layer
from packer.images.base_sources import base_sources
from tests.images import CONFIG, LAYER, MANIFEST, digest, plain_layer, special, tar_of, write_base

HERE = Platform.of("x86_64")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[BaseReader]:
    def nobody(*_: object) -> Any:
        raise AssertionError("no registry and no engine is asked")

    with ThreadPoolExecutor(2) as executor:
        store = LocalStore(tmp_path / "store")
        yield BaseReader(store, base_sources(store, executor, nobody, nobody))


def brought(base: Base) -> list[Path]:
    """Have all layers of a base, as an image upon it would."""
    return [base.blobs.bring(layer) for layer in base.manifest.layers]


def long_name() -> bytes:
    """Give a tar whose header promises a name of a gigabyte."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    return header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


HOSTILE = {
    "a path above": (tar_of(("../etc/passwd", b"x")), "'../etc/passwd' leads out of it"),
    "a path above, further down": (tar_of(("usr/../../x", b"x")), "leads out of it"),
    "an absolute path": (tar_of(("/etc/passwd", b"x")), "'/etc/passwd' leads out of it"),
    "a hard link out of it": (tar_of(special("usr/x", tarfile.LNKTYPE, "../../etc/passwd")), "leads out of it"),
    "a hard link to an absolute path": (tar_of(special("usr/x", tarfile.LNKTYPE, "/etc/passwd")), "leads out of it"),
    "a hard link to itself": (tar_of(special("usr/x", tarfile.LNKTYPE, "usr/x")), "is a link to itself"),
    "a link to itself": (tar_of(special("usr/x", tarfile.SYMTYPE, "x")), "leads in a circle"),
    "links in a circle": (
        tar_of(special("a", tarfile.SYMTYPE, "/b/c"), special("b", tarfile.SYMTYPE, "a")),
        "leads in a circle",
    ),
    "a gigantic header": (long_name(), "an extended header has 1,073,741,824 bytes"),
    "no tar": (b"not a tar at all" * 100, "it is no whole tar"),
    "a tar that is cut short": (plain_layer()[:700], "it is no whole tar"),
}


@pytest.mark.parametrize(("tar", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_layer_that_could_do_harm_is_refused(tmp_path: Path, reader: BaseReader, tar: bytes, told: str) -> None:
    write_base(tmp_path / "base", tar)
    base = reader.read("oci:base", HERE, tmp_path)
    with pytest.raises(ImageError) as caught:
        brought(base)
    assert str(caught.value).startswith("A layer of the base oci:base is refused: ")
    assert told in str(caught.value)


def test_links_that_stay_in_the_image_and_whiteouts_are_taken(tmp_path: Path, reader: BaseReader) -> None:
    tar = tar_of(
        special("lib", tarfile.SYMTYPE, "usr/lib"),
        special("etc/mtab", tarfile.SYMTYPE, "/proc/self/mounts"),
        special("far", tarfile.SYMTYPE, "../../../../etc/passwd"),  # in an image there is nothing above its root
        ("usr/bin/python3.11", b"x"),
        special("usr/bin/python3", tarfile.LNKTYPE, "usr/bin/python3.11"),
        ("etc/.wh.hosts", b""),
        ("var/.wh..wh..opq", b""),
        ("usr/lib/systemd/system/system-systemd\\x2dcryptsetup.slice", b""),
        ("usr/share/\\/x", b""),  # an ordinary name on Linux
    )
    write_base(tmp_path / "base", plain_layer(), tar)
    base = reader.read("oci:base", HERE, tmp_path)
    assert [digest(path.read_bytes()) for path in brought(base)] == [each.digest for each in base.manifest.layers]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    zeros = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 26))
    path = tmp_path / "layer"
    path.write_bytes(zeros * 64)  # 4 GB of a few hundred kilobytes
    with pytest.raises(ImageError, match="it unpacks to more than"):
        check_layer(path, f"{LAYER}+zstd", "sha256:" + "0" * 64, "the base")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_layers_in_several_members_are_read_as_one(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    tar = tar_of(("lambda-entrypoint.sh", b"x"), ("usr/bin/python3.11", b"y"), ("usr/share/python3.11", b"z"))
    path = tmp_path / "layer"
    path.write_bytes(pack(tar[:600]) + pack(tar[600:]))
    media_type = f"{LAYER}+{'gzip' if pack is gzip.compress else 'zstd'}"
    assert check_layer(path, media_type, digest(tar), "x").marks == {"lambda-entrypoint.sh", "usr/bin/python3.11"}
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match=r"no whole tar|not the one that the configuration promises"):
        check_layer(path, media_type, digest(tar), "x")


@pytest.mark.parametrize("size", [1, 512, 3 << 20])
def test_zeros_that_fill_up_a_gzip_layer_are_ignored(tmp_path: Path, size: int) -> None:
    tar = plain_layer()
    path = tmp_path / "layer"
    path.write_bytes(gzip.compress(tar) + bytes(size))
    assert gzip.decompress(path.read_bytes()) == tar
    check_layer(path, f"{LAYER}+gzip", digest(tar), "x")
    path.write_bytes(path.read_bytes() + b"no gzip")
    with pytest.raises(ImageError, match="no whole tar"):
        check_layer(path, f"{LAYER}+gzip", digest(tar), "x")


def changed_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "index.json"
    document = json.loads(path.read_bytes())
    change(document["manifests"][0])
    path.write_text(json.dumps(document))


def replaced(folder: Path, kind: str, data: bytes) -> None:
    """Put something else in the place of a manifest, a configuration or a layer, whose digest stays in the name."""
    index = json.loads((folder / "index.json").read_bytes())["manifests"][0]
    blobs = folder / "blobs" / "sha256"
    manifest = json.loads((blobs / index["digest"][7:]).read_bytes())
    wanted = {"manifest": index, "config": manifest["config"], "layer": manifest["layers"][0]}[kind]
    (blobs / wanted["digest"][7:]).write_bytes(data)


LIES = {
    "a manifest that is another one": (lambda base: replaced(base, "manifest", b"{}"), "is not what its digest and size say"),
    "a configuration that is another one": (lambda base: replaced(base, "config", b"{}"), "is not what its digest and size"),
    "a layer that is another one": (lambda base: replaced(base, "layer", b"x"), "is not what its digest and size say"),
    "a size that lies": (lambda base: changed_index(base, lambda each: each.update(size=1)), "is not what its digest and size"),
    "a gigantic manifest": (lambda base: changed_index(base, lambda each: each.update(size=1 << 40)), "bytes, more than"),
    "a blob that is away": (
        lambda base: changed_index(base, lambda each: each.update(digest=digest(b""))),
        "it lacks the blob",
    ),
    "a digest that is a path": (lambda base: changed_index(base, lambda each: each.update(digest="sha256:../../x")), "digest"),
    "a digest of another kind": (lambda base: changed_index(base, lambda each: each.update(digest="md5:00")), "digest"),
    "a media type nobody knows": (lambda base: changed_index(base, lambda each: each.update(mediaType="x/y")), "'x/y'"),
    "an index that is no JSON": (lambda base: (base / "index.json").write_text("{"), "is not JSON"),
    "an index of deep lists": (lambda base: (base / "index.json").write_text("[" * 100_000), "is not JSON"),
}


@pytest.mark.parametrize(("lie", "told"), LIES.values(), ids=LIES)
def test_a_layout_that_lies_is_refused(tmp_path: Path, reader: BaseReader, lie: Callable[[Path], None], told: str) -> None:
    lie(write_base(tmp_path / "base"))
    with pytest.raises(ImageError) as caught:
        brought(reader.read("oci:base", HERE, tmp_path))
    assert told in str(caught.value)
    assert "oci:base" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": {"rootfs": {"type": "layers", "diff_ids": [digest(b"other")]}}}, "diff id"),
        ({"config": {"rootfs": {"type": "layers", "diff_ids": []}}}, "diff ids"),
        ({"config": {"rootfs": 7}}, "rootfs"),
        ({"config": {"config": []}}, "config"),
        ({"config": {"architecture": "riscv64"}}, "linux/riscv64"),
        ({"config": {"os": "windows"}}, "windows"),
        ({"config": {"padding": "x" * (20 << 20)}}, "bytes, more than"),
        ({"layer": {"mediaType": "application/vnd.oci.image.layer.v1.tar+lzma"}}, "lzma"),
        ({"layer": {"size": -1}}, "size"),
        ({"manifest": {"schemaVersion": 1}}, "schema"),
        ({"manifest": {"layers": {}}}, "layers"),
    ],
)
def test_documents_that_lie_are_refused(tmp_path: Path, reader: BaseReader, changes: dict[str, Any], told: str) -> None:
    write_base(tmp_path / "base", **changes)
    with pytest.raises((ImageError, UsageError)) as caught:
        brought(reader.read("oci:base", HERE, tmp_path))
    assert told in str(caught.value)


def test_a_layer_is_looked_through_once(tmp_path: Path, reader: BaseReader, monkeypatch: pytest.MonkeyPatch) -> None:
    write_base(tmp_path / "base")
    brought(reader.read("oci:base", HERE, tmp_path))
    monkeypatch.setattr("packer.images.base_check.check_layer", lambda *_: pytest.fail("looked through again"))
    brought(reader.read("oci:base", HERE, tmp_path))


def test_layers_are_looked_through_side_by_side_and_each_once(
    tmp_path: Path, reader: BaseReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base(tmp_path / "base", plain_layer(), tar_of(("usr/other", b"x")))
    base = reader.read("oci:base", HERE, tmp_path)
    both = Barrier(2)
    looked: list[Path] = []

    def look(path: Path, *rest: Any) -> LayerFacts:
        looked.append(path)
        both.wait(10)  # broken where one has to wait for the other
        return check_layer(path, *rest)

    monkeypatch.setattr("packer.images.base_check.check_layer", look)
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(base.blobs.bring, [*base.manifest.layers] * 2))
    assert len(looked) == 2


class Engine:
    """Has an image of a name; ``saved`` counts how often it was asked for all of it."""

    def __init__(self, folder: Path, both: Barrier | None = None) -> None:
        self._folder = folder
        self._both = both
        self.saved: list[str] = []

    def identity(self, reference: str) -> str:
        return f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}"  # as containerd does: not the configuration's

    def save(self, identity: str, to: BinaryIO) -> None:
        self.saved.append(identity)
        if self._both:
            self._both.wait(10)  # broken where one has to wait for the other
        path = self._folder / f"{identity.partition(':')[2]}.tar"
        to.write(docker_archive(path, tar_of(("usr/name", identity.encode()))).read_bytes())


@pytest.mark.parametrize("names", [["one"] * 8, ["one", "two"]], ids=["the same image", "different images"])
def test_engine_saves_an_image_once_and_several_side_by_side(tmp_path: Path, names: list[str]) -> None:
    different = len(set(names))
    engine = Engine(tmp_path, Barrier(different) if different > 1 else None)

    def nobody(*_: object) -> Any:
        raise AssertionError("no registry is asked")

    with ThreadPoolExecutor(2) as packers, ThreadPoolExecutor(8) as executor:
        store = LocalStore(tmp_path / "store")
        reader = BaseReader(store, base_sources(store, packers, nobody, lambda: engine))
        bases = list(executor.map(lambda name: reader.read(f"engine:{name}", HERE, tmp_path), names))
    assert len({base.digest for base in bases}) == different
    assert len(engine.saved) == different


def docker_archive(path: Path, tar: bytes, entry: dict[str, Any] | None = None) -> Path:
    """Write what `docker save` writes, of one layer."""
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(tar)]}, "config": {}}
    data = json.dumps(config).encode()
    name = f"{hashlib.sha256(data).hexdigest()}.json"
    listed = [{"Config": name, "RepoTags": ["base:1"], "Layers": ["one/layer.tar"], **(entry or {})}]
    path.write_bytes(tar_of((name, data), ("one/layer.tar", tar), ("manifest.json", json.dumps(listed).encode())))
    return path


def test_an_archive_of_docker_is_read_and_packed_once(tmp_path: Path, reader: BaseReader) -> None:
    tar = plain_layer()
    docker_archive(tmp_path / "base.tar", tar)
    for named in ("docker-archive:base.tar", "docker-archive:base.tar:base:1"):
        base = reader.read(named, HERE, tmp_path)
        [path] = brought(base)
        assert gzip.decompress(path.read_bytes()) == tar
        assert base.config.diff_ids == (digest(tar),)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"Layers": ["../layer.tar"]}, "layer.tar"),
        ({"Layers": []}, "0 layers have 1 diff ids"),
        ({"Config": "absent.json"}, "absent.json"),
        ({"Config": 1}, "does not name a configuration"),
        ({"RepoTags": ["other:1"]}, "base:1"),
        ({"RepoTags": 5}, "tags that are none"),
        ({"RepoTags": [5]}, "tags that are none"),
    ],
)
def test_an_archive_that_lies_is_refused(tmp_path: Path, reader: BaseReader, entry: dict[str, Any], told: str) -> None:
    docker_archive(tmp_path / "base.tar", plain_layer(), entry)
    with pytest.raises(LpackError) as caught:
        reader.read("docker-archive:base.tar:base:1", HERE, tmp_path)
    assert told in str(caught.value)


@pytest.mark.parametrize("broken", ["cut", "corrupt"])
def test_an_archive_whose_packed_layer_is_broken_is_refused(tmp_path: Path, reader: BaseReader, broken: str) -> None:
    tar = plain_layer()
    good = docker_archive(tmp_path / "good.tar", tar).read_bytes()
    packed = gzip.compress(tar, mtime=0)
    packed = packed[:-20] if broken == "cut" else packed[:-8] + bytes(8)
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        files = {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]
    (tmp_path / "base.tar").write_bytes(tar_of(*({**files, "one/layer.tar": packed}).items()))
    with pytest.raises(ImageError, match=r"one/layer\.tar cannot be read"):
        reader.read("docker-archive:base.tar", HERE, tmp_path)


def test_an_archive_with_a_gigantic_header_is_refused(tmp_path: Path, reader: BaseReader) -> None:
    info = tarfile.TarInfo("x")
    info.pax_headers = {"comment": "x" * (20 << 20)}
    with tarfile.open(tmp_path / "base.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(ImageError, match="is no tar"):
        reader.read("docker-archive:base.tar.gz", HERE, tmp_path)


def test_letters_that_are_halves_are_refused(tmp_path: Path, reader: BaseReader) -> None:
    write_base(tmp_path / "base", config={"author": "\ud800"})
    with pytest.raises(ImageError, match="lone surrogates"):
        reader.read("oci:base", HERE, tmp_path)


def test_a_base_larger_than_lambda_takes_is_refused_before_it_is_fetched(tmp_path: Path, reader: BaseReader) -> None:
    write_base(tmp_path / "base", layer={"size": 11 << 30})
    with pytest.raises(ImageError, match="more than Lambda allows"):
        reader.read("oci:base", HERE, tmp_path)


def test_an_archive_whose_layer_is_another_one_is_refused(tmp_path: Path, reader: BaseReader) -> None:
    good = docker_archive(tmp_path / "good.tar", plain_layer()).read_bytes()
    other = tar_of((("etc/os-release"), b"ID=evil\n"), ("lambda-entrypoint.sh", b"#!/bin/sh\n"))
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        files = {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]
    (tmp_path / "base.tar").write_bytes(tar_of(*({**files, "one/layer.tar": other}).items()))
    with pytest.raises(ImageError, match="is not the one that its configuration promises"):
        reader.read("docker-archive:base.tar", HERE, tmp_path)


@pytest.mark.parametrize("named", ["oci:absent", "docker-archive:absent.tar"])
def test_a_base_that_is_not_there_is_named(tmp_path: Path, reader: BaseReader, named: str) -> None:
    with pytest.raises(UsageError, match="absent"):
        reader.read(named, HERE, tmp_path)


def test_an_index_of_several_platforms_gives_the_functions_own(tmp_path: Path, reader: BaseReader) -> None:
    base = write_base(tmp_path / "base")
    other = write_base(tmp_path / "other", architecture="arm64")
    for blob in (other / "blobs/sha256").iterdir():
        (base / "blobs/sha256" / blob.name).write_bytes(blob.read_bytes())
    listed = []
    for folder, architecture in ((base, "amd64"), (other, "arm64")):
        [described] = json.loads((folder / "index.json").read_bytes())["manifests"]
        listed.append({**described, "platform": {"os": "linux", "architecture": architecture}})
    inner = json.dumps({"schemaVersion": 2, "manifests": listed}).encode()
    (base / "blobs/sha256" / hashlib.sha256(inner).hexdigest()).write_bytes(inner)
    outer = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(inner), "size": len(inner)}
    (base / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [outer]}))
    assert reader.read("oci:base", HERE, tmp_path).digest == listed[0]["digest"]
    assert reader.read("oci:base", Platform.of("arm64"), tmp_path).digest == listed[1]["digest"]


@pytest.mark.parametrize(
    "text", ["", "UPPER/case", "host/repo:tag:tag", "a" * 300, "repo@sha256:00", "../x", "repo:" + "t" * 129]
)
def test_a_name_that_no_registry_knows_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Reference.parse(text)


def test_the_media_types_of_a_base_are_those_of_the_specification(tmp_path: Path, reader: BaseReader) -> None:
    write_base(tmp_path / "base")
    base = reader.read("oci:base", HERE, tmp_path)
    assert (base.manifest.media_type, base.manifest.config.media_type) == (MANIFEST, CONFIG)
