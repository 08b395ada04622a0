"""Limits: Lambda's own and the user's."""

import json
from collections.abc import Sequence

import pytest

from builders.runtimes import DIRECT_UPLOAD_LIMIT, IMAGE_LIMIT, MEGABYTE, UNZIPPED_LIMIT
from packer.core.errors import LimitError
from packer.core.options import Budget, LayerOptions, NamedLayer
from packer.core.records import ArtifactRecord, FunctionRecord, SizeRecord
from packer.core.units import format_size
from packer.manifest.budget import (
    FUNCTION,
    function_measures,
    growth_measure,
    layer_budget,
    layer_measures,
    raise_over_limit,
    start_measure,
    upload_warning,
)
from tests.packer.records import distribution_record, function_record, image_facts, layer_record
from tests.wheels import make_wheel


def report(
    zipped: int = 1,
    unzipped: int = 1,
    parts: Sequence[tuple[str, int]] = (),
    layers: Sequence[tuple[str, int]] = (),
    base: int | None = None,
) -> FunctionRecord:
    artifact = ArtifactRecord(path="f.zip", sha256="0", zip_bytes=zipped, unzipped_bytes=unzipped, files=1)
    form = {"artifact": artifact} if base is None else image_facts(stored=zipped, unzipped=unzipped, base=base)
    return function_record(
        source=SizeRecord(files=0, unzipped_bytes=0),
        distributions=tuple(distribution_record(name, size) for name, size in parts),
        layers={name: layer_record(size) for name, size in layers},
        **form,
    )


def over(found: FunctionRecord, **limits: int) -> list[str]:
    return [each.key for each in function_measures("orders", found, Budget(**limits)) if each.over]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0 KB"), (1536, "1.5 KB"), (104_857, "102.4 KB"), (104_858, "0.1 MB"), (UNZIPPED_LIMIT, "250.0 MB")],
)
def test_small_sizes_are_told_in_kilobytes(size, text):
    assert format_size(size) == text


def test_lambdas_limits_in_its_own_units():
    assert UNZIPPED_LIMIT == 262_144_000
    assert DIRECT_UPLOAD_LIMIT == 52_428_800


def test_at_the_limit_is_within_it():
    assert over(report(10, UNZIPPED_LIMIT), zip=10, unzipped=UNZIPPED_LIMIT) == []


def test_over_the_limit_names_the_five_largest():
    parts = [(f"part{number}", MEGABYTE * (20 - number)) for number in range(7)]
    with pytest.raises(LimitError, match=r"over Lambda's limit for unzipped packages of 250\.0 MB") as caught:
        raise_over_limit(function_measures("orders", report(unzipped=UNZIPPED_LIMIT + 1, parts=parts), Budget()))
    assert caught.value.exit_status == 3
    assert "part4 1.0 16.0 MB" in caught.value.detail
    assert "part5" not in caught.value.detail


@pytest.mark.parametrize(("limits", "expected"), [({"zip": 9}, "zip"), ({"unzipped": 9}, "unzipped")])
def test_budgets_are_told_apart(limits, expected):
    assert over(report(10, 10), **limits) == [expected]
    assert over(report(9, 9), **limits) == []


def test_layers_count_in_what_is_unzipped_and_not_in_the_zip():
    found = report(10, 10, layers=[("common", UNZIPPED_LIMIT - 9)])
    assert over(found, zip=10) == ["lambda unzipped"]
    with pytest.raises(LimitError, match="orders takes 250") as caught:
        raise_over_limit(function_measures("orders", found, Budget()))
    assert "layer common 250.0 MB" in caught.value.detail


def test_an_image_counts_with_its_base():
    assert over(report(10, 10, base=90), image=100) == []
    assert over(report(10, 11, base=90), image=100) == ["image"]
    assert over(report(10, IMAGE_LIMIT, base=1)) == ["lambda image"]
    remedies = {each.key: each.remedy for each in function_measures("one", report(base=1), Budget(image=1, unzipped=1, zip=1))}
    assert [key for key, remedy in remedies.items() if "oci.base" in remedy] == ["lambda image", "image"]
    assert over(report(10, UNZIPPED_LIMIT + 1, base=1)) == []


def test_a_layer_has_the_budget_of_its_name_or_that_of_all():
    options = LayerOptions(named=(NamedLayer(name="science", budget=Budget(zip=5)),), budget=Budget(zip=7))
    assert layer_budget("science-0123456789ab", options).zip == 5
    assert layer_budget("other-0123456789ab", options).zip == 7
    found = layer_record(6, distributions=(distribution_record("numpy", 6),))
    assert [each.key for each in layer_measures("science-x", found, layer_budget("science-x", options)) if each.over] == ["zip"]


@pytest.mark.parametrize(
    ("budget", "grown", "is_over"),
    [
        (Budget(growth=100), 100, False),
        (Budget(growth=100), 101, True),
        (Budget(growth_percent=5), 50, False),
        (Budget(growth_percent=5), 51, True),
        (Budget(growth_percent=0), 1, True),
        (Budget(growth_percent=0), -10, False),
    ],
)
def test_growth_in_bytes_and_in_per_cent(budget, grown, is_over):
    measure = growth_measure(FUNCTION, "orders", "zipped", (1000 + grown, 1000), budget, {"numpy": grown, "gone": -5})
    assert measure is not None
    assert measure.over is is_over
    assert [name for name, _ in measure.largest()] == (["numpy"] if grown > 0 else [])


def test_no_budget_means_no_error():
    assert growth_measure(FUNCTION, "orders", "zipped", (2, 1), Budget(), {}) is None
    assert start_measure("orders", 1e9, Budget(), {}) is None


def test_a_start_is_told_in_milliseconds():
    measure = start_measure("orders", 401, Budget(init=400), {"pandas": 300.0, "numpy": 90.0})
    assert measure is not None
    error = measure.error()
    assert error.what == "orders takes 401 ms to start, over its budget of 400 ms."
    assert error.detail == "Slowest: pandas 300 ms, numpy 90 ms"


def test_direct_upload_is_a_warning():
    assert upload_warning("orders", DIRECT_UPLOAD_LIMIT) == ()
    (warning,) = upload_warning("orders", DIRECT_UPLOAD_LIMIT + 1)
    assert "S3" in warning


@pytest.mark.slow
def test_a_function_over_250_megabytes_exits_with_three_and_keeps_the_last_good_build(tmp_path, lpack, index, cache):
    files = {f"huge/{number}.bin": bytes(90 * MEGABYTE) for number in range(3)}
    make_wheel(index.folder, "huge", "1.0", files)
    (tmp_path / "fn").mkdir()
    (tmp_path / "fn" / "app.py").write_text("def handler(event, context): ...\n")
    assert lpack("build", "fn/", cwd=tmp_path).returncode == 0
    before = (tmp_path / "dist" / "lpack.json").read_text()
    (tmp_path / "fn" / "requirements.txt").write_text("huge\n")
    finished = lpack("build", "fn/", cwd=tmp_path)
    assert finished.returncode == 3
    assert "fn takes 270.0 MB" in finished.stderr
    assert "Largest, unzipped: huge 1.0 270.0 MB" in finished.stderr
    assert (tmp_path / "dist" / "lpack.json").read_text() == before
    assert json.loads(before)["functions"]["fn"]["distributions"] == []
