"""The layer planner: what every plan must hold, on made-up functions, and the worked example to the byte."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from packer.layers.planner import SMALLEST, Demand, LayerPlan, Piece, PlannedLayer, plan_layers
from tests.counting import Name

LIMIT = 60_000_000
Repository = tuple[dict[str, Demand], dict[str, Piece]]


@st.composite
def repositories(draw: st.DrawFn, *, fewest: int = 0, prefix: str = "") -> Repository:
    """Give functions and pieces, many of them over their slots and some over the unzipped limit."""
    keys = [f"{prefix}piece{number}" for number in range(draw(st.integers(1, 14)))]
    sizes, weights = st.integers(0, 5_000_000), st.sampled_from((0.0, 0.5, 1.0, 7.3))
    pieces = {key: Piece(zipped=size, unzipped=2 * size, weight=draw(weights)) for key in keys for size in (draw(sizes),)}
    demands = {
        f"{prefix}function{number}": Demand(
            pieces=draw(st.frozensets(st.sampled_from(keys))),
            slots=draw(st.integers(fewest, 5)),
            own=draw(st.sampled_from((0, 1000, LIMIT // 2))),
        )
        for number in range(draw(st.integers(1, 9)))
    }
    return demands, pieces


def unzipped(demand: Demand, pieces: Mapping[str, Piece]) -> int:
    return demand.own + sum(pieces[key].unzipped for key in demand.pieces)


def shared_classes(demands: Mapping[str, Demand], pieces: Mapping[str, Piece]) -> dict[frozenset[str], set[str]]:
    """Give pieces by their users among the functions that may have layers, where there are two at least."""
    able = {name: each for name, each in demands.items() if each.slots and unzipped(each, pieces) <= LIMIT}
    users = {key: frozenset(name for name, each in able.items() if key in each.pieces) for key in pieces}
    return {names: {key for key in pieces if users[key] == names} for names in users.values() if len(names) > 1}


def zipped(keys: object, pieces: Mapping[str, Piece]) -> int:
    assert isinstance(keys, set | frozenset | tuple)
    return sum(pieces[key].zipped for key in keys)


@given(repositories())
def test_every_function_sees_exactly_its_pieces_once(repository: Repository):
    demands, pieces = repository
    plan = plan_layers(demands, pieces, limit=LIMIT)
    for name, demand in demands.items():
        seen = [*plan.inside(name), *(key for layer in plan.attached[name] for key in layer.pieces)]
        assert sorted(seen) == sorted(demand.pieces)
    for layer in plan.layers:
        assert len(layer.users) > 1
        assert layer.users == tuple(sorted(name for name in demands if layer in plan.attached[name]))
        assert list(layer.pieces) == sorted(layer.pieces)


@given(repositories())
def test_slots_and_unzipped_limits_hold(repository: Repository):
    demands, pieces = repository
    plan = plan_layers(demands, pieces, limit=LIMIT)
    for name, demand in demands.items():
        assert len(plan.attached[name]) <= demand.slots
        assert unzipped(demand, pieces) <= LIMIT or not plan.attached[name]
    assert all(sum(pieces[key].unzipped for key in layer.pieces) <= LIMIT for layer in plan.layers)


@given(repositories(), st.randoms())
def test_the_order_of_input_is_irrelevant(repository: Repository, random):
    demands, pieces = repository
    names, keys = list(demands), list(pieces)
    random.shuffle(names)
    random.shuffle(keys)
    shuffled = plan_layers({name: demands[name] for name in names}, {key: pieces[key] for key in keys}, limit=LIMIT)
    assert shuffled == plan_layers(demands, pieces, limit=LIMIT)


@given(repositories(prefix="m"), repositories(prefix="a"), repositories(prefix="z"))
def test_functions_that_share_nothing_move_nothing(repository: Repository, first: Repository, last: Repository):
    demands, pieces = repository
    alone = plan_layers(demands, pieces, limit=LIMIT)
    together = plan_layers({**first[0], **demands, **last[0]}, {**first[1], **pieces, **last[1]}, limit=LIMIT)
    assert tuple(layer for layer in together.layers if layer.users[0] in demands) == alone.layers
    for name in demands:
        assert together.attached[name] == alone.attached[name]
        assert together.inside(name) == alone.inside(name)


@given(repositories())
def test_stored_bytes_lie_between_each_piece_once_and_separate_packages(repository: Repository):
    demands, pieces = repository
    plan = plan_layers(demands, pieces, limit=LIMIT)
    needed = frozenset[str]().union(*(demand.pieces for demand in demands.values()))
    assert zipped(needed, pieces) <= plan.stored <= sum(zipped(demand.pieces, pieces) for demand in demands.values())


@given(repositories())
def test_sizes_are_those_of_the_artifacts(repository: Repository):
    demands, pieces = repository
    plan = plan_layers(demands, pieces, limit=LIMIT)
    artifacts = [*(set(layer.pieces) for layer in plan.layers), *(set(plan.inside(name)) for name in demands)]
    assert plan.stored == sum(zipped(artifact, pieces) for artifact in artifacts)
    needed = {key for demand in demands.values() for key in demand.pieces}
    total = sum(pieces[key].weight for key in needed)
    again = sum(
        pieces[key].weight * sum(zipped(artifact, pieces) for artifact in artifacts if key in artifact) for key in needed
    )
    assert plan.uploaded_again == pytest.approx(again / total if total else 0)


@given(repositories(fewest=1))
def test_with_slots_for_every_class_nothing_is_stored_twice(repository: Repository):
    demands, pieces = repository
    classes = {names: keys for names, keys in shared_classes(demands, pieces).items() if zipped(keys, pieces) >= SMALLEST}
    most = max((sum(name in names for names in classes) for name in demands), default=0)
    demands = {name: replace(demand, slots=max(most, 1)) for name, demand in demands.items()}
    plan = plan_layers(demands, pieces, limit=LIMIT)
    found: dict[frozenset[str], set[str]] = {}
    for layer in plan.layers:
        found.setdefault(frozenset(layer.users), set()).update(layer.pieces)
    assert found == classes
    saved = sum(zipped(keys, pieces) * (len(names) - 1) for names, keys in classes.items())
    assert plan.stored == sum(zipped(demand.pieces, pieces) for demand in demands.values()) - saved


@given(repositories(), st.data())
def test_other_digests_change_nothing_but_the_digests(repository: Repository, data: st.DataObject):
    demands, pieces = repository
    new = dict(zip(pieces, data.draw(st.permutations([f"digest{number}" for number in range(len(pieces))])), strict=True))
    renamed = {name: replace(each, pieces=frozenset(new[key] for key in each.pieces)) for name, each in demands.items()}
    plan = plan_layers(demands, pieces, limit=LIMIT)
    after = plan_layers(renamed, {new[key]: piece for key, piece in pieces.items()}, limit=LIMIT)
    assert after.layers == tuple(
        replace(layer, pieces=tuple(sorted(new[key] for key in layer.pieces))) for layer in plan.layers
    )
    assert after.packed == {name: frozenset(new[key] for key in kept) for name, kept in plan.packed.items()}
    assert (after.stored, after.uploaded_again) == (plan.stored, plan.uploaded_again)


@given(repositories())
def test_classes_are_never_parted_but_by_how_often_they_are_released(repository: Repository):
    demands, pieces = repository
    plan = plan_layers(demands, pieces, limit=LIMIT)
    for names, keys in shared_classes(demands, pieces).items():
        for name in names:
            assert keys <= plan.inside(name) or not keys & plan.inside(name)
        for weight in {pieces[key].weight for key in keys}:
            alike = {key for key in keys if pieces[key].weight == weight}
            assert all(alike <= set(layer.pieces) or not alike & set(layer.pieces) for layer in plan.layers)


def test_what_is_released_more_often_gets_a_layer_of_its_own_where_a_slot_is_left():
    pieces = {
        "numpy": Piece(zipped=16_000_000, unzipped=50_000_000),
        "pandas": Piece(zipped=12_000_000, unzipped=40_000_000),
        "own": Piece(zipped=2_000, unzipped=6_000, weight=10.0),
    }
    for slots, layers in ((1, [("numpy", "own", "pandas")]), (2, [("numpy", "pandas"), ("own",)])):
        demands = {name: Demand(pieces=frozenset(pieces), slots=slots) for name in ("one", "two")}
        assert [layer.pieces for layer in plan_layers(demands, pieces).layers] == layers


@given(repositories())
def test_classes_share_a_layer_only_where_a_slot_is_missing(repository: Repository):
    demands, pieces = repository
    pieces = {key: replace(piece, weight=1 + piece.weight) for key, piece in pieces.items()}
    plan = plan_layers(demands, pieces, limit=LIMIT)
    classes = shared_classes(demands, pieces).values()
    for layer in plan.layers:
        if sum(not keys.isdisjoint(layer.pieces) for keys in classes) > 1:
            assert any(len(plan.attached[name]) == demands[name].slots for name in layer.users)


WHEELS = {
    "numpy": (16_636_543, 57_926_332, "orders report thumb"),
    "pandas": (12_306_371, 43_358_049, "orders report"),
    "pillow": (7_037_729, 19_444_307, "report thumb"),
    "cryptography": (4_482_541, 13_428_905, "orders users"),
    "sqlalchemy": (3_260_222, 12_873_366, "orders report users"),
}
FUNCTIONS = ("orders", "report", "thumb", "users")
PIECES = {key: Piece(zipped=size, unzipped=whole) for key, (size, whole, _) in WHEELS.items()}


def example(slots: int, weights: Mapping[str, float] | None = None, **changes: Piece) -> LayerPlan:
    """Plan the example of the module's docstring."""
    demands = {
        name: Demand(pieces=frozenset(key for key, (_, _, users) in WHEELS.items() if name in users.split()), slots=slots)
        for name in FUNCTIONS
    }
    pieces = {key: replace(piece, weight=(weights or {}).get(key, 1.0)) for key, piece in PIECES.items()}
    return plan_layers(demands, {**pieces, **changes})


def test_the_worked_example():
    plan = example(slots=3)
    assert plan.layers == (
        PlannedLayer(pieces=("pandas",), users=("orders", "report")),
        PlannedLayer(pieces=("numpy",), users=("orders", "report", "thumb")),
        PlannedLayer(pieces=("cryptography", "sqlalchemy"), users=("orders", "users")),
        PlannedLayer(pieces=("pillow",), users=("report", "thumb")),
    )
    assert {name: set(plan.inside(name)) for name in FUNCTIONS if plan.inside(name)} == {"report": {"sqlalchemy"}}
    assert plan.stored == 46_983_628
    assert round(plan.uploaded_again) == 10_945_278


def test_with_a_slot_more_the_example_stores_each_wheel_once():
    plan = example(slots=4)
    assert [layer.pieces for layer in plan.layers] == [("pandas",), ("numpy",), ("sqlalchemy",), ("cryptography",), ("pillow",)]
    assert plan.stored == sum(piece.zipped for piece in PIECES.values()) == 43_723_406


def test_what_is_released_often_decides_between_plans_of_the_same_bytes():
    """With cryptography released all the time, what shares its layer is uploaded all the time: pandas takes sqlalchemy then."""
    plan = example(slots=3, weights={"cryptography": 50.0})
    assert ("cryptography",) in [layer.pieces for layer in plan.layers]
    assert ("pandas", "sqlalchemy") in [layer.pieces for layer in plan.layers]
    assert plan.stored == example(slots=3).stored


def test_a_function_above_the_limit_gets_no_layer_and_the_others_still_do():
    plan = example(slots=3, pillow=Piece(zipped=7_037_729, unzipped=200_000_000))
    assert plan.inside("report") == {"numpy", "pandas", "pillow", "sqlalchemy"}
    assert {layer.users for layer in plan.layers} == {("orders", "thumb"), ("orders", "users")}


def test_tiny_pieces_stay_inside_and_make_no_link():
    tiny = Piece(zipped=SMALLEST - 1, unzipped=SMALLEST)
    demands = {name: Demand(pieces=frozenset({"six"})) for name in FUNCTIONS}
    assert plan_layers(demands, {"six": tiny}).layers == ()
    kept = plan_layers(demands, {"six": tiny}, smallest=0)
    assert kept.layers == (PlannedLayer(pieces=("six",), users=FUNCTIONS),)


def test_a_piece_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="numpy"):
        plan_layers({"orders": Demand(pieces=frozenset({"numpy"}))}, {})
    with pytest.raises(KeyError, match="orders"):
        example(slots=5).inside("nobody's orders")


def comparisons(classes: int) -> int:
    """Count the comparisons of names in a plan of so many classes, each released in two ways, with two users more than one."""
    names = [Name(f"f{number:03}") for number in range(classes + 1)]
    keys = {name: [f"{name}-{part}" for part in range(2)] for name in names[1:]}
    demands: dict[str, Demand] = {name: Demand(pieces=frozenset(each)) for name, each in keys.items()}
    demands[names[0]] = Demand(pieces=frozenset(key for each in keys.values() for key in each))
    pieces = {
        key: Piece(zipped=20_000 + 100 * number, unzipped=20_000, weight=1.0 + number % 2)
        for number, key in enumerate(key for each in keys.values() for key in each)
    }
    before = Name.compared
    plan_layers(demands, pieces)
    return Name.compared - before


def test_parts_of_classes_are_not_searched_for_by_their_users():
    assert comparisons(80) < 3 * comparisons(40)
