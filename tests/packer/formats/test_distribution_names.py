"""Names in their plain form are read without packaging, and packaging says the same of all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from packer.formats.distribution_names import (
    RequirementOutline,
    canonical_name,
    is_distribution_name,
    is_same_version,
    outline_requirement,
    parse_wheel_name,
)

WORDS = st.text("ab1._-", min_size=1, max_size=5)
VERSIONS = st.one_of(
    st.sampled_from(["1", "1.0", "01.2", "1.0a1", "1rc1", "2.post1", "1.dev0", "1.0.*", "1_0", "1+local", "v1", "1a", "1.0-1"]),
    st.text("1.abrcpostdev*+", min_size=1, max_size=6),
)
CLAUSES = st.tuples(st.sampled_from(["==", ">=", "~=", "<", "!=", "===", "=", "<>"]), st.sampled_from(["", " "]), VERSIONS).map(
    "".join
)
MARKERS = st.sampled_from(
    [
        "",
        "; python_version < '3.9'",
        ' ; os_name=="posix" and sys_platform != "win32"',
        ";(os_name=='nt')",
        "; extra == 'a'",
        "; os_name",
        "; python_version in '3.8'",
    ]
)
EXTRAS = st.sampled_from(["", "[a]", " [a, b-c] ", "[]", "[a", "[-]"])
REQUIREMENTS = st.builds(
    lambda name, extras, clauses, marker: f"{name}{extras}{','.join(clauses)}{marker}",
    WORDS,
    EXTRAS,
    st.lists(CLAUSES, max_size=2),
    MARKERS,
)
TAG_SETS = st.lists(
    st.sampled_from(["py3", "cp312", "abi3", "none", "any", "linux_x86_64", "", "3py", "PY2"]), min_size=1, max_size=2
)
WHEELS = st.builds(
    lambda name, version, build, tags: "-".join([name, version, *build, *map(".".join, tags)]) + ".whl",
    st.text("aB1._", min_size=0, max_size=4),
    VERSIONS,
    st.sampled_from([(), ("1",), ("2a",), ("x",), ("10_b.c",)]),
    st.tuples(TAG_SETS, TAG_SETS, TAG_SETS),
)


@given(WORDS)
def test_names_are_normalized_as_packaging_does(name):
    assert canonical_name(name) == canonicalize_name(name)


@pytest.mark.parametrize(
    ("text", "valid"), [("a", True), ("a-b.c_D", True), ("-a", False), ("a_", False), ("", False), ("é", False)]
)
def test_names_of_distributions(text, valid):
    assert is_distribution_name(text) is valid


def result_or_refusal(parse: Callable[[str], Any], text: str) -> Any:
    """Return what a parser makes of a text, or the words in which it refuses it."""
    try:
        return parse(text)
    except ValueError as error:
        return str(error)


@given(WHEELS)
@example("numpy-2.1.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")
@example("a-1.0-1b-py2.py3-none-any.whl")
def test_wheel_names_are_parsed_as_packaging_does(filename):
    found, expected = result_or_refusal(parse_wheel_name, filename), result_or_refusal(parse_wheel_filename, filename)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    name, version, build, tags = expected
    assert (found.name, Version(found.version), found.tags) == (name, version, set(map(str, tags)))
    assert found.build == (build[0] if build else None)


@given(REQUIREMENTS)
@example("Django >= 4.2 , <5 ; python_version>='3.8' or os_name == \"nt\"")
@example("a @ https://example.com/a-1.whl")
@example("a" + " " * 5000)
def test_requirements_are_outlined_as_packaging_does(text):
    found, expected = result_or_refusal(outline_requirement, text), result_or_refusal(Requirement, text)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    assert (found.name, found.url) == (canonicalize_name(expected.name), expected.url or "")
    assert sorted(found.operators) == sorted(clause.operator for clause in expected.specifier)


@given(VERSIONS, VERSIONS)
def test_versions_are_compared_as_packaging_does(one, other):
    try:
        same = Version(one) == Version(other)
    except InvalidVersion:
        same = one == other
    assert is_same_version(one, other) is same


def test_plain_forms_need_no_packaging(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "packaging"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert parse_wheel_name("pydantic_core-2.23.4-cp312-cp312-manylinux_2_17_aarch64.manylinux2014_aarch64.whl").build is None
    pinned = "uvicorn[standard]==0.30.1 ; python_version >= '3.9' and sys_platform != 'win32'"
    assert outline_requirement(pinned) == RequirementOutline(name="uvicorn", operators=("==",))
    assert outline_requirement("boto3>=1.34,<2").name == "boto3"
    assert is_same_version("1.0", "1.0")
