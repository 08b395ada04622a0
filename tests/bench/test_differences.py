from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from bench.differences import Difference, compare_folders, first_key, without_times
from tests.images import plain_layer, tar_of, write_base

MANIFEST = {
    "schema_version": 1,
    "lpack": "0.1.0",
    "functions": {"one": {"verified": {"level": "import", "milliseconds": 3.5}, "seconds": 1.25, "files": 2}},
}


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """Give two equal folders."""
    for side in ("reference", "new"):
        out = tmp_path / side / "dist"
        out.mkdir(parents=True)
        _archive(out / "one.zip", b"x = 1\n")
        (out / "lpack.json").write_text(json.dumps(MANIFEST, indent=2))
        (out / "template.yaml").write_text("Resources:\n  One:\n    CodeUri: one.zip\n")
    return tmp_path / "reference", tmp_path / "new"


def _archive(path: Path, source: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (("app.py", b"y = 2\n"), ("pkg/one.py", source)):
            archive.writestr(zipfile.ZipInfo(name), data)


def test_equal_folders_do_not_differ(both):
    assert compare_folders(*both) == []


def test_times_and_the_version_are_left_out_of_documents(both):
    text = json.dumps(MANIFEST, indent=2).replace("1.25", "99").replace("3.5", "1e-05").replace("0.1.0", "0.2.0")
    (both[1] / "dist" / "lpack.json").write_text(text)
    assert compare_folders(*both) == []
    (both[1] / "dist" / "lpack.json").write_text(text.replace('"files": 2', '"files": 3'))
    assert compare_folders(*both) == [Difference(path="dist/lpack.json", what="functions.one.files: 3, not 2")]


def test_times_are_left_out_of_json_alone(both):
    for side, seconds in zip(both, (1, 2), strict=True):
        (side / "dist" / "template.yaml").write_text(f"Description: '\"seconds\": {seconds}'\n")
    [found] = compare_folders(*both)
    assert found.path == "dist/template.yaml"


def test_the_version_of_the_tool_is_left_out_of_a_bill_and_those_of_packages_are_not():
    tool = {"bom-ref": "tool:lambda-lpack", "name": "lambda-lpack", "type": "application", "version": "0.1.0"}
    package = {"name": "pkg", "type": "library", "version": "1.0"}
    bill = json.dumps({"components": [package], "metadata": {"tools": {"components": [tool]}}}).encode()
    assert without_times(bill) == without_times(bill.replace(b"0.1.0", b"0.2.0"))
    assert without_times(bill) != without_times(bill.replace(b'"1.0"', b'"1.1"'))


def test_a_byte_of_an_archive_is_found_with_its_member(both):
    _archive(both[1] / "dist" / "one.zip", b"x = 2\n")
    assert compare_folders(*both) == [Difference(path="dist/one.zip", what="member pkg/one.py differs")]


def test_a_byte_outside_of_all_members_is_found(both):
    path = both[1] / "dist" / "one.zip"
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hello"
    [found] = compare_folders(*both)
    assert found.path == "dist/one.zip"
    assert found.what.startswith("byte ")


def test_files_that_are_missing_or_too_many_are_found(both):
    (both[1] / "dist" / "one.zip").unlink()
    (both[1] / "dist" / "two.zip").touch()
    assert compare_folders(*both) == [
        Difference(path="dist/one.zip", what="is missing"),
        Difference(path="dist/two.zip", what="is more than the reference has"),
    ]


def test_a_folder_that_is_not_there_lacks_all_files(both, tmp_path):
    assert len(compare_folders(both[0], tmp_path / "nowhere")) == 3


def test_lines_of_texts_modes_and_links_are_compared(both):
    (both[1] / "dist" / "template.yaml").write_text("Resources:\n  Two:\n    CodeUri: one.zip\n")
    (both[1] / "dist" / "one.zip").chmod(0o600)
    (both[0] / "link").symlink_to("dist")
    (both[1] / "link").symlink_to("dist/one.zip")
    assert [each.what for each in compare_folders(*both)] == [
        "mode 0600, not 0644",
        'line 2: "  Two:", not "  One:"',
        "leads to dist/one.zip, not dist",
    ]


def test_the_form_of_a_document_counts(both):
    path = both[1] / "dist" / "lpack.json"
    path.write_text(json.dumps(MANIFEST))
    [found] = compare_folders(*both)
    assert found.path == "dist/lpack.json"


def test_a_file_of_a_layer_is_found_behind_the_digests_of_blobs(tmp_path):
    for side, source in (("reference", b"x = 1\n"), ("new", b"x = 2\n")):
        write_base(tmp_path / side / "images" / "one", plain_layer(), tar_of(("var/task/app.py", source)))
    [first, *blobs] = compare_folders(tmp_path / "reference", tmp_path / "new")
    assert first == Difference(path="images/one", what="layer 1: member var/task/app.py differs")
    assert {each.what for each in blobs} >= {"is missing", "is more than the reference has"}


def test_a_key_of_an_images_configuration_is_found(tmp_path):
    for side, user in (("reference", "app"), ("new", "root")):
        write_base(tmp_path / side, config={"config": {"User": user}})
    [first, *_] = compare_folders(tmp_path / "reference", tmp_path / "new")
    assert first.what == 'configuration.config.User: "root", not "app"'


@pytest.mark.parametrize(
    ("old", "now", "told"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "a[1].b: 3, not 2"),
        ({"a": [1]}, {"a": [1, 2]}, "a[1]: 2, not nothing"),
        ({"a": 1}, {}, "a: nothing, not 1"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "keys: in another order"),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, "a: in another order"),
        ({"a": 1}, {"a": 1.0}, "a: 1.0, not 1"),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, ""),
    ],
)
def test_the_first_key_that_differs_is_told(old, now, told):
    assert first_key(old, now) == told
