"""Stripping by the real eu-strip: once for each content, never where anything loaded would change, never the own source."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builders.errors import UnavailableError
from builders.host.strip import HostStrip, StripRefusal, StripTool
from builders.recipes import BuildSettings
from builders.runtimes import Target
from packer.cache.local import LocalStore
from packer.core.events import Reporter
from packer.core.function_tree import Part
from packer.core.model import EXECUTABLE_MODE, OWN_SOURCE, BytesContent, Entry, Function, Tree
from packer.formats.elf import ElfFile
from packer.formats.native_code import read_native_files
from packer.trim.merge import merge_trees
from packer.trim.strip import StrippedFile, Stripper
from packer.trim.strip_check import find_difference
from tests.native import compile_library
from tests.packer.trim.test_strip_check import MANY

LOADED = "lib/libmany.so"
FUNCTION = Function(
    name="one",
    source=Path("src"),
    handler="app.handler",
    target=Target.of("python3.12", "x86_64"),
    requirements=None,
    lock_path=Path("pylock.toml"),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> bytes:
    return compile_library(tmp_path_factory.mktemp("strip") / "libmany.so", MANY, options=("-g",)).read_bytes()


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as running:
        yield running


class Details(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def debug(self, message: str) -> None:
        self.lines.append(message)


def part(name: str, files: dict[str, bytes]) -> Part:
    entries = (
        Entry(path=path, mode=EXECUTABLE_MODE, content=BytesContent.of(data), owner=f"{name}.whl")
        for path, data in files.items()
    )
    return name, Tree.of(entries)


def natives(parts: Sequence[Part]) -> dict[str, Sequence[ElfFile]]:
    return {name: tuple(read_native_files(tree)) for name, tree in parts}


def no_container(target: Target, settings: BuildSettings) -> StripTool:
    raise UnavailableError("there is no engine", remedy="Start one.")


class World:
    """A store, and what is stripped by way of it."""

    def __init__(self, folder: Path, executor: ThreadPoolExecutor) -> None:
        self.store = LocalStore(folder / "store")
        self.details = Details()
        self._executor = executor

    def stripper(self) -> Stripper:
        return Stripper(self.store, self.details, self._executor, HostStrip, no_container)

    def strip(
        self, *parts: Part, restored: frozenset[str] = frozenset(), keep: Sequence[tuple[str, str]] = ()
    ) -> tuple[dict[str, Tree], tuple[StrippedFile, ...]]:
        stripper = self.stripper()
        found, stripped = stripper.strip(parts, natives(parts), restored, stripper.tool(FUNCTION), keep)
        assert [name for name, _ in found] == [name for name, _ in parts]
        return dict(found), stripped


@pytest.fixture
def own(tmp_path, executor) -> World:
    return World(tmp_path, executor)


def data_of(tree: Tree) -> dict[str, bytes]:
    return {entry.path: entry.content.read() for entry in tree}


def test_a_library_becomes_smaller_and_is_loaded_as_before(own, library):
    given = part("one", {LOADED: library, "one/__init__.py": b"", "one/data.so": b"no library"})
    found, [stripped] = own.strip(given)
    data = data_of(found["one"])
    assert find_difference(library, data[LOADED]) == ""
    assert stripped == StrippedFile(path=LOADED, owner="one", saved=len(library) - len(data[LOADED]))
    assert stripped.saved > 100_000
    assert (data["one/__init__.py"], data["one/data.so"]) == (b"", b"no library")
    before = [(entry.path, entry.mode, entry.owner) for entry in given[1]]
    assert [(entry.path, entry.mode, entry.owner) for entry in found["one"]] == before


def test_what_the_functions_own_source_brings_is_not_touched(own, library):
    found, stripped = own.strip(part(OWN_SOURCE, {LOADED: library}), part("one", {LOADED: library}))
    assert data_of(found[OWN_SOURCE]) == {LOADED: library}
    assert [(each.owner, each.path) for each in stripped] == [("one", LOADED)]


def test_what_is_held_back_stays_as_it_is(own, library):
    parts = (part("one", {LOADED: library}), part("two", {"two/core.so": library}))
    found, stripped = own.strip(*parts, restored=frozenset(("one",)))
    assert data_of(found["one"]) == {LOADED: library}
    assert [each.owner for each in stripped] == ["two"]
    assert own.strip(*parts, restored=frozenset(("one", "two"))) == (dict(parts), ())


def test_where_little_would_be_saved_the_wheels_own_bytes_stay(own, tmp_path):
    small = compile_library(tmp_path / "libsmall.so").read_bytes()
    given = part("one", {"one/core.so": small})
    assert own.strip(given) == (dict([given]), ())
    assert own.details.lines == []


def test_only_what_is_known_as_native_is_looked_at(own, library):
    given = part("one", {LOADED: library})
    stripper = own.stripper()
    assert stripper.strip([given], {}, frozenset(), stripper.tool(FUNCTION)) == ((given,), ())
    assert not (own.store.root / "derived").exists()


def counted(monkeypatch) -> list[bytes]:
    runs: list[bytes] = []
    strip = HostStrip.strip

    def run(self: HostStrip, files: Sequence[bytes], work: Path) -> list[bytes | StripRefusal]:
        runs.extend(files)
        return strip(self, files, work)

    monkeypatch.setattr(HostStrip, "strip", run)
    return runs


def test_each_content_is_stripped_once_for_good(own, library, monkeypatch):
    runs = counted(monkeypatch)
    parts = (part("one", {LOADED: library, "lib/copy.so": library}), part("two", {"two/core.so": library}))
    found, stripped = own.strip(*parts)
    assert len(stripped) == 3
    assert len(runs) == 1
    again, same = own.strip(*parts)
    assert (again, same) == (found, stripped)
    assert len(runs) == 1


def test_that_nothing_came_of_it_is_remembered_too(own, library, monkeypatch):
    runs = counted(monkeypatch)
    given = part("one", {"one/core.so": library + b"appended data"})
    for _ in range(2):
        assert own.strip(given) == (dict([given]), ())
    assert len(runs) == 1
    assert len(own.details.lines) == 1


def test_what_has_nothing_to_lose_is_not_even_tried(own, library, monkeypatch):
    runs = counted(monkeypatch)
    once, _ = own.strip(part("one", {LOADED: library}))
    bare = data_of(once["one"])[LOADED]
    assert own.strip(part("two", {LOADED: bare}))[1] == ()
    assert len(runs) == 1


def test_a_damaged_memory_is_made_again(own, library, monkeypatch):
    runs = counted(monkeypatch)
    found, _ = own.strip(part("one", {LOADED: library}))
    [record] = [path for path in (own.store.root / "derived").rglob("*") if path.is_file()]
    record.write_bytes(record.read_bytes()[:-1])
    again, _ = own.strip(part("one", {LOADED: library}))
    assert data_of(again["one"]) == data_of(found["one"])
    assert len(runs) == 2


def test_without_eu_strip_the_message_says_what_brings_it(own, tmp_path, monkeypatch):
    own.stripper().tool(FUNCTION)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UnavailableError, match="there is no eu-strip; there is no engine") as caught:
        own.stripper().tool(FUNCTION)
    assert "Install elfutils" in caught.value.remedy
    assert "Or: Start one." in caught.value.remedy


def pretend(folder: Path, monkeypatch, work: str) -> None:
    """Put an eu-strip first on PATH that does this with its files ``before`` and ``after``."""
    text = f"""#!/usr/bin/env python3
import pathlib, sys
if "--version" in sys.argv:
    print("eu-strip (pretended)", flush=True)
    sys.exit(0)
_, _, after, before = sys.argv
after, data = pathlib.Path(after), bytearray(pathlib.Path(before).read_bytes())
{work}
"""
    program = folder / "bin" / "eu-strip"
    program.parent.mkdir()
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


REFUSED = {
    "an end with an error": ("sys.exit('no space left')", "eu-strip ended with status 1"),
    "no file": ("pass", "eu-strip wrote no file"),
    "one other byte": (
        "data[40:48], data[60:64], data[0x48] = bytes(8), bytes(4), 0x41; after.write_bytes(data[:-200000])",
        "its program headers differ",
    ),
    "half a file": ("after.write_bytes(data[:2000])", "is not a readable ELF file"),
    "nothing": ("after.write_bytes(b'')", "is not a readable ELF file"),
}


@pytest.mark.parametrize(("work", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_program_that_does_not_do_its_work_well_leaves_the_original(own, library, tmp_path, monkeypatch, work, reason):
    pretend(tmp_path, monkeypatch, work)
    given = part("one", {LOADED: library})
    assert own.strip(given) == (dict([given]), ())
    [line] = own.details.lines
    assert line.startswith(f"{LOADED} of one.whl is not stripped: ")
    assert reason in line


def test_a_program_that_is_killed_is_told_of_and_not_remembered(own, library, tmp_path, monkeypatch):
    before = os.environ["PATH"]
    pretend(tmp_path, monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    given = part("one", {LOADED: library})
    assert own.strip(given) == (dict([given]), ())
    [warning] = own.details.warnings
    assert warning == f"{LOADED} of one.whl is not stripped this time: eu-strip ended with status -9"
    assert not (own.store.root / "derived").exists()
    monkeypatch.setenv("PATH", before)
    assert own.strip(given)[1]


def test_what_the_users_patterns_keep_is_not_stripped(own, library):
    parts = (part("one", {LOADED: library, "one/core.so": library + b""}),)
    _, stripped = own.strip(*parts, keep=(("", "lib/*"), ("two", "one/*")))
    assert [each.path for each in stripped] == ["one/core.so"]


def test_another_eu_strip_strips_anew(own, library, tmp_path, monkeypatch):
    given = part("one", {LOADED: library})
    _, stripped = own.strip(given)
    assert stripped
    pretend(tmp_path, monkeypatch, "sys.exit(1)")
    assert own.strip(given) == (dict([given]), ())


def test_a_program_that_cannot_be_run_is_as_good_as_none(tmp_path, monkeypatch):
    pretend(tmp_path, monkeypatch, "")
    (tmp_path / "bin" / "eu-strip").write_text(f"#!{sys.executable} -I\nraise SystemExit(3)\n")
    with pytest.raises(UnavailableError, match="cannot be run") as caught:
        HostStrip()
    assert "elfutils" in caught.value.remedy


def test_what_eu_strip_says_of_a_file_that_it_cannot_read_is_kept(tmp_path):
    [refused] = HostStrip().strip([b"#!/bin/sh\n"], tmp_path)
    assert isinstance(refused, StripRefusal)
    assert "eu-strip ended with status 1" in refused.reason
    assert refused.log


def test_stripping_one_of_two_equal_libraries_does_not_make_them_clash(own, library):
    """Held back for one of two that hold one path with one content (what a repair tries): merge refuses."""
    parts = (part("one", {"shared/lib.so": library}), part("two", {"shared/lib.so": library}))
    found, _ = own.strip(*parts, restored=frozenset(("one",)))
    merge_trees(tuple(found.items()), ())


def test_container_that_was_away_is_asked_again(own, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    tools = iter([UnavailableError("no engine", remedy="Start it."), "a tool"])

    def container(*_: object) -> object:
        tool = next(tools)
        if isinstance(tool, Exception):
            raise tool
        return tool

    with ThreadPoolExecutor(1) as executor:
        stripper = Stripper(own.store, own.details, executor, HostStrip, container)  # type: ignore[arg-type]
        with pytest.raises(UnavailableError, match="no engine"):
            stripper.tool(FUNCTION)
        assert stripper.tool(FUNCTION) == "a tool"  # type: ignore[comparison-overlap]
