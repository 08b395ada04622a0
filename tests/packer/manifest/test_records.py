"""What is read of functions' parts of the manifest: the names of layers that last, and manifests that are none."""

from __future__ import annotations

from typing import Any

import pytest

from packer.inspect.snapshot import of_reports
from packer.manifest.baseline import make_baseline
from packer.manifest.records import checked_manifest, functions_of, lasting_names


def layer(size: int = 7) -> dict[str, Any]:
    return {"zip_bytes": size, "unzipped_bytes": size, "distributions": []}


def function(layers: dict[str, Any] | None = None, runtime: str = "python3.11", **more: Any) -> dict[str, Any]:
    return {
        "runtime": runtime,
        "architecture": "x86_64",
        "format": "zip",
        "artifact": {"path": "f.zip", "sha256": "0", "zip_bytes": 1, "unzipped_bytes": 2},
        "source": {"unzipped_bytes": 2},
        "distributions": [],
        "trim": {"removed": []},
        "layers": layers or {},
        **more,
    }


def test_layers_of_one_name_are_told_apart_by_their_targets():
    reports = {
        "a": function({"common-1": layer(1), "one-1": layer()}),
        "b": function({"common-2": layer(2)}, runtime="python3.13"),
    }
    assert lasting_names(reports) == {
        "common-1": "common (python3.11 x86_64)",
        "common-2": "common (python3.13 x86_64)",
        "one-1": "one",
    }
    sizes = {"common (python3.11 x86_64)": 1, "common (python3.13 x86_64)": 2, "one": 7}
    assert {name: each["zip_bytes"] for name, each in make_baseline(reports)["layers"].items()} == sizes
    assert {name: each.zipped for name, each in of_reports("now", reports).layers.items()} == sizes


def test_layers_of_one_name_and_target_keep_their_digests():
    reports = {"a": function({"common-1": layer()}), "b": function({"common-2": layer()})}
    assert lasting_names(reports) == {"common-1": "common-1", "common-2": "common-2"}


def test_a_manifest_that_is_whole_is_given_back():
    held = {**layer(), "path": "layers/l.zip", "sha256": "0", "functions": ["a"]}
    manifest = {"functions": {"a": function() | {"layers": ["arn:of:another", "l-1"]}}, "layers": {"l-1": held}}
    assert functions_of(checked_manifest(manifest))["a"]["layers"] == {"l-1": held}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "tar"}, "functions.a.format is none"),
        ({"distributions": [{"name": "x"}]}, r"functions.a.distributions\[0\].version is missing"),
        ({"artifact": {"path": "x", "sha256": "0", "unzipped_bytes": 1}}, "functions.a.artifact.zip_bytes is missing"),
        ({"source": {"unzipped_bytes": True}}, "functions.a.source.unzipped_bytes is missing, or not"),
        ({"source": {"unzipped_bytes": -1}}, "functions.a.source.unzipped_bytes is missing, or not"),
        ({"layers": [1]}, r"functions.a.layers\[0\] is missing, or not"),
        ({"format": "image"}, "functions.a.artifact.stored_bytes is missing"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named(change, expected):
    with pytest.raises(ValueError, match=expected):
        checked_manifest({"functions": {"a": function() | change}})
