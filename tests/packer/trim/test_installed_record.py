"""RECORD lists what is packed, as after pip: `importlib.metadata` of the runtime's Python is the oracle, and pip itself."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

from packer.core.model import FILE_MODE, OWN_SOURCE, BytesContent, Entry, Tree
from packer.trim.installed_record import PackedParts, record_packed
from tests.packer.trim.test_rules import tree_of
from tests.shaped import MINOR, Project, make_project
from tests.wheels import make_wheel

FILES = {
    "shop/__init__.py": b"",
    "shop/core.py": b"VALUE = 1\n",
    'shop/a "quoted", name.txt': b"words\n",
    "shop/tests/__init__.py": b"",
    "shop/tests/test_core.py": b"def test(): ...\n",
    "six_of_them.py": b"",
}
ASK = (
    "from importlib import metadata; "
    "result = [sorted(map(str, metadata.files('shop'))), metadata.packages_distributions().get('shop'), "
    "metadata.packages_distributions().get('six_of_them'), sorted(str(f) for f in metadata.files('shop') if f.suffix == '.py')]"
)


@pytest.fixture
def project(tmp_path, lpack, index, index_folder, cache) -> Project:
    points = "[console_scripts]\nshop = shop.core:main\n"
    make_wheel(index_folder, "shop", "2.1", FILES, replace={"entry_points.txt": points})
    return make_project(tmp_path / "project", lpack, "import shop\n\ndef handler(event, context): ...\n", "shop\n")


@pytest.mark.parametrize("mode", ["beside", "only", "off"])
def test_what_is_listed_is_what_is_packed(project, mode):
    project.build("--bytecode", mode)
    listed, first, second, _ = project.result(ASK)
    assert set(listed) == {name for name in project.names() if name not in ("app.py", "app.pyc") and "/app." not in name}
    assert {"shop-2.1.dist-info/RECORD", 'shop/a "quoted", name.txt', "bin/shop"} <= set(listed)
    assert not [name for name in listed if "tests" in name]
    assert [first, second] == [["shop"], ["shop"]]


def test_hashes_and_sizes_are_those_of_the_files(project):
    project.build()
    rows = list(csv.reader(project.read("shop-2.1.dist-info/RECORD").decode().splitlines()))
    for path, hashed, size in rows:
        if path.endswith((".pyc", "/RECORD")):
            assert (hashed, size) == ("", "")
        else:
            data = project.read(path)
            digest = urlsafe_b64decode(hashed.removeprefix("sha256=") + "=")
            assert (digest, int(size)) == (hashlib.sha256(data).digest(), len(data))


def test_pip_lists_the_same_sources(project, index_folder, tmp_path):
    project.build("--trim", "none")
    wheel = next(index_folder.glob("shop-*.whl"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--target", str(tmp_path / "pip"), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    theirs = {
        row[0].replace("../../bin/", "bin/")
        for row in csv.reader((tmp_path / "pip" / "shop-2.1.dist-info" / "RECORD").read_text().splitlines())
    }
    ours = {row[0] for row in csv.reader(project.read("shop-2.1.dist-info/RECORD").decode().splitlines())}
    theirs = {path for path in theirs if "/tests/__pycache__/test_" not in path}  # which lpack does not compile
    assert theirs - ours == {f"shop-2.1.dist-info/{name}" for name in ("INSTALLER", "REQUESTED", "direct_url.json")}
    assert ours <= theirs


def test_nothing_is_changed_where_all_is_as_it_was_published(project, index_folder):
    make_wheel(index_folder, "shop", "2.2", FILES)
    project.build("--trim", "none", "--bytecode", "off")
    assert b"six_of_them.py,sha256=" in project.read("shop-2.2.dist-info/RECORD")
    published = Path(next(index_folder.glob("shop-2.2-*.whl")))
    with zipfile.ZipFile(published) as archive:
        assert project.read("shop-2.2.dist-info/RECORD") == archive.read("shop-2.2.dist-info/RECORD")


def entry(path: str, text: str, owner: str) -> Entry:
    return Entry(path=path, mode=FILE_MODE, content=BytesContent.of(text.encode()), owner=owner)


def test_a_file_of_two_distributions_is_listed_for_both_as_it_is_packed():
    trees = {
        name: Tree.of(
            [
                entry("ns/__init__.py", "same", name),
                entry(f"ns/{name}.py", "", name),
                entry(f"{name}-1.dist-info/RECORD", "", name),
            ]
        )
        for name in ("one", "two")
    }
    merged = Tree.of({each.path: each for tree in trees.values() for each in tree}.values())
    packed = PackedParts(parts=[*trees.items()], originals={})
    found = {each.path: each.content.read().decode() for each in record_packed(merged, packed, MINOR)}
    assert all("ns/__init__.py,sha256=" in found[f"{name}-1.dist-info/RECORD"] for name in trees)
    assert "ns/two.py" not in found["one-1.dist-info/RECORD"]


def test_what_lies_beside_the_tree_is_listed_where_it_lies():
    part = Tree.of(
        [
            entry("one/__init__.py", "", "one"),
            entry("one.libs/libc.so", "library", "one"),
            entry("one-1.dist-info/RECORD", "", "one"),
        ]
    )
    digest = next(each.content.digest for each in part if each.path == "one.libs/libc.so")
    left = Tree.of(each for each in part if each.path != "one.libs/libc.so")
    packed = PackedParts(
        parts=[("one", part)],
        originals={},
        launchers=[entry("../bin/one", "run", "one")],
        moved={digest: "../lib/libc.so"},
    )
    [record] = [each for each in record_packed(left, packed, MINOR) if each.path.endswith("RECORD")]
    paths = [line.partition(",")[0] for line in record.content.read().decode().splitlines()]
    assert paths == ["../bin/one", "../lib/libc.so", "one-1.dist-info/RECORD", "one/__init__.py"]


def test_a_distribution_without_record_gets_none():
    tree = tree_of("one/__init__.py", "one-1.dist-info/METADATA")
    assert record_packed(tree, PackedParts(parts=[("one", tree)], originals={}), MINOR) == tree


def test_an_empty_record_of_the_own_project_lists_the_source_and_one_that_the_source_brings_stays():
    own = tree_of("app.py", "theirs-1.dist-info/RECORD", owner=OWN_SOURCE)
    empty = Entry(path="shop-2.dist-info/RECORD", mode=FILE_MODE, content=BytesContent.of(b""), owner=OWN_SOURCE)
    tree = Tree.of((*own, empty))
    packed = record_packed(tree, PackedParts(parts=[(OWN_SOURCE, tree)], originals={OWN_SOURCE: tree}), MINOR)
    files = {entry.path: entry.content.read() for entry in packed}
    rows = list(csv.reader(files["shop-2.dist-info/RECORD"].decode().splitlines()))
    assert [row[0] for row in rows] == ["app.py", "shop-2.dist-info/RECORD", "theirs-1.dist-info/RECORD"]
    assert files["theirs-1.dist-info/RECORD"] == b"theirs-1.dist-info/RECORD"
