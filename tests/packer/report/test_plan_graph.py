"""Pictures of plans: all that is in a plan is shown, linked to what it has, in a file that stands alone."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from builders.runtimes import Architecture
from packer.inspect.plan_document import PlanDocument, PlanFunction
from packer.report.plan_graph import draw_plan
from tests.packer.plans import SVG, Drawing, distribution, layer, monorepo, plan, read_drawing

ARN = "arn:aws:lambda:eu-west-1:123456789012:layer:Pandas-Python312:13"
NAMES = st.text(min_size=1, max_size=80).map(lambda text: text.replace("\n", " ").replace("\r", " "))
Value = TypeVar("Value")
EXAMPLES = (monorepo(), monorepo(3, 0, 0), monorepo(45, 20, 3), monorepo(1, 1, 1))


@st.composite
def plans(draw: st.DrawFn) -> PlanDocument:
    """Return plans with odd names: some distributions in layers, some inside, some functions with nothing."""
    functions = draw(st.lists(NAMES, max_size=6, unique=True))
    held = draw(st.lists(NAMES, max_size=12, unique=True))
    some = st.lists(st.sampled_from(functions), unique=True, min_size=1) if functions else st.just([])
    layers = []
    for number, name in enumerate(draw(st.lists(NAMES, max_size=4 if functions and held else 0))):
        layers.append(layer(name, held[number::5], draw(some)))
    inside = {name: draw(st.lists(st.sampled_from(held), unique=True)) if held else [] for name in functions}
    return plan(inside, layers, {name: [ARN] for name in functions[::3]})


def drawn(document: PlanDocument) -> Drawing:
    return read_drawing(draw_plan(document))


def shuffled(document: PlanDocument, seed: int) -> PlanDocument:
    """Return the same plan with everything in another order."""
    mixed = random.Random(seed)  # noqa: S311 nothing secret

    def mix(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(mixed.sample(values, len(values)))

    layers = (
        replace(each, functions=mix(each.functions), distributions=mix(each.distributions)) for each in mix(document.layers)
    )
    functions = {
        name: replace(each, layers=mix(each.layers), attached=mix(each.attached), inside=mix(each.inside))
        for name, each in mix(list(document.functions.items()))
    }
    return replace(document, layers=tuple(layers), functions=functions)


def expected_ways(document: PlanDocument) -> set[tuple[str, str]]:
    layers = document.layers
    functions = document.functions
    return {
        *((user, each.name) for each in layers for user in each.functions),
        *((each.name, f"{one.name} {one.version}") for each in layers for one in each.distributions),
        *((name, arn) for name, each in functions.items() for arn in each.attached),
        *((name, f"{one.name} {one.version}") for name, each in functions.items() for one in each.inside),
    }


@pytest.mark.parametrize("document", EXAMPLES[:2], ids=["many", "few"])
def test_everything_is_there_and_linked_to_what_it_has(document):
    found = drawn(document)
    assert found.ways() == expected_ways(document)
    shown = {kind: sorted(box.name for box in found.boxes.values() if box.kind == kind) for kind in ("function", "layer")}
    assert shown == {"function": sorted(document.functions), "layer": sorted(each.name for each in document.layers)}


@given(plans())
def test_names_of_any_kind_leave_the_file_well_formed(document):
    found = drawn(document)
    kinds = [box.kind for box in found.boxes.values()]
    assert kinds.count("function") == len(document.functions)
    assert kinds.count("layer") == len(document.layers)
    assert len(found.root.findall(f".//{SVG}style")) == 1


@given(plans(), st.integers())
def test_the_order_of_the_plan_is_irrelevant(document, seed):
    assert draw_plan(shuffled(document, seed)) == draw_plan(document)


def test_the_order_of_sets_is_irrelevant():
    code = "from packer.report.plan_graph import draw_plan\n"
    code += "from tests.packer.plans import monorepo; print(draw_plan(monorepo(30, 9, 4)))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def assert_apart(found: Drawing) -> None:
    """Check that boxes lie within the picture and none over another."""
    width, height = (float(found.root.get(key, "")) for key in ("width", "height"))
    for box in found.boxes.values():
        assert 0 < box.left < box.right < width
        assert 0 < box.top < box.bottom < height
    for one, other in itertools.combinations(found.boxes.values(), 2):
        assert one.right < other.left or other.right < one.left or one.bottom < other.top or other.bottom < one.top


@given(plans())
def test_boxes_do_not_overlap(document):
    assert_apart(drawn(document))


@pytest.mark.parametrize("document", EXAMPLES)
def test_boxes_of_large_plans_do_not_overlap(document):
    assert_apart(drawn(document))


@pytest.mark.parametrize("document", EXAMPLES)
def test_curves_begin_and_end_at_their_boxes(document):
    found = drawn(document)
    entries = {end: points[1] for (_, end), points in found.curves.items() if end not in found.boxes}
    for (start, end), (first, last) in found.curves.items():
        if start in found.boxes:
            box = found.boxes[start]
            assert first[0] == pytest.approx(box.right, abs=0.2)
            assert box.top < first[1] < box.bottom
        else:
            assert first == entries[start], "a lane goes on where the curves that it gathers end"
        if end in found.boxes:
            box = found.boxes[end]
            assert last[0] == pytest.approx(box.left, abs=0.2)
            assert box.top < last[1] < box.bottom
        else:
            assert last == entries[end]


def test_lanes_pass_between_the_layers():
    found = drawn(monorepo())
    layers = [box for box in found.boxes.values() if box.kind in ("layer", "attached")]
    heights = [first[1] for (start, _), (first, _) in found.curves.items() if start not in found.boxes]
    assert len(heights) == 25
    assert not [height for height in heights if any(box.top <= height <= box.bottom for box in layers)]


def test_names_are_escaped():
    name = "a&b<c>\"d' \x1b]]>"
    found = drawn(plan({name: [name]}, [layer(name, [name], [name])], {name: [name]}))
    clean = name.replace("\x1b", "\ufffd")
    assert {(box.kind, box.name, box.texts[0]) for box in found.boxes.values()} == {
        ("function", clean, clean),
        ("layer", clean, clean),
        ("attached", clean, clean),
        ("distribution", f"{clean} 1.0", f"{clean} 1.0"),
    }


def test_long_names_are_cut_and_whole_in_the_title():
    name = "W" * 60
    found = drawn(plan({name: [name]}, [layer(name, ["small"], [name])]))
    for kind in ("function", "layer"):
        box = found.named(name, kind)
        assert box.texts[0].endswith("W…")
        assert 8 < len(box.texts[0]) < 30
    assert found.named(f"{name} 1.0", "distribution").texts[0].endswith("W…")
    assert found.named("small 1.0", "distribution").texts == ("small 1.0", "2.9 MB")


def test_of_many_distributions_those_of_one_function_are_summed_up_in_its_box():
    document = monorepo(12, 10, 7)
    found = drawn(document)
    shown = sorted(box.name for box in found.boxes.values() if box.kind == "distribution")
    assert shown == sorted({end for start, end in expected_ways(document) if end.endswith(" 1.0") and "own" not in end})
    box = found.named("Function003", "function")
    assert "+ 7 more inside" in box.texts[1]
    assert all(f"own-Function003-{number} 1.0" in box.told for number in range(7))
    assert f"{len(shown) + 84} distributions" in found.root.get("aria-label", "")


def test_attached_layers_have_a_style_of_their_own():
    found = drawn(plan({"one": [], "two": []}, [], {"one": [ARN], "two": [ARN]}))
    box = found.named(ARN, "attached")
    assert box.texts == ("Pandas-Python312:13", "attached; 2 functions")
    assert found.ways() == {("one", ARN), ("two", ARN)}
    assert "1 attached" in found.root.get("aria-label", "")


def test_layers_of_several_targets_may_be_called_alike():
    other: tuple[str, Architecture] = ("python3.13", "arm64")
    layers = [layer("common", ["alpha"], ["one", "two"]), layer("common", ["beta"], ["three", "four"], other)]
    document = plan({"one": [], "two": [], "three": [], "four": []}, layers)
    apart = PlanFunction(layers=(), attached=(), inside=())
    found = drawn(replace(document, functions={**document.functions, "apart": apart}))
    pairs = {(start, end) for start, end in found.curves if start.startswith("f")}
    common = [box for box in found.boxes.values() if box.kind == "layer"]
    assert sorted(box.texts[1].rpartition("; ")[2] for box in common) == ["python3.12 x86_64", "python3.13 arm64"]
    users = {box.told.split("\n")[1]: {found.boxes[start].name for start, end in pairs if end == box.id} for box in common}
    assert users == {"python3.12 x86_64": {"one", "two"}, "python3.13 arm64": {"three", "four"}}
    assert found.named("apart", "function").texts[1] == "takes part in no plan"


def test_a_layer_that_takes_more_says_so():
    document = plan({"one": []}, [replace(layer("wide", ["alpha"], ["one"]), saved_bytes=-3 * 1024 * 1024)])
    assert drawn(document).named("wide", "layer").texts[1] == "2.9 MB; 1 function; takes 3.0 MB more"


def test_two_versions_are_two_boxes():
    document = plan({"one": ["alpha"], "two": []})
    two = replace(document.functions["two"], inside=(distribution("alpha", "2.0"),))
    changed = replace(document, functions={**document.functions, "two": two})
    assert drawn(changed).ways() == {
        ("one", "alpha 1.0"),
        ("two", "alpha 2.0"),
    }


def test_empty_plan_is_a_valid_picture():
    found = drawn(plan({}))
    assert (found.boxes, found.curves) == ({}, {})
    texts = [each.text for each in found.root.iter(f"{SVG}text")]
    assert texts[2:] == ["Functions: none", "Layers: none", "Distributions: none"]


def test_the_totals_are_those_of_the_plan():
    found = drawn(plan({"one": [], "two": []}, [layer("common", ["alpha"], ["one", "two"], size=5 * 1024 * 1024)]))
    label = found.root.get("aria-label", "")
    assert label == (
        "2 functions, 1 layer, 1 distribution. "
        "What functions share: 5.0 MB stored, 10.0 MB in separate packages; saves 5.0 MB (50%)"
    )
    assert [each.text for each in found.root.iter(f"{SVG}text")][:2] == [
        "2 functions, 1 layer, 1 distribution",
        f"{label.partition('. ')[2]} · python3.12 x86_64",
    ]
    assert found.root.get("role") == "img"


def test_the_file_stands_alone():
    svg = draw_plan(monorepo())
    assert svg.count("http") == 1, "the name of the namespace"
    for word in ("<script", "href", "url(", "@import", "@font-face"):
        assert word not in svg


def test_pointing_at_a_box_highlights_all_ways_through_it():
    layers = [layer("common", ["alpha", "beta"], ["one", "two"]), layer("other", ["gamma"], ["two", "three"])]
    document = plan({"one": ["delta"], "two": ["delta"], "three": []}, layers)
    found = drawn(document)
    style = found.root.findtext(f"{SVG}style", "")

    def lit(name: str, kind: str) -> set[str]:
        box = found.named(name, kind)
        (rule,) = (line for line in style.splitlines() if line.startswith(f".lpack:has(#{box.id}:hover)"))
        selectors = rule.partition(":is(")[2].partition(")")[0].split(", ")
        return {found.boxes[each[1:]].name for each in selectors if each.startswith("#")}

    assert lit("one", "function") == {"one", "common", "alpha 1.0", "beta 1.0", "delta 1.0"}
    assert lit("common", "layer") == {"one", "two", "common", "alpha 1.0", "beta 1.0"}
    assert lit("gamma 1.0", "distribution") == {"gamma 1.0", "other", "two", "three"}
    assert lit("delta 1.0", "distribution") == {"delta 1.0", "one", "two"}
