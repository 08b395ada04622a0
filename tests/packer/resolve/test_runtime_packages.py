"""What is left to the runtime: with a package of its own goes what only that requires, and versions have to fit."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.runtimes import RUNTIME_DISTRIBUTIONS, RUNTIME_REQUIRES, Target
from packer.core.model import Function, Requirements
from packer.formats.distribution_names import canonical_name
from packer.formats.metadata import parse_requirement
from packer.resolve.runtime_packages import find_family, find_misfits, find_staying, read_runtime_versions
from packer.source.dependency_files import REQUIREMENTS
from tests.packer.resolve.test_requirement_graph import tree

ALL = frozenset(RUNTIME_DISTRIBUTIONS)


@pytest.fixture
def function(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("boto3\nrequests\n")
    return Function(
        name="orders",
        source=tmp_path,
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=Requirements(kind=REQUIREMENTS, path=path),
        lock_path=tmp_path / "pylock.orders.toml",
        exclude=("boto3",),
    )


@pytest.mark.parametrize("name", RUNTIME_REQUIRES)
def test_the_runtimes_packages_require_what_their_metadata_says(name):
    required = [parse_requirement(text) for text in importlib.metadata.requires(name) or ()]
    assert {canonical_name(each.name) for each in required if each and not each.marker} == set(RUNTIME_REQUIRES[name])


def test_a_family_is_all_that_excluded_packages_require(function):
    names = {*ALL, "requests"}
    assert find_family(function, names) == ALL - {"boto3"}
    assert find_family(function, {"boto3", "six", "requests"}) == {"six"}
    assert find_family(replace(function, exclude=("python-dateutil", "requests")), names) == {"six"}
    assert find_family(replace(function, exclude=("urllib3",)), names) == frozenset()


def test_what_others_require_stays_with_what_that_requires(function):
    family = ALL - {"boto3"}
    names = {*ALL, "requests", "pandas"}
    required = {"requests": ("idna", "urllib3"), "pandas": ("python-dateutil",)}
    expected = {"urllib3": "requests", "python-dateutil": "pandas", "six": "python-dateutil"}
    assert find_staying(function, family, names, required) == expected
    assert find_staying(function, family, names, {"requests": ()}) == {}


def test_what_the_function_itself_asks_for_stays_unless_its_list_has_everything(function):
    function.requirements.path.write_text("boto3\nurllib3<2\n")
    assert find_staying(function, {"six", "urllib3"}, {"boto3", "six", "urllib3"}, {}) == {"urllib3": "the function itself"}
    function.requirements.path.write_text("boto3==1\nsix==1  # via python-dateutil\nurllib3==2\n")
    assert find_staying(function, {"six", "urllib3"}, {"boto3", "six", "urllib3"}, {}) == {}


def test_the_versions_of_a_runtime_are_those_of_the_first_folder_that_has_one(tmp_path):
    for name in ("one/boto3-1.40.1", "one/python_dateutil-2.9.0", "two/boto3-1.0", "two/pip-24"):
        Path(tmp_path, f"{name}.dist-info").mkdir(parents=True)
    found = read_runtime_versions([tmp_path / "one", tmp_path / "two", tmp_path / "absent"])
    assert found == {"boto3": "1.40.1", "python-dateutil": "2.9.0"}


MISFITS = {
    "a later version": ("boto3>=1.45\n", (), ["orders requires boto3>=1.45, and the runtime has 1.40.1."]),
    "a pin of an earlier one": ("boto3==1.38.0\n", (), []),
    "a pin of a later one": ("boto3==1.41\n", (), ["orders requires boto3==1.41, and the runtime has 1.40.1."]),
    "a pin of a distribution's": (
        "tool\n",
        ("boto3==1.38",),
        ["tool requires boto3==1.38, and the runtime has 1.40.1."],
    ),
    "a range": ("tool\n", ("boto3<2,>=1.20",), []),
    "another extra": ("tool\n", ('boto3>=2; extra == "aws"',), []),
    "another target": ("tool\n", ('boto3>=2; sys_platform == "win32"',), []),
    "another package": ("tool\nsix>=9\n", ("jmespath>=9",), []),
    "a list of everything": (
        "tool==1\nboto3==1.41\nurllib3==9\n",
        (),
        ["orders requires boto3==1.41, and the runtime has 1.40.1."],
    ),
}


@pytest.mark.parametrize(("file", "requires", "expected"), MISFITS.values(), ids=MISFITS)
def test_what_a_runtime_does_not_meet_is_told(function, file, requires, expected):
    function.requirements.path.write_text(file)
    left, versions = {"boto3", "urllib3"}, {"boto3": "1.40.1", "urllib3": "1.26.1"}
    found = list(find_misfits(function, {*left, "tool"}, left, versions, {"tool": tree("tool", *requires)}))
    assert len(found) == len(expected)
    for misfit, beginning in zip(found, expected, strict=True):
        assert misfit.startswith(beginning)
        assert misfit.endswith("Take boto3 out of exclude, so that it is packed.")


def test_what_helps_with_all_of_the_runtime_excluded_is_to_exclude_less(function):
    function = replace(function, exclude=("boto3", "runtime", "urllib3"))
    left, versions = {"boto3", "urllib3"}, {"boto3": "1.40.1", "urllib3": "1.26.1"}
    trees = {"requests": tree("requests", "urllib3>=2", "boto3>=2")}
    first, second = find_misfits(function, {*left, "requests"}, left, versions, trees)
    assert first.endswith('Write exclude = ["boto3"]: what others require, too, is packed then.')
    assert second.endswith('Take "runtime" out of exclude, so that it is packed.')
