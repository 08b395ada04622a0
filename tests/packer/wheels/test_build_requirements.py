"""What builds need: resolved as wheels, built first where that was asked for, and nothing else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from builders.errors import BuildError, MissingRequirementsError
from builders.recipes import BuildSettings
from tests.packages import write_sdist_files
from tests.packer.world import NATIVE, PURE, World
from tests.wheels import make_wheel


def helper(world: World, info: str = "Metadata-Version: 2.2\nName: helper\nVersion: 1.0\n") -> dict[str, bytes]:
    """Put a package into the index that has no wheel, and give a source that asks for it."""
    write_sdist_files(world.index, "helper-1.0", {**PURE, "PKG-INFO": info.encode()})
    return {**NATIVE, "pyproject.toml": b'[build-system]\nrequires = ["helper"]\n'}


def named(world: World, *names: str) -> None:
    world.function = replace(world.function, packages=tuple((name, BuildSettings()) for name in names))


def test_build_requirements_without_a_wheel_are_built_first(world):
    wanting = helper(world)
    named(world, "helper")
    made = world.build(wanting)
    assert "helper==1.0" in made.record.requirements
    assert [request.name for request in world.builders["host"].requests] == ["helper 1.0"]


def test_nothing_of_a_build_requirement_runs_that_nobody_named(world, tmp_path):
    """A resolver runs a source that does not state what it needs, and runs it outside of any container."""
    wanting = helper(world, "Metadata-Version: 1.0\nName: helper\nVersion: 1.0\n")
    ran = tmp_path / "ran"
    project = b'[build-system]\nrequires = []\nbuild-backend = "run"\nbackend-path = ["."]\n'
    files = {"pyproject.toml": project, "run.py": f"open({str(ran)!r}, 'w')\n".encode(), "PKG-INFO": b"Metadata-Version: 1.0\n"}
    write_sdist_files(world.index, "helper-1.0", files)
    with pytest.raises(BuildError) as caught:
        world.build(wanting)
    assert "[packages.NAME]" in caught.value.remedy
    assert not ran.exists()
    named(world, "helper")
    with pytest.raises(BuildError):
        world.build(wanting)
    assert ran.exists(), "this source would have run"


def test_a_source_is_taken_for_what_has_no_wheel_alone(world):
    helper(world)
    make_wheel(world.index, "tool", "1.0", {"tool.py": b""})
    write_sdist_files(world.index, "tool-1.0", {**PURE, "PKG-INFO": b"Metadata-Version: 2.2\nName: tool\nVersion: 1.0\n"})
    named(world, "helper", "tool")
    wanting = {**NATIVE, "pyproject.toml": b'[build-system]\nrequires = ["helper", "tool"]\n'}
    assert world.build(wanting).record.requirements == ("helper==1.0", "tool==1.0")
    assert [request.name for request in world.builders["host"].requests] == ["helper 1.0"]


def test_an_index_that_does_not_answer_is_no_reason_to_take_a_source(world, monkeypatch):
    wanting = helper(world)
    named(world, "helper")
    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    with pytest.raises(BuildError, match="cannot be resolved"):
        world.build(wanting)
    assert not world.builders["host"].requests


@pytest.mark.parametrize(
    ("requirement", "part"),
    [
        ("-r /etc/hostname", "no requirement"),
        ("helper\n--index-url http://127.0.0.1:9/", "no requirement"),
        ("helper @ file:///nowhere/helper-1.0.tar.gz", "a place of its own choice"),
    ],
)
def test_what_a_back_end_asks_for_must_be_a_requirement(world, requirement, part):
    world.builders["container"].trouble.append(MissingRequirementsError((requirement,)))
    with pytest.raises(BuildError, match=part):
        world.build(NATIVE)


def test_circular_build_requirements_are_refused(world):
    def files(name: str, needs: str) -> dict[str, bytes]:
        info = f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n".encode()
        return {"pyproject.toml": f'[build-system]\nrequires = ["{needs}"]\n'.encode(), "src/it.c": b"", "PKG-INFO": info}

    for name, needs in (("hen", "egg"), ("egg", "hen")):
        write_sdist_files(world.index, f"{name}-1.0", files(name, needs))
    named(world, "hen", "egg")
    with pytest.raises(BuildError, match="hen -> egg -> hen"):
        world.builder().build_all(world.function, [world.source(files("hen", "egg"), "hen")])
