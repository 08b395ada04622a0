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
from msgspec.structs import replace

from packer.core.model import OWN_SOURCE
from packer.inspect.contents import KINDS, PackedFile
from packer.inspect.snapshot import Part, Snapshot, Unit
from packer.manifest.start_history import PastStart
from packer.report.flame import build_frames, flame_graph
from packer.report.page import ReportContent, render_page
from packer.report.treemap import encode_data, make_treemap, nest_files
from packer.verify.coldstart import ImportRecord, StartTimes
from tests.packer.records import build_manifest, manifest_function


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
    assert leaves(nest_files([file(path, number) for number, path in enumerate(files)])) == {
        path: number for number, path in enumerate(files)
    }


def test_a_lonely_folder_is_written_with_the_one_in_it():
    assert nest_files([file("a/b/c/x.py", 3), file("a/b/c/y.so", 4)]) == [
        ["a/b/c/", [["x.py", KINDS.index("source"), 3, 3], ["y.so", KINDS.index("native"), 4, 4]]]
    ]


def unit(*files: PackedFile) -> Unit:
    sizes = {each.owner: Part(version="1.0", unzipped=each.size) for each in files}
    return Unit(zipped=1, unzipped=1, parts=sizes, files=files)


def test_a_distribution_that_several_have_is_there_once():
    one = file("dist/a.py")
    found = make_treemap(Snapshot(named="x", functions={"f": unit(one), "g": unit(one, file("app.py", owner=OWN_SOURCE))}))
    assert [label for label, _ in found["parts"]] == ["dist 1.0", "the function's own source"]
    assert [each["parts"] for each in found["units"]] == [[0], [0, 1]]
    assert json.loads(gzip.decompress(base64.b64decode(encode_data(found)))) == found
    assert encode_data(found) == encode_data(found)


def test_where_no_files_are_at_hand_there_are_sizes():
    bare = Unit(zipped=50, unzipped=100, parts={"dist": Part(version="1.0", unzipped=100)})
    found = make_treemap(Snapshot(named="x", functions={"f": bare}))
    assert found["parts"] == [["dist 1.0", [["all of it", KINDS.index("data"), 100, 50]]]]


IMPORTS = (
    ImportRecord(module="a.one", distribution="a", depth=1, own=2.0, cumulative=2.0),
    ImportRecord(module="b", distribution="b", depth=2, own=1.0, cumulative=1.0),
    ImportRecord(module="a.two", distribution="a", depth=1, own=3.0, cumulative=4.0),
    ImportRecord(module="a", distribution="a", depth=0, own=4.0, cumulative=10.0),
    ImportRecord(module="c", distribution="c", depth=0, own=5.0, cumulative=5.0),
)


def test_imports_become_the_trees_that_they_were():
    [a, c] = build_frames(IMPORTS)
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


def start(module: str) -> PastStart:
    return PastStart(
        before=StartTimes(median=2, samples=(2,)),
        after=StartTimes(median=1, samples=(1,)),
        ratio=0.5,
        distributions={},
        imports=(replace(IMPORTS[-1], module=module),),
        clock="import",
        cold=False,
    )


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<b>&amp;"])
def test_no_name_becomes_markup(name):
    snapshot = Snapshot(named="x", functions={name: unit(file(name))})
    manifest = build_manifest({name: manifest_function()})
    page = render_page(ReportContent(title=name, manifest=manifest, snapshot=snapshot, starts={name: start(name)}))
    assert name not in page
    assert page.count("<script") == 2
    assert "<img" not in page


def test_page_without_functions_is_valid():
    page = render_page(ReportContent(title="x", manifest=build_manifest({}), snapshot=Snapshot(named="x", functions={})))
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
