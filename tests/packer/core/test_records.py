"""Manifests that are read: whole ones, and those that are none, of which the place that is wrong is named."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.core.errors import UsageError
from packer.core.records import decode_manifest, json_text, read_manifest
from packer.manifest.document import make_manifest
from tests.packer.records import build_manifest, function_record, image_facts, layer_record, manifest_function, manifest_layer

SIZES = {"files": 1, "unzipped_bytes": 1}
STORED = {"path": "x", "sha256": "0", "stored_bytes": 1, **SIZES}


def test_a_manifest_that_is_whole_is_given_back():
    layer = manifest_layer("a")
    manifest = build_manifest({"a": manifest_function(layers=("arn:of:another", "l-1"))}, {"l-1": layer})
    found = decode_manifest(msgspec.json.encode(manifest))
    assert found == manifest
    assert found.records()["a"].layers == {"l-1": layer}


def test_what_a_newer_version_adds_is_ignored():
    manifest = build_manifest({"a": manifest_function()})
    text = msgspec.json.encode({**msgspec.to_builtins(manifest), "new": [1]})
    assert decode_manifest(text) == manifest


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "tar"}, "functions.a.format is none"),
        ({"distributions": [{"name": "x"}]}, r"functions.a.distributions\[0\].version is missing"),
        ({"artifact": {"path": "x", "sha256": "0", **SIZES}}, "functions.a.artifact.zip_bytes is missing"),
        ({"source": {"files": 1, "unzipped_bytes": True}}, "functions.a.source.unzipped_bytes is missing, or not"),
        ({"source": {"files": 1, "unzipped_bytes": -1}}, "functions.a.source.unzipped_bytes is missing, or not"),
        ({"layers": [1]}, r"functions.a.layers\[0\] is missing, or not"),
        ({"format": "image"}, "functions.a.artifact.stored_bytes is missing"),
        ({"format": "image", "artifact": STORED}, "functions.a.image is missing"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named(change, expected):
    manifest: dict[str, Any] = msgspec.to_builtins(build_manifest({"a": manifest_function(), "b": manifest_function()}))
    manifest["functions"]["a"] |= change
    with pytest.raises(ValueError, match=expected):
        decode_manifest(json.dumps(manifest).encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "JSON is malformed|Input data was truncated"),
        ("[]", "the file is missing, or not"),
        ("{}", "functions is missing, or not"),
        ('{"functions": {}}', "schema_version is missing, or not"),
        ('{"functions": {"a": {}}}', "functions.a.format is missing, or not"),
        ('{"functions": {}, "layers": {"l-1": {"path": "x"}}}', "layers.l-1.sha256 is missing, or not"),
        ('{"functions": ' + '{"a": ' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_manifest_is_refused(text, expected):
    with pytest.raises(ValueError, match=expected):
        decode_manifest(text.encode())


def test_a_layer_stands_once_in_a_manifest_with_all_its_users():
    layer = layer_record(sbom="layers/l.cdx.json")
    functions = {
        "b": function_record(layers={"l-1": layer}, attached=("arn:one",), runtime="python3.9", architecture="arm64"),
        "a": function_record(layers={"l-1": layer}, runtime="python3.10"),
        "c": function_record(**image_facts(also=("images/c.tar",))),
    }
    found = json.loads(json_text(make_manifest(functions, "template.yaml")))
    assert list(found) == ["schema_version", "lpack", "layers", "functions", "template"]
    assert list(found["functions"]) == ["a", "b", "c"]
    assert [found["functions"][name].get("layers") for name in "abc"] == [["l-1"], ["arn:one", "l-1"], None]
    shared = found["layers"]["l-1"]
    assert list(shared)[-4:] == ["sbom", "functions", "runtimes", "architectures"]
    assert (shared["functions"], shared["runtimes"], shared["architectures"]) == (
        ["a", "b"],
        ["python3.9", "python3.10"],
        ["arm64", "x86_64"],
    )
    assert list(found["functions"]["c"])[-2:] == ["seconds", "image"]


def test_what_a_function_has_not_is_left_out():
    found = json.loads(json_text(make_manifest({"a": function_record()})))
    assert list(found) == ["schema_version", "lpack", "functions"]
    assert list(found["functions"]["a"]) == [
        *("runtime", "architecture", "handler", "format", "artifact", "lock", "source", "distributions"),
        *("trim", "bytecode", "verified", "seconds"),
    ]
    assert found["functions"]["a"]["bytecode"] == {"mode": "off"}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_text_is_that_of_the_standard_library(value):
    assert json_text(value) == json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    assert json_text(value, ascii_only=True) == json.dumps(value, indent=2) + "\n"


def test_manifest_that_cannot_be_read_is_an_error_with_the_reason(tmp_path):
    path = tmp_path / "lpack.json"
    with pytest.raises(UsageError, match=r"There is no .*lpack\.json"):
        read_manifest(path)
    path.write_text('{"schema_version": ')
    with pytest.raises(UsageError, match=r"lpack\.json cannot be read \(Input data was truncated\)"):
        read_manifest(path)
    with pytest.raises(UsageError, match=r"lpack\.json is no manifest \(Input data was truncated\)"):
        read_manifest(path, "is no manifest")
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match=r"lpack\.json cannot be read \(Is a directory\)"):
        read_manifest(path)
