"""Trimming: levels, the user's own patterns, what a repair holds back; and nothing is ever added or changed."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from builders.runtimes import Target
from packer.cache.local import LocalStore
from packer.cache.store import digest_of
from packer.core.function_tree import Part
from packer.core.model import FILE_MODE, OWN_SOURCE, BytesContent, Distribution, Entry, Function, Tree
from packer.core.options import TRIM_LEVELS, TrimOptions
from packer.formats.elf import ElfFile
from packer.formats.native_code import NativeCode
from packer.formats.wheel import read_wheel
from packer.source.facts import FactScan, FactScanner
from packer.trim.bytecode_placement import BytecodePlacer
from packer.trim.engine import Selections, TrimContext, TrimResult, trim
from packer.trim.rules import ASKED, BY_NAME, DROP, Unit
from packer.trim.shape import Shaper
from tests.packer.trim.test_rules import tree_of
from tests.wheels import make_wheel

ONE = ("one/__init__.py", "one/tests/test_a.py", "share/doc/a.txt", "one/a.h", "one-1.0.dist-info/METADATA")
TWO = ("two/__init__.py", "two/tests/test_a.py", "two/a.h", "two-1.0.dist-info/METADATA")
NATIVE = {name: (ElfFile(path=f"{name}/fast.so", machine="x86_64", module=True),) for name in ("one", "two")}
"""Extension modules, so that headers are those of what was compiled."""
OWN = ("app.py", "tests/test_a.py", "docs/a.txt", "a.h", "a.pyi")


def parts() -> list[Part]:
    return [(OWN_SOURCE, tree_of(*OWN, owner=OWN_SOURCE)), ("one", tree_of(*ONE)), ("two", tree_of(*TWO))]


def trimmed(restored: frozenset[Unit] = frozenset(), **options: object) -> TrimResult:
    scans = dict.fromkeys(("one", "two"), FactScan())
    known = TrimContext(scans=scans, native=NATIVE, services=None, restored=restored)
    return trim(parts(), TrimOptions(**{"level": "safe", **options}), known)  # type: ignore[arg-type]


def gone(result: TrimResult) -> dict[str, str]:
    return {each.path: each.rule for each in result.removed}


ALL_GONE = {
    "one/tests/test_a.py": "tests",
    "share/doc/a.txt": "documents",
    "one/a.h": "headers",
    "two/tests/test_a.py": "tests",
    "two/a.h": "headers",
}


@pytest.mark.parametrize("level", TRIM_LEVELS)
def test_every_level_but_none_uses_the_rules(level):
    result = trimmed(level=level)
    assert gone(result) == ({} if level == "none" else ALL_GONE)
    if level == "none":
        assert result.parts == tuple(parts())


def test_level_none_takes_no_notice_of_patterns_and_needs_no_scan():
    options = TrimOptions(level="none", drop=(("", "*"),), rules=ASKED)
    assert trim(parts(), options, TrimContext(scans={}, native={}, services=None)) == TrimResult(parts=tuple(parts()))


def test_the_functions_own_source_is_left_alone_by_every_rule():
    own = dict(trimmed(rules=ASKED).parts)[OWN_SOURCE]
    assert own == parts()[0][1]


def test_rules_that_are_not_to_be_used_are_not():
    without = ("tests", "documents")
    assert gone(trimmed(without=without)) == {path: rule for path, rule in ALL_GONE.items() if rule not in without}
    assert gone(trimmed(without=tuple(BY_NAME))) == {}


def test_without_goes_before_what_was_asked_for():
    zone = tree_of("tzdata/zoneinfo/Europe/Berlin")
    known = TrimContext(scans={"tzdata": FactScan()}, native={}, services=None)
    for without, count in (((), 1), (("timezones",), 0)):
        options = TrimOptions(level="safe", rules=("timezones",), without=without)
        assert len(trim([("tzdata", zone)], options, known).removed) == count


def test_keep_goes_before_rules_and_drop():
    result = trimmed(keep=(("", "*/tests/*"),), drop=(("", "one/*"),))
    dropped = dict.fromkeys(("one/__init__.py", "one/a.h"), DROP)
    assert gone(result) == {**dropped, "share/doc/a.txt": "documents", "two/a.h": "headers"}


def test_drop_goes_before_the_rules_and_may_take_what_they_leave():
    result = trimmed(drop=(("", "one-1.0.dist-info/*"), ("", "*.h")))
    assert gone(result) == {
        **ALL_GONE,
        "one-1.0.dist-info/METADATA": DROP,
        **dict.fromkeys(("one/a.h", "two/a.h", "a.h"), DROP),
    }


def test_a_pattern_for_all_holds_for_the_functions_own_source_too():
    [removed] = [each for each in trimmed(drop=(("", "docs/*"),)).removed if each.owner == OWN_SOURCE]
    assert (removed.path, removed.rule) == ("docs/a.txt", DROP)


def test_patterns_of_one_distribution_say_nothing_of_others():
    result = trimmed(keep=(("one", "*/tests/*"),), drop=(("two", "*.py"),))
    left = {path: rule for path, rule in ALL_GONE.items() if path not in ("one/tests/test_a.py", "two/tests/test_a.py")}
    assert gone(result) == {**left, **dict.fromkeys(("two/__init__.py", "two/tests/test_a.py"), DROP)}


def test_case_counts_in_patterns():
    assert gone(trimmed(keep=(("", "*.H"),))) == ALL_GONE


@pytest.mark.parametrize("unit", [("tests", "one"), ("headers", "two"), ("tests", "two")])
def test_a_rule_that_is_held_back_for_one_distribution_is_used_on_the_others(unit):
    rule, name = unit
    left = {path: each for path, each in ALL_GONE.items() if (each, path.partition("/")[0]) != (rule, name)}
    assert gone(trimmed(frozenset((unit,)))) == left
    assert len(left) < len(ALL_GONE)


def test_dropping_can_be_held_back_for_one_distribution_and_the_rules_are_used_then():
    result = trimmed(frozenset(((DROP, "one"),)), drop=(("", "*.h"), ("", "*/__init__.py")))
    assert gone(result) == {**ALL_GONE, **dict.fromkeys(("two/a.h", "two/__init__.py", "a.h"), DROP)}


def test_the_first_rule_that_takes_a_file_is_named_and_the_next_takes_over_where_it_is_held_back():
    known = TrimContext(scans={"one": FactScan()}, native=NATIVE, services=None)
    tree = [("one", tree_of("one/__init__.py", "one/tests/a.h", "one/tests/test_a.py"))]
    options = TrimOptions(level="safe")
    assert [each.rule for each in trim(tree, options, known).removed] == ["tests", "tests"]
    held = TrimContext(scans={"one": FactScan()}, native=NATIVE, services=None, restored=frozenset((("tests", "one"),)))
    assert [each.rule for each in trim(tree, options, held).removed] == ["headers"]


def test_tests_that_another_distribution_imports_stay():
    scans = {"one": FactScan(), "two": FactScan(tests=("one/tests",))}
    result = trim(parts(), TrimOptions(level="safe"), TrimContext(scans=scans, native=NATIVE, services=None))
    assert gone(result) == {path: rule for path, rule in ALL_GONE.items() if path != "one/tests/test_a.py"}


def test_removed_bytes_add_up():
    result = trimmed(drop=(("", "docs/*"),))
    before, after = (sum(tree.size for _, tree in each) for each in (parts(), result.parts))
    assert sum(each.size for each in result.removed) == before - after > 0


FOLDERS = (
    "pkg",
    "tests",
    "docs",
    "one-1.0.dist-info",
    "__pycache__",
    "share",
    "locale",
    "de",
    "LC_MESSAGES",
    "botocore",
    "data",
)
FILES = (
    *("__init__.py", "a.py", "a.pyi", "a.h", "a.c", "a.so", "a.pyc", "a.txt", "a.dll", "RECORD", "METADATA", "LICENSE", "a.mo"),
    *("conftest.py", "py.typed", "a.js.map", "libone.so.1", "entry_points.txt"),
)
paths = st.builds(
    lambda folders, name: "/".join([*folders, name]), st.lists(st.sampled_from(FOLDERS), max_size=4), st.sampled_from(FILES)
)
patterns = st.tuples(st.sampled_from(("", "one", "two")), st.sampled_from(("*", "*.py", "pkg/*", "*/tests/*", "a.[ch]", "no")))
units = st.tuples(st.sampled_from((*BY_NAME, DROP)), st.sampled_from(("one", "two", OWN_SOURCE)))
options = st.builds(
    TrimOptions,
    level=st.sampled_from(TRIM_LEVELS),
    rules=st.lists(st.sampled_from(ASKED)).map(tuple),
    without=st.lists(st.sampled_from(tuple(BY_NAME))).map(tuple),
    keep=st.lists(patterns, max_size=2).map(tuple),
    drop=st.lists(patterns, max_size=2).map(tuple),
)


@st.composite
def parts_of_any_kind(draw: st.DrawFn) -> list[Part]:
    def tree(owner: str) -> Tree:
        files = draw(st.dictionaries(paths, st.binary(max_size=3), max_size=12))
        return Tree.of(
            Entry(path=path, mode=FILE_MODE, content=BytesContent.of(data), owner=owner) for path, data in files.items()
        )

    return [(name, tree(name)) for name in (OWN_SOURCE, "one", "two")]


@settings(max_examples=200, deadline=None)
@given(given_parts=parts_of_any_kind(), given_options=options, held=st.frozensets(units, max_size=4), sdk=st.booleans())
def test_what_is_kept_and_what_is_removed_make_up_the_original(given_parts, given_options, held, sdk):
    scans = {"one": FactScan(tests=("pkg/tests",)), "two": FactScan(reads_stubs=True)}
    known = TrimContext(scans=scans, native={}, services=frozenset(("data",)) if sdk else None, restored=held)
    result = trim(given_parts, given_options, known)
    assert [name for name, _ in result.parts] == [name for name, _ in given_parts]
    for (name, before), (_, after) in zip(given_parts, result.parts, strict=True):
        removed = [each for each in result.removed if each.owner == name]
        kept = {entry.path for entry in after}
        assert [entry for entry in before if entry.path in kept] == list(after)
        assert sorted([*kept, *(each.path for each in removed)]) == sorted(entry.path for entry in before)
        assert after.size + sum(each.size for each in removed) == before.size
        assert not {(each.rule, name) for each in removed} & held
        stays = [entry.path for entry in before if entry.path.endswith((".dist-info/METADATA", ".dist-info/LICENSE"))]
        dropped = {each.path for each in removed if each.rule == DROP}
        assert kept.issuperset(path for path in stays if path.count("/") == 1 and path not in dropped)


MODELS = {f"botocore/data/{name}/2020-01-01/service-2.json": b"{}" for name in ("s3", "sqs", "sts", "ec2")}


def models_left(folder: Path, code: str, **trimming: object) -> tuple[set[str], tuple[str, ...]]:
    """Give the services whose models a function with this code keeps, and what the user is told of it."""
    wheel = make_wheel(
        folder, "botocore", "1.0", {"botocore/__init__.py": b"", "botocore/data/endpoints.json": b"{}", **MODELS}
    )
    found = Distribution(name="botocore", version="1.0", filename=wheel.name, digest=digest_of(code), path=wheel)
    function = Function(
        name="orders",
        source=folder,
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=None,
        lock_path=folder / "pylock.toml",
        trim=TrimOptions(**{"level": "safe", **trimming}),  # type: ignore[arg-type]
    )
    source = Tree.of([Entry(path="app.py", mode=FILE_MODE, content=BytesContent.of(code.encode()), owner=OWN_SOURCE)])
    store = LocalStore(folder / "store")
    shaper = Shaper(FactScanner(store), NativeCode(store), None, BytecodePlacer(None, None, None))  # type: ignore[arg-type]  # nothing to strip or compile
    material = shaper.material(function, [found], [(OWN_SOURCE, source), ("botocore", read_wheel(wheel, wheel.name))])
    shaped = shaper.shape(material)
    assert "botocore/data/endpoints.json" in {entry.path for entry in shaped.tree}
    return {entry.path.split("/")[2] for entry in shaped.tree if entry.path in MODELS}, material.notes


@pytest.mark.parametrize(
    ("code", "trimming", "left"),
    [
        ("import boto3\nboto3.client('s3')\n", {}, {"s3", "sts"}),
        ("print('no client')\n", {}, {"sts"}),
        ("import boto3\nboto3.client('s3')\n", {"services": ("sqs",)}, {"sqs", "sts"}),
        ("import boto3, os\nboto3.client(os.environ['NAME'])\n", {"services": ("sqs",)}, {"sqs", "sts"}),
        ("import boto3\nboto3.client('s3')\n", {"without": ("service-models",)}, {"s3", "sqs", "sts", "ec2"}),
    ],
)
def test_models_stay_for_services_that_are_named(tmp_path, code, trimming, left):
    assert models_left(tmp_path, code, **trimming) == (left, ())


def test_all_models_stay_for_a_name_that_is_computed_and_the_place_is_told(tmp_path):
    left, [note] = models_left(tmp_path, "import boto3\n\n\ndef call(name):\n    return boto3.client(name)\n")
    assert left == {"s3", "sqs", "sts", "ec2"}
    assert "orders: all of botocore's service models stay: app.py:5 computes" in note
    assert "services = [" in note


def test_what_is_remembered_is_told_apart_by_all_that_decides_it():
    selections = Selections()
    trees = [tree_of("pkg/__init__.py", f"pkg/tests/test_{name}.py", "pkg/x.pyi") for name in "ab"]
    safe = TrimOptions(level="safe")
    asked = (safe, replace(safe, without=("tests",)), safe, replace(safe, keep=(("", "*.pyi"),)))
    for options, restored, tree in product(asked, (frozenset[Unit](), frozenset({("stubs", "pkg")})), trees):
        known = TrimContext(scans={"pkg": FactScan()}, native={}, services=None, restored=restored)
        expected = trim([("pkg", tree)], options, known)
        assert trim([("pkg", tree)], options, known, selections) == expected
        assert expected.removed or options.without
