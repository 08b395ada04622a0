"""What the report's page is made of: nested files, import frames, and no way out for what names may hold."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.core.model import OWN_SOURCE
from packer.inspect.contents import KINDS, PackedFile
from packer.inspect.snapshot import Part, Snapshot, Unit
from packer.report.flame import flame_graph, frames
from packer.report.page import Report, render
from packer.report.treemap import nested, packed_data, treemap_data


def file(path: str, size: int = 1, owner: str = "dist") -> PackedFile:
    return PackedFile(path=path, size=size, packed=size, mark="", owner=owner)


def leaves(nodes: list[Any], before: str = "") -> dict[str, int]:
    found: dict[str, int] = {}
    for name, second, *sizes in nodes:
        found |= leaves(second, before + name) if isinstance(second, list) else {before + name: sizes[0]}
    return found


names = st.text(st.sampled_from("ab."), min_size=1, max_size=3)
paths = st.lists(st.lists(names, min_size=1, max_size=4).map("/".join), unique=True, max_size=12)


@given(paths)
def test_nested_files_are_the_same_files(found):
    folders = {path.rpartition("/")[0] for path in found}
    above = {"/".join(folder.split("/")[: n + 1]) for folder in folders for n in range(folder.count("/") + 1)}
    files = [path for path in found if path not in above]
    assert leaves(nested([file(path, number) for number, path in enumerate(files)])) == {
        path: number for number, path in enumerate(files)
    }


def test_a_lonely_folder_is_written_with_the_one_in_it():
    assert nested([file("a/b/c/x.py", 3), file("a/b/c/y.so", 4)]) == [
        ["a/b/c/", [["x.py", KINDS.index("source"), 3, 3], ["y.so", KINDS.index("native"), 4, 4]]]
    ]


def unit(*files: PackedFile) -> Unit:
    sizes = {each.owner: Part(version="1.0", unzipped=each.size) for each in files}
    return Unit(zipped=1, unzipped=1, parts=sizes, files=files)


def test_a_distribution_that_several_have_is_there_once():
    one = file("dist/a.py")
    found = treemap_data(Snapshot(named="x", functions={"f": unit(one), "g": unit(one, file("app.py", owner=OWN_SOURCE))}))
    assert [label for label, _ in found["parts"]] == ["dist 1.0", "the function's own source"]
    assert [each["parts"] for each in found["units"]] == [[0], [0, 1]]
    assert json.loads(gzip.decompress(base64.b64decode(packed_data(found)))) == found
    assert packed_data(found) == packed_data(found)


def test_where_no_files_are_at_hand_there_are_sizes():
    bare = Unit(zipped=50, unzipped=100, parts={"dist": Part(version="1.0", unzipped=100)})
    found = treemap_data(Snapshot(named="x", functions={"f": bare}))
    assert found["parts"] == [["dist 1.0", [["all of it", KINDS.index("data"), 100, 50]]]]


IMPORTS = [
    {"module": "a.one", "distribution": "a", "depth": 1, "self": 2.0, "cumulative": 2.0},
    {"module": "b", "distribution": "b", "depth": 2, "self": 1.0, "cumulative": 1.0},
    {"module": "a.two", "distribution": "a", "depth": 1, "self": 3.0, "cumulative": 4.0},
    {"module": "a", "distribution": "a", "depth": 0, "self": 4.0, "cumulative": 10.0},
    {"module": "c", "distribution": "c", "depth": 0, "self": 5.0, "cumulative": 5.0},
]


def test_imports_become_the_trees_that_they_were():
    [a, c] = frames(IMPORTS)
    assert (a.name, [each.name for each in a.below]) == ("a", ["a.one", "a.two"])
    assert [each.name for each in a.below[1].below] == ["b"]
    assert (c.name, c.below) == ("c", ())


def test_a_frame_is_as_wide_as_it_took():
    picture = ET.fromstring(flame_graph("orders", IMPORTS))
    boxes = {each[0].text.partition(" ")[0]: each[1].attrib for each in picture}  # type: ignore[union-attr]
    assert float(boxes["a"]["width"]) == pytest.approx(640)
    assert float(boxes["a.two"]["x"]) == pytest.approx(128)
    assert float(boxes["b"]["x"]) == pytest.approx(128)
    assert float(boxes["c"]["x"]) == pytest.approx(640)
    assert int(boxes["b"]["y"]) > int(boxes["a.two"]["y"]) > int(boxes["a"]["y"])
    assert flame_graph("orders", []) == ""


def manifest(name: str) -> dict[str, Any]:
    artifact = {"zip_bytes": 10, "unzipped_bytes": 20}
    function = {
        "runtime": "python3.12",
        "architecture": "arm64",
        "format": "zip",
        "artifact": artifact,
        "distributions": [],
        "layers": [],
        "trim": {"removed": []},
    }
    return {"functions": {name: function}, "layers": {}}


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<b>&amp;"])
def test_no_name_becomes_markup(name):
    snapshot = Snapshot(named="x", functions={name: unit(file(name))})
    starts = {name: {"before": {"median": 2}, "after": {"median": 1}, "imports": [{**IMPORTS[-1], "module": name}]}}
    page = render(Report(title=name, manifest=manifest(name), snapshot=snapshot, starts=starts))
    assert name not in page
    assert page.count("<script") == 2
    assert "<img" not in page


def test_a_page_of_nothing_is_a_page():
    page = render(Report(title="x", manifest={"functions": {}}, snapshot=Snapshot(named="x", functions={})))
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
