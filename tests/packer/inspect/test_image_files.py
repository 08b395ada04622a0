"""The files of images whose layers hide, replace and link what is below them, and of images that are cut short."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from packer.core.errors import UsageError
from packer.inspect.image_files import archive_files, layout_files

Layer = Mapping[str, bytes | str | None]
"""What a layer has by paths: content, where a hard link points to, or None for a folder."""


def packed(layer: Layer) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in layer.items():
            info = tarfile.TarInfo(path)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.LNKTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return stream.getvalue()


def layout(folder: Path, *blobs: bytes) -> Path:
    """Write an image of these layers, as they are stored."""

    def blob(data: bytes) -> dict[str, str]:
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs" / "sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}"}

    (folder / "blobs" / "sha256").mkdir(parents=True)
    manifest = blob(json.dumps({"layers": [blob(each) for each in blobs]}).encode())
    (folder / "index.json").write_text(json.dumps({"manifests": [manifest]}))
    return folder


def sizes(folder: Path) -> dict[str, int]:
    return {each.path: each.size for each in layout_files(folder)[0]}


def test_layers_lie_over_each_other(tmp_path):
    lower = packed({"a/x": b"1", "a/y": b"22", "b/x": b"333", "c": b"4444", "d": b"55555", "e/in": b"6"})
    upper = packed({"a/.wh.x": b"", "b/new": b"n", "b/.wh..wh..opq": b"", "c": None, "c/in": b"cc", "./d": b"d", "e": b"ee"})
    expected = {"a/y": 2, "b/new": 1, "c/in": 2, "d": 1, "e": 2}
    assert sizes(layout(tmp_path / "plain", lower, upper)) == expected
    halves = gzip.compress(lower[:700]) + gzip.compress(lower[700:])
    assert sizes(layout(tmp_path / "packed", halves, zstandard.compress(upper))) == expected


def test_a_hard_link_is_a_file_that_takes_nothing(tmp_path):
    first = packed({"a": b"content", "b": "a"})
    files = {each.path: each for each in layout_files(layout(tmp_path / "x", first, packed({"c": "a"})))[0]}
    assert {path: each.size for path, each in files.items()} == {"a": 7, "b": 0, "c": 0}
    assert len({each.mark for each in files.values()}) == 1


@pytest.mark.parametrize("cut", [gzip.compress, zstandard.compress, bytes])
def test_a_layer_that_is_cut_short_is_told(tmp_path, cut):
    layer = cut(packed({"a": bytes(range(256)) * 4000}))
    with pytest.raises(UsageError, match="no OCI layout that can be read"):
        layout_files(layout(tmp_path / "x", layer[: len(layer) // 2]))


def test_an_archive_that_is_cut_short_is_told(tmp_path):
    whole = packed({"manifest.json": json.dumps([{"Layers": ["l"]}]).encode(), "l": packed({"a": b"x" * 9000})})
    (tmp_path / "whole.tar").write_bytes(whole)
    assert [each.path for each in archive_files(tmp_path / "whole.tar")[0]] == ["a"]
    (tmp_path / "cut.tar").write_bytes(whole[:6000])
    with pytest.raises(UsageError, match="no docker-archive that can be read"):
        archive_files(tmp_path / "cut.tar")
