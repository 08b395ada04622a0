"""What files of artifacts are, and whose: with the distributions at hand, and by their metadata alone."""

from __future__ import annotations

import pytest

from packer.core.model import OWN_SOURCE, BytesContent, Entry, Tree
from packer.inspect.contents import PackedFile, assign_owners, distribution_versions, kind_of


def files(*paths: str) -> list[PackedFile]:
    return [PackedFile(path=path, size=1, packed=1, mark="") for path in paths]


def owners(found: list[PackedFile]) -> dict[str, str]:
    return {each.path: each.owner for each in found}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/b.py", "source"),
        ("a/b.pyc", "bytecode"),
        ("a/__pycache__/b.cpython-312.pyc", "bytecode"),
        ("a/b.cpython-312-x86_64-linux-gnu.so", "native"),
        ("a.libs/libx-1.so.3.1", "native"),
        ("a/song.sol", "data"),
        ("a-1.0.dist-info/METADATA", "metadata"),
        ("a-1.0.dist-info/hook.py", "metadata"),
        ("data.json", "data"),
    ],
)
def test_kind_of_a_path_is_recognized(path, kind):
    assert kind_of(path) == kind


@pytest.mark.parametrize("root", ["", "python/", "python/lib/python3.12/site-packages/", "var/task/"])
def test_bytecode_belongs_to_its_source_wherever_it_lies(root):
    tree = Tree.of([Entry(path="mod/a.py", mode=0o644, content=BytesContent.of(b""), owner="x")])
    paths = [f"{root}mod/a.py", f"{root}mod/a.pyc", f"{root}mod/__pycache__/a.cpython-312.pyc", f"{root}mod/other.py"]
    found = owners(assign_owners(files(*paths), {"dist": tree}))
    assert list(found.values()) == ["dist", "dist", "dist", OWN_SOURCE]


def test_metadata_tells_of_folders_of_the_same_name():
    paths = ["My_Dist-1.2.dist-info/METADATA", "my_dist/a.py", "my_dist.libs/x.so", "my_dist.py", "other/b.py", "app.py"]
    found = owners(assign_owners(files(*paths), {}))
    assert [found[path] for path in paths] == ["my-dist"] * 4 + [OWN_SOURCE] * 2
    assert distribution_versions(files(*paths)) == {"my-dist": "1.2"}
