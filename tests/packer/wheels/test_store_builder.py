"""The order of builders, and the keys under which wheels are kept; the builders are fakes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from builders.errors import BuildError, LpackError, MissingRequirementsError, NativeCodeError
from builders.recipes import BUILDERS, BuildSettings, BuiltWheel, Recipe, WheelRequest
from builders.runtimes import Target
from packer.core.errors import ManyErrors
from packer.core.model import LockedPackage, SourceFolder
from packer.core.records import WheelBuildRecord
from packer.manifest.schemas import schema_text
from packer.wheels.builder_choice import BUILDER_TABLE, BuilderRow
from tests.packer.world import NATIVE, PURE, FakeBuilder, away
from tests.wheels import make_wheel


def test_pure_python_is_built_on_the_host(world):
    made = world.build(PURE)
    assert made.record == WheelBuildRecord(builder="host", why="no wheel fits, and it looks like pure Python")


def test_native_code_is_built_in_a_container(world):
    made = world.build(NATIVE)
    assert made.record.builder == "container"
    assert made.record.why == "no wheel fits, and it has native code (src/one.c)"
    assert "requirements" not in msgspec.to_builtins(made.record)


def test_native_code_that_does_not_show_goes_on_to_the_container(world):
    world.builders["host"].trouble.append(NativeCodeError("it has native code"))
    made = world.build(PURE)
    assert made.record.builder == "container"
    assert "host could not" in made.record.why


def test_without_an_engine_it_is_cross_compiled(world):
    world.builders["container"].recipes = away("no engine")
    made = world.build(NATIVE)
    assert made.record.builder == "cross"
    assert "container could not" in made.record.why
    warning, _ = made.warnings
    assert "one 1.0 is built by cross, because container could not: no engine. Mend: no engine." in warning
    assert '[packages.one] builder = "cross"' in warning
    assert world.build(NATIVE).warnings == made.warnings, "it is said of what lies in the store, too"
    assert "is built by" not in "".join(world.build(NATIVE, builder="cross").warnings)


def test_unavailable_builders_are_all_listed(world):
    world.builders["container"].recipes = away("no engine")
    world.builders["cross"].recipes = away("no zig")
    with pytest.raises(BuildError) as caught:
        world.build(NATIVE)
    text = str(caught.value)
    assert "container: no engine. Mend: no engine.\n" in text
    assert "cross: no zig. Mend: no zig.\n" in text
    assert not world.builders["host"].requests, "this machine's compiler makes what only this machine can load, or nothing"


@pytest.mark.parametrize("settings", [{"image": "own:1"}, {"setup": ("true",)}])
def test_named_image_rules_out_cross_compilation(world, settings):
    world.builders["container"].recipes = away("no engine")
    with pytest.raises(BuildError, match="no engine"):
        world.build(NATIVE, **settings)
    assert world.build(PURE, **settings).record.builder == "host"


@pytest.mark.parametrize("tag", ["py3-none-any", "cp312-cp312-linux_x86_64"])
def test_native_code_that_was_left_out_is_told(world, tag):
    world.builders["container"].tag = tag
    [warning] = world.build(NATIVE).warnings
    assert "without the native code" in warning
    assert "src/one.c" in warning
    [log] = (world.store.root / "logs").iterdir()
    assert str(log) in warning
    assert log.read_text() == "what the build said\n"
    assert world.build(NATIVE).warnings == (warning,), "it is said of what lies in the store, too"
    assert world.build(PURE).warnings == ()


@pytest.mark.parametrize(
    ("name", "part"),
    [("container", '[packages.one] setup = ["dnf install -y …"]'), ("cross", 'builder = "container"'), ("host", "has a wheel")],
)
def test_a_failed_build_says_what_may_help(world, name, part):
    world.builders[name].trouble.append(BuildError("its build back end failed", detail="gcc: not found"))
    with pytest.raises(BuildError) as caught:
        world.build(NATIVE, builder=name)
    assert part in caught.value.remedy


@pytest.mark.parametrize("name", ["host", "container", "cross"])
def test_the_builder_that_is_configured_is_the_only_one(world, name):
    made = world.build(NATIVE, builder=name)
    assert (made.record.builder, made.record.why) == (name, "configured")
    world.builders[name].recipes = away("away")
    with pytest.raises(BuildError, match="away"):
        world.build({**NATIVE, "more.c": b""}, builder=name)


def test_settings_by_package_go_first(world):
    world.function = replace(world.function, packages=(("one", BuildSettings(builder="cross")),))
    [made] = world.builder().build_all(world.function, [world.source(NATIVE)])
    assert made.record.builder == "cross"


def test_a_failed_build_is_no_reason_to_try_another_builder(world):
    log = "".join(f"line {number}\n" for number in range(100))
    world.builders["container"].trouble.append(BuildError("its build back end failed", detail=log, remedy="Mend it."))
    with pytest.raises(BuildError) as caught:
        world.build(NATIVE)
    text = str(caught.value)
    assert "Cannot build one 1.0" in text
    assert "line 99" in text
    assert "line 59\n" not in text
    [kept] = (world.store.root / "logs").iterdir()
    assert str(kept) in text
    assert kept.read_text() == log
    assert not world.builders["cross"].requests
    assert world.build(NATIVE).record.builder == "container"


def test_a_wheel_is_built_once(world):
    first = world.build(NATIVE)
    second = world.build(NATIVE)
    assert first == second
    assert len(world.builders["container"].requests) == 1
    assert world.notes.count("building one 1.0 on this machine (container)") == 1


def test_two_functions_share_one_build(world):
    source = world.source(NATIVE)
    other = replace(world.function, name="users")
    builder = world.builder()
    made = [builder.build_all(function, [source]) for function in (world.function, other)]
    assert made[0] == made[1]
    assert len(world.builders["container"].requests) == 1


def test_another_image_another_source_or_another_target_is_another_build(world):
    world.build(NATIVE)
    world.builders["container"].image = "image:2"
    world.build(NATIVE)
    world.build({**NATIVE, "src/one.c": b"int two;\n"})
    world.function = replace(world.function, target=Target.of("python3.12", "arm64"))
    world.build(NATIVE)
    assert len(world.builders["container"].requests) == 4


def test_other_build_requirements_are_another_build(world):
    wanting = {**NATIVE, "pyproject.toml": b'[build-system]\nrequires = ["beta"]\n'}
    world.build(wanting)
    make_wheel(world.index, "beta", "3.0", {"beta/__init__.py": b""})
    world.build(wanting)
    assert len(world.builders["container"].requests) == 1, "what was resolved is remembered"
    shutil.rmtree(world.store.root / "derived" / "resolutions")
    made = world.build(wanting)
    assert "beta==3.0" in made.record.requirements
    assert len(world.builders["container"].requests) == 2


def test_what_was_built_serves_when_the_engine_is_away(world):
    first = world.build(NATIVE)
    world.builders["container"].recipes = away("no engine")
    again = world.build(NATIVE)
    assert again.distribution == first.distribution
    [warning] = [each for each in again.warnings if each not in first.warnings]
    assert warning == (
        "one 1.0 is the wheel that container built before, because it cannot build now: no engine. Mend: no engine."
    )


def test_a_wheel_that_is_gone_from_the_store_is_built_again(world):
    first = world.build(NATIVE)
    first.distribution.path.unlink()
    assert world.build(NATIVE).distribution.digest == first.distribution.digest
    assert len(world.builders["container"].requests) == 2


def test_a_back_end_may_ask_for_more_and_it_is_remembered(world):
    world.builders["container"].trouble.append(MissingRequirementsError(("gamma",)))
    made = world.build(NATIVE)
    assert {"beta==1.0", "gamma==1.0"} <= set(made.record.requirements)
    first, second = world.builders["container"].requests
    assert (first.requires, second.requires) == ((), ("gamma",))
    world.builders["container"].image = "image:1"
    world.build(NATIVE)
    assert len(world.builders["container"].requests) == 2


def test_back_end_that_asks_for_ever_more_is_refused(world):
    world.builders["container"].trouble += [MissingRequirementsError((name,)) for name in ("alpha", "beta", "gamma", "native")]
    with pytest.raises(BuildError, match="other requirements each time"):
        world.build(NATIVE)


def test_missing_build_requirements_are_an_error(world):
    wanting = {**NATIVE, "pyproject.toml": b'[build-system]\nrequires = ["no-such-thing"]\n'}
    with pytest.raises(BuildError) as caught:
        world.build(wanting)
    assert "Cannot build one 1.0: its build requirements (no-such-thing)" in str(caught.value)


def test_a_version_may_be_written_in_other_ways(world):
    package, fetched = world.source(NATIVE)
    [made] = world.builder().build_all(world.function, [(replace(package, version="1"), fetched)])
    assert made.distribution.version == "1.0"
    with pytest.raises(BuildError, match=r"gave one-1\.0"):
        world.builder().build_all(world.function, [(replace(package, version="1.1"), fetched)])


def test_at_most_so_many_builds_at_once(world):
    running, most = set[str](), []

    class Counting(FakeBuilder):
        @contextmanager
        def build(self, request: WheelRequest, into: Path) -> Iterator[BuiltWheel]:
            running.add(request.name)
            time.sleep(0.3)
            most.append(len(running))
            with super().build(request, into) as built:
                yield built
            running.discard(request.name)

    for jobs, expected in ((1, 1), (3, 3)):
        most.clear()
        world.builders["container"] = Counting("container", image=f"image:{jobs}")
        sources = [world.source(NATIVE, name) for name in ("one", "two", "three", "four")]
        world.builder(jobs).build_all(world.function, sources)
        assert max(most) == expected


def test_all_builds_that_fail_are_reported(world):
    world.builders["container"].trouble += [BuildError("no compiler"), BuildError("no header")]
    with pytest.raises(ManyErrors) as caught:
        world.builder(1).build_all(world.function, [world.source(NATIVE, name) for name in ("one", "two", "three")])
    first, second = map(str, caught.value.errors)
    assert "no compiler" in first
    assert "no header" in second
    assert len(world.builders["container"].requests) == 3


def test_closing_closes_what_was_made_and_makes_no_more(world):
    builder = world.builder()
    builder.build_all(world.function, [world.source(NATIVE)])
    builder.close()
    assert [name for name, each in world.builders.items() if each.closed] == ["container"]
    with pytest.raises(BuildError, match="interrupted"):
        builder._builders[0].recipe(world.function.target, BuildSettings())


@pytest.mark.parametrize(
    ("data", "part"),
    [(b"not = [toml", "not valid TOML"), (b"build-system = 3\n", "no table"), (b"[build-system]\nrequires = 3\n", "no list")],
)
def test_unreadable_project_file_is_refused(world, data, part):
    with pytest.raises(BuildError, match=part):
        world.build({**NATIVE, "pyproject.toml": data})


def test_broken_sdist_is_refused(world):
    package, fetched = world.source(NATIVE)
    fetched.path.write_bytes(b"not an archive")
    with pytest.raises(BuildError, match=r"one-1\.0\.tar\.gz cannot be read"):
        world.builder().build_all(world.function, [(package, fetched)])


def test_a_wheel_of_another_package_is_refused(world):
    package, fetched = world.source(NATIVE)
    world.builders["container"] = Renaming("container")
    builder = world.builder()
    with pytest.raises(LpackError, match=r"gave one-1\.0"):
        builder.build_all(world.function, [(replace(package, name="two"), fetched)])


class Renaming(FakeBuilder):
    @contextmanager
    def build(self, request: WheelRequest, into: Path) -> Iterator[BuiltWheel]:
        yield BuiltWheel(path=make_wheel(into, "one", "1.0", {"one.py": b""}))


def test_a_version_that_the_user_gives_is_for_projects_of_theirs(world):
    world.variables["SETUPTOOLS_SCM_PRETEND_VERSION"] = "9.1"
    world.variables["SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TWO"] = "1.0"
    world.build(NATIVE)
    world.builder().build_all(world.function, [world.source(NATIVE, "two")])
    folder = world.folder / "own"
    folder.mkdir()
    for name, data in (("pyproject.toml", NATIVE["pyproject.toml"]), ("it.c", b"")):
        (folder / name).write_bytes(data)
    world.builder().build_all(world.function, [(LockedPackage(name="own", source=SourceFolder(path=folder)), None)])
    one, two, own = (dict(each.variables) for each in world.builders["container"].requests)
    assert (one, two) == ({}, {"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TWO": "1.0"})
    assert own == {"SETUPTOOLS_SCM_PRETEND_VERSION": "9.1"}
    world.variables["SETUPTOOLS_SCM_PRETEND_VERSION"] = "9.2"
    world.build(NATIVE)
    assert len(world.builders["container"].requests) == 3, "what is somebody else's is not built anew"


class RemoteBuilder:
    """A builder from outside: what `builders.recipes.Builder` asks for, and no more."""

    def recipe(self, target: Target, settings: BuildSettings) -> Recipe:
        return Recipe(key="remote 1", requirements_for=target)

    @contextmanager
    def build(self, request: WheelRequest, into: Path) -> Iterator[BuiltWheel]:
        yield BuiltWheel(path=make_wheel(into, "one", "1.0", {"one.py": b"remote"}))

    def close(self) -> None: ...


def test_a_builder_from_outside_is_tried_last_and_cached(world, monkeypatch):
    monkeypatch.setitem(BUILDER_TABLE, "remote", BuilderRow(pure=False))
    world.builders["remote"] = RemoteBuilder()
    for name in ("container", "cross"):
        world.builders[name].recipes = away(f"no {name}")
    made = world.build(NATIVE)
    assert made.record.builder == "remote"
    assert made.record.why.endswith("container, cross could not")
    assert world.build(NATIVE).distribution == made.distribution


def test_every_builder_of_the_configuration_has_a_row():
    assert ["auto", *BUILDER_TABLE] == list(BUILDERS)


def test_every_builder_is_in_the_schema_of_the_manifest():
    found = json.loads(schema_text("manifest"))
    [names] = [each["builder"]["enum"] for each in _properties(found) if "enum" in each.get("builder", {})]
    assert names == list(BUILDER_TABLE)


def _properties(schema: Any) -> Iterator[Any]:
    """Return the properties of every object in a schema."""
    if isinstance(schema, dict):
        yield from [schema["properties"]] if isinstance(schema.get("properties"), dict) else []
        for each in schema.values():
            yield from _properties(each)
