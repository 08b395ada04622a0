"""Limits: Lambda's own and the user's."""

import json
from pathlib import Path

import pytest

from builders.runtimes import DIRECT_UPLOAD_LIMIT, MEGABYTE, UNZIPPED_LIMIT, Target
from packer.budget import check_limits
from packer.errors import LimitError
from packer.model import Artifact, Budget, Function, Share
from packer.units import size_text
from tests.wheels import make_wheel


def function(**limits: int) -> Function:
    return Function(
        name="orders",
        source=Path("/project"),
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=None,
        lock_path=Path("/project/pylock.orders.toml"),
        budget=Budget(**limits),
    )


def artifact(zipped: int = 1, unzipped: int = 1) -> Artifact:
    return Artifact(path="orders.zip", sha256="0" * 64, zipped=zipped, unzipped=unzipped, files=1)


def share(name: str, size: int) -> Share:
    return Share(name=name, version="1.0", files=1, unzipped=size)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0 KB"), (1536, "1.5 KB"), (104_857, "102.4 KB"), (104_858, "0.1 MB"), (UNZIPPED_LIMIT, "250.0 MB")],
)
def test_small_sizes_are_told_in_kilobytes(size, text):
    assert size_text(size) == text


def test_lambdas_limits_in_its_own_units():
    assert UNZIPPED_LIMIT == 262_144_000
    assert DIRECT_UPLOAD_LIMIT == 52_428_800


def test_at_the_limit_is_within_it():
    assert check_limits(function(zip=10, unzipped=UNZIPPED_LIMIT), artifact(10, UNZIPPED_LIMIT), ()) == ()


def test_over_the_limit_names_the_five_largest():
    parts = [share(f"part{number}", MEGABYTE * (20 - number)) for number in range(7)]
    with pytest.raises(LimitError, match=r"over Lambda's limit for unzipped packages of 250\.0 MB") as caught:
        check_limits(function(), artifact(unzipped=UNZIPPED_LIMIT + 1), parts)
    assert caught.value.exit_status == 3
    assert "part4 1.0 16.0 MB" in caught.value.detail
    assert "part5" not in caught.value.detail


@pytest.mark.parametrize(("limits", "expected"), [({"zip": 9}, "for the ZIP"), ({"unzipped": 9}, "for the unzipped size")])
def test_budgets_are_told_apart(limits, expected):
    with pytest.raises(LimitError, match=expected):
        check_limits(function(**limits), artifact(10, 10), ())


def test_direct_upload_is_a_warning():
    assert check_limits(function(), artifact(zipped=DIRECT_UPLOAD_LIMIT), ()) == ()
    (warning,) = check_limits(function(), artifact(zipped=DIRECT_UPLOAD_LIMIT + 1), ())
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
