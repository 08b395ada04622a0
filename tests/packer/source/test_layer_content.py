"""The content of attached layers: every file of a folder or a ZIP, whatever ignore rules say, and nothing twice."""

from __future__ import annotations

import zipfile

import pytest

from packer.cache.signatures import Digests
from packer.core.errors import UsageError
from packer.core.options import AttachedLayer
from packer.source.layer_content import LayerContent, list_content_files, list_modules, read_layer_contents


def content_of(path, prefix: str = "") -> LayerContent:
    [found] = read_layer_contents([AttachedLayer(arn="Shared", content=path, prefix=prefix)], Digests())
    return found


@pytest.fixture
def folder(tmp_path):
    for name in ("python/tool.py", "python/lib/python3.12/site-packages/deep/x.py", "bin/run", ".env", ".gitignore"):
        path = tmp_path / "layer" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("*\n")
    (tmp_path / "layer" / "bin" / "run").chmod(0o755)
    (tmp_path / "layer" / "loop").symlink_to(tmp_path / "layer")
    return tmp_path / "layer"


def test_a_folder_is_taken_as_it_is(folder):
    found = content_of(folder)
    assert found.tree is not None
    modes = {entry.path: entry.mode for entry in found.tree}
    assert modes["bin/run"] == 0o755
    assert set(modes) == {*found.paths} == {
        "python/tool.py", "python/lib/python3.12/site-packages/deep/x.py", "bin/run", ".env", ".gitignore"
    }  # fmt: skip
    assert found.size == 10
    assert {str(path) for path in list_content_files([AttachedLayer(arn="Shared", content=folder)])} <= {*found.watched}
    assert str(folder / "bin") in found.watched


def test_its_modules_are_named_as_python_finds_them(folder):
    assert list_modules([content_of(folder)]) == {"tool.py", "deep/x.py"}
    assert "python/tool.py" in list_modules([content_of(folder, "python")])


def test_a_change_changes_the_digest(folder):
    before = content_of(folder).digest
    (folder / "bin" / "run").chmod(0o644)
    assert content_of(folder).digest != before


def test_a_zip_is_an_archive_of_its_own(tmp_path):
    with zipfile.ZipFile(tmp_path / "layer.zip", "w") as archive:
        archive.writestr("python/tool.py", "12345")
    found = content_of(tmp_path / "layer.zip")
    assert (found.tree, found.archive, found.paths, found.size) == (None, tmp_path / "layer.zip", ("python/tool.py",), 5)


def test_what_is_no_zip_is_refused_by_its_name(tmp_path):
    (tmp_path / "layer.zip").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"layer Shared, .*layer\.zip, is not a readable archive"):
        content_of(tmp_path / "layer.zip")


def test_layers_by_their_arns_alone_have_no_content():
    assert read_layer_contents([AttachedLayer(arn="arn:one")], Digests()) == ()
