"""Targets: the tags they take, the markers they show, and the facts about Lambda that everything else trusts."""

from __future__ import annotations

import re

import pytest
from packaging.markers import Marker
from packaging.tags import compatible_tags, cpython_tags, parse_tag

from builders.runtimes import (
    ARCHITECTURES,
    DEFAULT_ARCHITECTURE,
    DEFAULT_RUNTIME,
    DIRECT_UPLOAD_LIMIT,
    IMAGE_LIMIT,
    MEGABYTE,
    RUNTIMES,
    UNZIPPED_LIMIT,
    Target,
)

MINORS = {"python3.9": 9, "python3.10": 10, "python3.11": 11, "python3.12": 12, "python3.13": 13, "python3.14": 14}
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
TARGETS = [Target.of(runtime, architecture) for runtime in MINORS for architecture in MACHINES]


def fits(target: Target, tag: str) -> bool:
    return bool({str(each) for each in parse_tag(tag)} & set(target.tags()))


def rank(target: Target, tag: str) -> int:
    (one,) = parse_tag(tag)
    return target.tags().index(str(one))


def test_the_table_is_complete() -> None:
    assert {name: runtime.minor for name, runtime in RUNTIMES.items()} == MINORS
    assert set(ARCHITECTURES) == set(MACHINES)
    assert str(Target.of(DEFAULT_RUNTIME, DEFAULT_ARCHITECTURE)) == "python3.13-x86_64"


def test_glibc_and_operating_system_follow_the_runtime() -> None:
    facts = {name: (runtime.operating_system, runtime.glibc) for name, runtime in RUNTIMES.items()}
    old, new = ("Amazon Linux 2", 26), ("Amazon Linux 2023", 34)
    assert facts == {name: old if minor <= 11 else new for name, minor in MINORS.items()}


def test_dates_are_in_order() -> None:
    for runtime in RUNTIMES.values():
        assert runtime.deprecated < runtime.create_blocked < runtime.update_blocked
    assert RUNTIMES["python3.9"].deprecated.isoformat() == "2025-12-15"
    assert RUNTIMES["python3.12"].update_blocked.isoformat() == "2029-01-10"


@pytest.mark.parametrize(
    ("runtime", "architecture", "named"), [("python2.7", "x86_64", "python2.7"), ("python3.12", "mips", "mips")]
)
def test_unknown_names_are_carried_by_the_error(runtime: str, architecture: str, named: str) -> None:
    with pytest.raises((KeyError, ValueError), match=re.escape(named)):
        Target.of(runtime, architecture)


@pytest.mark.parametrize("target", TARGETS, ids=str)
class TestEveryTarget:
    def test_plain_and_legacy_wheels_fit(self, target: Target) -> None:
        minor, machine = target.runtime.minor, target.machine
        assert machine == MACHINES[target.architecture]
        for tag in ("py3-none-any", "py2.py3-none-any", f"py3{minor}-none-any", f"cp3{minor}-none-any"):
            assert fits(target, tag), tag
        for platform in ("manylinux2014", "manylinux_2_17", "linux"):
            assert fits(target, f"cp3{minor}-cp3{minor}-{platform}_{machine}"), platform
            assert fits(target, f"py3-none-{platform}_{machine}"), platform
        for platform in ("manylinux1", "manylinux2010", "manylinux_2_5", "manylinux_2_12"):
            # These levels were never defined for any other machine than x86 (PEP 513, PEP 571).
            assert fits(target, f"cp3{minor}-cp3{minor}-{platform}_{machine}") is (machine == "x86_64"), platform

    def test_every_glibc_level_fits_up_to_the_ceiling(self, target: Target) -> None:
        minor, machine = target.runtime.minor, target.machine
        fitting = [level for level in range(17, 60) if fits(target, f"cp3{minor}-cp3{minor}-manylinux_2_{level}_{machine}")]
        assert fitting == list(range(17, target.runtime.glibc + 1))

    @pytest.mark.parametrize("platform", ["musllinux_1_1_{}", "musllinux_1_2_{}", "win_amd64", "win_arm64", "win32"])
    def test_other_systems_never_fit(self, target: Target, platform: str) -> None:
        assert not fits(target, f"cp3{target.runtime.minor}-cp3{target.runtime.minor}-{platform.format(target.machine)}")

    @pytest.mark.parametrize("platform", ["macosx_11_0_arm64", "macosx_10_9_x86_64", "macosx_10_9_universal2", "linux_armv7l"])
    def test_other_machines_never_fit(self, target: Target, platform: str) -> None:
        assert not fits(target, f"cp3{target.runtime.minor}-cp3{target.runtime.minor}-{platform}")

    def test_the_other_architecture_never_fits(self, target: Target) -> None:
        minor = target.runtime.minor
        (other,) = set(MACHINES.values()) - {target.machine}
        for platform in ("manylinux2014", "manylinux_2_17", "linux"):
            assert not fits(target, f"cp3{minor}-cp3{minor}-{platform}_{other}")

    def test_free_threaded_and_debug_builds_never_fit(self, target: Target) -> None:
        minor, machine = target.runtime.minor, target.machine
        for abi in (f"cp3{minor}t", f"cp3{minor}d"):
            assert not fits(target, f"cp3{minor}-{abi}-manylinux_2_17_{machine}")

    def test_other_interpreters_never_fit(self, target: Target) -> None:
        minor, machine = target.runtime.minor, target.machine
        for wrong in (f"cp3{minor + 1}-cp3{minor + 1}", f"cp3{minor - 1}-cp3{minor - 1}", f"pp3{minor}-pypy3{minor}_pp73"):
            assert not fits(target, f"{wrong}-manylinux_2_17_{machine}"), wrong
        for wrong in ("cp27-none-any", "py2-none-any", f"py3{minor + 1}-none-any"):
            assert not fits(target, wrong), wrong

    def test_abi3_fits_from_its_minimum_on(self, target: Target) -> None:
        minor, machine = target.runtime.minor, target.machine
        for minimum in range(2, 20):
            assert fits(target, f"cp3{minimum}-abi3-manylinux_2_17_{machine}") is (minimum <= minor), minimum

    def test_impossible_glibc_versions_are_refused(self, target: Target) -> None:
        minor, machine = target.runtime.minor, target.machine
        for platform in ("manylinux_2_999", "manylinux_3_12", "manylinux_1_17", "manylinux2015"):
            assert not fits(target, f"cp3{minor}-cp3{minor}-{platform}_{machine}"), platform

    def test_the_best_tag_comes_first(self, target: Target) -> None:
        minor, machine, glibc = target.runtime.minor, target.machine, target.runtime.glibc
        own = f"cp3{minor}-cp3{minor}"
        ordered = [
            f"{own}-manylinux_2_{glibc}_{machine}",
            f"{own}-manylinux_2_17_{machine}",
            f"{own}-linux_{machine}",
            f"cp3{minor}-abi3-manylinux_2_17_{machine}",
            f"cp32-abi3-manylinux_2_17_{machine}",
            f"py3-none-manylinux_2_17_{machine}",
            f"cp3{minor}-none-any",
            "py3-none-any",
        ]
        ranks = [rank(target, tag) for tag in ordered]
        assert ranks == sorted(ranks)
        assert target.tags()[0] == f"cp3{minor}-cp3{minor}-manylinux_2_{glibc}_{machine}"

    def test_tags_are_those_of_packaging(self, target: Target) -> None:
        minor = target.runtime.minor
        own = f"cp3{minor}"
        platforms = [tag.rpartition("-")[2] for tag in target.tags() if tag.startswith(f"{own}-{own}-")]
        native = cpython_tags((3, minor), abis=[own], platforms=platforms)
        assert target.tags() == tuple(map(str, (*native, *compatible_tags((3, minor), own, platforms))))

    def test_no_tag_is_there_twice(self, target: Target) -> None:
        assert len(set(target.tags())) == len(target.tags())

    def test_images_are_the_runtimes_own(self, target: Target) -> None:
        name, minor, architecture = target.runtime.name, target.runtime.minor, target.architecture
        assert target.build_image == f"public.ecr.aws/sam/build-{name}:latest-{architecture}"
        assert target.runtime_image == f"public.ecr.aws/lambda/python:3.{minor}-{architecture}"

    def test_the_resolver_is_never_asked_for_a_level_far_from_the_ceiling(self, target: Target) -> None:
        levels = {26: ("manylinux_2_17", "manylinux_2_28"), 34: ("manylinux_2_34",)}[target.runtime.glibc]
        assert target.resolver_platforms == tuple(f"{target.machine}-{level}" for level in levels)


@pytest.mark.parametrize(
    ("runtime", "tag", "expected"),
    [
        ("python3.11", "cp311-cp311-manylinux_2_24_x86_64", True),
        ("python3.11", "cp311-cp311-manylinux_2_26_x86_64", True),
        ("python3.11", "cp311-cp311-manylinux_2_27_x86_64", False),
        ("python3.11", "cp311-cp311-manylinux_2_28_x86_64", False),
        ("python3.12", "cp312-cp312-manylinux_2_28_x86_64", True),
        ("python3.12", "cp312-cp312-manylinux_2_34_x86_64", True),
        ("python3.12", "cp312-cp312-manylinux_2_35_x86_64", False),
        ("python3.12", "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("python3.12", "cp312-cp312-manylinux_2_28_x86_64.manylinux_2_99_x86_64", True),
        ("python3.12", "cp310.cp311.cp312-cp310.cp311.cp312-manylinux2014_x86_64", True),
        ("python3.12", "cp310.cp311-cp310.cp311-manylinux2014_x86_64", False),
        ("python3.12", "cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("python3.12", "cp313-abi3-manylinux_2_17_x86_64", False),
        ("python3.12", "cp39-abi3-musllinux_1_2_x86_64", False),
        ("python3.14", "cp314-cp314t-manylinux_2_28_x86_64", False),
        ("python3.9", "cp39-cp39-manylinux_2_5_x86_64.manylinux1_x86_64", True),
    ],
)
def test_tags_of_published_wheels_fit_or_not(runtime: str, tag: str, *, expected: bool) -> None:
    assert fits(Target.of(runtime, "x86_64"), tag) is expected


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_markers_are_the_targets_own(target: Target) -> None:
    minor = target.runtime.minor
    true = [
        'sys_platform == "linux"',
        'os_name == "posix"',
        'platform_system == "Linux"',
        'implementation_name == "cpython"',
        'platform_python_implementation == "CPython"',
        f'python_version == "3.{minor}"',
        f'python_full_version >= "3.{minor}.0"',
        f'python_version < "3.{minor + 1}" and python_version >= "3.9"',
        f'platform_machine == "{MACHINES[target.architecture]}"',
    ]
    false = [
        'sys_platform == "win32"',
        'sys_platform == "darwin"',
        'implementation_name == "pypy"',
        'extra == "speedups"',
        f'python_version < "3.{minor}"',
        'platform_machine == "arm64"',  # macOS's spelling
    ]
    environment = {**target.markers(), "extra": ""}
    assert [marker for marker in true if not Marker(marker).evaluate(environment)] == []
    assert [marker for marker in false if Marker(marker).evaluate(environment)] == []


def test_markers_take_nothing_from_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "sparc")
    monkeypatch.setattr("platform.release", lambda: "host")
    monkeypatch.setattr("platform.version", lambda: "host")
    monkeypatch.setattr("sys.platform", "plan9")
    target = Target.of("python3.10", "arm64")
    assert not {"sparc", "host", "plan9"} & set(target.markers().values())
    host = Marker('platform_machine == "sparc" or sys_platform == "plan9" or platform_release == "host"')
    assert not host.evaluate(target.markers())


def test_every_marker_variable_is_answered() -> None:
    from packaging.markers import default_environment

    assert set(default_environment()) <= set(TARGETS[0].markers())


def test_limits_are_those_of_the_quota_page() -> None:
    assert MEGABYTE == 1_048_576
    assert UNZIPPED_LIMIT == 262_144_000
    assert DIRECT_UPLOAD_LIMIT == 52_428_800
    assert IMAGE_LIMIT == 10_737_418_240
