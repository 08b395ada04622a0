"""Layers of images: what is shared comes first and alike, what changes comes last, and no image has too many."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from packer.images.layer_plan import MOST_OWN, _Layer, plan_images
from packer.layers.planner import Piece
from tests.counting import count_hashes

KILO = 1000
SIZES = {"numpy": 16_637, "pandas": 12_306, "pyarrow": 42_000, "requests": 65, "pillow": 7_038}
PIECES = {name: Piece(zipped=size * KILO, unzipped=3 * size * KILO) for name, size in SIZES.items()}
BOTH = frozenset(("numpy", "pandas", "pyarrow", "requests"))
NEEDS = {"orders": BOTH, "report": BOTH, "thumb": frozenset(("numpy", "requests", "pillow"))}


def test_the_example_above_the_algorithm_holds() -> None:
    plan = plan_images(NEEDS, PIECES)
    assert plan["orders"] == plan["report"] == (("numpy",), ("requests",), ("pyarrow",), ("pandas",))
    assert plan["thumb"] == (("numpy",), ("requests",), ("pillow",))


def test_what_changes_often_comes_late() -> None:
    often = {**PIECES, "numpy": Piece(zipped=1, unzipped=1, weight=10)}
    alone = plan_images({"orders": BOTH}, often)["orders"]
    assert alone == (("pyarrow",), ("pandas",), ("numpy", "requests"))


def test_a_function_without_distributions_has_no_layer_but_its_source() -> None:
    assert plan_images({"plain": frozenset()}, {}) == {"plain": ()}


KEYS = [f"p{number}" for number in range(30)]


@settings(max_examples=60, deadline=None)
@given(
    needs=st.dictionaries(st.sampled_from("abcdef"), st.frozensets(st.sampled_from(KEYS)), min_size=1),
    sizes=st.lists(st.integers(0, 1 << 25), min_size=30, max_size=30),
)
def test_every_image_has_each_piece_once_in_few_layers(needs: dict[str, frozenset[str]], sizes: list[int]) -> None:
    pieces = {key: Piece(zipped=size, unzipped=size) for key, size in zip(KEYS, sizes, strict=True)}
    plan = plan_images(needs, pieces)
    for name, wanted in needs.items():
        keys = [key for layer in plan[name] for key in layer]
        assert sorted(keys) == sorted(wanted)
        assert len(plan[name]) < MOST_OWN
    assert plan == plan_images(dict(reversed(needs.items())), dict(reversed(pieces.items())))


@settings(max_examples=40, deadline=None)
@given(needs=st.dictionaries(st.sampled_from("abcd"), st.frozensets(st.sampled_from(KEYS)), min_size=2))
def test_what_two_functions_share_lies_in_the_same_order_in_both(needs: dict[str, frozenset[str]]) -> None:
    plan = plan_images(needs, {key: Piece(zipped=1 << 21, unzipped=1 << 22) for key in KEYS})
    for one in needs:
        for other in needs:
            shared = set(plan[one]) & set(plan[other])
            assert [each for each in plan[one] if each in shared] == [each for each in plan[other] if each in shared]


def test_layers_are_not_hashed_with_all_their_users(monkeypatch) -> None:
    hashed = count_hashes(monkeypatch, _Layer)
    needs = {f"f{number}": frozenset(KEYS[:10]) for number in range(20)}
    plan = plan_images(needs, {key: Piece(zipped=1 << 21, unzipped=1 << 22) for key in KEYS})
    assert len(plan["f0"]) == 10
    assert hashed == {}
