"""The words of images: names as Docker reads them, documents that are checked, and bytes that stay the same."""

from __future__ import annotations

import json

import pytest

from packer.core.errors import ImageError, UsageError
from packer.formats.image import check_image
from packer.formats.oci import (
    LARGEST_CONFIG,
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    Reference,
    encode_document,
)

DIGEST = "sha256:" + "ab" * 32
LAYER = {"mediaType": f"{OCI_LAYER}+gzip", "digest": DIGEST, "size": 7}
CONFIG = {"mediaType": OCI_CONFIG, "digest": DIGEST, "size": 5}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("python", ("docker.io", "library/python", "", "")),
        ("python:3.12-slim", ("docker.io", "library/python", "3.12-slim", "")),
        ("me/app", ("docker.io", "me/app", "", "")),
        ("localhost/app:1", ("localhost", "app", "1", "")),
        ("localhost:5000/a/b:1", ("localhost:5000", "a/b", "1", "")),
        ("[::1]:5000/a", ("[::1]:5000", "a", "", "")),
        (f"example.com/a:1@{DIGEST}", ("example.com", "a", "1", DIGEST)),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, parts: tuple[str, str, str, str]) -> None:
    found = Reference.parse(text)
    assert (found.registry, found.repository, found.tag, found.digest) == parts
    assert Reference.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        "a@",
        "A/b",
        "example.com/",
        "example.com/A",
        "a/../b",
        "a:b:c",
        "a@sha256:12",
        "ex ample.com/a",
        "a" * 300,
        "/a",
        "-/a",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not the name of an image"):
        Reference.parse(text)


def test_a_manifest_is_written_as_it_was_read() -> None:
    data = encode_document(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": CONFIG, "layers": [LAYER]}
    )
    assert Manifest.parse(data, "it").encode() == data


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": None}, "no list of layers"),
        ({"layers": [LAYER] * 128}, "128 layers"),
        ({"layers": [{**LAYER, "mediaType": "text/plain"}]}, "'text/plain'"),
        ({"layers": [{**LAYER, "size": -1}]}, "size is -1"),
        ({"layers": [{**LAYER, "size": True}]}, "size is True"),
        ({"layers": [{**LAYER, "digest": "sha256:../../etc"}]}, "is not a SHA-256 digest"),
        ({"layers": [{**LAYER, "digest": "sha512:" + "a" * 128}]}, "the only kind"),
        ({"config": None}, "is not an object"),
        ({"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, "its media type is"),
        ({"annotations": {"a": 1}}, "does not hold only strings"),
    ],
)
def test_broken_manifests_are_refused(change: dict[str, object], said: str) -> None:
    document = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER], **change}
    with pytest.raises(ImageError, match=said):
        Manifest.parse(json.dumps(document).encode(), "it")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    for read in (Manifest.parse, Index.parse, ImageConfig.parse):
        with pytest.raises(ImageError):
            read(data, "it")


def test_a_gigantic_configuration_is_not_even_read() -> None:
    with pytest.raises(ImageError, match="more than"):
        ImageConfig.parse(b" " * (LARGEST_CONFIG + 1), "it")


def test_a_configuration_must_belong_to_its_manifest() -> None:
    config = {"architecture": "arm64", "os": "linux", "variant": "v8", "config": {"Env": ["A=b=c", "D"]}}
    layer = Descriptor.parse(LAYER, "it")
    manifest = Manifest(config=Descriptor.parse(CONFIG, "it"), layers=(layer,))
    good = ImageConfig.parse(
        encode_document({**config, "rootfs": {"diff_ids": [DIGEST]}, "history": [{"empty_layer": True}, {"created_by": "x"}]}),
        "it",
    )
    check_image(manifest, good, "it")
    assert good.environment == {"A": "b=c", "D": ""}
    assert good.platform.serves(Platform.of("arm64"))
    assert not good.platform.serves(Platform.of("x86_64"))
    wrongs: tuple[dict[str, object], ...] = (
        {"rootfs": {"diff_ids": []}},
        {"rootfs": {"diff_ids": [DIGEST]}, "history": [{}, {}]},
    )
    for wrong in wrongs:
        with pytest.raises(ImageError):
            check_image(manifest, ImageConfig.parse(encode_document({**config, **wrong}), "it"), "it")
