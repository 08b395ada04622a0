"""Dividing what functions need: the user's layers, the planner's, and what must not be parted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from packer.core.errors import LimitError, UsageError
from packer.core.options import LAYER_MODES, AttachedLayer, LayerMode, LayerOptions, NamedLayer
from packer.layers import assignment
from packer.layers.assignment import Division, LayerShare, Need, Needed, divide, shared, unused_everywhere, with_required
from packer.layers.planner import Piece
from tests.counting import Name, Passes, count_comparisons, count_hashes

LARGE = 1_000_000
ARN = "arn:aws:lambda:eu-central-1:123456789012:layer:tools:"


def need(*names: str, mode: LayerMode = "auto", named: tuple[NamedLayer, ...] = (), attached: int = 0, **facts: object) -> Need:
    """Give the need for distributions whose digests are their names, with a version after ``@`` for another one."""
    layers = tuple(AttachedLayer(arn=f"{ARN}{number}") for number in range(attached))
    distributions = {
        name: Needed(name=name.partition("@")[0], version=name.partition("@")[2] or "1.0", variant=name, size=LARGE)
        for name in names
    }
    return Need(
        distributions=distributions,
        own=10,
        options=LayerOptions(mode=mode, named=named, attached=layers),
        **facts,  # type: ignore[arg-type]
    )


def divided(**needs: Need) -> Division:
    return divide(needs, {digest: Piece(zipped=LARGE, unzipped=2 * LARGE) for digest in shared(needs)})


def held(division: Division) -> dict[tuple[str, ...], tuple[str, ...]]:
    return {share.users: share.pieces for share in division.shares}


def test_only_what_several_functions_have_may_lie_in_a_layer():
    needs = {"one": need("a", "b"), "two": need("a"), "three": need("b", mode="none")}
    assert shared(needs) == {"a": ("one", "two")}
    assert held(divided(**needs)) == {("one", "two"): ("a",)}


def test_a_named_layer_comes_first_and_the_rest_is_planned():
    base = NamedLayer(name="base", distributions=("a", "b"))
    division = divided(
        one=need("a", "b", "c", named=(base,)), two=need("a", "b", "c", named=(base,)), three=need("a", named=(base,))
    )
    assert [(share.name, share.pieces, share.users) for share in division.shares] == [
        ("base", ("a", "b"), ("one", "two")),
        ("", ("c",), ("one", "two")),
    ]


def test_the_functions_of_a_named_layer_get_it_whatever_they_need():
    base = NamedLayer(name="base", distributions=("a", "b"), functions=("t*",))
    division = divided(one=need("a", "b", mode="none", named=(base,)), two=need("a", mode="none", named=(base,)))
    assert held(division) == {("two",): ("a",)}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (NamedLayer(name="base", distributions=("x", "y")), "No function gets the layer base: none needs all of x, y."),
        (NamedLayer(name="base", distributions=("x", "a", "y")), "none needs all of x, a, y. Nothing needs x or y."),
        (NamedLayer(name="base", distributions=("x",), functions=("one",)), "The layer base is empty"),
    ],
)
def test_a_named_layer_that_nobody_has_is_told_of(layer, words):
    [warning] = divided(one=need("a", named=(layer,))).unused.values()
    assert words in warning


def test_none_needs_all_where_each_is_needed_by_somebody():
    layer = NamedLayer(name="base", distributions=("a", "b"))
    [warning] = divided(one=need("a", named=(layer,)), two=need("b", named=(layer,))).unused.values()
    assert warning == "No function gets the layer base: none needs all of a, b."


def test_of_several_targets_the_one_that_tells_most_says_why():
    named = NamedLayer(name="base", distributions=("x",), functions=("one",))
    common = NamedLayer(name="common", distributions=("a", "x"))
    mine = divided(one=need("a", named=(named, common))).unused
    others = divided(two=need("b", named=(named, common))).unused
    reasons = (
        "The layer base is empty: no function that gets it needs any of x.",
        "No function gets the layer common: none needs all of a, x. Nothing needs x.",
    )
    assert unused_everywhere([others, mine]) == unused_everywhere([mine, others]) == reasons
    assert unused_everywhere([mine, {}]) == ()


def test_what_a_named_layers_file_requires_is_in_it_as_far_as_functions_have_it():
    layer = NamedLayer(name="base", distributions=("a",), closed=True)
    needs = {
        "one": need("a", "b", "c", "d", named=(layer,)),
        "two": need("a", named=(layer,)),
        "three": need("b", named=(layer,)),
    }
    requires = {"a": ("b", "gone"), "b": ("c", "a")}
    for each in needs.values():
        for digest, one in each.distributions.items():
            each.distributions[digest] = replace(one, requires=requires.get(digest, ()))  # type: ignore[index]
    [whole] = {named for each in with_required(needs).values() for named in each.options.named}
    assert whole.distributions == ("a", "b", "c")
    division = divided(**with_required(needs))
    assert [(share.name, share.pieces, share.users) for share in division.shares] == [("base", ("a", "b", "c"), ("one",))]


def test_a_named_layer_with_two_versions_is_refused():
    base = NamedLayer(name="base", distributions=("a",))
    with pytest.raises(UsageError, match=r"base cannot hold a: one needs a 1\.0 and two needs a 2\.0"):
        divided(one=need("a", named=(base,)), two=need("a@2.0", named=(base,)))


def test_a_distribution_in_two_named_layers_is_refused():
    layers = tuple(NamedLayer(name=name, distributions=("a",)) for name in ("first", "second"))
    with pytest.raises(UsageError, match="one would get a from two layers, first and second"):
        divided(one=need("a", named=layers))


def test_attached_layers_take_slots():
    names = ("a", "b", "c", "d")
    users = {name: need(*names[: number + 1], attached=4) for number, name in enumerate(("one", "two", "three", "four"))}
    division = divided(**users)
    assert all(len(division.of(name)) <= 1 for name in users)
    layers = tuple(NamedLayer(name=f"n{number}", distributions=(name,)) for number, name in enumerate(names))
    with pytest.raises(LimitError, match="one needs 6 layers \\(4 named, 2 attached\\)"):
        divided(one=need(*names, named=layers, attached=2))


def test_what_is_stuck_to_a_functions_source_stays_with_it():
    division = divided(one=need("a", "b", stuck=frozenset("a")), two=need("a", "b"), three=need("a", "b"))
    assert held(division) == {("one", "three", "two"): ("b",), ("three", "two"): ("a",)}


def test_what_is_tied_goes_into_a_layer_together_or_not_at_all():
    tied = (frozenset(("a", "b")),)
    together = divided(one=need("a", "b", tied=tied), two=need("a", "b", tied=tied))
    assert held(together) == {("one", "two"): ("a", "b")}
    parted = divided(one=need("a", "b", tied=tied), two=need("a"), three=need("a"))
    assert held(parted) == {("three", "two"): ("a",)}


@st.composite
def needs_of(draw: st.DrawFn) -> dict[str, Need]:
    digests = [f"d{number}" for number in range(8)]
    found = {}
    for number in range(draw(st.integers(1, 6))):
        names = draw(st.lists(st.sampled_from(digests), unique=True, max_size=8))
        ties = draw(st.lists(st.frozensets(st.sampled_from(names), min_size=2), max_size=2)) if len(names) > 1 else []
        stuck = draw(st.frozensets(st.sampled_from(names))) if names else frozenset[str]()
        mode = draw(st.sampled_from(LAYER_MODES))
        found[f"f{number}"] = need(*names, mode=mode, attached=draw(st.integers(0, 5)), stuck=stuck, tied=tuple(ties))
    return found


@given(needs_of(), st.randoms(use_true_random=False))
def test_every_function_sees_its_own_once_and_what_is_tied_on_one_side(needs, chance):
    division = divided(**needs)
    for name, each in needs.items():
        seen = [digest for share in division.of(name) for digest in share.pieces]
        assert len(seen) == len(set(seen))
        assert set(seen) <= each.distributions.keys() - each.stuck
        assert len(division.of(name)) + len(each.options.attached) <= 5
        assert not seen or each.options.mode == "auto"
        assert all(group <= set(seen) or not group & set(seen) for group in each.tied)
    names = list(needs)
    chance.shuffle(names)
    assert divided(**{name: needs[name] for name in names}) == division


def crowd(functions: int, layers: int) -> dict[str, Need]:
    """Give functions that need ten distributions, each with its own copies of these layers, which list them all."""
    names = tuple(f"f{number}" for number in range(functions))
    digests = [f"d{number}" for number in range(10)]
    return {
        name: replace(
            need(
                *digests,
                named=tuple(
                    NamedLayer(name=f"layer{each}", distributions=(digests[each],), functions=(*names,), closed=True)
                    for each in range(layers)
                ),
            ),
            distributions=Passes(need(*digests).distributions),
        )
        for name in names
    }


def test_named_layers_are_neither_hashed_nor_compared(monkeypatch):
    hashed, compared = count_hashes(monkeypatch, NamedLayer), count_comparisons(monkeypatch, NamedLayer)
    divided(**with_required(crowd(20, 4)))
    assert (hashed, compared) == ({}, {})


def test_names_of_functions_are_looked_up_and_not_matched(monkeypatch):
    matched = []
    monkeypatch.setattr("packer.layers.assignment.fnmatchcase", lambda *pair: matched.append(pair))
    division = divided(**crowd(20, 2))
    assert [len(share.users) for share in division.shares if share.name] == [20, 20]
    assert matched == []


def passes(layers: int) -> int:
    before = Passes.gone_through
    divided(**with_required(crowd(20, layers)))
    return Passes.gone_through - before


def test_each_function_is_gone_through_as_often_for_four_layers_as_for_one():
    assert passes(4) == passes(1) > 0


def test_layers_of_a_function_are_found_without_a_search():
    names = [Name(f"f{number}") for number in range(100)]
    shares = tuple(LayerShare(pieces=(f"d{number}",), users=tuple(names[number:])) for number in range(50))
    division = Division(shares=shares)
    before = Name.compared
    assert [len(division.of(name)) for name in names[:3]] == [1, 2, 3]
    assert [len(division.of(name)) for name in names] == [min(number + 1, 50) for number in range(100)]
    assert Name.compared == before


def members_of_sets(monkeypatch, functions: int) -> int:
    """Count the members of all sets that are made to divide what so many functions need."""
    counted = []

    def counting(members=()):
        found = frozenset(members)
        counted.append(len(found))
        return found

    monkeypatch.setattr(assignment, "frozenset", counting, raising=False)
    tied = (frozenset(("a", "b")), frozenset(("b", "c")))
    needs = {f"f{number}": need("a", "b", "c", f"d{number}", f"e{number // 2}", tied=tied) for number in range(functions)}
    divided(**needs, other=need("a"))
    return sum(counted)


def test_sets_of_all_users_or_all_sizes_are_not_made_again_for_each_function(monkeypatch):
    few, many = members_of_sets(monkeypatch, 50), members_of_sets(monkeypatch, 200)
    assert many < 5 * few
