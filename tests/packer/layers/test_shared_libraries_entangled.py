"""Which distributions must not be parted: held against what Python finds in two folders, and by each reason alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builders.runtimes import Target
from packer.core.model import OWN_SOURCE
from packer.layers.shared_libraries import find_entangled
from tests.packer.layers.test_shared_libraries import File, World, elf, native_of, parts_of, text

TARGET = Target.of("python3.12", "x86_64")
PKGUTIL = b"__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
SETUPTOOLS = b"__import__('pkg_resources').declare_namespace(__name__)\n"


def world_of(files: Mapping[str, Mapping[str, bytes]]) -> World:
    return {name: dict(text(path, data) for path, data in each.items()) for name, each in files.items()}


def groups(world: World) -> list[set[str]]:
    return [set(group) for group in find_entangled(parts_of(world), native_of(world), TARGET)]


PAIR: list[set[str]] = [{"one", "two"}]
APART: list[set[str]] = []
SPLIT: dict[str, tuple[Mapping[str, Mapping[str, bytes]], list[set[str]]]] = {
    "nothing in common": ({"one": {"one/__init__.py": b""}, "two": {"two/__init__.py": b""}}, APART),
    "one file of the same content": ({"one": {"LICENSE": b"MIT"}, "two": {"LICENSE": b"MIT"}}, APART),
    "one file of other content": ({"one": {"LICENSE": b"MIT"}, "two": {"LICENSE": b"BSD"}}, PAIR),
    "one file deep inside": ({"one": {"etc/a/x": b"1", "etc/b": b""}, "two": {"etc/a/x": b"2"}}, PAIR),
    "a package continued": ({"one": {"a/__init__.py": b""}, "two": {"a/b.py": b""}}, PAIR),
    "a package continued by data": ({"one": {"a/__init__.py": b""}, "two": {"a/data/b.json": b""}}, PAIR),
    "a package that is bytecode": ({"one": {"a/__init__.pyc": b""}, "two": {"a/b.py": b""}}, PAIR),
    "a package that is native": ({"one": {"a/__init__.cpython-312-x86_64-linux-gnu.so": b""}, "two": {"a/b.py": b""}}, PAIR),
    "a plain package of both": ({"one": {"a/__init__.py": b"", "a/b.py": b""}, "two": {"a/__init__.py": b""}}, PAIR),
    "the same package": ({"one": {"a/__init__.py": b"", "x.py": b""}, "two": {"a/__init__.py": b""}}, APART),
    "a package below": ({"one": {"n/a/__init__.py": b""}, "two": {"n/a/b.py": b""}}, PAIR),
    "a native namespace": ({"one": {"n/a/__init__.py": b""}, "two": {"n/b/__init__.py": b"", "n/c.py": b""}}, APART),
    "a namespace of pkgutil": ({"one": {"n/__init__.py": PKGUTIL, "n/a.py": b""}, "two": {"n/__init__.py": PKGUTIL}}, APART),
    "a namespace of setuptools": (
        {"one": {"n/__init__.py": SETUPTOOLS, "n/a.py": b""}, "two": {"n/__init__.py": SETUPTOOLS}},
        APART,
    ),
    "two texts of a namespace": ({"one": {"n/__init__.py": PKGUTIL}, "two": {"n/__init__.py": SETUPTOOLS}}, PAIR),
    "a namespace of pkgutil in one": ({"one": {"n/__init__.py": PKGUTIL}, "two": {"n/b.py": b""}}, PAIR),
    "a package below a namespace": (
        {"one": {"n/__init__.py": PKGUTIL, "n/a/__init__.py": b""}, "two": {"n/__init__.py": PKGUTIL, "n/a/b.py": b""}},
        PAIR,
    ),
    "a module and a package": ({"one": {"a.py": b""}, "two": {"a/__init__.py": b""}}, PAIR),
    "a module and a folder": ({"one": {"a.py": b""}, "two": {"a/b.json": b""}}, APART),
    "a module in two forms": ({"one": {"a.py": b""}, "two": {"a.abi3.so": b""}}, PAIR),
    "names that begin alike": (
        {"one": {"a/__init__.py": b"", "a-b/x": b""}, "two": {"a0.py": b"", "a-b/y": b"", "a.b": b""}},
        APART,
    ),
}


@pytest.mark.parametrize(("files", "expected"), SPLIT.values(), ids=SPLIT.keys())
def test_what_lies_at_one_place(files, expected):
    assert groups(world_of(files)) == expected
    assert groups(dict(reversed(world_of(files).items()))) == expected


def test_groups_that_meet_are_one_and_all_are_sorted():
    world = world_of(
        {
            "six": {"b.py": b"6"},
            "five": {"b.py": b"5"},
            "four": {"a/x.py": b""},
            "three": {"a/__init__.py": b"", "c": b"3"},
            OWN_SOURCE: {"c": b"0", "app.py": b""},
            "alone": {"d.py": b""},
        }
    )
    assert groups(world) == [{OWN_SOURCE, "three", "four"}, {"five", "six"}]


def linked(*files: tuple[str, File], to: str = "two") -> World:
    """Give a distribution with a module that needs libx.so.1, and another part with files."""
    return {
        "one": dict([elf("one/_core.abi3.so", "libx.so.1", "libc.so.6", run_paths=("$ORIGIN/../two/lib",))]),
        to: dict(files),
    }


LINKED: dict[str, tuple[World, list[set[str]]]] = {
    "another alone has it": (linked(elf("two/lib/libx.so.1")), PAIR),
    "by its soname": (linked(elf("two/lib/libx.so.1.2", soname="libx.so.1")), PAIR),
    "nobody has it": (linked(elf("two/lib/liby.so.1")), APART),
    "it has one itself": (
        {**linked(elf("two/lib/libx.so.1")), "one": {**linked()["one"], **dict([elf("one/libx.so.1")])}},
        APART,
    ),
    "for another machine": (linked(elf("two/lib/libx.so.1", machine="aarch64")), APART),
    "the runtime has one": (
        {"one": dict([elf("one/_core.abi3.so", "libz.so.1")]), "two": dict([elf("two/libz.so.1")])},
        APART,
    ),
    "by a path": ({"one": dict([elf("a/x.so", "$ORIGIN/../b/liby.so")]), "two": dict([elf("b/liby.so")])}, PAIR),
    "the source has it, out of reach": (linked(elf("vendored/libx.so.1"), to=OWN_SOURCE), [{"one", OWN_SOURCE}]),
    "the source has it for all": (linked(elf("lib/libx.so.1"), to=OWN_SOURCE), APART),
    "the source has it for all, at its root": (linked(elf("libx.so.1"), to=OWN_SOURCE), APART),
    "it is found in the function alone": (linked(elf("lib/libx.so.1")), [{"two", OWN_SOURCE}]),
    "it finds its own in the function alone": (
        {"one": dict([elf("one/_core.abi3.so", "libx.so.1"), elf("lib/libx.so.1")])},
        [{"one", OWN_SOURCE}],
    ),
    "a run path leads there as well": (
        {"one": dict([elf("one/_core.abi3.so", "libx.so.1", run_paths=("${ORIGIN}/../lib",)), elf("lib/libx.so.1")])},
        APART,
    ),
}


@pytest.mark.parametrize(("world", "expected"), LINKED.values(), ids=LINKED.keys())
def test_what_links_to_what_another_has(world, expected):
    assert groups(world) == expected


IMPORT = """
import importlib, json, sys
sys.path[:0] = sys.argv[1:]
found = {}
for name in json.load(sys.stdin):
    try:
        found[name] = getattr(importlib.import_module(name), "WHO", "nobody")
    except ImportError as error:
        found[name] = type(error).__name__
print(json.dumps(found))
"""
PLACES = ("a/__init__.py", "a/m.py", "a/n.py", "a.py", "a/b/__init__.py", "a/b/m.py")
MODULES = ("a", "a.m", "a.n", "a.b", "a.b.m")


def imported(folders: Mapping[Path, Mapping[str, bytes]]) -> dict[str, str]:
    """Give what a Python of its own finds under each name, with files in folders that are searched in order."""
    for folder, files in folders.items():
        folder.mkdir()
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    command = [sys.executable, "-I", "-S", "-c", IMPORT, *map(str, folders)]
    done = subprocess.run(command, input=json.dumps(MODULES), capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@st.composite
def pairs(draw) -> dict[str, dict[str, bytes]]:
    """Give two distributions that can be merged: what both have is the same, and says where it came from otherwise."""
    style = draw(st.sampled_from((b"", PKGUTIL)))
    held = {name: draw(st.frozensets(st.sampled_from(PLACES), min_size=1, max_size=4)) for name in ("one", "two")}
    both = held["one"] & held["two"]
    return {
        name: {
            path: (style if path.endswith("__init__.py") else b"") + f"WHO = {'both' if path in both else name!r}\n".encode()
            for path in sorted(paths)
        }
        for name, paths in held.items()
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pairs())
@example({"one": {"a/m.py": b"WHO = 'one'"}, "two": {"a/n.py": b"WHO = 'two'"}})
@example({"one": {"a/__init__.py": PKGUTIL, "a/m.py": b""}, "two": {"a/__init__.py": PKGUTIL, "a/n.py": b""}})
def test_what_is_not_entangled_is_found_as_well_in_two_folders(files):
    if groups(world_of(files)):
        return
    with TemporaryDirectory() as folder:
        together = imported({Path(folder, "merged"): files["one"] | files["two"]})
        assert imported({Path(folder, "task"): files["one"], Path(folder, "opt"): files["two"]}) == together
        assert imported({Path(folder, "task2"): files["two"], Path(folder, "opt2"): files["one"]}) == together


def test_what_is_entangled_would_be_lost():
    """The oracle can fail: a package that another distribution continues."""
    files = {"one": {"a/__init__.py": b""}, "two": {"a/m.py": b"WHO = 'two'"}}
    assert groups(world_of(files)) == PAIR
    with TemporaryDirectory() as folder:
        assert imported({Path(folder, "merged"): files["one"] | files["two"]})["a.m"] == "two"
        parted = imported({Path(folder, "task"): files["one"], Path(folder, "opt"): files["two"]})
        assert parted["a.m"] == "ModuleNotFoundError"
