"""What layers are called from one build to the next."""

from __future__ import annotations

from packer.inspect.snapshot import snapshot_of_records
from packer.manifest.baseline import make_baseline
from packer.manifest.layer_names import lasting_names
from tests.packer.records import function_record, layer_record


def test_layers_of_one_name_are_told_apart_by_their_targets():
    functions = {
        "a": function_record(layers={"common-1": layer_record(1), "one-1": layer_record()}),
        "b": function_record(layers={"common-2": layer_record(2)}, runtime="python3.13"),
    }
    assert lasting_names(functions) == {
        "common-1": "common (python3.11 x86_64)",
        "common-2": "common (python3.13 x86_64)",
        "one-1": "one",
    }
    sizes = {"common (python3.11 x86_64)": 1, "common (python3.13 x86_64)": 2, "one": 7}
    assert {name: each.zip_bytes for name, each in make_baseline(functions).layers.items()} == sizes
    assert {name: each.zipped for name, each in snapshot_of_records("now", functions).layers.items()} == sizes


def test_layers_of_one_name_and_target_keep_their_digests():
    functions = {
        "a": function_record(layers={"common-1": layer_record()}),
        "b": function_record(layers={"common-2": layer_record()}),
    }
    assert lasting_names(functions) == {"common-1": "common-1", "common-2": "common-2"}
